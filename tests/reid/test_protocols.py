"""Rankings against torchreid and against plain loops."""

from __future__ import annotations

import json
import runpy
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.io import loadmat

from reid import evaluate_ranking
from reid.metrics import matches as matching
from reid.metrics import ranking as protocols
from reid.metrics.distances import pairwise_distances
from reid.metrics.matches import Gallery, count_before
from reid.metrics.ranking import Cameras, Protocol, Ranking, official_gallery
from tests.conftest import REPOSITORY
from tests.reid import naive
from video_snl.errors import UserError

PROTOCOLS: list[Protocol] = ["common", "official", "queries-kept"]


class Case:
    """Random labels and distances. ``levels`` are as many different distances, for ties."""

    def __init__(
        self, seed: int, queries: int, gallery: int, identities: int, levels: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        size = (queries, gallery)
        distances = (
            rng.integers(levels, size=size) if levels else rng.permutation(queries * gallery)
        )
        self.distances = distances.reshape(size).astype(np.float64) / 64
        self.query_ids = rng.integers(1, identities + 2, queries)  # the last one has no match
        self.gallery_ids = rng.integers(-1, identities + 1, gallery)
        self.query_cameras, self.gallery_cameras = (rng.integers(3, size=n) for n in size)

    def labels(self) -> tuple[np.ndarray, ...]:
        return self.query_ids, self.gallery_ids, self.query_cameras, self.gallery_cameras

    def naive(
        self, protocol: str, max_rank: int, rule: str = "cross", own: Sequence[tuple[int, int]] = ()
    ) -> naive.Summary | None:
        lists = [values.tolist() for values in (self.distances, *self.labels())]
        return naive.evaluate(*lists, protocol, max_rank, rule, own)

    def own(self, seed: int) -> list[tuple[int, int]]:
        """Some pairs of a query and a gallery entry of its person."""
        same = np.argwhere(self.query_ids[:, None] == self.gallery_ids)
        drawn = np.random.default_rng(seed).random(len(same)) < 0.3
        return [(int(q), int(g)) for q, g in same[drawn]]


def cases(levels: st.SearchStrategy[int]) -> st.SearchStrategy[Case]:
    sizes = st.integers(1, 12), st.integers(1, 40), st.integers(1, 6)
    return st.builds(Case, st.integers(0, 10**6), *sizes, levels)


def assert_equals_naive(found: Ranking, wanted: naive.Summary) -> None:
    assert found.cmc.tolist() == pytest.approx(wanted.cmc, abs=1e-12)
    assert found.mean_ap == pytest.approx(wanted.mean_ap, abs=1e-12)
    assert found.mean_inp == pytest.approx(wanted.mean_inp, abs=1e-12)
    assert (found.num_valid_queries, found.num_queries) == (wanted.valid, len(wanted.scores))
    assert found.first_match_rank.tolist() == [s.first for s in wanted.scores]
    averages = [s.average_precision if s.matches else np.nan for s in wanted.scores]
    assert found.average_precision.tolist() == pytest.approx(averages, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=80, deadline=None)
@given(case=cases(st.sampled_from([0, 1, 2, 5, 30])), max_rank=st.integers(1, 50))
def test_equals_plain_loops(protocol: Protocol, case: Case, max_rank: int) -> None:
    wanted = case.naive(protocol, max_rank)
    if wanted is None:
        with pytest.raises(UserError, match="has a match in the gallery"):
            evaluate_ranking(case.distances, *case.labels(), protocol=protocol)
        return
    found = evaluate_ranking(case.distances, *case.labels(), protocol=protocol, max_rank=max_rank)
    assert_equals_naive(found, wanted)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("rule", ["cross", "ignore"])
@settings(max_examples=40, deadline=None)
@given(case=cases(st.sampled_from([0, 2, 30])), seed=st.integers(0, 99))
def test_rules_of_cameras_equal_plain_loops(
    protocol: Protocol, rule: Cameras, case: Case, seed: int
) -> None:
    """The loops also ignore cameras, and have entries that are the query itself."""
    own = case.own(seed)
    wanted = case.naive(protocol, 9, rule, own)
    rules: dict[str, Any] = {"protocol": protocol, "cameras": rule, "own": own}
    if wanted is None:
        with pytest.raises(UserError, match="has a match in the gallery"):
            evaluate_ranking(case.distances, *case.labels(), **rules)
        return
    found = evaluate_ranking(case.distances, *case.labels(), max_rank=9, **rules)
    assert_equals_naive(found, wanted)
    assert found.cameras == rule


def test_queries_kept_is_plain_precision_in_the_gallery_with_the_queries() -> None:
    """Compare with public code for MARS: a loop over good and junk entries of all the list."""
    rng = np.random.default_rng(4)
    features = rng.normal(size=(60, 5)).round(1)
    identities, cameras = rng.integers(0, 9, 60), rng.integers(0, 3, 60)
    asked = np.flatnonzero(identities > 0)[:20]
    kept = np.setdiff1d(np.arange(60), asked)
    query, gallery = torch.from_numpy(features[asked]), torch.from_numpy(features[kept])
    labels = identities[asked], identities[kept], cameras[asked], cameras[kept]
    distances = pairwise_distances(query, gallery, "euclidean")
    within = pairwise_distances(query, query, "euclidean")
    matrix, ids, views = official_gallery(distances, within, *labels)
    found = evaluate_ranking(matrix, labels[0], ids, labels[2], views, protocol="queries-kept")
    averages, first = [], []
    for row in range(20):
        order = np.argsort(matrix[row].numpy(), kind="stable")
        same, here = ids.numpy() == labels[0][row], views.numpy() == labels[2][row]
        order = order[~(same & here)[order]]
        hits = np.flatnonzero((same & ~here)[order])
        if len(hits):
            averages.append(np.mean([(i + 1) / (hit + 1) for i, hit in enumerate(hits)]))
            first.append(hits[0] == 0)
    assert found.mean_ap == pytest.approx(np.mean(averages), abs=1e-12)
    assert float(found.cmc[0]) == pytest.approx(np.mean(first))


def test_nobody_finds_themselves_where_cameras_are_ignored() -> None:
    """The diagonal is not a match where one list of one camera is query and gallery."""
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
    identities, camera = torch.tensor([1, 2, 2, 1]), torch.zeros(4, dtype=torch.int64)
    distances = pairwise_distances(features, features)
    labels = identities, identities, camera, camera
    with pytest.raises(UserError, match="--cameras ignore"):
        evaluate_ranking(distances, *labels)
    own = [(row, row) for row in range(4)]
    found = evaluate_ranking(distances, *labels, cameras="ignore", own=own)
    assert float(found.cmc[0]) == 0  # the nearest other one is always the other person
    assert found.num_valid_queries == 4
    assert float(evaluate_ranking(distances, *labels, cameras="ignore").cmc[0]) == 1


@pytest.mark.parametrize("own", [[(0, 9)], [(0, 1, 2)], [(0.5, 1.0)], [(-1, 0)], [(0, 1)]], ids=str)
def test_wrong_pairs(own: Any) -> None:
    with pytest.raises(UserError, match="own"):
        evaluate_ranking(torch.zeros(1, 2), [1], [1, 2], [0], [1, 1], own=own)


@settings(max_examples=80, deadline=None)
@given(case=cases(st.just(0)))
def test_equals_torchreid(case: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its Cython version is not there
        from torchreid.reid.metrics.rank import evaluate_rank

    # It knows no junk, and stacks rows of different length where the gallery is short.
    kept = case.gallery_ids != -1
    same = case.query_ids[:, None] == case.gallery_ids[kept]
    own = same & (case.query_cameras[:, None] == case.gallery_cameras[kept])
    matched = (same & ~own).any(1)
    assume(matched.any())
    length = int(kept.sum() - own[matched].sum(1).max())
    cmc, mean_ap = evaluate_rank(
        case.distances[:, kept],
        case.query_ids,
        case.gallery_ids[kept],
        case.query_cameras,
        case.gallery_cameras[kept],
        max_rank=length,
        use_cython=False,
    )
    found = evaluate_ranking(torch.from_numpy(case.distances), *case.labels(), max_rank=length)
    assert found.mean_ap == pytest.approx(mean_ap, abs=1e-6)
    assert found.cmc.tolist() == pytest.approx(cmc.tolist(), abs=1e-6)


def test_by_hand() -> None:
    """Person 1 of camera 0 at ranks 1, 3 and 4, and as junk of two kinds."""
    identities = [1, 2, 1, -1, 1, 1]
    cameras = [1, 0, 0, 1, 2, 1]
    distances = torch.tensor([[0.1, 0.2, 0.15, 0.05, 0.3, 0.4]])
    labels = [1], identities, [0], cameras
    common = evaluate_ranking(distances, *labels, max_rank=3)
    assert common.mean_ap == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)
    assert common.mean_inp == pytest.approx(3 / 4)
    assert common.cmc.tolist() == [1, 1, 1]
    official = evaluate_ranking(distances, *labels, protocol="official")
    assert official.mean_ap == pytest.approx(
        ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 3 + 3 / 4) / 2) / 3
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_all_types_of_distances(dtype: torch.dtype) -> None:
    case = Case(3, queries=9, gallery=200, identities=4)
    distances = torch.from_numpy(case.distances).to(dtype)  # with ties, by rounding
    case.distances = distances.double().numpy()
    wanted = case.naive("common", 20)
    assert wanted
    assert_equals_naive(evaluate_ranking(distances, *case.labels(), max_rank=20), wanted)


