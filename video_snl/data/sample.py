"""The sample data set: generated videos in UCF-101's layout, for trying things out.

Its four classes cannot be told by looking at one place: see :mod:`video_snl.data.sample_scene`.
It is generated once, as a function of its settings alone, into the user's cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np

from video_snl.data.sample_scene import Frames, SceneSettings, draw_scene
from video_snl.errors import UserError

__all__ = ["CLASSES", "SampleSettings", "ensure_sample", "generate", "sample_folder"]

CLASSES: tuple[str, ...] = ("AllMatch", "NoneMatch", "ThreeMatch", "TwoMatch")
"""How many of the four shapes have the same colour."""

FORMAT = 1
"""Raise it when the same settings give other files."""

_MATCHING = {"AllMatch": 4, "NoneMatch": 1, "ThreeMatch": 3, "TwoMatch": 2}
_MARKER = "sample.json"
_FRAMES_PER_SECOND = 25


@dataclass(frozen=True)
class SampleSettings:
    """What is generated.

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
        """The groups (from 1) of the test list of split 1, 2 or 3: a fifth of all."""
        count = max(1, self.groups // 5)
        return range(1 + (split - 1) * count, 1 + split * count)


SETTINGS = SampleSettings()
"""Those of the sample data set."""


def sample_folder() -> Path:
    """Where the set is kept: below VIDEO_SNL_CACHE, else XDG_CACHE_HOME, else ~/.cache."""
    named = os.environ.get("VIDEO_SNL_CACHE") or os.environ.get("XDG_CACHE_HOME")
    base = Path(named).expanduser() if named else Path.home() / ".cache"
    return base / "video-snl" / "sample-v1"


def ensure_sample(root: Path | None = None) -> Path:
    """The folder of the sample data set, which is generated first if it is not there yet.

    A second process that asks at the same time waits for the first; one that is killed leaves
    nothing behind that would be taken for the set.

    Args:
        root: The folder; default :func:`sample_folder`.

    Raises:
        UserError: ``root`` holds something else, or cannot be written.
    """
    root = sample_folder() if root is None else Path(root)
    settings = SETTINGS
    if _is_complete(root, settings):
        return root
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with _lock(root):
            if not _is_complete(root, settings):
                _replace(root, settings)
    except OSError as error:
        raise UserError(
            f"the sample data set needs a folder to write to, {root} is none ({error}): set "
            "VIDEO_SNL_CACHE, or --data.root, to another place"
        ) from error
    return root


def generate(root: Path, settings: SampleSettings) -> None:
    """Write the videos, the lists and, last, the marker file below ``root``; shows progress."""
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
        for _ in _progress(written, len(jobs)):
            pass
    finally:
        # Ctrl-C does not wait for the videos that nobody has begun.
        pool.shutdown(cancel_futures=True)
    _write_lists(root / "ucfTrainTestlist", settings)
    (root / _MARKER).write_text(json.dumps(_identity(settings), indent=2) + "\n")


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
    """MPEG-4 in AVI, as UCF-101's videos; nearly lossless, and the same bytes every time."""
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


def _identity(settings: SampleSettings) -> dict[str, object]:
    values = {"format": FORMAT, "classes": list(CLASSES), "settings": asdict(settings)}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return {**values, "sha256": digest}


def _is_complete(root: Path, settings: SampleSettings) -> bool:
    marker = root / _MARKER
    if not marker.is_file():
        return False
    try:
        found = json.loads(marker.read_text())
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("sha256") == _identity(settings)["sha256"]


def _replace(root: Path, settings: SampleSettings) -> None:
    """Generate beside ``root``, then put the complete set in its place."""
    if root.exists() and not (root / _MARKER).is_file() and any(root.iterdir()):
        raise UserError(
            f"the sample data set belongs into {root}, which holds other files: remove them, or "
            "give another place by VIDEO_SNL_CACHE or --data.root"
        )
    for left_over in root.parent.glob(f".{root.name}.*.partial"):
        shutil.rmtree(left_over)
    making = Path(tempfile.mkdtemp(".partial", f".{root.name}.", root.parent))
    try:
        making.chmod(0o755)
        generate(making, settings)
        if root.exists():
            # A folder that is in the way moves out first: rename wants the place to be free.
            root.rename(making / "replaced")
        making.rename(root)
        shutil.rmtree(root / "replaced", ignore_errors=True)
    finally:
        if making.exists():
            shutil.rmtree(making)


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Hold the lock beside ``root``; the system frees it when the process ends, however it does."""
    with open(root.parent / f".{root.name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another process that makes the sample data set", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _progress(done: Iterator[None], total: int) -> Iterator[None]:
    """Pass ``done`` on and count it: one line that is updated on a terminal, else ten lines."""
    terminal, start, shown = sys.stderr.isatty(), time.monotonic(), 0
    percent_step = 1 if terminal else 10
    for count, item in enumerate(done, 1):
        yield item
        percent = 100 * count // total
        if percent // percent_step != shown // percent_step:
            shown = percent
            text = f"making the sample videos: {count:,} of {total:,} ({percent} %)"
            print(f"\r{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr)
    seconds = time.monotonic() - start
    print(f"{chr(10) if terminal else ''}made in {seconds:.0f} s", file=sys.stderr, flush=True)
