"""k-reciprocal re-ranking: neighbours that have each other among their own count as near.

Z. Zhong, L. Zheng, D. Cao, S. Li, Re-ranking Person Re-identification with k-reciprocal Encoding,
CVPR 2017 (arXiv:1701.08398).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid.distances import Metric, pairwise_distances
from video_snl.errors import UserError

__all__ = ["rerank", "rerank_distances"]

JOINED = 2**22
"""Products of sparse rows that are formed at once, and entries of dense rows likewise."""


def rerank(
    query: Tensor | np.ndarray,
    gallery: Tensor | np.ndarray,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
    metric: Metric = "cosine",
) -> Tensor:
    """Re-ranked distances from features, shape (Q, G); see :func:`rerank_distances`.

    All (Q + G)^2 distances between queries and gallery are held in memory, in float32.

    Raises:
        UserError: Features that do not fit or are not finite, or options out of range.
    """
    query, gallery = torch.as_tensor(query), torch.as_tensor(gallery)
    every = torch.cat([query, gallery.to(query)])
    return _rerank(pairwise_distances(every, every, metric), len(query), k1, k2, lambda_)


def rerank_distances(
    query_gallery: Tensor,
    query_query: Tensor,
    gallery_gallery: Tensor,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
) -> Tensor:
    r"""Re-ranked distances (Q, G) from all distances between queries and gallery.

    With d_ij the squared distances, each row divided by its largest, over all N = Q + G entries:

        N(i, k)  = the k + 1 nearest of i, itself among them (ties: the smaller index first)
        R(i, k)  = {j in N(i, k): i in N(j, k)}                       k-reciprocal neighbours
        R*(i)    = R(i, k1) with R(j, k1/2) of every j in it for which more than two thirds of
                   R(j, k1/2) are in R(i, k1)
        V_ij     = exp(-d_ij) / sum_{l in R*(i)} exp(-d_il)           for j in R*(i), 0 otherwise
        V'_i     = mean of V_j over the k2 nearest j of i             local query expansion
        s_ij     = sum_l min(V'_il, V'_jl)
        result   = (1 - lambda) (1 - s_ij / (2 - s_ij)) + lambda d_ij

    k1/2 is rounded, halves to the even number. As in the published code the distances are squared
    before they are normalised, whatever their metric.

    Args:
        query_gallery: Shape (Q, G).
        query_query: Shape (Q, Q), symmetric.
        gallery_gallery: Shape (G, G), symmetric.
        k1: Neighbours of the reciprocal sets.
        k2: Neighbours of the expansion; 1 for none.
        lambda_: Weight of the original distance, from 0 to 1.

    Raises:
        UserError: Shapes that do not fit, NaN, or options out of range.
    """
    queries, size = query_gallery.shape
    for name, given, side in (
        ("query_query", query_query, queries),
        ("gallery_gallery", gallery_gallery, size),
    ):
        if given.shape != (side, side):
            raise UserError(f"{name} has shape {tuple(given.shape)}; {(side, side)} is needed")
    upper = torch.cat([query_query, query_gallery], 1)
    lower = torch.cat([query_gallery.T, gallery_gallery], 1)
    return _rerank(torch.cat([upper, lower]), queries, k1, k2, lambda_)


def _rerank(distances: Tensor, queries: int, k1: int, k2: int, lambda_: float) -> Tensor:
    """The result from the matrix (N, N), which is overwritten."""
    if k1 < 1 or k2 < 1 or not 0 <= lambda_ <= 1:
        raise UserError(f"k1={k1}, k2={k2} must be at least 1, lambda_={lambda_} from 0 to 1")
    if not 0 < queries < len(distances):
        raise UserError("re-ranking needs at least one query and one gallery entry")
    if distances.sum().isnan():
        wrong = distances.isnan().any(1).nonzero()[:, 0]
        raise UserError(
            f"distances of entry {int(wrong[0])} (queries first, then the gallery) are NaN; check "
            "the features they were computed from"
        )
    squared = distances.square_()
    largest = squared.amax(1, keepdim=True)
    squared /= largest.where(largest > 0, 1)
    nearest = _nearest(squared, max(k1 + 1, k2))
    encoding = _encode(squared, nearest, k1)
    if k2 > 1:
        encoding = _expand(encoding, nearest[:, :k2])
    shared = _shared(encoding, queries, len(squared))
    jaccard = 1 - shared / (2 - shared)
    return (1 - lambda_) * jaccard + lambda_ * squared[:queries, queries:]


def _nearest(distances: Tensor, count: int) -> Tensor:
    """The ``count`` nearest entries of every row in order, ties by index, shape (N, count)."""
    count = min(count, len(distances))
    found = []
    for rows in distances.split(max(1, JOINED // len(distances))):
        values, columns = rows.topk(count, largest=False)
        columns = columns.sort(1).values
        columns = columns.gather(1, rows.gather(1, columns).argsort(dim=1, stable=True))
        # Where the last of them is as far as others, topk takes any of these.
        tied = ((rows <= values.amax(1, keepdim=True)).sum(1) > count).nonzero()[:, 0]
        columns[tied] = rows[tied].argsort(dim=1, stable=True)[:, :count]
        found.append(columns)
    return torch.cat(found)


@dataclass(frozen=True)
class _Sparse:
    """A matrix as its entries, ordered by ``row``; ``start`` and ``count`` say where a row is."""

    row: Tensor
    column: Tensor
    value: Tensor
    start: Tensor
    count: Tensor

    @classmethod
    def of(cls, row: Tensor, column: Tensor, value: Tensor, size: int) -> _Sparse:
        count = torch.bincount(row, minlength=size)
        return cls(row, column, value, count.cumsum(0) - count, count)

    def look_up(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The entries of some rows: which of ``rows`` each belongs to, and its number here."""
        count = self.count[rows]
        source = torch.arange(len(rows), device=rows.device).repeat_interleave(count)
        within = torch.arange(len(source), device=rows.device)
        within -= (count.cumsum(0) - count)[source]
        return source, self.start[rows][source] + within


