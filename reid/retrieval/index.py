"""Search for the nearest tracklets in a table of features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from reid.metrics.distances import Distances, Metric, first_equal, nearest_columns, read_rows
from reid.retrieval.features import FeatureTable, comparable, same_model
from video_snl.errors import UserError

__all__ = [
    "INDICES",
    "IndexName",
    "Metric",
    "SearchResult",
    "cells_of",
    "least_asked",
    "prepared",
    "search",
]

IndexName = Literal["exact", "ivf", "hnsw"]

AT_ONCE = 2**22
"""Distances, and numbers of features, that exact search has in memory at once."""


@dataclass(frozen=True)
class SearchResult:
    """The nearest gallery tracklets of every query, the nearest first.

    Attributes:
        indices: Rows of the gallery, int64, shape (Q, top); -1 where an approximate index found
            no more.
        distances: Cosine (1 - cos) or Euclidean, float32, shape (Q, top); infinite at -1.
        recall: Share of the true nearest ones that an approximate index found; None of the exact.
    """

    indices: np.ndarray
    distances: np.ndarray
    recall: float | None


def search(
    query: FeatureTable,
    gallery: FeatureTable,
    *,
    index: IndexName = "exact",
    top: int = 10,
    metric: Metric = "cosine",
) -> SearchResult:
    """Find the ``top`` nearest tracklets of the gallery for every query.

    Distances are those of :func:`reid.metrics.distances.pairwise_distances`, which evaluations rank
    by, and tracklets at the same distance stand in the order of the gallery, as they do there.
    Exact search reads the gallery's features in blocks, one at a time: they may be a memory-mapped
    file.

    Args:
        query: Features to search for.
        gallery: Features to search in, of the same model.
        index: ``exact`` compares with every row. ``ivf`` looks into the nearest cells of about
            sqrt(G), ``hnsw`` walks a graph of neighbours: approximate, and compared with the exact
            answer in ``recall``.
        top: Number of entries; at most as many as the gallery has.
        metric: ``cosine`` or ``euclidean``.

    Raises:
        UserError: Tables of different models or whose identities cannot be compared, an empty one,
            or unknown options.
    """
    same_model(query, gallery)
    comparable([query, gallery])
    _check(query, gallery, index, top, metric)
    top = min(top, len(gallery))
    rows, members = _distinct(gallery.features)
    exact = _exact(query.features, gallery.features, rows, top, metric)
    exact = _with_equals(*exact, members, top)
    if index == "exact":
        return SearchResult(*exact, None)
    found = _candidates(index, query.features, gallery.features, rows, top, metric)
    near = _distances_to(found, query.features, gallery.features, metric)
    indices, distances = _with_equals(found, near, members, top)
    indices = np.where(np.isinf(distances), -1, indices)
    same = [len(np.intersect1d(a, b)) for a, b in zip(indices, exact[0], strict=True)]
    return SearchResult(indices, distances, sum(same) / exact[0].size)


def _check(query: FeatureTable, gallery: FeatureTable, index: str, top: int, metric: str) -> None:
    for what, table in (("query", query), ("gallery", gallery)):
        if not len(table):
            raise UserError(f"the {what} is empty: there is nothing to search; extract tracklets")
        for block in _blocks(len(table), table.dimension):
            some = read_rows(table.features, block)
            if some.sum().isfinite():  # a sum passes NaN and infinity on
                continue
            wrong = (~some.isfinite()).any(1).nonzero()[:, 0]
            if len(wrong):
                name = table.names[block.start + int(wrong[0])]
                raise UserError(f"features of {name} ({what}) are not finite; extract them anew")
    if index not in get_args(IndexName):
        raise UserError(f"index={index!r} does not exist; choose {', '.join(get_args(IndexName))}")
    if metric not in ("cosine", "euclidean"):
        raise UserError(f"metric={metric!r} does not exist; choose cosine or euclidean")
    if top < 1:
        raise UserError(f"top={top} must be at least 1")


def prepared(features: np.ndarray, metric: str) -> np.ndarray:
    """Return vectors as an index holds them: of length 1 for cosine distances."""
    vectors = np.ascontiguousarray(features, dtype=np.float32)
    if metric == "cosine":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.maximum(norms, 1e-12)
    return vectors


def least_asked(top: int) -> int:
    """Return how many candidates an index is asked for where ``top`` are wanted."""
    return top + max(top // 2, 16)


def cells_of(size: int) -> int:
    """Return the number of cells of an IVF index: about sqrt(size), of 39 rows or more each."""
    # Fewer rows do not place a cell, says FAISS; pgvector takes no more than so many lists.
    return max(1, min(int(size**0.5), size // 39, 32768))


def _blocks(size: int, numbers: int) -> list[slice]:
    """Divide rows, each of so many numbers, into blocks of at most ``AT_ONCE`` numbers."""
    step = max(1, AT_ONCE // max(1, numbers))
    return [slice(begin, min(begin + step, size)) for begin in range(0, size, step)]


def _exact(
    query: np.ndarray, gallery: np.ndarray, rows: np.ndarray, top: int, metric: Metric
) -> tuple[np.ndarray, np.ndarray]:
    """Compare with these rows, of which no two are equal; the ``top`` nearest and distances."""
    distances = Distances(torch.from_numpy(query), metric)
    numbers = torch.from_numpy(rows)
    near = torch.zeros(len(query), 0)
    found = torch.zeros(len(query), 0, dtype=torch.int64)
    for some in _blocks(len(rows), max(query.shape)):
        block = numbers[some]
        # Where all rows are compared with, as usual, a block of them need not be gathered.
        features = read_rows(gallery, some if len(rows) == len(gallery) else block)
        matrix = distances.to(features, block, distinct=True)
        columns = nearest_columns(matrix, top)
        # Earlier rows stand first and so win ties.
        near = torch.cat([near.to(matrix), matrix.gather(1, columns)], 1)
        found = torch.cat([found, block[columns]], 1)
        columns = nearest_columns(near, top)
        near, found = near.gather(1, columns), found.gather(1, columns)
    return found.numpy(), near.float().numpy()


def _candidates(
    index: str, query: np.ndarray, gallery: np.ndarray, rows: np.ndarray, top: int, metric: Metric
) -> np.ndarray:
    """Ask a FAISS index of these rows for more of them than are wanted; -1 for none."""
    built = INDICES[index](prepared(gallery[rows], metric), metric)
    wanted = min(len(rows), least_asked(top))
    places = built.search(prepared(query, metric), wanted)[1]
    return np.where(places < 0, -1, rows[places])


def _distances_to(
    found: np.ndarray, query: np.ndarray, gallery: np.ndarray, metric: Metric
) -> np.ndarray:
    """Compute the distances of candidates as exact search does; infinite where there is none."""
    near = np.full(found.shape, np.inf, dtype=np.float32)
    for row, columns in enumerate(found):
        there = columns >= 0
        if there.any():
            distances = Distances(torch.from_numpy(query[row : row + 1]), metric)
            chosen = read_rows(gallery, torch.from_numpy(columns[there]))
            near[row, there] = distances.to(chosen)[0].numpy()
    return near


def _distinct(gallery: np.ndarray) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return the first row of every different vector, and all rows of those that are repeated."""
    first = first_equal(gallery).numpy()
    rows = np.flatnonzero(first == np.arange(len(first)))
    repeated = np.flatnonzero(first != np.arange(len(first)))
    members: dict[int, list[int]] = {}
    for row in repeated:
        members.setdefault(int(first[row]), [int(first[row])]).append(int(row))
    return rows, {row: np.array(several) for row, several in members.items()}


