"""Metrics of every protocol asked for, from the features of both lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from reid.data.tracklet import JUNK, Tracklet
from reid.metrics.distances import Metric, pairwise_distances
from reid.metrics.ranking import (
    QUERIES_IN_GALLERY,
    RANKS,
    Cameras,
    Protocol,
    Ranking,
    count_as_wrong,
    evaluate_ranking,
    official_gallery,
    own_pairs,
    with_a_match,
)
from reid.metrics.rerank import MEMORY, rerank
from reid.retrieval.features import FeatureTable

__all__ = ["Ranked", "rank_lists"]


@dataclass(frozen=True)
class Ranked:
    """Distances of Q queries to G gallery tracklets, shape (Q, G), and the metrics by protocol."""

    distances: Tensor
    rankings: dict[str, Ranking]


@dataclass(frozen=True)
class _Labels:
    """Identities and cameras of a list, each (N,); of a gallery its pairs ``own`` (M, 2), too."""

    ids: Tensor
    cameras: Tensor
    own: Tensor = field(default_factory=lambda: torch.zeros(0, 2, dtype=torch.int64))


def rank_lists(
    query: FeatureTable,
    gallery: FeatureTable,
    lost: Sequence[Tracklet],
    protocols: Sequence[Protocol],
    *,
    metric: Metric,
    max_rank: int,
    reranked: bool,
    rerank_memory: int = MEMORY,
    cameras: Cameras = "cross",
    own: Sequence[tuple[int, int]] = (),
) -> Ranked:
    """Evaluate by every protocol, and by re-ranked distances if asked for.

    Args:
        query, gallery: Encoded lists; junk may be in the gallery, which no protocol counts.
        lost: Queries that could not be read; they count as wrong.
        max_rank: Length of the CMC curves, 20 where that is more: those ranks are printed.
        reranked: k-reciprocal re-ranking of queries and gallery without junk, by the common
            protocol.
        rerank_memory: Bytes that re-ranking may take.
        cameras: ``cross`` or ``ignore``.
        own: Pairs (query, gallery row) that are the same tracklet.
    """
    features = [torch.from_numpy(table.features) for table in (query, gallery)]
    max_rank = max(max_rank, *RANKS)
    distances = pairwise_distances(features[0], features[1], metric)
    asked, searched = _labels(query), _labels(gallery)
    unread = _Labels(
        torch.tensor([tracklet.person_id for tracklet in lost], dtype=torch.int64),
        torch.tensor([tracklet.camera_id for tracklet in lost], dtype=torch.int64),
    )
    searched = replace(searched, own=torch.tensor(own, dtype=torch.int64).view(-1, 2))
    rankings: dict[str, Ranking] = {}
    for protocol in protocols:
        matrix, where = distances, searched
        if protocol in QUERIES_IN_GALLERY:
            within = pairwise_distances(features[0], features[0], metric)
            matrix, *others = official_gallery(
                distances, within, asked.ids, searched.ids, asked.cameras, searched.cameras
            )
            pairs = own_pairs(len(asked.ids), len(searched.ids))
            where = _Labels(others[0], others[1], torch.cat([searched.own, pairs]))
        rankings[protocol] = _ranking(matrix, asked, where, unread, protocol, max_rank, cameras)
    if reranked:
        kept = searched.ids != JUNK
        matrix = rerank(features[0], features[1][kept], metric=metric, memory=rerank_memory)
        place = kept.cumsum(0) - 1
        pairs = torch.stack([searched.own[:, 0], place[searched.own[:, 1]]], 1)
        where = _Labels(searched.ids[kept], searched.cameras[kept], pairs)
        rankings["common, re-ranked"] = _ranking(
            matrix, asked, where, unread, "common", max_rank, cameras
        )
    return Ranked(distances, rankings)


def _ranking(
    distances: Tensor,
    asked: _Labels,
    searched: _Labels,
    unread: _Labels,
    protocol: Protocol,
    max_rank: int,
    cameras: Cameras,
) -> Ranking:
    ranking = evaluate_ranking(
        distances,
        asked.ids,
        searched.ids,
        asked.cameras,
        searched.cameras,
        protocol=protocol,
        max_rank=max_rank,
        cameras=cameras,
        own=searched.own,
    )
    matched = with_a_match(unread.ids, searched.ids, unread.cameras, searched.cameras, cameras)
    return count_as_wrong(ranking, int(matched.sum()), len(matched))


def _labels(table: FeatureTable) -> _Labels:
    return _Labels(
        torch.as_tensor(table.person_ids).long(), torch.as_tensor(table.camera_ids).long()
    )
