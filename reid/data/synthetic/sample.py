"""Sample dataset: generated pedestrians in MARS's layout, for trying things out.

As in MARS, the test identities' first tracklets under each camera are the queries; the gallery
holds the others, distractors (``0000``) and junk (``00-1``). An image shows a pedestrian in front
of the street of a camera, cut out. The dataset is generated once, as a function of its settings
alone, into the user's cache.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from reid.data.datasets import mars
from reid.data.datasets.base import Report
from reid.data.synthetic.sample_people import Person, Walk, draw_person, random_person, random_walk
from reid.data.tracklet import DISTRACTOR, JUNK, ReidData
from video_snl.data.synthetic.generated import Generated, cache_folder, progress

__all__ = [
    "CAMERAS",
    "SETTINGS",
    "SIZE",
    "Camera",
    "SampleSettings",
    "Shot",
    "draw",
    "draw_background",
    "ensure",
    "generate",
    "load",
    "plan",
]

Floats = NDArray[np.float32]
Frames = NDArray[np.uint8]

SIZE = 64, 32
"""Height and width of an image, in pixels."""

FORMAT = 2
"""Raise it when the same settings give other files."""

_QUALITY = 90


@dataclass(frozen=True)
class Camera:
    """Camera and its street.

    Attributes:
        cast: Factors on red, green and blue.
        brightness: Offset of all of them, after the contrast, of 255.
        contrast: Factor on the distance from grey.
        scale: Height of persons in the image, 1 for full.
        blur: Share of each neighbour, up and down, left and right, in a pixel.
        noise: Standard deviation, of 255.
        ground: Colour of the ground.
        wall: Colour of the wall.
    """

    cast: tuple[float, float, float]
    brightness: float
    contrast: float
    scale: float
    blur: float
    noise: float
    ground: tuple[int, int, int]
    wall: tuple[int, int, int]


CAMERAS = (
    Camera((1.00, 1.00, 1.00), 0, 1.0, 1.00, 0.00, 4, (150, 148, 142), (176, 172, 160)),
    Camera((1.08, 1.00, 0.90), 3, 0.95, 0.92, 0.08, 5, (134, 126, 116), (160, 144, 128)),
    Camera((0.92, 0.98, 1.07), -14, 0.90, 0.96, 0.05, 6, (116, 120, 116), (128, 136, 144)),
    Camera((0.98, 1.05, 0.96), 14, 0.88, 0.86, 0.10, 4, (164, 168, 158), (146, 156, 144)),
)


@dataclass(frozen=True)
class SampleSettings:
    """Settings of what is generated.

    Args:
        train_people: Numbers 1, 3, 5, ...
        test_people: Numbers 2, 4, 6, ...
        lonely: Number of test identities that are seen once under each of two cameras. Both
            tracklets are queries, so that under the common protocol they have no match, as 140 of
            MARS.
        distractors: Tracklets of other persons.
        junk: Tracklets of bad detections.
        frames: Fewest and most frames of a tracklet.
        seed: Everything is a function of these settings.
    """

    train_people: int = 40
    test_people: int = 36
    lonely: int = 4
    distractors: int = 60
    junk: int = 24
    frames: tuple[int, int] = (8, 14)
    seed: int = 0


SETTINGS = SampleSettings()
"""Settings of the sample dataset."""


@dataclass(frozen=True)
class Shot:
    """One tracklet to draw: its number counts the tracklets of a person and camera, from 1."""

    person: int
    camera: int
    number: int
    frames: int

    @property
    def folder(self) -> str:
        return "00-1" if self.person == JUNK else f"{self.person:04d}"

    def names(self) -> list[str]:
        """File names as in MARS, such as ``0001C1T0001F001.jpg``."""
        head = f"{self.folder}C{self.camera + 1}T{self.number:04d}"
        return [f"{head}F{frame:03d}.jpg" for frame in range(1, self.frames + 1)]


def load(root: Path, split: int, report: Report) -> ReidData:
    """Load the sample dataset, which is in the layout of MARS."""
    return replace(mars.load(root, split, report), name="sample")


def ensure(root: Path | None = None) -> Path:
    """Return the folder of the sample dataset, which is generated first if it is not there yet.

    Args:
        root: The folder; default one in the cache.

    Raises:
        UserError: ``root`` holds something else, or cannot be written.
    """
    return _generated(SETTINGS).ensure(cache_folder("reid-sample-v1") if root is None else root)


def generate(root: Path, settings: SampleSettings) -> None:
    """Write the images, the lists and, last, the marker file below ``root``; show progress."""
    _generated(settings).write(root)


def draw_background(camera: Camera, rng: np.random.Generator) -> Floats:
    """Draw the background of a camera, wider and higher than what is cut out of it."""
    height, width = SIZE[0] + 24, 6 * SIZE[1]
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    wall, ground = (np.array(colour, np.float32) for colour in (camera.wall, camera.ground))
    image = np.where((y < 0.55 * height)[..., None], wall, ground) + 0 * x[:, None]
    for _ in range(4):
        waves = rng.uniform(-0.12, 0.12, 2)
        turns = waves[0] * y + waves[1] * x + rng.uniform(0, 2 * np.pi)
        image += np.sin(turns)[..., None] * rng.uniform(-9, 9, 3)
    for _ in range(7):  # windows, posts, cars
        left, top = rng.uniform(0, width), rng.uniform(-8, 0.6 * height)
        wide, high = rng.uniform(3, 22), rng.uniform(8, 46)
        inside = (x > left) & (x < left + wide) & (y > top) & (y < top + high)
        shade = rng.uniform(-48, 48) + rng.uniform(-16, 16, 3)
        image += inside[..., None] * shade
    return image.astype(np.float32)


def _generated(settings: SampleSettings) -> Generated:
    return Generated(
        what="the re-identification sample",
        values={"format": FORMAT, "settings": asdict(settings)},
        generate=partial(_write_files, settings=settings),
        place="VIDEO_SNL_CACHE or --root",
    )


def plan(settings: SampleSettings) -> tuple[list[Shot], list[Shot], list[int]]:
    """Return training tracklets, test tracklets, and the places of the queries among the latter."""
    rng = np.random.default_rng([settings.seed, 0])
    length = partial(_length, settings, rng)
    train = [
        Shot(1 + 2 * index, camera, number, length())
        for index in range(settings.train_people)
        for camera, count in _visits(rng)
        for number in range(1, count + 1)
    ]
    test = [*_strangers(JUNK, settings.junk, rng, length)]
    test += _strangers(DISTRACTOR, settings.distractors, rng, length)
    for index in range(settings.test_people):
        once = index < settings.lonely
        visits = [(c, 1) for c in sorted(rng.permutation(len(CAMERAS))[:2].tolist())]
        for camera, count in visits if once else _visits(rng):
            test += [Shot(2 + 2 * index, camera, n, length()) for n in range(1, count + 1)]
    queries = [i for i, shot in enumerate(test) if shot.person > 0 and shot.number == 1]
    return train, test, queries


def _length(settings: SampleSettings, rng: np.random.Generator) -> int:
    return int(rng.integers(settings.frames[0], settings.frames[1] + 1))


def _visits(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw the cameras that see a person, and how often: three or four, one to three times each."""
    seen = sorted(rng.permutation(len(CAMERAS))[: rng.integers(3, len(CAMERAS) + 1)].tolist())
    counts = rng.integers(1, 4, len(seen))
    counts[:2] = np.maximum(counts[:2], 2)  # each query has a match in the gallery
    return [(camera, int(count)) for camera, count in zip(seen, counts, strict=True)]