def _with_equals(
    found: np.ndarray, near: np.ndarray, members: dict[int, np.ndarray], top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Put the rows of equal vectors beside the first of them; the ``top`` nearest of all."""
    shape = len(found), top
    indices, distances = np.full(shape, -1, np.int64), np.full(shape, np.inf, np.float32)
    for query, (row_found, row_near) in enumerate(zip(found, near, strict=True)):
        groups = [members.get(int(row), np.array([row]))[:top] for row in row_found]
        rows = np.concatenate(groups)
        values = np.repeat(row_near, [len(group) for group in groups])
        order = np.lexsort((rows, values))[:top]
        indices[query, : len(order)], distances[query, : len(order)] = rows[order], values[order]
    return indices, distances


def _ivf(vectors: np.ndarray, metric: str) -> Any:
    """Build cells (:func:`cells_of`), of which an eighth are searched."""
    import faiss

    size, dimension = vectors.shape
    cells = cells_of(size)
    built = faiss.IndexIVFFlat(
        faiss.IndexFlatL2(dimension) if metric == "euclidean" else faiss.IndexFlatIP(dimension),
        dimension,
        cells,
        _faiss_metric(metric),
    )
    built.cp.min_points_per_centroid = 1  # no warning on stderr of tables smaller than a cell
    built.train(vectors)
    built.add(vectors)
    built.nprobe = max(1, -(-cells // 8))
    return built


def _hnsw(vectors: np.ndarray, metric: str) -> Any:
    """Build a graph of 32 neighbours a node, 200 candidates to build it and 128 to search it."""
    import faiss

    built = faiss.IndexHNSWFlat(vectors.shape[1], 32, _faiss_metric(metric))
    built.hnsw.efConstruction = 200
    built.hnsw.efSearch = 128
    built.add(vectors)
    return built


def _faiss_metric(metric: str) -> int:
    import faiss

    return faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2


INDICES: dict[str, Callable[[np.ndarray, str], Any]] = {
    "ivf": _ivf,
    "hnsw": _hnsw,
}
