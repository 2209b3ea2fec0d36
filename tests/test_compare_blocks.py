"""The statistics of the comparison of blocks."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "benchmarks" / "compare_blocks.py"
compare = runpy.run_path(str(SCRIPT))


def test_equal_results_differ_by_nothing() -> None:
    right = np.random.default_rng(0).integers(0, 2, (3, 50)).astype(float)
    assert compare["paired_bootstrap"](right, right) == (0.0, 0.0)


def test_interval_is_that_of_a_mean_of_paired_differences() -> None:
    random = np.random.default_rng(1)
    base = random.integers(0, 2, (3, 400)).astype(float)
    ours = np.maximum(base, random.integers(0, 2, (3, 400)))
    low, high = compare["paired_bootstrap"](ours, base)
    difference = ours.mean(0) - base.mean(0)
    error = 1.96 * difference.std() / np.sqrt(400)
    assert low == pytest.approx(difference.mean() - error, abs=0.005)
    assert high == pytest.approx(difference.mean() + error, abs=0.005)


def test_results_of_other_videos_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        compare["paired_bootstrap"](np.zeros((3, 5)), np.zeros((3, 6)))


def test_table_shows_mean_deviation_and_difference() -> None:
    def run(share: float) -> dict[str, object]:
        right = np.arange(10) < 10 * share
        return {"right": {"clip": right * 1.0, "video": right * 1.0}, "best": share, "minutes": 2.0}

    cells = {"none": [run(0.2), run(0.4)], "snl": [run(0.6), run(0.8)]}
    text = compare["table"](cells, "none")
    assert "| none | 30.0 ± 14.1 | - |" in text
    assert "| snl | 70.0 ± 14.1 | +40.0 (" in text
    assert "Video top-1 by seed: none: 20.0, 40.0; snl: 60.0, 80.0." in text