def _strangers(
    person: int, count: int, rng: np.random.Generator, length: Callable[[], int]
) -> list[Shot]:
    cameras = np.sort(rng.integers(0, len(CAMERAS), count)).tolist()
    return [
        Shot(person, camera, 1 + place - cameras.index(camera), length())
        for place, camera in enumerate(cameras)
    ]


def draw(shot: Shot, settings: SampleSettings, backgrounds: Sequence[Floats]) -> Frames:
    """Draw the images of a tracklet: (frames, 64, 32, 3), RGB."""
    key = [settings.seed, 2, shot.person + 1, shot.camera, shot.number]
    rng = np.random.default_rng(key)
    camera, background = CAMERAS[shot.camera], backgrounds[shot.camera]
    if shot.person == JUNK:
        return _draw_junk(random_person(rng), camera, shot.frames, rng, background)
    person = random_person(rng) if shot.person == DISTRACTOR else _person(shot.person, settings)
    return _draw_tracklet(person, camera, shot.frames, rng, background)


def _person(number: int, settings: SampleSettings) -> Person:
    return random_person(np.random.default_rng([settings.seed, 1, number]))


def _write_files(root: Path, settings: SampleSettings) -> None:
    train, test, queries = plan(settings)
    backgrounds = [
        draw_background(camera, np.random.default_rng([settings.seed, 3, number]))
        for number, camera in enumerate(CAMERAS)
    ]
    jobs = [("bbox_train", shot) for shot in train] + [("bbox_test", shot) for shot in test]
    for folder in {root / part / shot.folder for part, shot in jobs}:
        folder.mkdir(parents=True)
    write = partial(_write_images, root, settings, backgrounds)
    pool = ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0))))
    try:
        progress(pool.map(write, *zip(*jobs, strict=True)), len(jobs), "the sample tracklets")
    finally:
        # Ctrl-C does not wait for the tracklets that are not begun.
        pool.shutdown(cancel_futures=True)
    _write_info(root / "info", train, test, queries)


