"""What an evaluation found, as the reports take it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from reid.data.tracklet import ReidData
    from reid.metrics.ranking import Cameras, Ranking
    from reid.retrieval.features import FeatureTable

__all__ = ["Evaluation"]


@dataclass(frozen=True)
class Evaluation:
    """Features, distances and rankings of one query list and one gallery.

    Attributes:
        data: The data set. Rows of the two tables are tracklets of its lists, by the names of
            their first frames; those without a row could not be read.
        query: Features of the Q queries.
        gallery: Features of the G gallery tracklets, distractors in.
        distances: Distances that the report ranks by, shape (Q, G).
        rankings: Metrics by the protocol's name, such as ``common``, ``official`` or
            ``common, re-ranked``; the first one is the report's main one.
        settings: What led to the numbers (metric, frames, network, ...), to be shown and kept.
        max_rank: Last rank that the report's CMC curve shows; the rankings may know more.
        cameras: ``cross`` where a match is under another camera, ``ignore`` where under any.
        own: Pairs (query, gallery row) that are the same tracklet; known where cameras are ignored.
    """

    data: ReidData
    query: FeatureTable
    gallery: FeatureTable
    distances: Tensor
    rankings: dict[str, Ranking]
    settings: dict[str, Any] = field(default_factory=dict)
    max_rank: int = 20
    cameras: Cameras = "cross"
    own: Sequence[tuple[int, int]] = ()

    @cached_property
    def own_rows(self) -> dict[int, list[int]]:
        """Gallery rows that are the query itself, by the query's row."""
        rows: dict[int, list[int]] = {}
        for query, row in self.own:
            rows.setdefault(query, []).append(row)
        return rows

    def person_names(self) -> dict[int, str]:
        """Map the numbers of the people in both tables to their names."""
        return _names((t.person_ids, t.person_names) for t in (self.query, self.gallery))

    def camera_names(self) -> dict[int, str]:
        """Map the numbers of the cameras in both tables to their names."""
        return _names((t.camera_ids, t.camera_names) for t in (self.query, self.gallery))


def _names(columns: Iterable[tuple[Any, list[str | None]]]) -> dict[int, str]:
    return {
        int(number): name
        for numbers, names in columns
        for number, name in zip(numbers, names, strict=True)
        if name is not None
    }
