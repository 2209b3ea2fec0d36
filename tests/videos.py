"""Small real videos, and small data sets of them, written for tests."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

CLASSES = ("Bow", "Clap", "Dive")


def write_video(path: Path, frames: int = 20, size: tuple[int, int] = (48, 64)) -> Path:
    """An mpeg4 video, one key frame, whose i-th frame is a grey of about 10 i (modulo 250)."""
    height, width = size
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate, stream.gop_size = 2_000_000, 600
        for i in range(frames):
            picture = np.full((height, width, 3), (10 * i) % 250, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


def write_ucf101(
    root: Path,
    classes: tuple[str, ...] = CLASSES,
    groups: range = range(1, 12),
    frames: int = 6,
    line_end: str = "\r\n",
) -> Path:
    """A data set in UCF-101's layout: one clip per class and group, groups 1-7 test in split 1.

    In splits 2 and 3 groups 2-8 and 3-9 test. All classes share the videos of a group (links), so
    that it is quick to write.
    """
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    write_lines(lists / "classInd.txt", [f"{i + 1} {name}" for i, name in enumerate(classes)])
    clips = {}
    for group in groups:
        clip = write_video(root / "clips" / f"{group}.avi", frames)
        for name in classes:
            path = root / "UCF-101" / name / f"v_{name}_g{group:02d}_c01.avi"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(clip)
            clips[name, group] = f"{name}/{path.name}"
    for split in (1, 2, 3):
        tested = range(split, split + 7)
        test = [path for (_, group), path in clips.items() if group in tested]
        train = [
            f"{path} {classes.index(name) + 1}"
            for (name, group), path in clips.items()
            if group not in tested
        ]
        write_lines(lists / f"testlist0{split}.txt", test, line_end)
        write_lines(lists / f"trainlist0{split}.txt", train, line_end)
    return root


def write_lines(path: Path, lines: list[str], line_end: str = "\n") -> Path:
    """A text file with this line end, which Python is kept from translating."""
    path.write_text("".join(line + line_end for line in lines), newline="")
    return path
