"""The sample dataset: generated videos in UCF-101's layout, for trying things out.

A video shows four shapes in the four corners of the frame, and its class is how many of them have
the same colour. Two shapes show for some frames, then the other two, and so on in turns: what has
to be compared is never in the same place and half of it never in the same frame. Every shape on its
own looks the same whatever the class (any kind, colour, size, corner), so the class is in the
relation alone.

The dataset is generated once, as a function of its settings alone, into the user's cache.
"""

from __future__ import annotations

import colorsys
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from video_snl.config.video import DataConfig
from video_snl.data.synthetic.generated import Generated, cache_folder, progress
from video_snl.data.video.records import VideoSet
from video_snl.data.video.ucf101 import load_ucf101

__all__ = [
    "CLASSES",
    "SampleSettings",
    "SceneSettings",
    "draw_scene",
    "ensure_sample",
    "generate",
    "load",
    "sample_folder",
]

Floats = NDArray[np.float32]
Frames = NDArray[np.uint8]

CLASSES: tuple[str, ...] = ("AllMatch", "NoneMatch", "ThreeMatch", "TwoMatch")
"""Number of the four shapes that have the same colour, by class."""

FORMAT = 1
"""Raise it when the same settings give other files."""

_MATCHING = {"AllMatch": 4, "NoneMatch": 1, "ThreeMatch": 3, "TwoMatch": 2}
_FRAMES_PER_SECOND = 25

SHAPES = 4
_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
_KINDS = ("disc", "square", "cross", "ring")


@dataclass(frozen=True)
class SceneSettings:
    """Settings of a scene's looks.

    Args:
        frames: Frames of a video.
        side: Height and width of the frame, in pixels.
        colours: Number of colours, equally spaced hues; at least 4.
        hue_jitter: Largest deviation from a colour's hue (the circle of hues has length 1).
        radius: Smallest and largest half-width of a shape, in pixels.
        margin: Mean distance of a shape's centre from the edges of the frame, in pixels.
        position_jitter: Largest deviation of a centre from its mean, in pixels.
        speed: Largest speed of a shape along each axis, in pixels per frame.
        shown_frames: Frames for which two of the shapes, then the other two are seen.

    Raises:
        ValueError: for fewer colours than shapes.
    """

    frames: int = 12
    side: int = 80
    colours: int = 4
    hue_jitter: float = 0.025
    radius: tuple[float, float] = (7.5, 10.0)
    margin: float = 12.0
    position_jitter: float = 3.0
    speed: float = 0.6
    shown_frames: int = 2

    def __post_init__(self) -> None:
        if self.colours < SHAPES:
            raise ValueError(f"colours={self.colours} must be at least {SHAPES}.")


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


def draw_scene(
    matching: int,
    settings: SceneSettings,
    scene_rng: np.random.Generator,
    group_rng: np.random.Generator,
) -> Frames:
    """Draw the frames of one video. Shape: (frames, side, side, 3), RGB.

    Args:
        matching: The label: this many shapes (1 to 4) have one colour, each other shape has a
            colour that no other shape has.
        settings: How the scene looks.
        scene_rng: Draws everything that differs between the videos of a group.
        group_rng: Draws the background's pattern; the videos of a group share its seed.
    """
    canvas = _background(settings, scene_rng, group_rng)
    phase = int(scene_rng.integers(2 * settings.shown_frames))
    turns = (np.arange(settings.frames) + phase) // settings.shown_frames % 2
    colours = scene_rng.permutation(settings.colours)
    corners = scene_rng.permutation(_CORNERS)
    for index, shape in enumerate(scene_rng.permutation(SHAPES)):
        shown = np.flatnonzero(turns == index % 2)
        colour = colours[max(0, shape - matching + 1)]
        _draw_shape(canvas, corners[index], int(colour), shown, settings, scene_rng)
    return canvas


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


def _background(
    settings: SceneSettings, scene_rng: np.random.Generator, group_rng: np.random.Generator
) -> Frames:
    """Draw three waves in dull colours that drift by whole pixels, grain and a brightness."""
    frames, side = settings.frames, settings.side
    grid = np.arange(side + 2 * frames, dtype=np.float32) / side
    image = np.full((len(grid), len(grid), 3), group_rng.uniform(85, 130, 3), np.float32)
    for _ in range(3):
        waves = group_rng.uniform(-3, 3, 2).astype(np.float32)
        amplitude = group_rng.uniform(-14, 14, 3).astype(np.float32)
        turns = waves[0] * grid[:, None] + waves[1] * grid + np.float32(scene_rng.uniform())
        image += np.sin(2 * np.float32(np.pi) * turns)[..., None] * amplitude
    image += 4 * scene_rng.standard_normal((*image.shape[:2], 1), np.float32)
    image += np.float32(scene_rng.uniform(-20, 20))
    pixels = _to_pixels(image)
    drift = scene_rng.integers(-1, 2, 2)
    offsets = frames + drift * np.arange(frames)[:, None]
    return np.stack([pixels[y : y + side, x : x + side] for y, x in offsets])


def _draw_shape(
    canvas: Frames,
    corner: NDArray[np.int_],
    colour: int,
    shown: NDArray[np.int_],
    settings: SceneSettings,
    rng: np.random.Generator,
) -> None:
    """Blend a moving shape into the ``shown`` frames; it stays in its quarter of the frame."""
    half = settings.side // 2
    mean = np.where(corner == 1, half - settings.margin, settings.margin)
    start = mean + rng.uniform(-settings.position_jitter, settings.position_jitter, 2)
    velocity = rng.uniform(-settings.speed, settings.speed, 2)
    radius = np.float32(rng.uniform(*settings.radius))
    time = shown[:, None] - (settings.frames - 1) / 2
    y, x = (start + velocity * time).T.astype(np.float32)[:, :, None]
    grid = np.arange(half, dtype=np.float32)
    distance = _distance(
        _KINDS[rng.integers(len(_KINDS))],
        np.abs(grid - y)[:, :, None],
        np.abs(grid - x)[:, None, :],
        radius,
    )
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    top, left = (half * int(side) for side in corner)
    quarter = canvas[:, top : top + half, left : left + half]
    below = quarter[shown].astype(np.float32)
    quarter[shown] = _to_pixels(below + cover * (_rgb(colour, settings, rng) - below))


def _distance(kind: str, down: Floats, right: Floats, radius: np.float32) -> Floats:
    """Return the pixels from points ``down`` and ``right`` to the shape's edge, negative inside."""
    if kind == "disc":
        return np.hypot(down, right) - 0.95 * radius
    if kind == "ring":
        return np.abs(np.hypot(down, right) - 0.72 * radius) - 0.28 * radius
    larger = np.maximum(down, right)
    if kind == "square":
        return larger - 0.84 * radius
    return np.maximum(larger - radius, np.minimum(down, right) - 0.36 * radius)


def _rgb(colour: int, settings: SceneSettings, rng: np.random.Generator) -> Floats:
    hue = colour / settings.colours + rng.uniform(-settings.hue_jitter, settings.hue_jitter)
    saturation, value = rng.uniform(0.75, 1.0, 2)
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32) * 255


def _to_pixels(values: Floats) -> Frames:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)
