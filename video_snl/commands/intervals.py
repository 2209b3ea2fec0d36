"""Uncertainty of accuracies: intervals, paired comparisons, calibration; all in float64.

Clips of one recording look alike, so that they do not count as independent: intervals over whole
recordings are the honest ones, and wider than those over clips.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = [
    "LEVEL",
    "Bin",
    "Interval",
    "McNemar",
    "bootstrap",
    "calibration_bins",
    "calibration_error",
    "if_few",
    "mcnemar",
    "wilson",
]

LEVEL = 0.95
"""Level of all intervals."""

_RESAMPLES = 10_000
_AT_ONCE = 4_000_000  # numbers of a group's draws in memory
_BINS = 15
_FEW = 20  # recordings, or samples: fewer show too little of what others would give


class Interval(NamedTuple):
    """An interval of a share, or of a difference of shares."""

    low: float
    high: float


class McNemar(NamedTuple):
    """McNemar's exact test of two classifiers on the same samples.

    Attributes:
        lost: Number of samples that the first has right and the second wrong.
        gained: Number of samples that the first has wrong and the second right.
        p: Two-sided p of so uneven a division, or a more uneven one, if both were equally likely.
    """

    lost: int
    gained: int
    p: float


class Bin(NamedTuple):
    """Samples whose confidence is in (low, high]; means are None without any."""

    low: float
    high: float
    size: int
    confidence: float | None
    accuracy: float | None


def wilson(right: int, total: int) -> Interval:
    """Return Wilson's score interval of a share.

    With p = right / total and the normal quantile z:
    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).
    """
    if total < 1:
        return Interval(0.0, 1.0)
    z, p, n = float(stats.norm.ppf((1 + LEVEL) / 2)), right / total, total
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the two terms are equal but for rounding.
    low = 0.0 if right == 0 else (middle - half) / scale
    high = 1.0 if right == total else (middle + half) / scale
    return Interval(low, high)


def bootstrap(
    ours: ArrayLike,
    base: ArrayLike | None = None,
    *,
    groups: Sequence[Hashable] | None = None,
    same_seeds: bool = False,
    resamples: int = _RESAMPLES,
) -> Interval:
    """Return the percentile interval of an accuracy, or of the difference of two.

    Each resample draws groups with replacement, the same for both sides, and, of a side with
    several seeds, seeds with replacement; the accuracy is the share of all samples in the groups
    drawn, averaged over the seeds drawn. The draws are fixed: equal input gives equal intervals.

    Args:
        ours: (N,) or (seeds, N), which samples are right.
        base: What it is compared with, (N,) or (seeds, N); None for the accuracy itself.
        groups: (N,) recordings of the samples; None: each sample is one of its own.
        same_seeds: The rows of both sides belong together, so that one draw of seeds is for both.
        resamples: Number of resamples.
    """
    first = np.atleast_2d(np.asarray(ours, dtype=np.float64))
    second = np.zeros((0, first.shape[1])) if base is None else np.atleast_2d(base)
    second = np.asarray(second, dtype=np.float64)
    columns = np.concatenate([np.ones((1, first.shape[1])), first, second]).T
    sums = columns if groups is None else _sums_by_group(columns, groups)
    # Groups of equal sums are drawn together: which of them was drawn changes nothing.
    kinds, multiplicity = np.unique(sums, axis=0, return_counts=True)
    random = np.random.default_rng(0)
    values, step = [], max(1, _AT_ONCE // len(kinds))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = random.multinomial(len(sums), multiplicity / len(sums), size=count)
        totals = drawn.astype(np.float64) @ kinds
        shares = totals[:, 1:] / totals[:, :1]
        weights = _seed_weights(random, len(first), count)
        value = (shares[:, : len(first)] * weights).sum(1)
        if base is not None:
            if not same_seeds:
                weights = _seed_weights(random, len(second), count)
            value -= (shares[:, len(first) :] * weights).sum(1)
        values.append(value)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return Interval(float(low), float(high))


def if_few(number: int) -> str:
    """Return a warning, to follow what was resampled; empty where that was enough."""
    return ", too few for these intervals to be relied on" if number < _FEW else ""


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Compare which samples (N,) two classifiers have right.

    p = min(1, 2 P(X <= min(lost, gained))) with X binomial of lost + gained trials and 1/2.
    """
    before, after = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    p = 1.0
    if lost != gained:
        p = min(1.0, 2 * float(stats.binom.cdf(min(lost, gained), lost + gained, 0.5)))
    return McNemar(lost, gained, p)


def calibration_bins(confidence: ArrayLike, right: ArrayLike, bins: int = _BINS) -> list[Bin]:
    """Divide samples by their confidence into bins of equal width.

    Args:
        confidence: (N,) score of the predicted class, in [0, 1].
        right: (N,), which predictions are right.
    """
    scores = np.asarray(confidence, dtype=np.float64)
    hits = np.asarray(right, dtype=np.float64)
    place = np.clip(np.ceil(scores * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for index in range(bins):
        inside = place == index
        count = int(inside.sum())
        means = (float(scores[inside].mean()), float(hits[inside].mean())) if count else (None,) * 2
        found.append(Bin(index / bins, (index + 1) / bins, count, *means))
    return found


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Return the expected calibration error; None without samples.

    ECE = sum over bins of count / N |accuracy - confidence| (Guo et al., ICML 2017).
    """
    total = sum(each.size for each in bins)
    if not total:
        return None
    return sum(
        each.size / total * abs(each.accuracy - each.confidence)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    )


def _sums_by_group(columns: NDArray[np.float64], groups: Sequence[Hashable]) -> NDArray[np.float64]:
    numbers: dict[Hashable, int] = {}
    rows = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    sums = np.zeros((len(numbers), columns.shape[1]))
    np.add.at(sums, rows, columns)
    return sums


def _seed_weights(random: np.random.Generator, seeds: int, count: int) -> NDArray[np.float64]:
    """Return the share of each seed in ``count`` draws of as many seeds, (count, seeds)."""
    if seeds == 1:
        return np.ones((count, 1))
    return random.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
