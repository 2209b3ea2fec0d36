"""Means, deviations and the paired test, against scipy and by hand."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from video_snl.tables.rows import Comparison, compare, spread


def test_spread_is_of_a_sample() -> None:
    found = spread({0: 1.0, 1: 2.0, 4: 6.0})
    assert (found.mean, found.seeds) == (3.0, 3)
    assert found.deviation == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert spread({}) is None
    one = spread({3: 4.0})
    assert (one.mean, one.deviation, one.seeds) == (4.0, None, 1)


def test_paired_test_by_hand() -> None:
    """Differences 1, 2, 6: mean 3, s = sqrt 7, t = 3 / sqrt(7/3) with two degrees of freedom."""
    found = compare({0: 11.0, 1: 22.0, 2: 36.0, 9: 0.0}, {0: 10.0, 1: 20.0, 2: 30.0, 8: 0.0})
    assert (found.difference, found.seeds) == (pytest.approx(3.0), 3)
    error = math.sqrt(7 / 3)
    t = 3 / error
    # The distribution function of Student's t with two degrees of freedom in closed form.
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    quantile = 4.302652729911275
    assert found.low == pytest.approx(3 - quantile * error)
    assert found.high == pytest.approx(3 + quantile * error)


def test_paired_test_is_scipys() -> None:
    ours, base = [71.2, 70.4, 73.0, 69.9], [70.1, 70.6, 71.5, 69.0]
    found = compare(dict(enumerate(ours)), dict(enumerate(base)))
    assert found.p == pytest.approx(stats.ttest_rel(ours, base).pvalue)


def test_too_little_to_test() -> None:
    assert compare({0: 1.0}, {1: 2.0}) is None
    assert compare({0: 1.0, 1: 9.0}, {0: 3.0, 2: 9.0}) == Comparison(-2.0, None, None, None, 1)
    equal = compare({0: 1.0, 1: 5.0}, {0: 3.0, 1: 7.0})
    assert equal == Comparison(-2.0, None, None, None, 2)