def test_values_at_the_ends() -> None:
    """Infinities are distances; both zeros are the same one."""
    case = Case(5, queries=20, gallery=50, identities=3)
    values = np.array([np.inf, -np.inf, 0.0, -0.0, 1.0])
    case.distances = values[np.random.default_rng(0).integers(5, size=(20, 50))]
    wanted = case.naive("common", 9)
    assert wanted
    assert_equals_naive(evaluate_ranking(case.distances, *case.labels(), max_rank=9), wanted)


@pytest.mark.parametrize("identities", [9, 60])  # many entries of an identity, and few
@pytest.mark.parametrize("levels", [0, 7])
def test_neither_chunks_nor_threads_change_a_number(
    monkeypatch: pytest.MonkeyPatch, levels: int, identities: int
) -> None:
    case = Case(1, queries=50, gallery=300, identities=identities, levels=levels)
    whole = evaluate_ranking(case.distances, *case.labels())
    monkeypatch.setattr(protocols, "CHUNK", 2000)
    torch.set_num_threads(2)
    try:
        parts = evaluate_ranking(case.distances, *case.labels())
    finally:
        torch.set_num_threads(1)
    assert torch.equal(whole.first_match_rank, parts.first_match_rank)
    assert torch.equal(whole.cmc, parts.cmc)
    torch.testing.assert_close(
        whole.average_precision, parts.average_precision, rtol=1e-13, atol=0, equal_nan=True
    )


