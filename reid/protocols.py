"""CMC, mAP and mINP of a ranking, in the two protocols that papers on MARS use."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reid.labels import Labels, Protocol, check_labels, check_matrix, check_options
from reid.matches import People, count_before, hits_of
from reid.scores import Ranking, score_hits, summarize
from video_snl.errors import UserError

__all__ = ["Labels", "Protocol", "Ranking", "evaluate_ranking", "official_gallery"]

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
) -> Ranking:
    r"""Evaluate the order of the gallery by distance from each query.

    Entries of person -1 are junk and ignored, and so are, for each query, those of its own person
    and camera. The others are ranked by distance; of equal ones the smaller gallery index comes
    first. With the n true matches of a query at ranks r_1 < ... < r_n,

        AP  = 1/n sum_i i / r_i                                              (``common``)
        AP  = 1/n sum_i [(i - 1) / (r_i - 1) + i / r_i] / 2                  (``official``)
        INP = n / r_n

    where (i - 1) / (r_i - 1) is 1 for r_i = 1. ``common`` is the protocol of Market-1501 as
    torchreid and most papers compute it: means over the queries that have a match. ``official`` is
    that of MARS's own evaluation code (trapezoids under the curve of precision over recall): means
    over all queries, those without a match as 0, in a gallery that still holds the queries'
    tracklets, see :func:`official_gallery`. It has no INP of its own; it is the same one, over all
    queries.

    Args:
        distances: Shape (Q, G), floating-point, on any device.
        query_ids: People, shape (Q,).
        gallery_ids: People, shape (G,). Distractors (0) are people like others, of no query.
        query_cameras: Cameras, shape (Q,).
        gallery_cameras: Cameras, shape (G,).
        protocol: ``common`` or ``official``.
        max_rank: Length of the CMC curve. Beyond the last entry of the gallery it stays constant.

    Raises:
        UserError: Shapes that do not fit, labels that are no integers, no queries, an empty
            gallery, NaN among the distances, or no query with a match.
    """
    matrix = check_matrix(distances)
    labels = check_labels(
        matrix.shape, (query_ids, gallery_ids, query_cameras, gallery_cameras), matrix.device
    )
    check_options(protocol, max_rank)
    query_people, gallery_people, query_views, gallery_views = labels
    people = People(gallery_people, gallery_views)
    rows = max(1, CHUNK // (matrix.shape[1] + 8 * people.most(query_people)))
    scores = []
    for some in _slices(len(matrix), rows):
        _refuse_nan(matrix, some)
        scores.append(
            _score_rows(matrix[some], people, query_people[some], query_views[some], protocol)
        )
    return summarize(torch.cat(scores), protocol, max_rank)


def official_gallery(
    distances: Tensor,
    query_distances: Tensor,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gallery of MARS's official protocol, which keeps the queries' tracklets.

    A query's own tracklet is of its person and camera, hence ignored; those of the other queries
    count. Junk, which the official gallery has too, changes no number and may be in the gallery or
    not.

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


def _score_rows(
    matrix: Tensor, people: People, ids: Tensor, cameras: Tensor, protocol: Protocol
) -> Tensor:
    if matrix.dtype not in (torch.float32, torch.float64):
        matrix = matrix.float()  # exact; NumPy knows no bfloat16
    matches = people.matches(ids, cameras)
    near = matrix.gather(1, matches.columns)
    everything = len(people.positions) == matrix.shape[1]
    block = matrix if everything else matrix[:, people.positions]
    before = count_before(block, people.positions, near, matches.columns)
    return score_hits(hits_of(matches, near, before), protocol)
