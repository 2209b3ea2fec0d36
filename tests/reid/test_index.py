"""Search against the sorted matrix of distances."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid.metrics.distances import Metric, first_equal
from reid.metrics.streaming import pairwise_distances
from reid.retrieval.features import FeatureTable
from reid.retrieval.index import IndexName, search
from tests.reid.test_features import make_table
from video_snl.errors import UserError


def random_table(size: int, seed: int) -> FeatureTable:
    """Features around twenty points."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(20, 16))
    features = centres[rng.integers(20, size=size)] + 0.4 * rng.normal(size=(size, 16))
    return make_table(size, 16, features=features.astype(np.float32))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_exact_is_the_sorted_matrix(metric: Metric) -> None:
    query, gallery = random_table(7, 0), random_table(300, 1)
    found = search(query, gallery, top=12, metric=metric)
    distances = pairwise_distances(
        torch.from_numpy(query.features), torch.from_numpy(gallery.features), metric
    )
    values, indices = distances.sort(dim=1)
    assert np.array_equal(found.indices, indices[:, :12])
    np.testing.assert_allclose(found.distances, values[:, :12], atol=1e-5)
    assert found.recall is None
    assert found.distances.dtype == np.float32


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_approximate_search_counts_what_it_missed(index: IndexName, metric: Metric) -> None:
    query, gallery = random_table(20, 0), random_table(1000, 1)
    found = search(query, gallery, index=index, top=10, metric=metric)
    exact = search(query, gallery, top=10, metric=metric)
    hits = [len({*a} & {*b}) for a, b in zip(found.indices, exact.indices, strict=True)]
    assert found.recall == sum(hits) / 200
    assert found.recall > 0.5
    assert (np.diff(found.distances, axis=1) >= 0).all()
    if index == "hnsw":
        assert found.recall > 0.95
    same = found.indices == exact.indices
    np.testing.assert_allclose(found.distances[same], exact.distances[same], atol=1e-5)


def test_an_approximate_index_may_find_fewer() -> None:
    """An eighth of the cells holds fewer than 1000 rows: the rest is marked, missing in recall."""
    query, gallery = random_table(3, 0), random_table(1000, 1)
    found = search(query, gallery, index="ivf", top=1000)
    none = found.indices == -1
    assert none.any() and np.isinf(found.distances[none]).all()
    assert found.recall == pytest.approx((~none).mean())


@pytest.mark.parametrize("index", ["exact", "ivf", "hnsw"])
def test_small_galleries(index: IndexName) -> None:
    query, gallery = random_table(2, 0), random_table(3, 1)
    found = search(query, gallery, index=index, top=10)
    assert found.indices.shape == (2, 3)
    assert sorted(found.indices[0].tolist()) == [0, 1, 2]


