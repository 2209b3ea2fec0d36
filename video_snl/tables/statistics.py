"""Means over seeds, and the paired comparison of two cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Comparison", "Spread", "compare", "spread"]


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; no deviation of one seed."""

    mean: float
    deviation: float | None
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """A paired t-test over seeds: mean difference, its 95 % interval, and p of both sides.

    With one common seed there is a difference and nothing else, and so it is where all seeds differ
    by the same, which leaves no deviation to compare the difference with.
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None
    seeds: int


def spread(values: Mapping[int, float]) -> Spread | None:
    """Of values by seed; None of none."""
    if not values:
        return None
    array = np.array(list(values.values()))
    deviation = float(array.std(ddof=1)) if len(array) > 1 else None
    return Spread(float(array.mean()), deviation, len(array))


def compare(ours: Mapping[int, float], base: Mapping[int, float]) -> Comparison | None:
    """``ours`` - ``base`` over the seeds that both have; None where they share none.

    t = m / (s / sqrt(n)) with n - 1 degrees of freedom, of the n differences with mean m and
    sample standard deviation s.
    """
    seeds = sorted(ours.keys() & base.keys())
    if not seeds:
        return None
    first = np.array([ours[seed] for seed in seeds])
    second = np.array([base[seed] for seed in seeds])
    difference = float((first - second).mean())
    if len(seeds) < 2:
        return Comparison(difference, None, None, None, 1)
    if np.ptp(first - second) < 1e-12:
        return Comparison(difference, None, None, None, len(seeds))
    tested = stats.ttest_rel(first, second)
    interval = tested.confidence_interval(0.95)
    low, high = float(interval.low), float(interval.high)
    return Comparison(difference, low, high, float(tested.pvalue), len(seeds))
