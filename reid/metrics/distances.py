"""Cosine and Euclidean distances between feature vectors."""

from __future__ import annotations

import mmap
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from video_snl.errors import UserError

__all__ = [
    "Distances",
    "Metric",
    "first_equal",
    "nearest_columns",
    "pairwise_distances",
    "read_rows",
]

Metric = Literal["cosine", "euclidean"]

CANCELLATION = 2.0**-10
"""A squared distance below this share of the squared norms has lost digits in the product form."""

KEY_COLUMNS = 16
"""Numbers of a vector that are looked at first to find equal vectors."""

PAIRS = 2**22
"""Numbers in the differences that are formed at once where a distance is computed anew."""


class Distances:
    """Distances from some queries to one block of a gallery after the other.

    The same block gives the same numbers to the last bit each time, and equal vectors of a block
    the same distances; another division into blocks may round differently.

    Args:
        query: Features, shape (Q, D).
        metric: ``cosine`` or ``euclidean``.
        centre: Point that Euclidean distances are computed around, shape (D,); default the mean of
            the queries. It changes nothing but rounding.

    Raises:
        UserError: An unknown metric, features that are not a matrix, or not finite.
    """

    def __init__(self, query: Tensor, metric: Metric, centre: Tensor | None = None) -> None:
        if metric not in get_args(Metric):
            raise UserError(
                f"metric={metric!r} does not exist; choose {', '.join(get_args(Metric))}"
            )
        self._metric = metric
        query = _floating(query)
        check_features("query", query)
        check_finite("query", query)
        # Distances do not change when all points move; small norms keep their digits.
        self._centre = centre_of(query) if centre is None else centre
        self._query = self._prepared(query)
        self._norms = self._query.square().sum(1)

    def to(self, block: Tensor, numbers: Tensor | None = None, *, distinct: bool = False) -> Tensor:
        """Compute the distances (Q, B) to a block (B, D) of the gallery.

        Args:
            block: Features of the block.
            numbers: Numbers of its rows in the gallery, shape (B,), for messages.
            distinct: No two rows of the block are equal, so that none is looked for.

        Raises:
            UserError: Features of another dimension, or not finite.
        """
        block = _floating(block).to(self._query)
        check_features("gallery", block, self._query.shape[1])
        check_finite("gallery", block, numbers)
        distances = self._computed(self._prepared(block))
        if distinct:
            return distances
        first = first_equal(block)
        # A matrix product rounds columns differently at the edge of its tiles: equal vectors are
        # given the distance of the first of them, so that they tie.
        repeated = (first != torch.arange(len(first), device=first.device)).nonzero()[:, 0]
        if len(repeated):
            distances[:, repeated] = distances[:, first[repeated]]
        return distances

    def _computed(self, block: Tensor) -> Tensor:
        if self._metric == "cosine":
            return torch.mm(self._query, block.T).neg_().add_(1).clamp_(0, 2)
        norms = self._norms[:, None] + block.square().sum(1)
        squared = torch.addmm(norms, self._query, block.T, alpha=-2)
        self._mend(squared, norms, block)
        return squared.clamp_(min=0).sqrt_()

    def _prepared(self, features: Tensor) -> Tensor:
        if self._metric == "euclidean":
            return features - self._centre
        return torch.nn.functional.normalize(features, dim=1)

    def _mend(self, squared: Tensor, norms: Tensor, block: Tensor) -> None:
        """Replace what |q|^2 + |g|^2 - 2 q g has cancelled by the sum of squared differences."""
        row, column = (squared < CANCELLATION * norms).nonzero(as_tuple=True)
        size = max(1, PAIRS // block.shape[1])
        for q, g in zip(row.split(size), column.split(size), strict=True):
            squared[q, g] = (self._query[q] - block[g]).square_().sum(1)


def pairwise_distances(query: Tensor, gallery: Tensor, metric: Metric = "cosine") -> Tensor:
    r"""Compute all distances between two sets of features, shape (Q, G).

    ``cosine``: 1 - q g / (\|q\| \|g\|), in [0, 2]; a zero vector is at distance 1 from everything.
    ``euclidean``: \|q - g\|, from the differences themselves where they are small.

    Args:
        query: Shape (Q, D). float64 is kept, everything else is computed in float32.
        gallery: Shape (G, D).
        metric: ``cosine`` or ``euclidean``.

    Raises:
        UserError: Shapes that do not fit, an unknown metric, or features that are not finite.
    """
    return Distances(torch.as_tensor(query), metric).to(torch.as_tensor(gallery))


def centre_of(features: Tensor) -> Tensor:
    """Return the mean of the rows, float64 or float32, shape (D,); zeros without rows."""
    features = _floating(features)
    return features.mean(0) if len(features) else features.new_zeros(features.shape[1])


def read_rows(features: Tensor | np.ndarray, rows: slice | Tensor) -> Tensor:
    """Return some rows of features (N, D), those of a mapped file as a copy.

    The pages of the file are then taken out of this process: they count as resident memory.
    """
    if isinstance(features, Tensor):
        return features[rows]
    base: Any = features
    mode = None
    while base is not None and not isinstance(base, mmap.mmap):
        mode = getattr(base, "mode", mode)
        base = getattr(base, "base", None)
    block = features[rows.numpy() if isinstance(rows, Tensor) else rows]
    if isinstance(rows, slice) and (base is not None or not block.flags.writeable):
        block = block.copy()
    # Pages of a copy-on-write map may hold changes that are nowhere else.
    if base is not None and mode in ("r", "r+"):
        base.madvise(mmap.MADV_DONTNEED)
    return torch.from_numpy(np.asarray(block))


def first_equal(features: Tensor | np.ndarray) -> Tensor:
    """Return, for every row (N, D), the number of the first row that equals it, shape (N,)."""
    size, dimension = features.shape
    device = features.device if isinstance(features, Tensor) else torch.device("cpu")
    number = torch.arange(size, device=device)
    if dimension == 0 or size == 0:
        return torch.zeros_like(number)
    step = max(1, PAIRS // dimension)
    # Most rows differ in a few columns already; only the others are looked at as a whole.
    columns = torch.linspace(0, dimension - 1, min(KEY_COLUMNS, dimension)).round().long()
    columns = columns.to(device)
    some = [
        _keys(read_rows(features, slice(begin, begin + step))[:, columns])
        for begin in range(0, size, step)
    ]
    _, group, count = torch.cat(some).unique(return_inverse=True, return_counts=True)
    rows = (count[group] > 1).nonzero()[:, 0]
    if not len(rows):
        return number
    whole = torch.cat([_keys(read_rows(features, part)) for part in rows.split(step)])
    found, group = whole.unique(return_inverse=True)
    first = rows.new_full((len(found),), size).scatter_reduce(0, group, rows, "amin")
    candidate = first[group]
    same = [
        (read_rows(features, a) == read_rows(features, b)).all(1)
        for a, b in zip(rows.split(step), candidate.split(step), strict=True)
    ]
    number[rows] = candidate.where(torch.cat(same), rows)
    return number


def _keys(features: Tensor) -> Tensor:
    """Return an integer for every row, the same one for equal rows, shape (N,), int64."""
    whole = torch.int64 if features.dtype == torch.float64 else torch.int32
    bits = (features + 0.0).contiguous().view(whole)  # -0.0 becomes 0.0, which equals it
    key = torch.zeros(len(features), dtype=torch.int64, device=features.device)
    for column in bits.unbind(1):  # integers wrap around: no rounding
        key = (key ^ column) * 0x5851F42D4C957F2D
    return key


def nearest_columns(distances: Tensor, count: int) -> Tensor:
    """Return the ``count`` nearest columns of every row (Q, G) in order, shape (Q, count).

    Of equal distances the smaller column comes first, as in the rankings.
    """
    size = distances.shape[1]
    count = min(count, size)
    found = []
    for rows in distances.split(max(1, PAIRS // max(1, size))):
        values, columns = rows.topk(min(count + 1, size), largest=False)
        columns = columns[:, :count].sort(1).values
        columns = columns.gather(1, rows.gather(1, columns).argsort(dim=1, stable=True))
        # Where one more is as far as the last of them, topk takes any of those.
        if count < size:
            tied = (values[:, count] == values[:, count - 1]).nonzero()[:, 0]
            columns[tied] = rows[tied].argsort(dim=1, stable=True)[:, :count]
        found.append(columns)
    return torch.cat(found)


def check_features(which: str, features: Tensor | np.ndarray, dimension: int | None = None) -> None:
    """Raise UserError unless ``features`` is a matrix (N, ``dimension``)."""
    if features.ndim != 2:
        raise UserError(
            f"{which} features of shape {tuple(features.shape)}; a matrix (tracklets, dimension) "
            "is needed"
        )
    if dimension is not None and features.shape[1] != dimension:
        raise UserError(
            f"{which} features have dimension {features.shape[1]}, the query's {dimension}: they "
            "are of different networks"
        )


def check_finite(which: str, features: Tensor, numbers: Tensor | None = None) -> None:
    """Raise UserError unless all norms are finite: NaN would be ranked first or last."""
    wrong = (~torch.linalg.vector_norm(features, dim=1).isfinite()).nonzero()[:, 0]
    if len(wrong):
        finite = bool(features[wrong[0]].isfinite().all())
        what = f"too large for {features.dtype}".replace("torch.", "") if finite else "not finite"
        number = int(wrong[0] if numbers is None else numbers[wrong[0]])
        raise UserError(
            f"{which} features of number {number} are {what}"
            + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else "")
        )


def _floating(features: Tensor) -> Tensor:
    features = features.detach()
    return features if features.dtype == torch.float64 else features.float()
