"""Search for the nearest tracklets in a table of features, by FAISS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from reid.features import FeatureTable, comparable, same_model
from video_snl.errors import UserError

__all__ = ["IndexName", "Metric", "SearchResult", "search"]

IndexName = Literal["exact", "ivf", "hnsw"]
Metric = Literal["cosine", "euclidean"]


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
    """The ``top`` nearest tracklets of the gallery for every query.

    Args:
        query: Features to search for.
        gallery: Features to search in, of the same model.
        index: ``exact`` compares with every row. ``ivf`` looks into the nearest cells of about
            sqrt(G), ``hnsw`` walks a graph of neighbours: approximate, and compared with the exact
            answer in ``recall``.
        top: How many; at most as many as the gallery has.
        metric: ``cosine`` or ``euclidean``.

    Raises:
        UserError: Tables of different models or whose people cannot be compared, an empty one, or
            unknown options.
    """
    same_model(query, gallery)
    comparable([query, gallery])
    _check(query, gallery, index, top, metric)
    top = min(top, len(gallery))
    asked, found = _vectors(query.features, metric), _vectors(gallery.features, metric)
    exact = _look_up(_exact(found, metric), asked, top, metric)
    if index == "exact":
        return SearchResult(*exact, None)
    indices, distances = _look_up(INDICES[index](found, metric), asked, top, metric)
    same = [len(np.intersect1d(a, b)) for a, b in zip(indices, exact[0], strict=True)]
    return SearchResult(indices, distances, sum(same) / exact[0].size)


def _check(query: FeatureTable, gallery: FeatureTable, index: str, top: int, metric: str) -> None:
    for what, table in (("query", query), ("gallery", gallery)):
        if not len(table):
            raise UserError(f"the {what} is empty: there is nothing to search; extract tracklets")
        wrong = (~np.isfinite(table.features)).any(1).nonzero()[0]
        if len(wrong):
            raise UserError(
                f"features of {table.names[wrong[0]]} ({what}) are not finite; extract them anew"
            )
    if index not in INDICES:
        raise UserError(f"index={index!r} does not exist; choose {', '.join(INDICES)}")
    if metric not in ("cosine", "euclidean"):
        raise UserError(f"metric={metric!r} does not exist; choose cosine or euclidean")
    if top < 1:
        raise UserError(f"top={top} must be at least 1")


def _vectors(features: np.ndarray, metric: str) -> np.ndarray:
    vectors = np.ascontiguousarray(features, dtype=np.float32)
    if metric == "cosine":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.maximum(norms, 1e-12)
    return vectors


def _exact(vectors: np.ndarray, metric: str) -> Any:
    import faiss

    flat = faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2
    built = flat(vectors.shape[1])
    built.add(vectors)
    return built


def _ivf(vectors: np.ndarray, metric: str) -> Any:
    """About sqrt(G) cells, an eighth of them looked into, with at least one training row a cell."""
    import faiss

    size, dimension = vectors.shape
    cells = max(1, min(int(size**0.5), size // 39))  # FAISS wants 39 rows per cell to place it
    built = faiss.IndexIVFFlat(
        faiss.IndexFlatL2(dimension) if metric == "euclidean" else faiss.IndexFlatIP(dimension),
        dimension,
        cells,
        _faiss_metric(metric),
    )
    built.train(vectors)
    built.add(vectors)
    built.nprobe = max(1, -(-cells // 8))
    return built


def _hnsw(vectors: np.ndarray, metric: str) -> Any:
    """32 neighbours a node, 200 candidates while building, 128 while searching."""
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
    "exact": _exact,
    "ivf": _ivf,
    "hnsw": _hnsw,
}


def _look_up(built: Any, asked: np.ndarray, top: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    values, indices = built.search(asked, top)
    near = 1 - values if metric == "cosine" else np.sqrt(np.maximum(values, 0))
    distances = np.maximum(near, 0)
    return indices, np.where(indices < 0, np.float32(np.inf), distances).astype(np.float32)
