"""The scenes of the sample dataset: four shapes in the four corners of the frame.

The label is how many of them have the same colour. Two shapes show for some frames, then the
other two, and so on in turns: what has to be compared is never in the same place and half of it
never in the same frame. Every shape on its own looks the same whatever the label (any kind, colour,
size, corner), so the label is in the relation alone.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHAPES", "SceneSettings", "draw_scene"]

Floats = NDArray[np.float32]
Frames = NDArray[np.uint8]

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
