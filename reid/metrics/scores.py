"""Average precision and CMC from the ranks of true matches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reid.metrics.labels import Cameras, Protocol
from reid.metrics.matches import Hits
from video_snl.errors import UserError

__all__ = ["Ranking", "no_match", "score_hits", "summarize"]


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
        protocol: ``official`` counts all queries, the others the valid ones.
        average_precision: Of every query, shape (Q,), float64; NaN without a match.
        first_match_rank: Rank of every query's nearest match, from 1, shape (Q,); 0 without one.
        cameras: ``cross`` where a match is under another camera, ``ignore`` where under any.
    """

    cmc: Tensor
    mean_ap: float
    mean_inp: float
    num_valid_queries: int
    num_queries: int
    protocol: Protocol
    average_precision: Tensor
    first_match_rank: Tensor
    cameras: Cameras = "cross"


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


def summarize(
    scores: Tensor, protocol: Protocol, max_rank: int, cameras: Cameras = "cross"
) -> Ranking:
    """Compute the means over the queries of :func:`score_hits`."""
    count, first, average, inverse = scores.cpu().unbind(1)
    valid = count > 0
    if not valid.any():
        raise UserError(no_match(len(count), "in the gallery", cameras))
    counted = len(count) if protocol == "official" else int(valid.sum())
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
        cameras=cameras,
    )


def no_match(queries: int, where: str, cameras: Cameras) -> str:
    """Say that no query has a match, and what helps."""
    text = f"none of the {queries} queries has a match {where}: another tracklet of the same person"
    if cameras == "ignore":
        return f"{text}; check the people of both lists"
    return (
        f"{text} under another camera; check the people and cameras of both lists, and where all "
        "tracklets are of one camera use --cameras ignore (in Python cameras='ignore')"
    )
