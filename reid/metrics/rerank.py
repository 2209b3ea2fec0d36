"""k-reciprocal re-ranking: neighbours that have each other among their own count as near.

Z. Zhong, L. Zheng, D. Cao, S. Li, Re-ranking Person Re-identification with k-reciprocal Encoding,
CVPR 2017 (arXiv:1701.08398).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid.metrics.distances import (
    Distances,
    Metric,
    centre_of,
    check_features,
    check_finite,
    nearest_columns,
)
from video_snl.errors import UserError

__all__ = ["MEMORY", "check_memory", "rerank", "rerank_distances"]

MEMORY = 2**31
"""Default of the bytes that re-ranking may take beside the features."""

JOINED = 2**22
"""Products of sparse rows that are formed at once, and entries of dense rows likewise, at most."""

ENTRY_BYTES = 64
"""Bytes of an entry of a sparse encoding: row, column, value, the same by column, and an order."""

WORK_BYTES = 128
"""Bytes of a product of sparse rows while it is formed."""


def rerank(
    query: Tensor | np.ndarray,
    gallery: Tensor | np.ndarray,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
    metric: Metric = "cosine",
    memory: int = MEMORY,
) -> Tensor:
    """Compute re-ranked distances from features, shape (Q, G); see :func:`rerank_distances`.

    The (Q + G)^2 distances are computed in blocks of rows, twice, so that all that is held beside
    the features stays below ``memory``. The size of the blocks changes nothing but rounding.

    Args:
        query: Features, shape (Q, D).
        gallery: Features, shape (G, D).
        k1, k2, lambda_: See :func:`rerank_distances`.
        metric: ``cosine`` or ``euclidean``.
        memory: Bytes.

    Raises:
        UserError: Features that do not fit or are not finite, options out of range, or more memory
            needed than allowed. The last is raised before the work where the sizes alone tell, and
            otherwise before the memory is taken.
    """
    query, gallery = torch.as_tensor(query), torch.as_tensor(gallery)
    _check(len(query), len(query) + len(gallery), k1, k2, lambda_)
    check_features("query", query)
    check_features("gallery", gallery, query.shape[1])
    every = torch.cat([query, gallery.to(query)])
    every = every if every.dtype == torch.float64 else every.float()
    check_finite("query and gallery", every)
    centre = centre_of(every)
    check_memory(len(query), len(gallery), every, memory, k1=k1, k2=k2)
    budget = _Budget.of(every, len(query), k1, k2, memory)
    return _rerank(
        lambda some: Distances(every[some], metric, centre).to(every),
        (len(query), len(every)),
        budget,
        k1,
        k2,
        lambda_,
    )


def rerank_distances(
    query_gallery: Tensor,
    query_query: Tensor,
    gallery_gallery: Tensor,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
) -> Tensor:
    r"""Compute re-ranked distances (Q, G) from all distances between queries and gallery.

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
    distances = torch.cat([upper, lower])
    _check(queries, len(distances), k1, k2, lambda_)
    if distances.sum().isnan():
        wrong = distances.isnan().any(1).nonzero()[:, 0]
        raise UserError(
            f"distances of entry {int(wrong[0])} (queries first, then the gallery) are NaN; check "
            "the features they were computed from"
        )
    budget = _Budget(None, max(1, 16 * JOINED // len(distances)), JOINED)
    return _rerank(
        lambda some: distances[some].clone(), (queries, len(distances)), budget, k1, k2, lambda_
    )


@dataclass(frozen=True)
class _Budget:
    """Sizes of what is computed at once, so that a limit of memory is kept.

    Attributes:
        entries: Bytes for the sparse encodings; None for no limit.
        rows: Rows of distances that are computed at once.
        joined: Products of sparse rows that are formed at once.
    """

    entries: int | None
    rows: int
    joined: int

    @classmethod
    def of(cls, every: Tensor, queries: int, k1: int, k2: int, memory: int) -> _Budget:
        """Divide ``memory`` bytes between the parts; :func:`check_memory` is to be called first."""
        size, dimension = every.shape
        item = every.element_size()
        row = 2 * item * size  # of distances, and on the way
        free = memory - _fixed(queries, size, dimension, item, max(k1 + 1, k2))
        joined = max(1, min(JOINED, free // 4 // WORK_BYTES))
        return cls(free // 2, min(size, max(1, free // 4 // row)), joined)

    def check(self, entries: int) -> None:
        """Raise UserError if so many sparse entries are more than fit."""
        if self.entries is not None and entries * ENTRY_BYTES > self.entries:
            raise UserError(
                f"the neighbourhoods of re-ranking take more than {_gib(self.entries)}, which is "
                f"half of what is left of the memory allowed: {_HINT}"
            )


def check_memory(
    queries: int,
    gallery: int,
    like: Tensor,
    memory: int,
    *,
    k1: int = 20,
    k2: int = 6,
) -> None:
    """Check, from the sizes alone, that ``memory`` bytes can suffice for a re-ranking.

    Args:
        queries: Number of queries Q.
        gallery: Number of gallery entries G.
        like: A tensor of the features' type and dimension, shape (..., D).
        memory: Bytes allowed.
        k1, k2: See :func:`rerank_distances`.

    Raises:
        UserError: They cannot; the message says how many are needed at least.
    """
    size, item = queries + gallery, like.element_size()
    least = _fixed(queries, size, like.shape[-1], item, max(k1 + 1, k2))
    least += size * (2 * item + ENTRY_BYTES)  # one row of distances, one entry a row
    if least > memory:
        raise UserError(
            f"re-ranking {queries} queries and {gallery} gallery tracklets takes more than "
            f"{_gib(least)}, and {_gib(memory)} are allowed: {_HINT}"
        )


def _fixed(queries: int, size: int, dimension: int, item: int, neighbours: int) -> int:
    """Return the bytes of the features as they are compared, the neighbours and the result."""
    return size * (4 * item * dimension + 12 * neighbours) + queries * (size - queries) * item


_HINT = "allow more by --rerank_memory GIB (in Python memory=bytes), or leave --rerank out"


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


def _check(queries: int, size: int, k1: int, k2: int, lambda_: float) -> None:
    if k1 < 1 or k2 < 1 or not 0 <= lambda_ <= 1:
        raise UserError(f"k1={k1}, k2={k2} must be at least 1, lambda_={lambda_} from 0 to 1")
    if not 0 < queries < size:
        raise UserError("re-ranking needs at least one query and one gallery entry")


def _rerank(
    distances: Callable[[slice], Tensor],
    sizes: tuple[int, int],
    budget: _Budget,
    k1: int,
    k2: int,
    lambda_: float,
) -> Tensor:
    """Compute the result; ``distances`` returns some rows as a new tensor each time."""
    queries, size = sizes

    def scaled(rows: slice) -> Tensor:
        squared = distances(rows).square_()
        largest = squared.amax(1, keepdim=True)
        return squared.div_(largest.where(largest > 0, 1))

    def blocks(end: int) -> Iterator[slice]:
        for begin in range(0, end, budget.rows):
            yield slice(begin, min(begin + budget.rows, end))

    found = [nearest_columns(scaled(rows), max(k1 + 1, k2)) for rows in blocks(size)]
    nearest = torch.cat(found)
    del found
    encoding = _encode(((rows.start, scaled(rows)) for rows in blocks(size)), nearest, k1, budget)
    if k2 > 1:
        encoding = _expand(encoding, nearest[:, :k2], budget)
    result = _shared(encoding, queries, size, budget.joined)
    del encoding, nearest
    for rows in blocks(queries):
        shared = result[rows]
        jaccard = 1 - shared / (2 - shared)
        result[rows] = (1 - lambda_) * jaccard + lambda_ * scaled(rows)[:, queries:]
    return result


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
        """Find the entries of some rows: which of ``rows`` each belongs to, and its number here."""
        count = self.count[rows]
        source = torch.arange(len(rows), device=rows.device).repeat_interleave(count)
        within = torch.arange(len(source), device=rows.device)
        within -= (count.cumsum(0) - count)[source]
        return source, self.start[rows][source] + within


def _encode(
    blocks: Iterable[tuple[int, Tensor]], nearest: Tensor, k1: int, budget: _Budget
) -> _Sparse:
    """Compute V as it is before the expansion from blocks of rows and the numbers they begin at."""
    near, mutual = _reciprocal(nearest[:, : k1 + 1])
    close, close_mutual = _reciprocal(nearest[:, : round(k1 / 2) + 1])
    row, column, value = [], [], []
    entries = 0
    step = max(1, budget.joined // (len(nearest) + near.shape[1] * close.shape[1]))
    for first, block in blocks:
        for begin in range(first, first + len(block), step):
            distances = block[begin - first : begin - first + step]
            some = slice(begin, begin + len(distances))
            members = torch.zeros_like(distances, dtype=torch.bool)
            members.scatter_(1, near[some], mutual[some])
            candidates = close[near[some]].flatten(1)  # (n, K * H)
            valid = close_mutual[near[some]]  # (n, K, H)
            inside = members.gather(1, candidates).view_as(valid) & valid
            fits = mutual[some] & (3 * inside.sum(2) > 2 * valid.sum(2))
            added = (valid & fits[:, :, None]).flatten(1)
            r, c = added.nonzero(as_tuple=True)
            members[r, candidates[r, c]] = True
            r, c = members.nonzero(as_tuple=True)
            entries += len(r)
            budget.check(entries)
            weights = torch.exp(-distances[r, c])
            total = weights.new_zeros(len(distances)).index_add_(0, r, weights)
            row.append(r + begin)
            column.append(c)
            value.append(weights / total[r])
    return _Sparse.of(torch.cat(row), torch.cat(column), torch.cat(value), len(nearest))


def _reciprocal(near: Tensor) -> tuple[Tensor, Tensor]:
    """Return lists of neighbours (N, K), and which of them have the row in their own list."""
    index = torch.arange(len(near), device=near.device)
    mutual = [
        (near[rows] == own[:, None, None]).any(2)
        for rows, own in zip(near.split(1024), index.split(1024), strict=True)
    ]
    return near, torch.cat(mutual)


def _expand(encoding: _Sparse, near: Tensor, budget: _Budget) -> _Sparse:
    """Make each row the mean of the rows of its nearest entries."""
    size, k2 = near.shape
    row, column, value = [], [], []
    entries = 0
    ends = encoding.count[near].sum(1).cumsum(0)
    begin = 0
    while begin < size:
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(torch.searchsorted(ends, done + budget.joined, right=True)))
        source, entry = encoding.look_up(near[begin:end].flatten())
        place = torch.stack([source // k2, encoding.column[entry]])
        summed = torch.sparse_coo_tensor(
            place, encoding.value[entry] / k2, (end - begin, size), check_invariants=True
        ).coalesce()
        entries += summed.values().shape[0]
        budget.check(entries)
        row.append(summed.indices()[0] + begin)
        column.append(summed.indices()[1])
        value.append(summed.values())
        begin = end
    return _Sparse.of(torch.cat(row), torch.cat(column), torch.cat(value), size)


def _shared(encoding: _Sparse, queries: int, size: int, joined: int) -> Tensor:
    """Compute s, shape (Q, G)."""
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
        end = max(begin + 1, int(torch.searchsorted(ends, done + joined, right=True)))
        source, entry = columns.look_up(encoding.column[begin:end])
        smaller = torch.minimum(encoding.value[begin:end][source], columns.value[entry])
        place = encoding.row[begin:end][source] * (size - queries) + columns.column[entry]
        total.index_put_((place,), smaller, accumulate=True)
        begin = end
    return total.view(queries, -1)
