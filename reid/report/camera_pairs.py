"""How well people of one camera are found under another."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from reid.data.tracklet import JUNK

if TYPE_CHECKING:
    from reid.report.evaluation import Evaluation

__all__ = ["CameraPair", "camera_pairs"]


class CameraPair(NamedTuple):
    """Metrics of the queries of one camera, searched for among the tracklets of another alone.

    Attributes:
        query_camera: Camera of the queries.
        gallery_camera: Camera of the tracklets they are searched for in.
        queries: How many of the queries have a match there; only they count.
        gallery: How many tracklets (without junk) there are.
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

    A camera with itself is a pair only where cameras are ignored: otherwise the same person under
    the same camera is junk, and there is nothing to count.
    """
    people = np.asarray(evaluation.gallery.person_ids)
    where = np.asarray(evaluation.gallery.camera_ids)
    asked = sorted({int(camera) for camera in evaluation.query.camera_ids})
    searched = sorted({int(camera) for camera in where})
    pairs = []
    for query_camera in asked:
        rows = np.flatnonzero(np.asarray(evaluation.query.camera_ids) == query_camera)
        for gallery_camera in searched:
            if query_camera != gallery_camera or evaluation.cameras == "ignore":
                columns = np.flatnonzero((where == gallery_camera) & (people != JUNK))
                pairs.append(_pair(evaluation, query_camera, gallery_camera, rows, columns))
    return pairs


def _pair(
    evaluation: Evaluation,
    query_camera: int,
    gallery_camera: int,
    rows: np.ndarray,
    columns: np.ndarray,
) -> CameraPair:
    from reid.metrics.ranking import evaluate_ranking

    asked = np.asarray(evaluation.query.person_ids)
    people = np.asarray(evaluation.gallery.person_ids)[columns]
    places = {int(column): place for place, column in enumerate(columns)}
    rows = np.array(
        [row for row in rows if _others(evaluation, row, columns[people == asked[row]])], dtype=int
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
        torch.as_tensor(people),
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