def _write_images(
    root: Path, settings: SampleSettings, backgrounds: Sequence[Floats], part: str, shot: Shot
) -> None:
    images = draw(shot, settings, backgrounds)
    for name, image in zip(shot.names(), images, strict=True):
        Image.fromarray(image).save(root / part / shot.folder / name, quality=_QUALITY)


def _write_info(info: Path, train: list[Shot], test: list[Shot], queries: list[int]) -> None:
    """Write the lists and tables of MARS, whose numbers begin at 1."""
    info.mkdir()
    for part, shots in (("train", train), ("test", test)):
        names = [f"{name}\n" for shot in shots for name in shot.names()]
        (info / f"{part}_name.txt").write_text("".join(names))
        last = np.cumsum([shot.frames for shot in shots])
        first = last - [shot.frames - 1 for shot in shots]
        people, cameras = zip(*((shot.person, shot.camera + 1) for shot in shots), strict=True)
        table = np.stack([first, last, people, cameras], axis=1).astype(np.int32)
        _save(info / f"tracks_{part}_info.mat", f"track_{part}_info", table)
    _save(info / "query_IDX.mat", "query_IDX", np.array([queries], np.int32) + 1)


def _save(path: Path, name: str, values: NDArray[np.int32]) -> None:
    """Write a MATLAB file without the date in its header, so that its bytes are always the same."""
    written = io.BytesIO()
    savemat(written, {name: values})
    header = b"MATLAB 5.0 MAT-file, sample of video-snl".ljust(116)
    path.write_bytes(header + written.getvalue()[116:])


def _draw_tracklet(
    person: Person, camera: Camera, frames: int, rng: np.random.Generator, background: Floats
) -> Frames:
    """Draw a person who walks by, now and then hidden. Shape: (frames, 64, 32, 3), RGB."""
    canvas = _street(background, frames, rng)
    draw_person(canvas, person, random_walk(person, frames, SIZE, camera.scale, rng))
    _occlude(canvas, camera, rng)
    return _through(camera, canvas, rng)


