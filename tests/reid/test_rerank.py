"""Re-ranking against sets and loops, and against torchreid."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.metrics import rerank as module
from reid.metrics.distances import Metric
from reid.metrics.rerank import rerank, rerank_distances
from reid.metrics.streaming import pairwise_distances
from tests.reid import naive
from video_snl.errors import UserError


def features(seed: int, size: int) -> torch.Tensor:
    """Around eight points, so that neighbours are often reciprocal."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(8, 6))
    return torch.from_numpy(centres[rng.integers(8, size=size)] + 0.5 * rng.normal(size=(size, 6)))


def parts(distances: torch.Tensor, queries: int) -> tuple[torch.Tensor, ...]:
    return (
        distances[:queries, queries:],
        distances[:queries, :queries],
        distances[queries:, queries:],
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 6),
    gallery=st.integers(1, 25),
    k1=st.integers(1, 30),
    k2=st.integers(1, 8),
    weight=st.sampled_from([0.0, 0.3, 1.0]),
    rounded=st.booleans(),
)
def test_equals_plain_loops(
    seed: int, queries: int, gallery: int, k1: int, k2: int, weight: float, rounded: bool
) -> None:
    every = features(seed, queries + gallery)
    distances = (every[:, None] - every).square().sum(2).sqrt()
    if rounded:  # ties
        distances = (distances * 2).round()
    distances += 1 - torch.eye(len(every))  # nobody else is at distance 0
    found = rerank_distances(*parts(distances, queries), k1=k1, k2=k2, lambda_=weight)
    wanted = naive.rerank(distances.tolist(), queries, k1, k2, weight)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (5, 1, 0.5), (60, 90, 0.1)])
def test_equals_torchreid(metric: Metric, k1: int, k2: int, weight: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchreid.reid.utils.rerank import re_ranking

    query, gallery = features(0, 15).float(), features(1, 60).float()
    matrices = [
        pairwise_distances(a, b, metric)
        for a, b in ((query, gallery), (query, query), (gallery, gallery))
    ]
    wanted = re_ranking(*(matrix.numpy() for matrix in matrices), k1, k2, weight)
    found = rerank_distances(*matrices, k1=k1, k2=k2, lambda_=weight)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    direct = rerank(query, gallery, k1=k1, k2=k2, lambda_=weight, metric=metric)
    np.testing.assert_allclose(direct, wanted, atol=1e-5)


def test_parts_add_up_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery = features(0, 15), features(1, 60)
    whole = rerank(query, gallery)
    monkeypatch.setattr(module, "JOINED", 100)
    torch.testing.assert_close(rerank(query, gallery), whole, rtol=0, atol=1e-14)


def test_distances_given_are_left_alone() -> None:
    every = features(0, 12)
    given = parts(pairwise_distances(every, every), 3)
    before = [part.clone() for part in given]
    rerank_distances(*given)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


def test_duplicates_only() -> None:
    found = rerank(torch.ones(2, 3), torch.ones(4, 3), metric="euclidean")
    assert torch.isfinite(found).all() and found.shape == (2, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k1": 0}, "k1=0, k2=6 must be at least 1"),
        ({"k2": 0}, "k1=20, k2=0 must be at least 1"),
        ({"lambda_": 1.5}, "lambda_=1.5 from 0 to 1"),
        ({"query": torch.zeros(0, 6)}, "at least one query and one gallery entry"),
        ({"gallery": torch.zeros(0, 6)}, "at least one query and one gallery entry"),
        ({"gallery": torch.full((2, 6), torch.nan)}, "features of number .* are not finite"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"query": torch.ones(2, 6), "gallery": torch.ones(3, 6), **options}
    with pytest.raises(UserError, match=message):
        rerank(**arguments)


def test_bad_matrices() -> None:
    good = torch.rand(2, 3), torch.rand(2, 2), torch.rand(3, 3)
    with pytest.raises(UserError, match=r"query_query has shape \(3, 3\); \(2, 2\) is needed"):
        rerank_distances(good[0], good[2], good[2])
    with pytest.raises(UserError, match=r"gallery_gallery has shape \(2, 2\); \(3, 3\) is needed"):
        rerank_distances(good[0], good[1], good[1])
    good[2][1, 1] = torch.nan
    with pytest.raises(UserError, match="distances of entry 3 .* are NaN"):
        rerank_distances(*good)


PEAK = """
import sys
import torch
from reid.metrics.rerank import rerank

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

torch.set_num_threads(1)
torch.manual_seed(0)
features = torch.randn(300, 32)[torch.arange(6000) % 300] + 0.3 * torch.randn(6000, 32)
rerank(features[:10], features[10:60])
before = status("VmRSS")
rerank(features[:1000], features[1000:], memory=int(sys.argv[1]))
print(status("VmHWM") - before)
"""


def test_the_limit_of_memory_is_kept() -> None:
    """The distances alone of 6,000 entries are 137 MiB, and were held with more on top."""
    limit = 112 * 2**20
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(limit)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < limit


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_limit_of_memory_changes_no_number(metric: Metric, dtype: torch.dtype) -> None:
    query, gallery = features(0, 40).to(dtype), features(1, 300).to(dtype)
    whole = rerank(query, gallery, metric=metric)
    blocks = rerank(query, gallery, metric=metric, memory=2_500_000)
    torch.testing.assert_close(
        blocks, whole, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12
    )


def test_too_little_memory_is_said_before_it_is_taken() -> None:
    query, gallery = features(0, 40), features(1, 300)
    with pytest.raises(UserError, match=r"40 queries and 300 .* GiB.*--rerank_memory"):
        rerank(query, gallery, memory=100_000)
    with pytest.raises(UserError, match=r"neighbourhoods.*--rerank_memory"):
        rerank(query, gallery, k1=300, memory=2_600_000)
