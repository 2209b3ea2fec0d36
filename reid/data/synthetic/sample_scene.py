"""Images of the cameras of the sample dataset: pedestrians in front of a street, cut out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.data.synthetic.sample_people import Person, Walk, draw_person, random_person, random_walk

__all__ = ["CAMERAS", "SIZE", "Camera", "draw_background", "draw_junk", "draw_tracklet"]

Floats = NDArray[np.float32]
Frames = NDArray[np.uint8]

SIZE = 64, 32
"""Height and width of an image, in pixels."""


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


def draw_tracklet(
    person: Person, camera: Camera, frames: int, rng: np.random.Generator, background: Floats
) -> Frames:
    """Draw a person who walks by, now and then hidden. Shape: (frames, 64, 32, 3), RGB."""
    canvas = _street(background, frames, rng)
    draw_person(canvas, person, random_walk(person, frames, SIZE, camera.scale, rng))
    _occlude(canvas, camera, rng)
    return _through(camera, canvas, rng)


def draw_junk(
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