def _draw_junk(
    person: Person, camera: Camera, frames: int, rng: np.random.Generator, background: Floats
) -> Frames:
    """Draw what a bad detector cuts out: a part of a person at the edge, or none."""
    canvas = _street(background, frames, rng)
    walk = random_walk(person, frames, SIZE, camera.scale, rng)
    side = rng.choice([-1, 1]) * rng.uniform(0.4, 0.6) * SIZE[1]
    down = rng.choice([-1, 1]) * rng.uniform(0.2, 0.6) * SIZE[0]
    if rng.random() < 0.7:
        moved = Walk(
            walk.x + np.float32(side),
            walk.ground + np.float32(down),
            walk.height * np.float32(rng.uniform(0.7, 1.6)),
            walk.stride,
            walk.turn,
        )
        draw_person(canvas, person, moved)
    return _through(camera, canvas, rng)


def _street(background: Floats, frames: int, rng: np.random.Generator) -> Floats:
    """Cut out places that move along, as a detector follows a person."""
    free = np.array(background.shape[:2]) - SIZE
    start = rng.uniform(0, free)
    speed = np.array([rng.uniform(-0.5, 0.5), rng.choice([-1, 1]) * rng.uniform(0.5, 3)])
    places = np.clip(start + speed * np.arange(frames)[:, None], 0, free).astype(int)
    return np.stack([background[y : y + SIZE[0], x : x + SIZE[1]] for y, x in places])


def _occlude(canvas: Floats, camera: Camera, rng: np.random.Generator) -> None:
    """Draw another person, a post or a wall in front of some of the frames, or of none."""
    frames = len(canvas)
    kind = rng.choice(["none", "person", "post", "wall"], p=[0.25, 0.25, 0.2, 0.3])
    length = int(rng.integers(frames // 3, 2 * frames // 3 + 1))
    # Around the end, so that all frames are hidden equally often.
    hidden = (rng.integers(frames) + np.arange(length)) % frames
    part = canvas[hidden]
    other = random_person(rng)
    shade = (rng.uniform(60, 190) + rng.uniform(-25, 25, 3)).astype(np.float32)
    start, end = rng.permutation([-0.35, 1.35]) * SIZE[1]
    path = np.linspace(start, end, length, dtype=np.float32)
    if kind == "person":
        walk = random_walk(other, length, SIZE, camera.scale * 1.1, rng)
        draw_person(part, other, Walk(path, walk.ground + 3, walk.height, walk.stride, walk.turn))
    elif kind == "post":
        columns = np.arange(SIZE[1], dtype=np.float32)
        cover = np.clip(rng.uniform(3, 6) - np.abs(columns - path[:, None]), 0, 1)
        part += cover[:, None, :, None] * (shade - part)
    elif kind == "wall":
        height = int(rng.uniform(0.35, 0.6) * SIZE[0])
        rows = slice(SIZE[0] - height, None) if rng.random() < 0.7 else slice(0, height)
        part[:, rows] = shade + rng.normal(0, 6, part[:, rows].shape[1:])
    canvas[hidden] = part


def _through(camera: Camera, canvas: Floats, rng: np.random.Generator) -> Frames:
    """Apply light, colours, sharpness and noise of the camera; the light is the tracklet's."""
    light = rng.uniform(-10, 10)
    cast = (np.array(camera.cast) * rng.uniform(0.95, 1.05, 3)).astype(np.float32)
    seen = 128 + np.float32(camera.contrast) * (canvas - 128)
    seen = seen * cast + np.float32(camera.brightness + light)
    if camera.blur:
        for axis in (1, 2):
            beside = np.roll(seen, 1, axis) + np.roll(seen, -1, axis)
            seen = np.float32(1 - 2 * camera.blur) * seen + np.float32(camera.blur) * beside
    seen += np.float32(camera.noise) * rng.standard_normal(seen.shape, np.float32)
    return np.clip(seen + 0.5, 0, 255).astype(np.uint8)
