"""CMC, mAP and mINP of a ranking, in the three protocols that papers on MARS use."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reid.metrics.labels import (
    Cameras,
    Labels,
    Pairs,
    Protocol,
    check_labels,
    check_matrix,
    check_options,
    check_pairs,
)
from reid.metrics.matches import Matches, People, count_before, hits_of
from reid.metrics.scores import Ranking, score_hits, summarize
from video_snl.errors import UserError

__all__ = [
    "Cameras",
    "Labels",
    "Protocol",
    "Ranking",
    "evaluate_ranking",
    "official_gallery",
    "own_pairs",
]

CHUNK = 2**22
"""Distances that are looked at together: this bounds the memory beside the matrix itself."""


def evaluate_ranking(
    distances: Tensor | np.ndarray,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
    *,
    protocol: Protocol = "common",
    max_rank: int = 50,
    cameras: Cameras = "cross",
    own: Pairs | None = None,
) -> Ranking:
    r"""Evaluate the order of the gallery by distance from each query.

    Entries of person -1 are junk and ignored, and so are, for each query, those of its own person
    and camera, and its own tracklet (``own``). The others are ranked by distance; of equal ones the
    smaller gallery index comes first. With the n true matches of a query at ranks r_1 < ... < r_n,

        AP  = 1/n sum_i i / r_i                             (``common``, ``queries-kept``)
        AP  = 1/n sum_i [(i - 1) / (r_i - 1) + i / r_i] / 2                  (``official``)
        INP = n / r_n

    where (i - 1) / (r_i - 1) is 1 for r_i = 1. ``common`` is the protocol of Market-1501 as
    torchreid and most papers compute it: means over the queries that have a match. ``official`` is
    that of MARS's own evaluation code (trapezoids under the curve of precision over recall): means
    over all queries, those without a match as 0, in a gallery that still holds the queries'
    tracklets, see :func:`official_gallery`. It has no INP of its own; it is the same one, over all
    queries. ``queries-kept`` is what much public code reports on MARS (AP3D's, for one): the plain
    AP and means over the queries that have a match, as in ``common``, but in the gallery of
    ``official``.

    With ``cameras="ignore"`` entries of the query's own camera are not removed: a match is any
    other tracklet of the person. This is for galleries of one camera. Name the query itself in
    ``own`` then, should the gallery hold it: it would be its own match at distance 0.

    Args:
        distances: Shape (Q, G), floating-point, on any device.
        query_ids: People, shape (Q,).
        gallery_ids: People, shape (G,). Distractors (0) are people like others, of no query.
        query_cameras: Cameras, shape (Q,).
        gallery_cameras: Cameras, shape (G,).
        protocol: ``common``, ``official`` or ``queries-kept``; the last two want the gallery of
            :func:`official_gallery`.
        max_rank: Length of the CMC curve. Beyond the last entry of the gallery it stays constant.
        cameras: ``cross`` or ``ignore``.
        own: Pairs (query, gallery entry) that are the same tracklet, shape (N, 2); see
            :func:`own_pairs` for the gallery of :func:`official_gallery`.

    Raises:
        UserError: Shapes that do not fit, labels that are no integers, no queries, an empty
            gallery, NaN among the distances, or no query with a match.
    """
    matrix = check_matrix(distances)
    labels = check_labels(
        matrix.shape, (query_ids, gallery_ids, query_cameras, gallery_cameras), matrix.device
    )
    check_options(protocol, max_rank, cameras)
    query_people, gallery_people, query_views, gallery_views = labels
    pairs = check_pairs(own, query_people, gallery_people)
    people = People(gallery_people, gallery_views)
    rows = max(1, CHUNK // (matrix.shape[1] + 8 * people.most(query_people)))
    scores = []
    for some in _slices(len(matrix), rows):
        _refuse_nan(matrix, some)
        here = pairs[(pairs[:, 0] >= some.start) & (pairs[:, 0] < some.stop)]
        matches = people.matches(
            query_people[some], query_views[some], cameras, here - here.new_tensor([some.start, 0])
        )
        scores.append(_score_rows(matrix[some], people, matches, protocol))
    return summarize(torch.cat(scores), protocol, max_rank, cameras)


def official_gallery(
    distances: Tensor,
    query_distances: Tensor,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gallery of ``official`` and ``queries-kept``, which keeps the queries' tracklets.

    A query's own tracklet is of its person and camera, hence ignored, and named by
    :func:`own_pairs` where cameras are; those of the other queries count. Junk, which the official
    gallery has too, changes no number and may be in the gallery or not.

    Args:
        distances: From the queries to the gallery, shape (Q, G).
        query_distances: From the queries to the queries, shape (Q, Q).
        query_ids: People, shape (Q,).
        gallery_ids: People, shape (G,).
        query_cameras: Cameras, shape (Q,).
        gallery_cameras: Cameras, shape (G,).

    Returns:
        Distances (Q, G + Q), people (G + Q,) and cameras (G + Q,) for :func:`evaluate_ranking`.
    """
    matrix, own = check_matrix(distances), check_matrix(query_distances)
    given = (query_ids, gallery_ids, query_cameras, gallery_cameras)
    query_people, gallery_people, query_views, gallery_views = check_labels(
        matrix.shape, given, matrix.device
    )
    if own.shape != (len(matrix), len(matrix)):
        raise UserError(
            f"query_distances has shape {tuple(own.shape)}; {len(matrix)} queries need "
            f"{(len(matrix), len(matrix))}"
        )
    return (
        torch.cat([matrix, own.to(matrix)], 1),
        torch.cat([gallery_people, query_people]),
        torch.cat([gallery_views, query_views]),
    )


def own_pairs(num_queries: int, num_gallery: int) -> Tensor:
    """Return the pairs (q, G + q) of the queries in :func:`official_gallery`, shape (Q, 2)."""
    query = torch.arange(num_queries)
    return torch.stack([query, query + num_gallery], 1)


def _slices(total: int, size: int) -> list[slice]:
    return [slice(begin, begin + size) for begin in range(0, total, size)]


def _refuse_nan(matrix: Tensor, rows: slice) -> None:
    if not matrix[rows].amax(1).isnan().any():  # a maximum hands NaN on
        return
    wrong = torch.cat([matrix[some].amax(1).isnan() for some in _slices(len(matrix), 1024)])
    first, count = int(wrong.nonzero()[0, 0]), int(wrong.sum())
    raise UserError(
        f"{int(matrix[first].isnan().sum())} distances of query {first} are NaN"
        + (f", and some of {count - 1} more queries" if count > 1 else "")
        + "; check the features it was computed from"
    )


def _score_rows(matrix: Tensor, people: People, matches: Matches, protocol: Protocol) -> Tensor:
    if matrix.dtype not in (torch.float32, torch.float64):
        matrix = matrix.float()  # exact; NumPy knows no bfloat16
    near = matrix.gather(1, matches.columns)
    everything = len(people.positions) == matrix.shape[1]
    block = matrix if everything else matrix[:, people.positions]
    before = count_before(block, people.positions, near, matches.columns)
    return score_hits(hits_of(matches, near, before), protocol)
