"""Open-set measures against plain loops and scikit-learn, and the threshold and its interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from reid.metrics import open_set as module
from reid.metrics.distances import pairwise_distances
from reid.metrics.open_set import (
    FEWEST,
    OpenSet,
    largest_threshold,
    open_set,
    open_set_of_features,
    threshold_interval,
)
from video_snl.errors import UserError


class Lists(NamedTuple):
    """Distances (Q, G), identities and cameras of queries and gallery."""

    distances: np.ndarray
    ids: np.ndarray
    gallery_ids: np.ndarray
    cameras: np.ndarray
    gallery_cameras: np.ndarray

    def measured(self, **options: object) -> OpenSet:
        return open_set(*self, **options)  # type: ignore[arg-type]


class Naive(NamedTuple):
    """Distances of all trials, and (nearest of others, nearest, is right, is mated) by query."""

    genuine: list[float]
    impostor: list[float]
    searches: list[tuple[float, float, bool, bool]]


def naive(lists: Lists, cameras: str = "cross") -> Naive:
    genuine, impostor, searches = [], [], []
    for row, (person, camera) in enumerate(zip(lists.ids, lists.cameras, strict=True)):
        if person in (-1, 0):
            continue
        mine, theirs = [], []
        for entry, other in enumerate(lists.gallery_ids):
            if other == -1:
                continue
            near = float(lists.distances[row, entry])
            if other != person:
                theirs.append((near, entry))
            elif cameras == "ignore" or lists.gallery_cameras[entry] != camera:
                mine.append((near, entry))
        genuine += [near for near, _ in mine]
        impostor += [near for near, _ in theirs]
        nothing = [(float("inf"), -1)]
        first = min([*mine, *theirs, *nothing])
        searches.append((min([*theirs, *nothing])[0], first[0], first in mine, bool(mine)))
    return Naive(genuine, impostor, searches)


def rate_at(values: list[float], threshold: float) -> float:
    return sum(value <= threshold for value in values) / len(values)


def best(accepts: list[float], falses: list[float], total: int, rate: float) -> float:
    """Most of ``accepts`` up to any threshold with at most this rate of ``falses``."""
    steps = [-1.0, *accepts, *falses]
    allowed = [t for t in steps if rate_at(falses, t) <= rate]
    return max(sum(value <= t for value in accepts) / total for t in allowed)


@st.composite
def lists(draw: st.DrawFn) -> Lists:
    queries, entries = draw(st.integers(1, 8)), draw(st.integers(1, 10))
    seed = draw(st.integers(0, 2**31))
    random = np.random.default_rng(seed)
    levels = draw(st.integers(1, 12))  # few levels: ties
    return Lists(
        random.integers(0, levels, (queries, entries)).astype(np.float32) / 8,
        random.integers(-1, 4, queries),
        random.integers(-1, 4, entries),
        random.integers(0, 3, queries),
        random.integers(0, 3, entries),
    )


@settings(max_examples=150, deadline=None)
@given(lists(), st.sampled_from(["cross", "ignore"]), st.floats(0.02, 0.98))
def test_all_rates_are_those_of_plain_loops(given_: Lists, cameras: str, rate: float) -> None:
    expected = naive(given_, cameras)
    if not expected.genuine or not expected.impostor:
        with pytest.raises(UserError, match="there is no (genuine|impostor) trial"):
            given_.measured(cameras=cameras)
        return
    found = given_.measured(cameras=cameras)
    assert found.genuine.tolist() == sorted(expected.genuine)
    assert found.impostors == len(expected.impostor)
    assert found.accepted.tolist() == [
        sum(value <= t for value in expected.impostor) for t in sorted(expected.genuine)
    ]
    assert found.area() == pytest.approx(
        np.mean([(g < i) + (g == i) / 2 for g in expected.genuine for i in expected.impostor])
    )
    columns = [found.others, found.first, found.right, found.mated]
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == expected.searches
    assert found.histogram.genuine.sum() == len(expected.genuine)
    assert found.histogram.impostor.sum() == len(expected.impostor)
    others = [search[0] for search in expected.searches]
    right = [search[1] for search in expected.searches if search[2]]
    mated = sum(search[3] for search in expected.searches)
    threshold = largest_threshold(found.others, rate)
    assert rate_at(others, threshold) <= rate
    detected, of = found.detected(threshold)
    assert (detected / of, of) == (best(right, others, mated, rate), mated)
    tar = float((found.accepted <= np.floor(rate * found.impostors)).mean())
    assert tar == best(expected.genuine, expected.impostor, len(expected.genuine), rate)


def people(
    persons: int = 60, entries: int = 240, noise: float = 0.6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, Lists]:
    """Features around one point a person, under three cameras."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(persons + 1, 16)).astype(np.float32)
    ids = np.repeat(np.arange(1, persons + 1), 3)
    gallery_ids = random.integers(1, persons + 1, entries)
    features = [
        (centres[of] + noise * random.normal(size=(len(of), 16))).astype(np.float32)
        for of in (ids, gallery_ids)
    ]
    distances = pairwise_distances(*features, "cosine").numpy()  # type: ignore[arg-type]
    cameras, views = random.integers(0, 3, len(ids)), random.integers(0, 3, entries)
    return features[0], features[1], Lists(distances, ids, gallery_ids, cameras, views)


