"""Pedestrians of the sample dataset: their attributes, and how they are drawn.

A person is a set of attributes from short lists, so that many share any one of them. Some are not
seen in every frame: a print on the chest only from the front, a backpack only from behind. No frame
says all there is to know, a tracklet mostly does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Person", "Walk", "draw_person", "random_person", "random_walk"]

Floats = NDArray[np.floating]
Colour = tuple[int, int, int]

SKIN: tuple[Colour, ...] = ((236, 196, 166), (188, 138, 100), (112, 76, 56))
HAIR: tuple[Colour, ...] = ((30, 26, 24), (96, 60, 34), (206, 172, 108), (150, 150, 152))
UPPER: tuple[Colour, ...] = (
    (186, 44, 44),
    (44, 84, 172),
    (52, 128, 66),
    (224, 222, 214),
    (44, 44, 50),
    (214, 178, 52),
)
LOWER: tuple[Colour, ...] = ((44, 58, 104), (48, 46, 48), (158, 134, 100), (122, 124, 130))
BAG: tuple[Colour, ...] = ((160, 40, 48), (52, 104, 60), (58, 58, 130), (226, 144, 40))
PATTERNS = ("plain", "stripes", "bars", "halves", "checks")
PRINTS = ("none", "disc", "band")
BAGS = ("none", "backpack", "handbag")
LEGS = ("trousers", "shorts", "skirt")
HEADS = ("short", "long", "hat")


@dataclass(frozen=True)
class Person:
    """Attributes of a person; ``build`` and ``stature`` are factors on width and height."""

    stature: float
    build: float
    skin: Colour
    hair: Colour
    head: str
    upper: Colour
    second: Colour
    pattern: str
    print: str
    long_sleeves: bool
    legs: str
    lower: Colour
    bag: str
    bag_colour: Colour


@dataclass(frozen=True)
class Walk:
    """Places of a person in every frame; all arrays are (T,).

    Attributes:
        x: Middle of the body, in pixels.
        ground: Place of the feet, in pixels from the top.
        height: Height of the body, in pixels.
        stride: Phase of the step, in radians.
        turn: Direction, in radians: 0 faces the camera, pi shows the back.
    """

    x: Floats
    ground: Floats
    height: Floats
    stride: Floats
    turn: Floats


def random_person(rng: np.random.Generator) -> Person:
    """Draw a person, every attribute independently."""

    def one(values: tuple) -> object:
        return values[int(rng.integers(len(values)))]

    upper, second = rng.permutation(len(UPPER))[:2]
    return Person(
        stature=float(rng.uniform(0.84, 1.0)),
        build=float(rng.uniform(0.85, 1.25)),
        skin=one(SKIN),  # type: ignore[arg-type]
        hair=one(HAIR),  # type: ignore[arg-type]
        head=one(HEADS),  # type: ignore[arg-type]
        upper=UPPER[upper],
        second=UPPER[second],
        pattern=one(PATTERNS),  # type: ignore[arg-type]
        print=one(PRINTS),  # type: ignore[arg-type]
        long_sleeves=bool(rng.integers(2)),
        legs=one(LEGS),  # type: ignore[arg-type]
        lower=one(LOWER),  # type: ignore[arg-type]
        bag=one(BAGS),  # type: ignore[arg-type]
        bag_colour=one(BAG),  # type: ignore[arg-type]
    )


def random_walk(
    person: Person, frames: int, size: tuple[int, int], scale: float, rng: np.random.Generator
) -> Walk:
    """Draw a few steps in the middle of an image of size (H, W), as a detector cuts it out."""
    height, width = size
    time = np.arange(frames)
    body = scale * person.stature * 0.93 * height * rng.uniform(0.95, 1.05)
    shake = rng.normal(0, 0.6, (2, frames))
    middle = width / 2 + rng.uniform(-2, 2) + shake[0]
    ground = height / 2 + body / 2 + rng.uniform(-1.5, 1.5) + shake[1]
    turn = rng.uniform(0, 2 * np.pi) + rng.choice([-1, 1]) * rng.uniform(0.15, 0.5) * time
    stride = rng.uniform(0, 2 * np.pi) + rng.uniform(0.7, 1.1) * time
    return Walk(
        middle.astype(np.float32),
        ground.astype(np.float32),
        np.full(frames, body, np.float32),
        stride.astype(np.float32),
        turn.astype(np.float32),
    )


class _Body:
    """A canvas (T, H, W, 3) seen in the coordinates of a walking body.

    ``x`` (T, 1, W) and ``y`` (T, H, 1) have their origin between the feet and the body's height as
    unit; y points up.
    """

    def __init__(self, canvas: Floats, walk: Walk) -> None:
        _, height, width, _ = canvas.shape
        self.canvas = canvas
        self.unit = walk.height[:, None, None]
        columns = np.arange(width, dtype=np.float32)
        rows = np.arange(height, dtype=np.float32)[:, None]
        self.x = (columns - walk.x[:, None, None]) / self.unit
        self.y = (walk.ground[:, None, None] - rows) / self.unit
        self.step = np.sin(walk.stride)[:, None, None]
        self.front = np.cos(walk.turn)[:, None, None]
        self.side = np.sin(walk.turn)[:, None, None]
        self.narrow = 0.72 + 0.28 * np.abs(self.front)

    def box(
        self, x: Floats | float, y: Floats | float, width: Floats | float, height: float
    ) -> Floats:
        """Compute the cover of a box by its middle and its half-widths."""
        return self.cover(np.maximum(np.abs(self.x - x) - width, np.abs(self.y - y) - height))

    def disc(self, x: Floats | float, y: float, radius: float, flat: float = 1.0) -> Floats:
        return self.cover(np.hypot(self.x - x, (self.y - y) / flat) - radius)

    def limb(
        self, start: tuple[Floats | float, float], end: tuple[Floats | float, float], radius: float
    ) -> Floats:
        """Compute the cover of all points within ``radius`` of a line."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        along = ((self.x - start[0]) * dx + (self.y - start[1]) * dy) / (dx * dx + dy * dy)
        along = np.clip(along, 0, 1)
        away = np.hypot(self.x - start[0] - along * dx, self.y - start[1] - along * dy)
        return self.cover(away - radius)

    def cover(self, distance: Floats) -> Floats:
        """Compute the covered share of a pixel from its distance to the edge (negative inside)."""
        return np.clip(0.5 - distance * self.unit, 0, 1)

    def paint(self, cover: Floats, colour: Colour) -> None:
        rows = np.flatnonzero(cover.any(axis=(0, 2)))
        if len(rows):
            touched = slice(rows[0], rows[-1] + 1)
            part = self.canvas[:, touched]
            part += cover[:, touched, :, None] * (np.array(colour, np.float32) - part)


