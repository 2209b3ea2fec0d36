"""The sample dataset: generated videos in UCF-101's layout, for trying things out.

Its four classes cannot be told by looking at one place: see
:mod:`video_snl.data.synthetic.sample_scene`. It is generated once, as a function of its settings
alone, into the user's cache.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np

from video_snl.config.video import DataConfig
from video_snl.data.synthetic.generated import Generated, cache_folder, progress
from video_snl.data.synthetic.sample_scene import Frames, SceneSettings, draw_scene
from video_snl.data.video.records import VideoSet
from video_snl.data.video.ucf101 import load_ucf101

__all__ = ["CLASSES", "SampleSettings", "ensure_sample", "generate", "load", "sample_folder"]

CLASSES: tuple[str, ...] = ("AllMatch", "NoneMatch", "ThreeMatch", "TwoMatch")
"""How many of the four shapes have the same colour."""

FORMAT = 1
"""Raise it when the same settings give other files."""

_MATCHING = {"AllMatch": 4, "NoneMatch": 1, "ThreeMatch": 3, "TwoMatch": 2}
_FRAMES_PER_SECOND = 25


@dataclass(frozen=True)
class SampleSettings:
    """Settings of a generated dataset.

    Args:
        groups: Groups of a class; the videos of a group share a background, and no list of
            videos for training shares a group with its list for testing.
        clips_per_group: Videos of each group and class.
        seed: Everything is a function of these settings.
        scene: How the videos look.

    Raises:
        ValueError: for fewer than 4 groups (3 disjoint splits need them).
    """

    groups: int = 25
    clips_per_group: int = 20
    seed: int = 0
    scene: SceneSettings = SceneSettings()

    def __post_init__(self) -> None:
        if self.groups < 4 or self.clips_per_group < 1:
            raise ValueError(
                f"groups={self.groups} must be at least 4 and clips_per_group="
                f"{self.clips_per_group} at least 1."
            )

    def test_groups(self, split: int) -> range:
        """Return the groups (from 1) of the test list of split 1, 2 or 3: a fifth of all."""
        count = max(1, self.groups // 5)
        return range(1 + (split - 1) * count, 1 + split * count)


SETTINGS = SampleSettings()
"""Settings of the sample dataset."""


def load(config: DataConfig, known: Sequence[str] | None = None) -> VideoSet:
    """Load the lists of ``data.dataset=sample``, generated if need be: its entry's loader."""
    given = None if config.root is None else Path(config.root).expanduser()
    return load_ucf101(ensure_sample(given), config.split)


def sample_folder() -> Path:
    """Return the folder of the set in the cache, see :func:`cache_folder`."""
    return cache_folder("sample-v1")


def ensure_sample(root: Path | None = None) -> Path:
    """Return the folder of the sample dataset, generated first if it is not there yet.

    A second process that asks at the same time waits for the first; one that is killed leaves
    nothing behind that would be taken for the set.

    Args:
        root: The folder; default :func:`sample_folder`.

    Raises:
        UserError: ``root`` holds something else, or cannot be written.
    """
    return _generated(SETTINGS).ensure(sample_folder() if root is None else Path(root))


def generate(root: Path, settings: SampleSettings) -> None:
    """Write the videos, the lists and, last, the marker file below ``root``; shows progress."""
    _generated(settings).write(root)


def _generated(settings: SampleSettings) -> Generated:
    return Generated(
        what="the sample dataset",
        values={"format": FORMAT, "classes": list(CLASSES), "settings": asdict(settings)},
        generate=partial(_write_files, settings=settings),
    )


def _write_files(root: Path, settings: SampleSettings) -> None:
    jobs = [
        (root / "UCF-101", label, group, clip)
        for label in range(len(CLASSES))
        for group in range(1, settings.groups + 1)
        for clip in range(1, settings.clips_per_group + 1)
    ]
    for name in CLASSES:
        (root / "UCF-101" / name).mkdir(parents=True)
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        written = pool.map(partial(_write_video, settings), *zip(*jobs, strict=True))
        progress(written, len(jobs), "the sample videos")
    finally:
        # Ctrl-C does not wait for the videos that nobody has begun.
        pool.shutdown(cancel_futures=True)
    _write_lists(root / "ucfTrainTestlist", settings)


def _write_video(settings: SampleSettings, folder: Path, label: int, group: int, clip: int) -> None:
    frames = draw_scene(
        _MATCHING[CLASSES[label]],
        settings.scene,
        scene_rng=np.random.default_rng([settings.seed, 1, label, group, clip]),
        # The same background in all classes, so that it says nothing about the label.
        group_rng=np.random.default_rng([settings.seed, 0, group]),
    )
    _encode(folder / _relative(CLASSES[label], group, clip), frames)


def _encode(path: Path, frames: Frames) -> None:
    """Write MPEG-4 in AVI, as UCF-101's videos; nearly lossless, and the same bytes every time."""
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=_FRAMES_PER_SECOND)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        # Slices of several threads would make the bytes depend on the machine.
        context.thread_count = 1
        context.bit_rate, context.qmin, context.qmax = 4_000_000, 2, 3
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _write_lists(folder: Path, settings: SampleSettings) -> None:
    folder.mkdir()
    index = [f"{number} {name}" for number, name in enumerate(CLASSES, 1)]
    _write_lines(folder / "classInd.txt", index)
    for split in (1, 2, 3):
        train, test = [], []
        for number, name in enumerate(CLASSES, 1):
            for group in range(1, settings.groups + 1):
                for clip in range(1, settings.clips_per_group + 1):
                    path = _relative(name, group, clip)
                    if group in settings.test_groups(split):
                        test.append(path)
                    else:
                        train.append(f"{path} {number}")
        _write_lines(folder / f"trainlist0{split}.txt", train)
        _write_lines(folder / f"testlist0{split}.txt", test)


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def _relative(name: str, group: int, clip: int) -> str:
    return f"{name}/v_{name}_g{group:02d}_c{clip:02d}.avi"