@settings(max_examples=60, deadline=None)
@given(case=cases(st.sampled_from([0, 1, 4])), block=st.integers(1, 15), compared=st.integers(0, 4))
def test_counts_of_blocks_add_up(case: Case, block: int, compared: int) -> None:
    """However the gallery is divided, and whether entries are compared with a row or looked up."""
    distances = torch.from_numpy(case.distances)
    ids, identities, views, cameras = (torch.from_numpy(values) for values in case.labels())
    matches = (found := Gallery(identities, cameras)).matches(ids, views)
    near = distances.gather(1, matches.columns)
    total = torch.zeros_like(matches.columns)
    for positions in found.positions.split(block):
        with mock.patch.object(matching, "COMPARED", compared):
            total += count_before(
                distances[:, positions], positions, near, matches.columns, matches.valid
            )
    for q, j in matches.valid.nonzero().tolist():
        column = int(matches.columns[q, j])
        order = naive.ranked(case.distances[q].tolist())
        before = order[: order.index(column)]
        assert int(total[q, j]) == sum(case.gallery_ids[g] != -1 for g in before)


def test_the_curve_stays_constant_beyond_the_gallery() -> None:
    ranking = evaluate_ranking([[0.2, 0.1]], [1], [1, 2], [0], [1, 1], max_rank=5)
    assert ranking.cmc.tolist() == [0, 1, 1, 1, 1]


def test_official_gallery_keeps_the_queries() -> None:
    """Two queries of one person match each other; their own entries are not matches."""
    official = official_gallery(
        torch.tensor([[0.5], [0.5]]),
        torch.tensor([[0.0, 0.9], [0.2, 0.0]]),
        [1, 1],
        [2],
        [0, 1],
        [0],
    )
    assert official[0].tolist() == [[0.5, 0.0, pytest.approx(0.9)], [0.5, pytest.approx(0.2), 0.0]]
    distances, identities, cameras = official
    ranking = evaluate_ranking(distances, [1, 1], identities, [0, 1], cameras, protocol="official")
    assert ranking.first_match_rank.tolist() == [2, 1]
    assert ranking.num_valid_queries == 2
    with pytest.raises(UserError, match=r"query_distances has shape \(1, 2\)"):
        official_gallery(torch.rand(2, 1), torch.rand(1, 2), [1, 1], [2], [0, 1], [0])


