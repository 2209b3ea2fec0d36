"""Average precision and CMC from the ranks of true matches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reid.labels import Protocol
from reid.matches import Hits
from video_snl.errors import UserError

__all__ = ["Ranking", "score_hits", "summarize"]


@dataclass(frozen=True)
class Ranking:
    """What a ranking is worth.

    Attributes:
        cmc: Share of the counted queries with a true match among the first 1, 2, ..., max_rank,
            shape (max_rank,), float64.
        mean_ap: Mean average precision of the counted queries.
        mean_inp: Mean inverse negative penalty: number of matches by rank of the last one.
        num_valid_queries: Queries with a match in the gallery.
        num_queries: All queries.
        protocol: ``common`` counts the valid queries, ``official`` all.
        average_precision: Of every query, shape (Q,), float64; NaN without a match.
        first_match_rank: Rank of every query's nearest match, from 1, shape (Q,); 0 without one.
    """

    cmc: Tensor
    mean_ap: float
    mean_inp: float
    num_valid_queries: int
    num_queries: int
    protocol: Protocol
    average_precision: Tensor
    first_match_rank: Tensor


def score_hits(hits: Hits, protocol: Protocol) -> Tensor:
    """Per query the number of matches, first rank, AP and INP, shape (Q, 4), float64."""
    kept, rank, number = hits.kept, hits.rank.double(), hits.number.double()
    count = kept.sum(1).double()
    precision = number / rank
    if protocol == "official":
        earlier = torch.where(rank > 1, (number - 1) / (rank - 1).clamp(min=1), 1.0)
        precision = (precision + earlier) / 2
    first = rank.where(kept, torch.inf)
    last = rank.where(kept, 0)
    if kept.shape[1] == 0:
        return torch.zeros(len(kept), 4, dtype=torch.float64, device=kept.device)
    average = precision.where(kept, 0).sum(1) / count.clamp(min=1)
    inverse = count / last.amax(1).clamp(min=1)
    return torch.stack([count, first.amin(1), average, inverse], 1)


def summarize(scores: Tensor, protocol: Protocol, max_rank: int) -> Ranking:
    """Means over the queries of :func:`score_hits`."""
    count, first, average, inverse = scores.cpu().unbind(1)
    valid = count > 0
    if not valid.any():
        raise UserError(
            f"none of the {len(count)} queries has a match in the gallery (the same person under "
            "another camera); check the people and cameras of both lists"
        )
    counted = int(valid.sum()) if protocol == "common" else len(count)
    first = first.where(valid, 0).long()
    at_rank = torch.bincount(first[valid & (first <= max_rank)], minlength=max_rank + 1)
    return Ranking(
        cmc=at_rank[1:].cumsum(0).double() / counted,
        mean_ap=float(average[valid].sum() / counted),
        mean_inp=float(inverse[valid].sum() / counted),
        num_valid_queries=int(valid.sum()),
        num_queries=len(count),
        protocol=protocol,
        average_precision=average.where(valid, torch.nan),
        first_match_rank=first,
    )
