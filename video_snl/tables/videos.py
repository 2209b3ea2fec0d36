"""Accuracies of whole videos in a table: of each split and of all, with paired intervals.

A run is tested after its training (``evaluate`` of its last epoch, with several clips of a video).
Intervals resample whole recordings, since clips of one recording look alike, and seeds, so that
they say what other recordings and other seeds would give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from video_snl.commands.comparison import EvaluatedRun, compare_runs, read_run
from video_snl.commands.intervals import Interval, bootstrap
from video_snl.errors import UserError
from video_snl.tables.store import Result

__all__ = ["VideoRow", "video_rows"]

_LEVEL = "video"


@dataclass(frozen=True)
class VideoRow:
    """Accuracies of a row at video level, shares in [0, 1].

    Attributes:
        values: Accuracy of each run, by split and seed.
        mean: Accuracy over the videos of all splits and the seeds that all splits have; None
            where they have none in common.
        interval: Its 95 % interval.
        difference: The same of the paired difference to the network without a block, over the
            seeds that both have; None for that network.
        against: Interval of that difference.
        seeds: Seeds that ``mean`` is over.
        missed: Line that says why there are no intervals.
    """

    values: Mapping[str, Mapping[int, float]]
    mean: float | None = None
    interval: Interval | None = None
    difference: float | None = None
    against: Interval | None = None
    seeds: Sequence[int] = ()
    missed: str = ""


@dataclass(frozen=True)
class _Right:
    """Which videos of a split the runs of a row have right, (N,) by seed, and their recordings."""

    recordings: Sequence[str]
    by_seed: dict[int, np.ndarray] = field(default_factory=dict)


def video_rows(
    rows: Mapping[str, Mapping[str, Mapping[int, Result]]], base: str
) -> dict[str, VideoRow]:
    """Return the accuracies of rows at video level.

    Without the folders of the runs there are accuracies, which results hold, and no intervals.

    Args:
        rows: Tested results by row, split and seed.
        base: The row that the others are compared with.
    """
    values = {
        name: {
            split: {seed: of.videos for seed, of in seeds.items() if of.videos is not None}
            for split, seeds in splits.items()
        }
        for name, splits in rows.items()
    }
    try:
        right = _right(rows)
    except UserError as error:
        missed = f"There are no intervals of whole videos: {error}."
        return {name: VideoRow(found, missed=missed) for name, found in values.items()}
    return {name: _row(values[name], right[name], right[base]) for name in rows}


def _row(
    values: Mapping[str, Mapping[int, float]],
    ours: Mapping[str, _Right],
    base: Mapping[str, _Right],
) -> VideoRow:
    seeds = _common(ours)
    if not seeds:
        return VideoRow(values)
    groups = [f"{split}/{group}" for split, of in ours.items() for group in of.recordings]
    right = _stacked(ours, seeds)
    mean, interval = float(right.mean()), bootstrap(right, groups=groups)
    both = [seed for seed in seeds if seed in _common(base)]
    if ours is base or not both:
        return VideoRow(values, mean, interval, seeds=seeds)
    first, second = _stacked(ours, both), _stacked(base, both)
    difference = float(first.mean() - second.mean())
    against = bootstrap(first, second, groups=groups, same_seeds=True)
    return VideoRow(values, mean, interval, difference, against, seeds)


def _common(right: Mapping[str, _Right]) -> list[int]:
    """Return the seeds that all splits have."""
    found = [set(of.by_seed) for of in right.values()]
    return sorted(set.intersection(*found)) if found else []


def _stacked(right: Mapping[str, _Right], seeds: Sequence[int]) -> np.ndarray:
    """Return (seeds, N) over the videos of all splits."""
    return np.array([np.concatenate([of.by_seed[s] for of in right.values()]) for s in seeds])


def _right(
    rows: Mapping[str, Mapping[str, Mapping[int, Result]]],
) -> dict[str, dict[str, _Right]]:
    """Read which videos the runs have right, by row and split.

    Raises:
        UserError: An evaluation is missing, or those of a split are of different videos.
    """
    found: dict[str, dict[str, _Right]] = {name: {} for name in rows}
    for split in dict.fromkeys(split for of_row in rows.values() for split in of_row):
        runs: dict[str, tuple[str, int]] = {}
        evaluated: list[EvaluatedRun] = []
        for name, of_row in rows.items():
            for seed, result in of_row.get(split, {}).items():
                evaluated.append(read_run(str(Path(result.run))))
                runs[str(evaluated[-1].folder)] = name, seed
        if not evaluated:
            continue
        compared = compare_runs(evaluated)
        recordings = compared.recordings or [compared.first.names[at] for at in compared.counted]
        for name in rows:
            found[name][split] = _Right(recordings)
        for row in compared.rows:
            for run, hits in zip(row.runs, row.right[_LEVEL], strict=True):
                name, seed = runs[str(run.folder)]
                found[name][split].by_seed[seed] = hits
    return found
