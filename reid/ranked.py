"""From the features of both lists to the figures of every protocol asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reid.distances import pairwise_distances
from reid.features import FeatureTable
from reid.metrics import RANKS
from reid.protocols import Ranking, evaluate_ranking, official_gallery
from reid.rerank import rerank
from reid.tracklet import JUNK, Tracklet
from reid.unreadable import count_as_wrong, with_a_match

__all__ = ["Metric", "Ranked", "rank_lists"]

Metric = Literal["cosine", "euclidean"]


@dataclass(frozen=True)
class Ranked:
    """Distances of Q queries to G gallery tracklets, shape (Q, G), and the figures."""

    distances: Tensor
    rankings: dict[str, Ranking]


@dataclass(frozen=True)
class _Labels:
    """People and cameras of a list, each (N,)."""

    ids: Tensor
    cameras: Tensor


def rank_lists(
    query: FeatureTable,
    gallery: FeatureTable,
    lost: Sequence[Tracklet],
    protocols: Sequence[Literal["common", "official"]],
    *,
    metric: Metric,
    max_rank: int,
    reranked: bool,
) -> Ranked:
    """Evaluate by every protocol, and by re-ranked distances if asked for.

    Args:
        query, gallery: What was read; junk may be in the gallery, which no protocol counts.
        lost: Queries that could not be read; they count as wrong.
        max_rank: Length of the CMC curves, 20 where that is more: those ranks are printed.
        reranked: k-reciprocal re-ranking of queries and gallery without junk, by the common
            protocol.
    """
    features = [torch.from_numpy(table.features) for table in (query, gallery)]
    max_rank = max(max_rank, *RANKS)
    distances = pairwise_distances(features[0], features[1], metric)
    asked, searched = _labels(query), _labels(gallery)
    unread = _Labels(
        torch.tensor([tracklet.person_id for tracklet in lost], dtype=torch.int64),
        torch.tensor([tracklet.camera_id for tracklet in lost], dtype=torch.int64),
    )
    rankings: dict[str, Ranking] = {}
    for protocol in protocols:
        matrix, where = distances, searched
        if protocol == "official":
            own = pairwise_distances(features[0], features[0], metric)
            matrix, *others = official_gallery(
                distances, own, asked.ids, searched.ids, asked.cameras, searched.cameras
            )
            where = _Labels(*others)
        rankings[protocol] = _ranking(matrix, asked, where, unread, protocol, max_rank)
    if reranked:
        kept = searched.ids != JUNK
        matrix = rerank(features[0], features[1][kept], metric=metric)
        where = _Labels(searched.ids[kept], searched.cameras[kept])
        rankings["common, re-ranked"] = _ranking(matrix, asked, where, unread, "common", max_rank)
    return Ranked(distances, rankings)


def _ranking(
    distances: Tensor,
    asked: _Labels,
    searched: _Labels,
    unread: _Labels,
    protocol: Literal["common", "official"],
    max_rank: int,
) -> Ranking:
    ranking = evaluate_ranking(
        distances,
        asked.ids,
        searched.ids,
        asked.cameras,
        searched.cameras,
        protocol=protocol,
        max_rank=max_rank,
    )
    matched = with_a_match(unread.ids, searched.ids, unread.cameras, searched.cameras)
    return count_as_wrong(ranking, int(matched.sum()), len(matched))


def _labels(table: FeatureTable) -> _Labels:
    return _Labels(
        torch.as_tensor(table.person_ids).long(), torch.as_tensor(table.camera_ids).long()
    )