def test_agrees_with_scikit_learn() -> None:
    _, _, given_ = people()
    found, expected = given_.measured(), naive(given_)
    labels = [1] * len(expected.genuine) + [0] * len(expected.impostor)
    scores = [-value for value in (*expected.genuine, *expected.impostor)]
    assert found.area() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    far, tar, _ = roc_curve(labels, scores, drop_intermediate=False)
    for rate in (0.1, 0.01, 0.003):
        assert found.true_accept_rate(rate) == pytest.approx(tar[far <= rate].max(), abs=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_features_in_blocks_give_the_same(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery, given_ = people()
    distances = pairwise_distances(query, gallery, metric)  # type: ignore[arg-type]
    expected = given_._replace(distances=distances.numpy()).measured()
    monkeypatch.setattr(module, "_BLOCK", 7 * len(gallery))
    monkeypatch.setattr(module, "_QUERIES", 1)
    found = open_set_of_features(query, gallery, *given_[1:], metric=metric)  # type: ignore[arg-type]
    assert found.impostors == expected.impostors and found.searches == expected.searches
    np.testing.assert_allclose(found.genuine, expected.genuine, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.others, expected.others, rtol=1e-4, atol=1e-6)
    assert found.area() == pytest.approx(expected.area(), abs=1e-5)


def test_too_few_trials_are_not_measured() -> None:
    _, _, given_ = people()
    found = given_.measured()
    assert found.searches == 180 and 10_000 < found.impostors < 100_000
    assert [found.true_accept_rate(r) is None for r in (0.1, 0.01, 0.001, 1e-4)] == [
        False,
        False,
        False,
        True,
    ]
    threshold = found.threshold(FEWEST / 180)
    assert threshold is not None
    assert found.false_alarm_rate(threshold) == (FEWEST, 180)
    assert found.false_alarm_rate(np.nextafter(np.float32(threshold), np.float32(9)))[0] > FEWEST
    assert found.threshold(FEWEST / 181) is None and found.detection_rate(0.01) is None


def test_the_query_itself_is_left_out() -> None:
    distances = np.array([[0.0, 0.3, 0.6], [0.5, 0.0, 0.2]], np.float32)
    args = (distances, [1, 2], [1, 2, 1], [0, 0], [0, 0, 0])
    found = open_set(*args, cameras="ignore", own=[(0, 0), (1, 1)])
    assert found.genuine.tolist() == pytest.approx([0.6])
    assert found.others.tolist() == pytest.approx([0.3, 0.2])
    assert found.mated.tolist() == [True, False] and found.right.tolist() == [False, False]


def test_bad_input() -> None:
    one = np.ones((1, 2), np.float32)
    with pytest.raises(UserError, match="no genuine trial.*--cameras ignore"):
        open_set(one, [1], [1, 2], [0], [0, 0])
    with pytest.raises(UserError, match="no impostor trial"):
        open_set(one, [1], [1, 1], [0], [1, 1])
    with pytest.raises(UserError, match="distances are NaN"):
        open_set(one * np.nan, [1], [1, 2], [0], [1, 0])
    with pytest.raises(UserError, match="gallery_ids has shape"):
        open_set(one, [1], [1], [0], [1, 0])
    with pytest.raises(UserError, match="cameras='all' does not exist"):
        open_set(one, [1], [1, 2], [0], [1, 0], cameras="all")  # type: ignore[arg-type]


def test_shares_that_binary_fractions_round_down() -> None:
    values = np.arange(100, dtype=np.float32)
    assert 0.29 * 100 < 29  # in floating point
    assert (values <= largest_threshold(values, 0.29)).sum() == 29
    assert largest_threshold(values, 1.0) == float("inf")


def test_the_interval_is_that_of_a_plain_bootstrap() -> None:
    _, _, given_ = people(persons=20, entries=80)
    found = given_.measured()
    random = np.random.default_rng(3)
    identities = sorted(set(found.persons.tolist()))
    thresholds = []
    for _ in range(50):
        drawn = [identities[i] for i in random.integers(len(identities), size=len(identities))]
        chosen = [
            value
            for person in drawn
            for value, owner in zip(found.others, found.persons, strict=True)
            if owner == person
        ]
        thresholds.append(largest_threshold(np.array(chosen), 0.2))
    thresholds.sort()
    low, high = threshold_interval(found, 0.2, draws=50, seed=3)
    assert (low, high) == (thresholds[1], thresholds[48])
    assert low <= largest_threshold(found.others, 0.2) <= high


def test_the_interval_covers_the_threshold_of_the_population() -> None:
    """Of 95 % intervals from samples of people, most hold the threshold of all people."""
    _, _, everybody = people(persons=1000, entries=500, seed=1)
    population = largest_threshold(everybody.measured().others, 0.1)
    held = 0
    for seed in range(40):
        chosen = np.random.default_rng(seed).choice(np.arange(1, 1001), 100, replace=False)
        rows = np.isin(everybody.ids, chosen)
        sample = Lists(
            everybody.distances[rows],
            everybody.ids[rows],
            everybody.gallery_ids,
            everybody.cameras[rows],
            everybody.gallery_cameras,
        )
        low, high = threshold_interval(sample.measured(), 0.1, draws=200)
        held += low <= population <= high
    assert held >= 34
