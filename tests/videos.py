"""Small real videos, and small datasets of them, written for tests."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

from video_snl.data.decoding.readers import open_video

CLASSES = ("Bow", "Clap", "Dive")


def write_video(
    path: Path, frames: int = 20, size: tuple[int, int] = (48, 64), gop: int = 600
) -> Path:
    """An mpeg4 video, a key frame every ``gop``; frame i is a grey of about 10 i (modulo 250)."""
    height, width = size
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate, stream.gop_size = 2_000_000, gop
        for i in range(frames):
            image = np.full((height, width, 3), (10 * i) % 250, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return path


def no_cuts(codec: str) -> str:
    """FFmpeg's option that keeps a change of the scene from making a key frame."""
    return "0" if codec == "libx264" else "1000000000"


def frames_of(path: Path) -> np.ndarray:
    """All frames of a video, uint8 (T, H, W, 3)."""
    reader = open_video(str(path))
    return reader.frames(range(len(reader))).numpy()


def grey(index: int, size: tuple[int, int]) -> np.ndarray:
    """The i-th frame of the forged videos: a grey of 10 i (modulo 250), its left upper part red."""
    height, width = size
    image = np.full((height, width, 3), (10 * index) % 250, dtype=np.uint8)
    image[: height // 4, : width // 4] = (255, 0, 0)
    return image


def greys(frames: Tensor) -> list[int]:
    """Return the numbers of frames of :func:`grey`, modulo 25."""
    area = frames[:, frames.shape[1] * 3 // 8 : frames.shape[1] * 5 // 8]
    return [round(value / 10) for value in area.float().mean((1, 2, 3)).tolist()]


def write_streams(
    path: Path,
    sizes: Sequence[tuple[int, int]],
    *,
    codec: str = "libx264",
    frames: int = 40,
    gop: int = 10,
    b_frames: int = 0,
    pix_fmt: str = "yuv420p",
    start: int = 0,
    rotation: int = 0,
    mirrored: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Video streams of these sizes in one file, of :func:`grey` frames.

    ``start`` is the time stamp of the first frame, in frames; ``rotation`` and ``mirrored`` are of
    the display matrix: degrees counterclockwise, then left to right.
    """
    with av.open(str(path), "w", format=_container(path)) as container:
        streams = []
        for height, width in sizes:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
            context = stream.codec_context
            context.gop_size, context.max_b_frames, context.thread_count = gop, b_frames, 1
            if codec in ("mpeg4", "mpeg2video", "mjpeg"):
                context.qmin = context.qmax = 2
            context.options = {"sc_threshold": no_cuts(codec)} | (options or {})
            if rotation or mirrored:
                stream.set_display_rotation(rotation, hflip=mirrored)
            streams.append(stream)
        for index in range(frames):
            for stream, size in zip(streams, sizes, strict=True):
                frame = av.VideoFrame.from_ndarray(grey(index, size), "rgb24")
                frame.pts, frame.time_base = start + index, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


def write_changing_size(path: Path, sizes: Sequence[tuple[int, int]], frames: int = 10) -> Path:
    """Write one stream whose size changes: ``frames`` frames of each of these sizes, in turn."""
    with av.open(str(path), "w", format=_container(path)) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *sizes[0], "yuv420p"
        for part, size in enumerate(sizes):
            encoder = av.CodecContext.create("libx264", "w")
            encoder.height, encoder.width, encoder.pix_fmt = *size, "yuv420p"
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            encoder.max_b_frames = 0
            for index in range(part * frames, (part + 1) * frames):
                frame = av.VideoFrame.from_ndarray(grey(index, size), "rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                _mux(container, stream, encoder.encode(frame))
            _mux(container, stream, encoder.encode())
    return path


def _mux(container: av.container.OutputContainer, stream: av.VideoStream, packets: list) -> None:
    for packet in packets:
        packet.stream = stream
        container.mux(packet)


def _container(path: Path) -> str:
    names = {".mkv": "matroska", ".ts": "mpegts", ".webm": "webm", ".m4v": "mp4"}
    return names.get(path.suffix, path.suffix[1:])


def write_with_cover(path: Path, frames: int) -> Path:
    """A video of 64 x 96 and a larger cover image, which containers keep as a video too."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 64, 96, "yuv420p"
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 128, 192, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(grey(3, (128, 192)), "rgb24")
        image.pts, image.time_base = 0, Fraction(1)
        container.mux([*cover.encode(image), *cover.encode()])
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(grey(index, (64, 96)), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return path


def promise_frames(path: Path, count: int) -> Path:
    """Let the header of an AVI file say that it holds ``count`` frames."""
    content = bytearray(path.read_bytes())
    main, video = content.index(b"avih"), content.index(b"strh")
    content[main + 24 : main + 28] = count.to_bytes(4, "little")  # dwTotalFrames
    content[video + 40 : video + 44] = count.to_bytes(4, "little")  # dwLength
    path.write_bytes(content)
    return path


def write_ucf101(
    root: Path,
    classes: tuple[str, ...] = CLASSES,
    groups: range = range(1, 12),
    frames: int = 6,
    line_end: str = "\r\n",
) -> Path:
    """A dataset in UCF-101's layout: one clip per class and group, groups 1-7 test in split 1.

    In splits 2 and 3 groups 2-8 and 3-9 test. All classes have the same videos of a group (copies),
    so that it is quick to write.
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
            shutil.copyfile(clip, path)
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
