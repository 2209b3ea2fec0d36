"""The nearest gallery tracklets of a query, and which of them are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from reid.data.tracklet import JUNK

if TYPE_CHECKING:
    from reid.report.evaluation import Evaluation

__all__ = ["Choice", "Entry", "RankedList", "Verdict", "choose_queries", "ranked_list"]

Verdict = Literal["right", "wrong", "junk"]

# Queries of which the report shows the pictures: so many of each kind.
_SHOWN = 4
# Junk among the nearest is listed, too, but no more than so many per query.
_LISTED_JUNK = 5


class Entry(NamedTuple):
    """One gallery tracklet in the list of a query.

    Attributes:
        row: Of the tracklet in the gallery's table.
        rank: From 1, counted without junk; None for junk.
        distance: To the query.
        verdict: ``right`` (the query's person under another camera, or under any where cameras are
            ignored), ``junk`` (the same person under the same camera, the query itself, or person
            -1: ignored) or ``wrong`` (all else, distractors too).
    """

    row: int
    rank: int | None
    distance: float
    verdict: Verdict


@dataclass(frozen=True)
class RankedList:
    """The nearest tracklets of one query, ascending by distance; ``query`` is its row."""

    query: int
    entries: list[Entry]


@dataclass(frozen=True)
class Choice:
    """One query that is shown with pictures, and why: ``worst``, ``random`` or ``best``."""

    query: int
    why: Literal["worst", "random", "best"]


def ranked_list(evaluation: Evaluation, query: int, top: int = 10) -> RankedList:
    """The list of one query as far as rank ``top``; at equal distances the lower row comes first.

    Up to five junk tracklets are kept where they stand; the others are left out.
    """
    distances = evaluation.distances[query].cpu().numpy()
    return RankedList(query, list(_entries(evaluation, query, distances, top)))


def _entries(
    evaluation: Evaluation, query: int, distances: np.ndarray, top: int
) -> Iterator[Entry]:
    people = np.asarray(evaluation.gallery.person_ids)
    same = people == int(evaluation.query.person_ids[query])
    ignored = people == JUNK
    if evaluation.cameras == "cross":
        camera = int(evaluation.query.camera_ids[query])
        ignored |= same & (np.asarray(evaluation.gallery.camera_ids) == camera)
    ignored[evaluation.own_rows.get(query, [])] = True
    rank = junk = 0
    for row in map(int, np.argsort(distances, kind="stable")):
        if ignored[row]:
            junk += 1
            if junk <= _LISTED_JUNK:
                yield Entry(row, None, float(distances[row]), "junk")
            continue
        rank += 1
        yield Entry(row, rank, float(distances[row]), "right" if same[row] else "wrong")
        if rank == top:
            return


def choose_queries(average_precision: Sequence[float] | np.ndarray) -> list[Choice]:
    """Which queries are shown: four of the lowest average precision, four of the highest.

    Between them stand four drawn at random, by a fixed seed, from the rest. Queries without a match
    (NaN) are none of them; equal precisions go by row. Where there are fewer than twelve, the worst
    come first, then the best.
    """
    values = np.asarray(average_precision, dtype=np.float64)
    valid = np.flatnonzero(~np.isnan(values))
    order = valid[np.argsort(values[valid], kind="stable")]
    worst, rest = order[:_SHOWN], order[_SHOWN:]
    best, middle = rest[::-1][:_SHOWN], rest[::-1][_SHOWN:]
    drawn = np.random.default_rng(0).permutation(np.sort(middle))[:_SHOWN]
    return [
        *(Choice(int(row), "worst") for row in worst),
        *(Choice(int(row), "random") for row in drawn),
        *(Choice(int(row), "best") for row in best),
    ]
