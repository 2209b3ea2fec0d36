"""Distances, and the evaluation that streams them, against the whole matrix and float64."""

from __future__ import annotations

import json
import runpy
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid import evaluate_features, evaluate_ranking
from reid.metrics import streaming as retrieval
from reid.metrics.distances import Distances, Metric
from reid.metrics.ranking import Cameras, Protocol, Ranking
from reid.metrics.streaming import pairwise_distances
from tests.conftest import REPOSITORY
from video_snl.errors import UserError

METRICS: list[Metric] = ["cosine", "euclidean"]


class Case:
    """Random features and labels, with unmatched queries, junk and, if ``rounded``, ties."""

    def __init__(self, seed: int, gallery: int, *, queries: int = 9, rounded: bool = False) -> None:
        rng = np.random.default_rng(seed)
        sizes = queries, gallery
        features = [rng.normal(size=(size, 5)).astype(np.float32) for size in sizes]
        self.query, self.gallery = [f.round() if rounded else f for f in features]
        identities = rng.integers(1, 5, queries), rng.integers(-1, 4, gallery)
        identities[0][0], identities[1][:2] = 1, 1
        self.cameras = [rng.integers(2, size=size) for size in sizes]
        self.cameras[1][:2] = [0, 1]
        self.labels = *identities, *self.cameras


def rows_of(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(retrieval, "LARGEST_BLOCK", rows)


def blockwise(case: Case, metric: Metric, rows: int) -> torch.Tensor:
    """The matrix of the distances as they come in blocks, without their junk."""
    distances = Distances(torch.from_numpy(case.query), metric)
    gallery, identities = torch.from_numpy(case.gallery), torch.from_numpy(case.labels[1])
    matrix = torch.zeros(len(case.query), len(gallery))
    for some in torch.arange(len(gallery)).split(rows):
        some = some[identities[some] != -1]
        matrix[:, some] = distances.to(gallery[some])
    return matrix


def assert_same(found: Ranking, wanted: Ranking) -> None:
    assert torch.equal(found.first_match_rank, wanted.first_match_rank)
    assert torch.equal(found.cmc, wanted.cmc)
    torch.testing.assert_close(
        found.average_precision, wanted.average_precision, rtol=1e-13, atol=0, equal_nan=True
    )
    assert found.mean_inp == pytest.approx(wanted.mean_inp, abs=1e-13)
    assert found.num_valid_queries == wanted.num_valid_queries


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    gallery=st.integers(2, 40),
    rows=st.sampled_from([1, 4, 9, 64]),
    rounded=st.booleans(),
    metric=st.sampled_from(METRICS),
    protocol=st.sampled_from(["common", "official", "queries-kept"]),
    rule=st.sampled_from(["cross", "ignore"]),
)
def test_streaming_equals_the_whole_matrix(
    seed: int,
    gallery: int,
    rows: int,
    rounded: bool,
    metric: Metric,
    protocol: Protocol,
    rule: Cameras,
) -> None:
    case = Case(seed, gallery, rounded=rounded)
    same = np.argwhere(np.asarray(case.labels[0])[:, None] == np.asarray(case.labels[1]))
    rules: dict[str, Any] = {"protocol": protocol, "cameras": rule, "own": same[::3]}
    matrix = blockwise(case, metric, rows)
    with pytest.MonkeyPatch.context() as patch:
        rows_of(patch, rows)
        ask = partial(evaluate_features, case.query, case.gallery, *case.labels, metric=metric)
        try:
            wanted = evaluate_ranking(matrix, *case.labels, max_rank=7, **rules)
        except UserError:  # every match is the query itself
            with pytest.raises(UserError, match="none of the"):
                ask(max_rank=7, **rules)
            return
        assert_same(ask(max_rank=7, **rules), wanted)


@pytest.mark.parametrize("metric", METRICS)
def test_a_mapped_file_with_ties(
    metric: Metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(0, 900, rounded=True)
    np.save(tmp_path / "gallery.npy", case.gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    rows_of(monkeypatch, 64)
    wanted = evaluate_ranking(blockwise(case, metric, 64), *case.labels)
    assert_same(evaluate_features(case.query, mapped, *case.labels, metric=metric), wanted)
    assert_same(evaluate_features(case.query, mapped[:], *case.labels, metric=metric), wanted)


def test_a_gallery_of_float16_and_a_tensor() -> None:
    case = Case(1, 200)
    half = case.gallery.astype(np.float16)
    wanted = evaluate_features(case.query, half.astype(np.float32), *case.labels)
    assert_same(evaluate_features(case.query, half, *case.labels), wanted)
    tensors = torch.from_numpy(case.query), torch.from_numpy(half)
    assert_same(evaluate_features(*tensors, *case.labels), wanted)


def test_changes_of_a_private_map_survive(tmp_path: Path) -> None:
    np.save(tmp_path / "gallery.npy", np.zeros((4096, 5), np.float32))
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="c")
    case = Case(2, 4096)
    mapped[:] = case.gallery
    evaluate_features(case.query, mapped, *case.labels)
    assert np.array_equal(mapped, case.gallery)


def test_pages_of_the_file_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dimension, rows = 512, 16384  # 32 MiB
    gallery = np.random.default_rng(0).standard_normal((rows, dimension), dtype=np.float32)
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    rows_of(monkeypatch, 1024)
    identities = np.arange(rows) % 1000
    labels = [5, 6], identities, [0, 0], np.ones(rows, np.int64)
    before = resident_file_kib()
    evaluate_features(gallery[5:7], mapped, *labels)
    assert resident_file_kib() - before < 8 * 1024
    mapped.sum()  # the same measure sees what stays
    assert resident_file_kib() - before > 24 * 1024


def resident_file_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))