def draw_person(canvas: Floats, person: Person, walk: Walk) -> None:
    """Blend a walking person into frames (T, H, W, 3)."""
    body = _Body(canvas, walk)
    if person.head == "long":
        body.paint(body.box(0, 0.87, 0.075, 0.075), person.hair)
    _draw_legs(body, person)
    _draw_torso(body, person)
    _draw_head(body, person)
    _draw_bag(body, person)


def _draw_legs(body: _Body, person: Person) -> None:
    hip = 0.055 * person.build
    for sign in (-1, 1):
        foot = sign * hip + sign * 0.11 * body.step * (0.4 + 0.6 * np.abs(body.side))
        bare = person.legs != "trousers"
        body.paint(
            body.limb((sign * hip, 0.50), (foot, 0.03), 0.05 * person.build),
            person.skin if bare else person.lower,
        )
        if bare:
            knee = sign * hip + 0.45 * (foot - sign * hip)
            body.paint(
                body.limb((sign * hip, 0.50), (knee, 0.30), 0.06 * person.build), person.lower
            )
        body.paint(body.disc(foot, 0.02, 0.05, flat=0.6), (36, 32, 30))
    if person.legs == "skirt":
        flare = (0.10 + 0.16 * (0.52 - body.y)) * person.build
        outside = np.maximum(np.abs(body.x) - flare, np.abs(body.y - 0.38) - 0.14)
        body.paint(body.cover(outside), person.lower)


def _draw_torso(body: _Body, person: Person) -> None:
    half = 0.125 * person.build * body.narrow
    shirt = body.box(0, 0.67, half, 0.18)
    body.paint(shirt, person.upper)
    body.paint(shirt * _PATTERNS[person.pattern](body), person.second)
    if person.print != "none":
        disc = person.print == "disc"
        mark = body.disc(0, 0.71, 0.075) if disc else body.box(0, 0.70, half, 0.045)
        body.paint(shirt * mark * np.clip(3 * body.front, 0, 1), person.bag_colour)
    for sign in (-1, 1):
        shoulder, hand = sign * half, sign * (half + 0.03) - sign * 0.09 * body.step
        lower = person.upper if person.long_sleeves else person.skin
        body.paint(body.limb((shoulder, 0.80), (hand, 0.50), 0.035), lower)
        elbow = shoulder + 0.4 * (hand - shoulder)
        body.paint(body.limb((shoulder, 0.80), (elbow, 0.68), 0.042), person.upper)


def _draw_head(body: _Body, person: Person) -> None:
    body.paint(body.disc(0, 0.915, 0.068, flat=1.15), person.skin)
    # From behind there is no face.
    back = np.clip(-3 * body.front, 0, 1)
    body.paint(body.disc(0, 0.92, 0.07, flat=1.15) * back, person.hair)
    top = body.disc(0, 0.935, 0.072) * (body.y > 0.925)
    body.paint(top, person.bag_colour if person.head == "hat" else person.hair)
    if person.head == "hat":
        body.paint(body.box(0, 0.94, 0.105, 0.012), person.bag_colour)


def _draw_bag(body: _Body, person: Person) -> None:
    behind = np.clip(-3 * body.front, 0, 1)
    if person.bag == "backpack":
        body.paint(body.box(0, 0.69, 0.095, 0.125) * behind, person.bag_colour)
        straps = body.box(-0.07, 0.76, 0.014, 0.09) + body.box(0.07, 0.76, 0.014, 0.09)
        body.paint(np.clip(straps, 0, 1) * (1 - behind), person.bag_colour)
    if person.bag == "handbag":
        # It hangs on one side and disappears behind the body when that is turned away.
        place = -0.19 * body.front * person.build
        seen = np.clip(2.5 * (body.side + 0.4), 0, 1)
        body.paint(body.box(place, 0.42, 0.075, 0.07) * seen, person.bag_colour)


def _waves(phase: Floats) -> Floats:
    return np.clip(0.5 + 2 * np.sin(2 * np.pi * phase), 0, 1)


_PATTERNS: dict[str, Callable[[_Body], Floats]] = {
    "plain": lambda body: np.zeros_like(body.x),
    "stripes": lambda body: _waves(body.y / 0.12) + 0 * body.x,
    "bars": lambda body: _waves(body.x / 0.11) + 0 * body.y,
    "halves": lambda body: (body.y < 0.66) + 0 * body.x,
    "checks": lambda body: np.abs(_waves(body.x / 0.14) - _waves(body.y / 0.16)),
}
