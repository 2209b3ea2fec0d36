"""Result of an evaluation, its numbers as plain values, and its numbers by pairs of cameras."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from reid.data.tracklet import DISTRACTOR, JUNK
from reid.metrics.ranking import QUERIES_IN_GALLERY, RANKS, evaluate_ranking
from video_snl.render.page import flat_settings

if TYPE_CHECKING:
    from torch import Tensor

    from reid.data.tracklet import ReidData, Tracklet
    from reid.metrics.ranking import Cameras, Ranking
    from reid.retrieval.features import FeatureTable

__all__ = [
    "CameraPair",
    "Evaluation",
    "camera_pairs",
    "metrics",
    "ranking_metrics",
]


@dataclass(frozen=True)
class Evaluation:
    """Features, distances and rankings of one query list and one gallery.

    Attributes:
        data: The dataset. Rows of the two tables are tracklets of its lists, by the names of their
            first frames; those without a row could not be read.
        query: Features of the Q queries.
        gallery: Features of the G gallery tracklets, with distractors.
        distances: Distances that the report ranks by, shape (Q, G).
        rankings: Metrics by the protocol's name, such as ``common``, ``official`` or
            ``common, re-ranked``; the first one is the report's main one.
        settings: Settings that led to the numbers (metric, frames, network, ...), to be shown and
            kept.
        max_rank: Last rank that the report's CMC curve shows; the rankings may hold more.
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
        """Map the numbers of the identities in both tables to their names."""
        return _names((t.person_ids, t.person_names) for t in (self.query, self.gallery))

    def camera_names(self) -> dict[int, str]:
        """Map the numbers of the cameras in both tables to their names."""
        return _names((t.camera_ids, t.camera_names) for t in (self.query, self.gallery))


