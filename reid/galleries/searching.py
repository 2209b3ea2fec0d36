"""The answers of both kinds of galleries: filters, exact distances, and their order."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reid.galleries.entries import Entries, check_vectors, joined, moment
from reid.metrics.distances import Metric
from video_snl.errors import UserError
from video_snl.utils.text import escaped

__all__ = [
    "ANYTHING",
    "Answer",
    "EXACT_UP_TO",
    "Only",
    "answer",
    "check_search",
    "distances",
    "float32_error",
    "furthest",
    "nearest",
    "say_building",
]

EXACT_UP_TO = 100_000
"""Entries up to which a gallery whose index is ``auto`` compares a query with every one."""

_PART = 2**22  # numbers that are float64 at once


@dataclass(frozen=True)
class Only:
    """The entries that are searched: those of which all holds.

    Attributes:
        persons: Names of identities, of which one must be the entry's; empty: any.
        cameras: Names of cameras, likewise.
        after: First time, in seconds since 1970; None: any. Entries without a time have none.
        before: End of the times, itself not included; None: any.
    """

    persons: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    after: float | None = None
    before: float | None = None

    def __post_init__(self) -> None:
        if self.after is not None and self.before is not None and self.after >= self.before:
            raise UserError(
                f"no time is from {moment(self.after)} on and before {moment(self.before)}: give a "
                "first time that is earlier than the end"
            )
        # As the names of entries are: a database takes text in UTF-8 alone.
        for name in ("persons", "cameras"):
            object.__setattr__(self, name, tuple(map(escaped, getattr(self, name))))


ANYTHING = Only()


@dataclass(frozen=True)
class Answer:
    """The nearest entries of every query, the nearest first.

    Attributes:
        entries: The entries that any query found, in the order of their keys.
        rows: Rows of them, int64, shape (Q, K); -1 where there are no more. K is the number that
            was wanted, or that of all entries, if that is smaller, and at least 1.
        distances: Cosine (1 - cos) or Euclidean, float64, shape (Q, K); infinite at -1.
        exact: Whether no other entry can be nearer.
    """

    entries: Entries
    rows: np.ndarray
    distances: np.ndarray
    exact: bool

    def keys(self, query: int) -> list[str]:
        """Return the keys that a query found."""
        return [self.entries.keys[row] for row in self.rows[query].tolist() if row >= 0]


def distances(query: np.ndarray, vectors: np.ndarray, metric: Metric) -> np.ndarray:
    r"""Compute the distances (C,) of float32 vectors (C, D) to one query (D,), in float64.

    ``cosine``: 1 - q v / (\|q\| \|v\|), in [0, 2]; ``euclidean``: \|q - v\|. Every sum runs over
    one vector alone, so its distance does not depend on which others it is computed with.
    """
    asked = query.astype(np.float64)
    found = np.empty(len(vectors))
    step = max(1, _PART // max(1, len(query)))
    for start in range(0, len(vectors), step):
        some = np.ascontiguousarray(vectors[start : start + step], dtype=np.float64)
        if metric == "euclidean":
            part = np.sqrt(np.square(some - asked).sum(1))
        else:
            lengths = np.sqrt(np.square(some).sum(1)) * np.sqrt(np.square(asked).sum())
            part = np.clip(1 - (some * asked).sum(1) / lengths, 0, 2)
        found[start : start + step] = part
    return found


def float32_error(dimension: int) -> float:
    """Return the largest error of a product of float32 vectors, relative to their lengths.

    Sums of D products are off by at most about D units of rounding; four times that is allowed.
    """
    return 4 * (dimension + 16) * 2.0**-24


def furthest(distance: float, dimension: int, metric: Metric) -> float:
    """Return the largest distance that float32 arithmetic may find for a smaller true one.

    For cosine distances the error is relative to the lengths, for Euclidean ones, as sums of
    squared differences, to the distance itself.
    """
    error = float32_error(dimension)
    return distance + error if metric == "cosine" else distance * (1 + error)


def nearest(
    query: np.ndarray, keys: Sequence[str], vectors: np.ndarray, top: int, metric: Metric
) -> tuple[np.ndarray, np.ndarray]:
    """Order candidates by their distances in float64, those at equal distances by their keys.

    Returns:
        Numbers of the ``top`` nearest, and their distances.
    """
    found = distances(query, vectors, metric)
    order = sorted(range(len(keys)), key=lambda row: (found[row], keys[row]))[:top]
    return np.array(order, np.int64), found[order]


def say_building(where: str, kind: str, count: int) -> None:
    """Say on stderr that an index is built, where that takes long."""
    if count >= EXACT_UP_TO:
        line = f"{where}: building the {kind} index of {count:,} tracklets, which may take minutes"
        print(line, file=sys.stderr, flush=True)


def check_search(vectors: np.ndarray, dimension: int, top: int) -> np.ndarray:
    """Return the vectors of queries as float32 (Q, D).

    Raises:
        UserError: They have another dimension, are zero or not finite, or ``top`` is below 1.
    """
    if top < 1:
        raise UserError(f"top={top} must be at least 1")
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise UserError(
            f"queries of shape {vectors.shape}: the gallery's vectors have dimension {dimension}"
        )
    check_vectors(vectors, [f"query {row}" for row in range(len(vectors))])
    return vectors


def answer(
    found: Sequence[tuple[Entries, np.ndarray]], nothing: Entries, top: int, *, exact: bool
) -> Answer:
    """Put together what the queries found.

    Args:
        found: The entries of every query in order, and their distances.
        nothing: No entries, of the gallery's network.
    """
    every = joined([nothing, *(entries for entries, _ in found)])
    first: dict[str, int] = {}
    for row, key in enumerate(every.keys):
        first.setdefault(key, row)
    places = {key: place for place, key in enumerate(sorted(first))}
    rows = np.full((len(found), top), -1, np.int64)
    values = np.full((len(found), top), np.inf)
    for query, (entries, near) in enumerate(found):
        rows[query, : len(near)] = [places[key] for key in entries.keys]
        values[query, : len(near)] = near
    chosen = np.array([first[key] for key in places], np.int64)
    return Answer(every.rows(chosen), rows, values, exact)
