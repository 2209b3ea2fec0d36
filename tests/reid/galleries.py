"""Entries for galleries, and places to keep them in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reid.galleries.entries import About, Entries, IndexChoice, entries_of
from reid.galleries.places import create_gallery
from reid.galleries.store import StoredGallery
from reid.metrics.distances import Metric
from reid.retrieval.features import FeatureTable

Place = Callable[[], str]
"""Returns the location of a gallery that there is not yet."""

_numbers = itertools.count()


def table(
    size: int, dimension: int = 24, *, seed: int = 0, first: int = 0, model: str = "0" * 64
) -> FeatureTable:
    """Tracklets t0000, t0001, ... of five identities and a sixth that is not known."""
    random = np.random.default_rng(seed)
    about = About(model, "runs/a/checkpoints/best.ckpt", dimension, None)
    rows = range(first, first + size)
    return about.table(
        [f"t{row:04}" for row in rows],
        [f"p{row % 6}" if row % 6 else None for row in rows],
        [f"c{row % 4}" for row in rows],
        np.array([(1 + row % 3, row % 2) for row in rows]),
        random.normal(size=(size, dimension)),
    )


def entries(size: int, dimension: int = 24, *, seed: int = 0, first: int = 0) -> Entries:
    """These as entries, every third at a second of its own."""
    found = table(size, dimension, seed=seed, first=first)
    times = {name: float(name[1:]) for name in found.names if int(name[1:]) % 3 == 0}
    return entries_of(found, times)


def clusters(size: int, dimension: int, queries: int) -> tuple[Entries, np.ndarray]:
    """Entries, twenty of each identity about a place of its own, and queries about some places."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(size // 20, dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    persons = np.arange(size) % len(centres)
    some = table(size, dimension)
    some.features[:] = some.features * np.float32(dimension**-0.5) + centres[persons]
    asked = centres[random.integers(0, len(centres), queries)]
    return entries_of(some), asked + random.normal(0, dimension**-0.5, (queries, dimension))


def made(
    place: str, some: Entries, metric: Metric = "cosine", index: IndexChoice = "auto"
) -> StoredGallery:
    """Create a gallery of some entries."""
    return create_gallery(place, About.of(some.table, metric, index), some)


def in_folders(root: Path) -> Place:
    return lambda: str(root / f"gallery-{next(_numbers)}")


def in_database(url: str) -> Place:
    return lambda: f'{url}#gallery "{next(_numbers)}"; DROP TABLE x'


def kept_in(kind: str, root: Path, request: pytest.FixtureRequest) -> Place:
    """New locations in a folder, or in the database of the fixture ``postgres``."""
    if kind == "folder":
        return in_folders(root)
    return in_database(request.getfixturevalue("postgres").url)


def nearest_by_loops(
    some: Entries, query: np.ndarray, top: int, metric: str, rows: list[int]
) -> list[tuple[str, float]]:
    """The nearest of some rows in exact sums over Python's floats, ties by key."""
    found = []
    for row in rows:
        pairs = list(zip(query.tolist(), some.table.features[row].tolist(), strict=True))
        if metric == "euclidean":
            distance = math.sqrt(math.fsum((a - b) ** 2 for a, b in pairs))
        else:
            lengths = [math.sqrt(math.fsum(pair[side] ** 2 for pair in pairs)) for side in (0, 1)]
            distance = 1 - math.fsum(a * b for a, b in pairs) / (lengths[0] * lengths[1])
        found.append((round(distance, 12) + 0.0, some.keys[row]))
    return [(key, distance) for distance, key in sorted(found)[:top]]