def _encode(distances: Tensor, nearest: Tensor, k1: int) -> _Sparse:
    """V as it is before the expansion."""
    near, mutual = _reciprocal(nearest[:, : k1 + 1])
    close, close_mutual = _reciprocal(nearest[:, : round(k1 / 2) + 1])
    row, column, value = [], [], []
    step = max(1, JOINED // (len(distances) + near.shape[1] * close.shape[1]))
    for begin in range(0, len(distances), step):
        some = slice(begin, begin + step)
        members = torch.zeros_like(distances[some], dtype=torch.bool)
        members.scatter_(1, near[some], mutual[some])
        candidates = close[near[some]].flatten(1)  # (n, K * H)
        valid = close_mutual[near[some]]  # (n, K, H)
        inside = members.gather(1, candidates).view_as(valid) & valid
        fits = mutual[some] & (3 * inside.sum(2) > 2 * valid.sum(2))
        added = (valid & fits[:, :, None]).flatten(1)
        r, c = added.nonzero(as_tuple=True)
        members[r, candidates[r, c]] = True
        weights = torch.exp(-distances[some]).where(members, 0)
        weights /= weights.sum(1, keepdim=True)
        r, c = members.nonzero(as_tuple=True)
        row.append(r + begin)
        column.append(c)
        value.append(weights[r, c])
    return _Sparse.of(torch.cat(row), torch.cat(column), torch.cat(value), len(distances))


def _reciprocal(near: Tensor) -> tuple[Tensor, Tensor]:
    """Lists of neighbours (N, K), and which of them have the row in their own list."""
    index = torch.arange(len(near), device=near.device)
    mutual = [
        (near[rows] == own[:, None, None]).any(2)
        for rows, own in zip(near.split(1024), index.split(1024), strict=True)
    ]
    return near, torch.cat(mutual)


def _expand(encoding: _Sparse, near: Tensor) -> _Sparse:
    """Each row the mean of the rows of its nearest entries."""
    size, k2 = near.shape
    source, entry = encoding.look_up(near.flatten())
    place = torch.stack([source // k2, encoding.column[entry]])
    value = encoding.value[entry] / k2
    summed = torch.sparse_coo_tensor(place, value, (size, size), check_invariants=True).coalesce()
    row, column = summed.indices().unbind()
    return _Sparse.of(row, column, summed.values(), size)


def _shared(encoding: _Sparse, queries: int, size: int) -> Tensor:
    """s, shape (Q, G)."""
    gallery = (encoding.row >= queries).nonzero()[:, 0]
    gallery = gallery[encoding.column[gallery].argsort(stable=True)]
    columns = _Sparse.of(
        encoding.column[gallery], encoding.row[gallery] - queries, encoding.value[gallery], size
    )
    total = encoding.value.new_zeros(queries * (size - queries))
    asked = int((encoding.row < queries).sum())
    ends = columns.count[encoding.column[:asked]].cumsum(0)
    begin = 0
    while begin < asked:
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(torch.searchsorted(ends, done + JOINED, right=True)))
        source, entry = columns.look_up(encoding.column[begin:end])
        smaller = torch.minimum(encoding.value[begin:end][source], columns.value[entry])
        place = encoding.row[begin:end][source] * (size - queries) + columns.column[entry]
        total.index_put_((place,), smaller, accumulate=True)
        begin = end
    return total.view(queries, -1)
