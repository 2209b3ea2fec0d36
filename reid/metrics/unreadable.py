"""Queries of which no frame can be read: they stay in the figures, as wrong."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from reid.metrics.labels import Cameras
from reid.metrics.matches import People
from reid.metrics.ranking import Ranking

__all__ = ["count_as_wrong", "with_a_match"]


def count_as_wrong(ranking: Ranking, matched: int, lost: int) -> Ranking:
    """The ranking of the queries that were read, with ``lost`` more that were not.

    ``matched`` of them have a match in the gallery. The protocol counts them as it counts others,
    as queries whose matches were never found: with CMC, AP and INP 0. What the ranking holds of
    single queries stays that of those that were read.
    """
    valid, queries = ranking.num_valid_queries + matched, ranking.num_queries + lost
    if ranking.protocol == "official":
        share = ranking.num_queries / queries
    else:
        share = ranking.num_valid_queries / valid if valid else 0.0
    return replace(
        ranking,
        cmc=ranking.cmc * share,
        mean_ap=ranking.mean_ap * share,
        mean_inp=ranking.mean_inp * share,
        num_valid_queries=valid,
        num_queries=queries,
    )


def with_a_match(
    query_ids: Tensor,
    gallery_ids: Tensor,
    query_cameras: Tensor,
    gallery_cameras: Tensor,
    cameras: Cameras = "cross",
    own: Tensor | None = None,
) -> Tensor:
    """Tell which queries (Q,) have a match in the gallery (G,), see :meth:`People.matches`."""
    people = People(gallery_ids, gallery_cameras)
    return people.matches(query_ids, query_cameras, cameras, own).kept.any(1)