def repeated(size: int, seed: int) -> FeatureTable:
    """A gallery in which most vectors stand several times, at random places."""
    table = random_table(size, seed)
    rng = np.random.default_rng(seed)
    features = table.features[rng.integers(size // 5, size=size)]
    return replace(table, features=features)


@pytest.mark.parametrize("index", ["exact", "ivf", "hnsw"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("size", [10, 53, 400])
@pytest.mark.parametrize("blocks", [False, True])
def test_equal_distances_stand_in_the_order_of_the_gallery(
    index: IndexName, metric: Metric, size: int, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is that of an evaluation, whose matrix of distances is sorted stably."""
    query, gallery = random_table(7, 0), repeated(size, 1)
    if blocks:
        monkeypatch.setattr("reid.retrieval.index.AT_ONCE", 7 * 20)
    found = search(query, gallery, index=index, top=8, metric=metric)
    distances = pairwise_distances(
        torch.from_numpy(query.features), torch.from_numpy(gallery.features), metric
    )
    wanted = distances.sort(dim=1, stable=True).indices[:, :8]
    if index == "exact" or size < 400:  # an index of few vectors finds them all
        assert np.array_equal(found.indices, wanted)
    for row in range(7):
        pairs = list(zip(found.distances[row], found.indices[row], strict=True))
        assert pairs == sorted(pairs)
        # Of equal vectors the first ones are found.
        for _, entry in pairs:
            same = np.flatnonzero((gallery.features == gallery.features[entry]).all(1))
            before = [other for other in same if other < entry]
            assert {*before} <= {*found.indices[row]}


@pytest.mark.parametrize("index", ["exact", "ivf"])
def test_a_gallery_in_a_mapped_file(
    index: IndexName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid.retrieval.index.AT_ONCE", 7 * 20)
    query, gallery = random_table(7, 0), repeated(400, 1)
    np.save(tmp_path / "gallery.npy", gallery.features)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    wanted = search(query, gallery, index=index)
    found = search(query, replace(gallery, features=mapped), index=index)
    assert np.array_equal(found.indices, wanted.indices)
    assert np.array_equal(found.distances, wanted.distances)
    assert found.recall == wanted.recall


@pytest.mark.parametrize(
    ("queries", "size", "dimension"), [(1, 10, 6), (7, 33, 16), (100, 10, 64), (2, 1003, 32)]
)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equal_vectors_are_at_equal_distances(
    queries: int, size: int, dimension: int, metric: Metric
) -> None:
    """To the last bit, wherever they stand: products of matrices alone do not give that."""
    rng = np.random.default_rng(size)
    gallery = torch.from_numpy(rng.normal(size=(size, dimension)).astype(np.float32))
    source = torch.from_numpy(rng.integers(size, size=size))
    gallery = gallery[source]
    query = torch.from_numpy(rng.normal(size=(queries, dimension)).astype(np.float32))
    distances = pairwise_distances(query, gallery, metric)
    for one in source.unique():
        same = distances[:, source == one]
        assert torch.equal(same, same[:, :1].expand_as(same))


def test_first_equal_rows() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.integers(2, size=(200, 40)).astype(np.float32))
    features[:, ::3] = 0  # many keys of few columns agree
    features[150:] = features[:50]
    features[7] = -features[3] * 0
    wanted = [
        next(i for i in range(row + 1) if torch.equal(features[i], features[row]))
        for row in range(200)
    ]
    assert first_equal(features).tolist() == wanted
    assert first_equal(features.double()).tolist() == wanted
    assert first_equal(torch.zeros(3, 2)).tolist() == [0, 0, 0]
    assert first_equal(torch.zeros(0, 2)).tolist() == []


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        ({"model": "b" * 64}, {}, "extract both with one checkpoint"),
        ({}, {"index": "lsh"}, "'lsh' does not exist; choose exact, ivf, hnsw"),
        ({}, {"metric": "dot"}, "'dot' does not exist; choose cosine or euclidean"),
        ({}, {"top": 0}, "top=0 must be at least 1"),
        (
            {"features": np.full((2, 16), np.nan, np.float32)},
            {},
            r"tracklet 0 \(query\) are not fin",
        ),
    ],
)
def test_bad_input(query: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        search(replace(random_table(2, 0), **query), random_table(5, 1), **options)


def test_empty_tables() -> None:
    empty = make_table(0, 16)
    with pytest.raises(UserError, match="the query is empty"):
        search(empty, random_table(5, 1))
    with pytest.raises(UserError, match="the gallery is empty"):
        search(random_table(5, 1), empty)


BOTH = """
import torch, faiss
import numpy as np
torch.set_num_threads(3)
faiss.omp_set_num_threads(3)
x = np.random.default_rng(0).standard_normal((3000, 32), dtype=np.float32)
for _ in range(3):
    matrix = torch.from_numpy(x)
    product = matrix @ matrix.T
    index = faiss.IndexFlatIP(32)
    index.add(x)
    values, _ = index.search(x[:500], 5)
    assert np.allclose(values, product[:500].topk(5).values, atol=1e-3)
print("both")
"""


def test_torch_and_faiss_run_threads_side_by_side() -> None:
    """Each brings an OpenMP of its own; neither may stand still or disturb the other."""
    run = subprocess.run(
        [sys.executable, "-c", BOTH], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.stdout == "both\n", run.stderr