def test_a_block_that_changes_between_the_passes_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case(3, 40)
    calls = []
    true = Distances.to

    def shaky(self: Distances, block: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        calls.append(len(numbers))
        return true(self, block, numbers) + 1e-6 * len(calls)

    monkeypatch.setattr(Distances, "to", shaky)
    with pytest.raises(RuntimeError, match="different distances in the second pass"):
        evaluate_features(case.query, case.gallery, *case.labels)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_euclidean_distances_of_near_duplicates(offset: float) -> None:
    rng = np.random.default_rng(0)
    query = (rng.normal(size=(20, 64)) + offset).astype(np.float32)
    scales = 10.0 ** rng.uniform(-6, 0, size=(20, 1))
    gallery = (query + scales * rng.normal(size=query.shape)).astype(np.float32)
    gallery[0] = query[0]
    found = pairwise_distances(torch.from_numpy(query), torch.from_numpy(gallery), "euclidean")
    differences = query.astype(np.float64)[:, None] - gallery.astype(np.float64)
    wanted = np.sqrt((differences**2).sum(2))
    centred = max(1.0, 64 * offset * 2.0**-23)  # moving by the mean rounds once
    np.testing.assert_allclose(
        found, wanted, rtol=1e-3, atol=1e-7 * centred if not offset else 3e-4
    )
    assert found[0, 0] == 0


def test_cosine_distances() -> None:
    query = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    gallery = torch.tensor([[3.0, 0.0], [-2.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    wanted = [[0.0, 2.0, 1.0, 1 - 0.5**0.5], [1.0, 1.0, 1.0, 1.0]]
    torch.testing.assert_close(pairwise_distances(query, gallery), torch.tensor(wanted))
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(300, 7, generator=rng)
    found = pairwise_distances(features, torch.cat([features, -features]))
    assert found.min() >= 0 and found.max() <= 2
    assert pairwise_distances(features.double(), features.double()).dtype == torch.float64
    assert pairwise_distances(features.half(), features.half()).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gallery": np.zeros((8, 4), np.float32)}, "dimension 4, the query's 5: they are of diff"),
        ({"gallery": np.zeros(8, np.float32)}, r"gallery features of shape \(8,\)"),
        ({"query": np.zeros((0, 5), np.float32)}, "no queries"),
        ({"metric": "manhattan"}, "'manhattan' does not exist; choose cosine, euclidean"),
        ({"memory": 100}, "memory=100 bytes are too few: .* need 204"),
        ({"protocol": "mars"}, "'mars' does not exist"),
        ({"gallery_ids": np.full(8, -1)}, "none of the 9 queries has a match"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    case = Case(0, 8)
    names = ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")
    options = {
        "query": case.query,
        "gallery": case.gallery,
        **dict(zip(names, case.labels, strict=True)),
        **change,
    }
    if len(options["query"]) == 0:
        options["query_ids"] = options["query_cameras"] = np.zeros(0, np.int64)
    with pytest.raises(UserError, match=message):
        evaluate_features(**options)


def test_features_that_are_not_finite_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(0, 50)
    case.labels[1][:] = 1
    case.labels[1][[3, 27]] = -1
    rows_of(monkeypatch, 8)
    case.gallery[29, 0], case.gallery[31, 4] = np.nan, np.inf
    with pytest.raises(UserError, match="gallery features of number 29 are not finite, and 1 more"):
        evaluate_features(case.query, case.gallery, *case.labels)
    case.query[4, 2] = np.inf
    with pytest.raises(UserError, match="^query features of number 4 are not finite$"):
        evaluate_features(case.query, case.gallery, *case.labels)


@pytest.mark.parametrize("metric", METRICS)
def test_large_features(metric: Metric) -> None:
    features = torch.full((3, 4), 1e18)
    assert pairwise_distances(features, features, metric).abs().max() < 1e-6
    with pytest.raises(UserError, match="query features of number 0 are too large for float32"):
        pairwise_distances(10 * features, features, metric)


def test_script_of_the_large_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = REPOSITORY / "scripts" / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    sizes = ["--queries", "20", "--gallery", "3000", "--dimension", "16", "--memory", "1"]
    command = ["large_gallery.py", str(tmp_path), *sizes, "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", command)
    assert runpy.run_path(str(folder / command[0]))["main"]() == 0
    assert "20 queries, gallery 3000 x 16 (0.00 GiB), memory=1 MiB" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["peak_gib"] > 0 and found["seconds"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json"]
    ranks = np.array(found["first_match_rank"])
    assert found["rank_1"] == (ranks == 1).mean()
    assert (ranks >= 1).all() and (ranks <= 3000).all()
