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
        resampled: What intervals resample beside seeds: ``recordings``, or ``videos`` where it is
            not known which of them are of one recording.
        missed: Line that says why there are no intervals.
    """

    values: Mapping[str, Mapping[int, float]]
    mean: float | None = None
    interval: Interval | None = None
    difference: float | None = None
    against: Interval | None = None
    seeds: Sequence[int] = ()
    resampled: str = "recordings"
    missed: str = ""


@dataclass(frozen=True)
class _Right:
    """Which videos of a split the runs of a row have right, (N,) by seed, and their recordings.

    Attributes:
        known: The recordings are known; else each video is one of its own.
    """

    recordings: Sequence[str]
    known: bool
    by_seed: dict[int, np.ndarray] = field(default_factory=dict)


def video_rows(
    rows: Mapping[str, Mapping[str, Mapping[int, Result]]], base: str, folder: str
) -> dict[str, VideoRow]:
    """Return the accuracies of rows at video level.

    Without the folders of the runs there are accuracies, which results hold, and no intervals.

    Args:
        rows: Tested results by row, split and seed.
        base: The row that the others are compared with.
        folder: Name of the folder of a test in that of its run.
    """
    values = {
        name: {
            split: {seed: of.videos for seed, of in seeds.items() if of.videos is not None}
            for split, seeds in splits.items()
        }
        for name, splits in rows.items()
    }
    try:
        right = _right(rows, folder)
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
    resampled = "recordings" if all(of.known for of in ours.values()) else "videos"
    if not seeds:
        return VideoRow(values, resampled=resampled)
    # A recording is one wherever it stands: splits may share some (2 and that of the paper do).
    groups = [group for of in ours.values() for group in of.recordings]
    right = _stacked(ours, seeds)
    mean, interval = float(right.mean()), bootstrap(right, groups=groups)
    both = [seed for seed in seeds if seed in _common(base)]
    if ours is base or not both:
        return VideoRow(values, mean, interval, seeds=seeds, resampled=resampled)
    first, second = _stacked(ours, both), _stacked(base, both)
    difference = float(first.mean() - second.mean())
    against = bootstrap(first, second, groups=groups, same_seeds=True)
    return VideoRow(values, mean, interval, difference, against, seeds, resampled)


def _common(right: Mapping[str, _Right]) -> list[int]:
    """Return the seeds that all splits have."""
    found = [set(of.by_seed) for of in right.values()]
    return sorted(set.intersection(*found)) if found else []


def _stacked(right: Mapping[str, _Right], seeds: Sequence[int]) -> np.ndarray:
    """Return (seeds, N) over the videos of all splits."""
    return np.array([np.concatenate([of.by_seed[s] for of in right.values()]) for s in seeds])


def _right(
    rows: Mapping[str, Mapping[str, Mapping[int, Result]]], folder: str
) -> dict[str, dict[str, _Right]]:
    """Read which videos the runs have right, by row and split.

    Raises:
        UserError: A test is missing or is not the one that its result is of, or those of a split
            are of different videos.
    """
    found: dict[str, dict[str, _Right]] = {name: {} for name in rows}
    for split in dict.fromkeys(split for of_row in rows.values() for split in of_row):
        runs: dict[str, tuple[str, int]] = {}
        evaluated: list[EvaluatedRun] = []
        for name, of_row in rows.items():
            for seed, result in of_row.get(split, {}).items():
                evaluated.append(_read(Path(result.run) / folder, result))
                runs[str(evaluated[-1].folder)] = name, seed
        if not evaluated:  # nothing is over all splits
            for name in rows:
                found[name][split] = _Right([], known=True)
            continue
        compared = compare_runs(evaluated)
        recordings = compared.recordings or [compared.first.names[at] for at in compared.counted]
        for name in rows:
            found[name][split] = _Right(recordings, compared.recordings is not None)
        for row in compared.rows:
            for run, hits in zip(row.runs, row.right[_LEVEL], strict=True):
                name, seed = runs[str(run.folder)]
                found[name][split].by_seed[seed] = hits
    return found


def _read(folder: Path, result: Result) -> EvaluatedRun:
    """Read the test of a result.

    Raises:
        UserError: It is not there, or has another accuracy.
    """
    if not folder.is_dir():
        raise UserError(f"{folder.parent}, the run of a result, is gone or was moved")
    run = read_run(str(folder))
    hits = [a == b for a, b in zip(run.true, run.predictions[_LEVEL], strict=True)]
    share = sum(hits) / len(hits)
    if result.videos is None or abs(share - result.videos) > 1e-6:
        raise UserError(
            f"{folder} has {share:.2%} of its videos right, and the result of this run "
            f"{result.videos or 0:.2%}"
        )
    return run