def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything that ``metrics.json`` holds."""
    data, query, gallery = evaluation.data, evaluation.query, evaluation.gallery
    first = next(iter(evaluation.rankings.values()))
    return {
        "data": {
            "name": data.name,
            "queries": len(data.query),
            "gallery": len(data.gallery),
            "distractors": sum(t.person_id == DISTRACTOR for t in data.gallery),
            "junk": len(data.junk),
            "people": len({t.person_id for t in data.query}),
            "cameras": data.num_cameras,
        },
        "rankings": {
            name: ranking_metrics(ranking) for name, ranking in evaluation.rankings.items()
        },
        "queries_without_match": _without_match(evaluation, first),
        "skipped_frames": {**_skipped(query), **_skipped(gallery)},
        "unreadable": [*_unreadable(query, data.query), *_unreadable(gallery, data.gallery)],
        "settings": dict(flat_settings(evaluation.settings)),
    }


def ranking_metrics(ranking: Ranking) -> dict[str, Any]:
    """Return CMC at ranks 1, 5, 10 and 20, mAP, mINP and the counts.

    Raises:
        ValueError: The CMC curve ends before rank 20.
    """
    cmc = np.asarray(ranking.cmc, dtype=np.float64)
    if len(cmc) < max(RANKS):
        raise ValueError(f"a CMC curve of {len(cmc)} ranks does not hold rank {max(RANKS)}")
    official = ranking.protocol == "official"  # it counts those without a match, as zero
    counted = ranking.num_queries if official else ranking.num_valid_queries
    return {
        "protocol": ranking.protocol,
        "cameras": ranking.cameras,
        **{f"rank{rank}": float(cmc[rank - 1]) for rank in RANKS},
        "mAP": float(ranking.mean_ap),
        "mINP": float(ranking.mean_inp),
        "queries": int(ranking.num_queries),
        "queries_counted": int(counted),
        "queries_without_match": int(ranking.num_queries - ranking.num_valid_queries),
    }


class CameraPair(NamedTuple):
    """Metrics of the queries of one camera, searched for among the tracklets of another alone.

    Attributes:
        query_camera: Camera of the queries.
        gallery_camera: Camera of the tracklets they are searched for in.
        queries: Number of the queries that have a match there; only they count.
        gallery: Number of tracklets (without junk) there.
        rank1: Share of the queries whose nearest tracklet is right; None without queries.
        mean_ap: Mean average precision of the common protocol; None without queries.
    """

    query_camera: int
    gallery_camera: int
    queries: int
    gallery: int
    rank1: float | None
    mean_ap: float | None


def camera_pairs(evaluation: Evaluation) -> list[CameraPair]:
    """Compute all pairs of cameras, ordered by both.

    A camera with itself is a pair only where cameras are ignored: otherwise the same identity under
    the same camera is junk, and there is nothing to count.
    """
    identities = np.asarray(evaluation.gallery.person_ids)
    where = np.asarray(evaluation.gallery.camera_ids)
    asked = sorted({int(camera) for camera in evaluation.query.camera_ids})
    searched = sorted({int(camera) for camera in where})
    pairs = []
    for query_camera in asked:
        rows = np.flatnonzero(np.asarray(evaluation.query.camera_ids) == query_camera)
        for gallery_camera in searched:
            if query_camera != gallery_camera or evaluation.cameras == "ignore":
                columns = np.flatnonzero((where == gallery_camera) & (identities != JUNK))
                pairs.append(_pair(evaluation, query_camera, gallery_camera, rows, columns))
    return pairs


def _pair(
    evaluation: Evaluation,
    query_camera: int,
    gallery_camera: int,
    rows: np.ndarray,
    columns: np.ndarray,
) -> CameraPair:
    asked = np.asarray(evaluation.query.person_ids)
    identities = np.asarray(evaluation.gallery.person_ids)[columns]
    places = {int(column): place for place, column in enumerate(columns)}
    rows = np.array(
        [row for row in rows if _others(evaluation, row, columns[identities == asked[row]])],
        dtype=int,
    )
    if not len(rows):
        return CameraPair(query_camera, gallery_camera, 0, len(columns), None, None)
    order = {int(row): place for place, row in enumerate(rows)}
    own = [
        (place, places[column])
        for row, place in order.items()
        for column in evaluation.own_rows.get(row, [])
        if column in places
    ]
    some = evaluation.distances[torch.as_tensor(rows)][:, torch.as_tensor(columns)]
    ranking = evaluate_ranking(
        some,
        torch.as_tensor(asked[rows]),
        torch.as_tensor(identities),
        torch.full((len(rows),), query_camera),
        torch.full((len(columns),), gallery_camera),
        protocol="common",
        max_rank=1,
        cameras=evaluation.cameras,
        own=own,
    )
    return CameraPair(
        query_camera,
        gallery_camera,
        len(rows),
        len(columns),
        float(ranking.cmc[0]),
        float(ranking.mean_ap),
    )


def _others(evaluation: Evaluation, query: int, columns: np.ndarray) -> bool:
    """Tell if any of the gallery rows ``columns`` is another tracklet than the query itself."""
    own = evaluation.own_rows.get(int(query), [])
    return any(int(column) not in own for column in columns)


def _without_match(evaluation: Evaluation, ranking: Ranking) -> list[str]:
    """List queries without a match, those that were read first, then those that were not."""
    query, gallery = evaluation.query, evaluation.gallery
    rows = np.flatnonzero(np.isnan(np.asarray(ranking.average_precision)))
    searched = (gallery, query) if ranking.protocol in QUERIES_IN_GALLERY else (gallery,)
    views: dict[int, set[int]] = {}
    for table in searched:
        for person, camera in zip(table.person_ids, table.camera_ids, strict=True):
            views.setdefault(int(person), set()).add(int(camera))
    unread = set(_unreadable(query, evaluation.data.query))
    cross = evaluation.cameras == "cross"
    lost = [
        tracklet.path
        for tracklet in evaluation.data.query
        if tracklet.path in unread
        and not views.get(tracklet.person_id, set()) - ({tracklet.camera_id} if cross else set())
    ]
    return [*(query.names[row] for row in rows), *lost]


def _skipped(table: FeatureTable) -> dict[str, int]:
    counts = zip(table.names, table.skipped_frames, strict=True)
    return {name: int(count) for name, count in counts if count}


def _unreadable(table: FeatureTable, tracklets: Sequence[Tracklet]) -> list[str]:
    """List the first frames of the tracklets that have no row."""
    known = set(table.names)
    return [t.path for t in tracklets if known.isdisjoint((t.path, t.name))]


def _names(columns: Iterable[tuple[Any, list[str | None]]]) -> dict[int, str]:
    return {
        int(number): name
        for numbers, names in columns
        for number, name in zip(numbers, names, strict=True)
        if name is not None
    }