def test_mars_has_140_queries_without_a_match(real_data: Path) -> None:
    """The common protocol has 140; in the official one every query has a match, junk or not."""
    info = real_data / "reid" / "mars" / "info"
    rows = loadmat(info / "tracks_test_info.mat")["track_test_info"].astype(np.int64)
    chosen = loadmat(info / "query_IDX.mat")["query_IDX"].astype(np.int64).ravel() - 1
    identities, cameras = rows[:, 2], rows[:, 3]
    distances = torch.rand(len(chosen), len(rows), generator=torch.Generator().manual_seed(0))
    query = identities[chosen], cameras[chosen]
    rest = np.setdiff1d(np.arange(len(rows)), chosen)
    some = rest[identities[rest] != -1]
    common = evaluate_ranking(
        distances[:, some], query[0], identities[some], query[1], cameras[some]
    )
    assert (common.num_queries, len(some), common.num_valid_queries) == (1980, 9330, 1840)
    parts = official_gallery(
        distances[:, some],
        distances[:, chosen],
        query[0],
        identities[some],
        query[1],
        cameras[some],
    )
    official = evaluate_ranking(
        parts[0], query[0], parts[1], query[1], parts[2], protocol="official"
    )
    junk = evaluate_ranking(distances, query[0], identities, query[1], cameras, protocol="official")
    assert official.num_valid_queries == junk.num_valid_queries == 1980
    # Equal distances, of which float32 has some, stand in different orders.
    assert official.mean_ap == pytest.approx(junk.mean_ap, abs=1e-7)


def test_nan_names_the_query() -> None:
    distances = torch.rand(5, 7)
    distances[3, 2] = distances[3, 5] = torch.nan
    labels = [1] * 5, [1] * 7, [0] * 5, [1] * 7
    with pytest.raises(UserError, match="^2 distances of query 3 are NaN; check"):
        evaluate_ranking(distances, *labels)
    distances[4, 0] = torch.nan
    with pytest.raises(UserError, match="query 3 are NaN, and some of 1 more queries"):
        evaluate_ranking(distances, *labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distances": torch.rand(3)}, r"shape \(3,\); a matrix"),
        ({"distances": torch.ones(2, 3, dtype=torch.int64)}, "torch.int64; they have to be float"),
        ({"distances": torch.rand(0, 3), "query_ids": []}, "no queries"),
        ({"distances": torch.rand(2, 0), "gallery_ids": []}, "an empty gallery"),
        ({"query_ids": [1]}, r"query_ids has shape \(1,\), but the distances need \(2,\)"),
        ({"gallery_cameras": np.ones((3, 1), int)}, r"gallery_cameras has shape \(3, 1\)"),
        ({"gallery_ids": [1.0, 2.0, 3.0]}, "gallery_ids are float64; identities and cameras"),
        ({"query_cameras": torch.ones(2)}, "query_cameras are torch.float32"),
        ({"protocol": "cuhk03"}, "'cuhk03' does not exist; choose common, official"),
        ({"max_rank": 0}, "max_rank=0 must be at least 1"),
        ({"gallery_ids": [-1, -1, -1]}, "none of the 2 queries has a match"),
        ({"gallery_cameras": [0, 0, 0]}, "none of the 2 queries has a match"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    options = {
        "distances": torch.rand(2, 3),
        "query_ids": [1, 1],
        "gallery_ids": [1, 1, 2],
        "query_cameras": [0, 0],
        "gallery_cameras": [0, 1, 1],
        **change,
    }
    with pytest.raises(UserError, match=message):
        evaluate_ranking(**options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    case = Case(2, queries=30, gallery=200, identities=8, levels=50)
    wanted = evaluate_ranking(case.distances, *case.labels())
    found = evaluate_ranking(torch.from_numpy(case.distances).cuda(), *case.labels())
    assert found.mean_ap == wanted.mean_ap
    assert torch.equal(found.first_match_rank, wanted.first_match_rank)


def test_script_of_the_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = REPOSITORY / "scripts" / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    sizes = ["--queries", "30", "--gallery", "400", "--people", "20", "--turns", "2"]
    command = ["ranking.py", *sizes, "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_path(str(folder / command[0]))["main"]()
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["map_difference"] < 1e-6
    assert [row["what"] for row in found["rows"]] == ["torchreid", "ours", "argsort of the rows"]
    assert "| ours | " in capsys.readouterr().out
