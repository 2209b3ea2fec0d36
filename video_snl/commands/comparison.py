"""Evaluated runs side by side: what ``evaluate`` wrote of each, and how they differ, in float64.

Runs that share all settings but the seed are one row, a mean over seeds. The first run's row is
what the others are compared with, on the same samples.
"""

from __future__ import annotations

import csv
import io
import os
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from video_snl.commands.intervals import Interval, McNemar, bootstrap, mcnemar, wilson
from video_snl.data.video.recordings import recordings_of
from video_snl.errors import UserError
from video_snl.render.page import flat_settings
from video_snl.runs.run import runs_called
from video_snl.utils.counts import counts
from video_snl.utils.json_text import parse_json, to_json
from video_snl.utils.text import common_folder, examples, printable, read_text

__all__ = ["Comparison", "Difference", "EvaluatedRun", "Figures", "Row", "compare_runs", "read_run"]

PREDICTIONS = "predictions.csv"
_UNITS = {"video": "video", "picture": "image"}
# Settings that change no figure.
_BESIDE = (
    "data.num_workers",
    "trainer.loggers",
    "trainer.name",
    "trainer.output",
    "trainer.progress",
    "trainer.seed",
)
_DATE = re.compile(r"-\d{8}-\d{6}(-\d+)?$")
_SEED = re.compile(r"[-_ .]*(?:s|seed)?[-_ .]*$")
_LABEL = 48  # characters


@dataclass(frozen=True)
class EvaluatedRun:
    """A run with what ``evaluate`` wrote of it.

    Attributes:
        folder: Folder as it was named.
        unit: Word for a sample: ``video`` or ``image``.
        names: (N,) paths of the samples.
        true: (N,) their classes.
        predictions: (N,) predicted classes by level; empty where a sample could not be read.
        skipped: What could not be read was left out of its figures.
        settings: Settings of the run and the evaluation by their names, without the seed.
        seed: Seed of the run; None if unknown.
        run: Folder of the run itself; None if unknown.
        recordings: (N,) recordings of the samples; None where they are not known.
    """

    folder: Path
    unit: str
    names: list[str]
    true: list[str]
    predictions: dict[str, list[str]]
    skipped: bool
    settings: dict[str, Any]
    seed: int | None
    run: Path | None
    recordings: list[str] | None

    @property
    def name(self) -> str:
        """Name of the folder, without the time of its start."""
        folder = (self.run or self.folder).absolute()
        return _DATE.sub("", folder.name) or folder.name


@dataclass(frozen=True)
class Difference:
    """Difference of a row's accuracy to the first row's.

    Attributes:
        value: Mean difference.
        interval: Its interval, over recordings or samples, and seeds.
        tests: McNemar's test of each pair of runs: of the same seed, or the only ones.
    """

    value: float
    interval: Interval
    tests: list[McNemar]


@dataclass(frozen=True)
class Figures:
    """Accuracy of a row at a level.

    Attributes:
        values: Accuracy of each run.
        interval: Interval of the mean, over recordings or samples, and seeds.
        by_formula: Wilson's interval; None for several runs.
        difference: Difference to the first row; None for that one.
    """

    values: list[float]
    interval: Interval
    by_formula: Interval | None
    difference: Difference | None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the runs; None for one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Row:
    """Runs that share all settings but the seed.

    Attributes:
        label: Short name.
        runs: The runs, by their seeds.
        predicted: (runs, N) by level, the predicted classes of the counted samples.
        right: (runs, N) by level, which counted samples are right.
        figures: Accuracies by level.
    """

    label: str
    runs: list[EvaluatedRun]
    predicted: dict[str, list[list[str]]]
    right: dict[str, np.ndarray]
    figures: dict[str, Figures]

    @property
    def seeds(self) -> list[int | None]:
        return [run.seed for run in self.runs]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        rows: Rows in the order of the runs.
        counted: Indices of the samples, in the first run's list, that the figures are of.
        recordings: Recordings of the counted samples; None where they are not known.
        left_out: Names of samples that are left out of all rows.
    """

    rows: list[Row]
    counted: list[int]
    recordings: list[str] | None
    left_out: list[str]

    @property
    def first(self) -> EvaluatedRun:
        return self.rows[0].runs[0]

    @property
    def levels(self) -> list[str]:
        return list(self.first.predictions)

    @cached_property
    def resampled(self) -> tuple[int, str]:
        """Number of what intervals resample, and the word for it."""
        if self.recordings is None:
            return len(self.counted), self.first.unit
        return len(set(self.recordings)), "recording"

    @cached_property
    def differing(self) -> dict[str, list[Any]]:
        """Settings that are not the same in all rows, with the value of each row."""
        names = dict.fromkeys(name for row in self.rows for name in row.runs[0].settings)
        values = {n: [row.runs[0].settings.get(n) for row in self.rows] for n in names}
        return {name: each for name, each in values.items() if any(v != each[0] for v in each)}

    def changed(self, row: Row, level: str) -> tuple[list[int], list[int]]:
        """Return the places (in ``counted``) of samples that fewer, and that more, runs have right.

        Those whose share of runs changes most come first.
        """
        change = row.right[level].mean(0) - self.rows[0].right[level].mean(0)
        order = np.argsort(-np.abs(change), kind="stable").tolist()
        return [i for i in order if change[i] < 0], [i for i in order if change[i] > 0]


def read_run(named: str) -> EvaluatedRun:
    """Read what ``evaluate`` wrote of a run.

    Args:
        named: Folder of a run, or a folder that ``evaluate --output`` wrote.

    Raises:
        UserError: It is not there, not evaluated, or of another kind.
    """
    folder = Path(named)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else f"does not exist{runs_called(folder)}"
        raise UserError(f"{named} {what}: give the folders of runs, or of their evaluations")
    run = next((place for place in (folder, folder.parent) if _is_run(place)), None)
    places = [folder / "evaluation", folder]
    found = next((place for place in places if (place / PREDICTIONS).is_file()), None)
    if found is None:
        raise _not_evaluated(folder, places)
    metrics = _json(found / "metrics.json")
    if run is None and isinstance(metrics.get("checkpoint"), str):
        above = Path(metrics["checkpoint"]).parent.parent
        run = above if _is_run(above) else None
    record = {} if run is None else _json(run / "run.json")
    config = record.get("config", {})
    settings = {name: value for name, value in flat_settings(config) if name not in _BESIDE}
    settings |= {
        f"evaluation.{name}": metrics[name]
        for name in ("views", "unreadable_are")
        if name in metrics
    }
    settings["evaluation.checkpoint"] = Path(str(metrics.get("checkpoint", ""))).name
    unit, names, true, predictions = _predictions(found / PREDICTIONS)
    return EvaluatedRun(
        folder=folder,
        unit=unit,
        names=names,
        true=true,
        predictions=predictions,
        skipped=metrics.get("unreadable_are") == "skipped",
        settings=settings,
        seed=config.get("trainer", {}).get("seed"),
        run=run,
        recordings=_recordings(found / "intervals.json", names, run) if unit == "video" else None,
    )


def compare_runs(runs: Sequence[EvaluatedRun]) -> Comparison:
    """Compare runs with the first one of them, on the samples that all were evaluated on.

    A sample that a run could not read counts as wrong; but where a run's figures leave such samples
    out, those that any run could not read are left out for all.

    Raises:
        UserError: They were evaluated on different lists.
    """
    first = runs[0]
    orders = {id(run): _order(first, run) for run in runs}
    level = list(first.predictions)[-1]
    unread = np.zeros(len(first.names), dtype=bool)
    if any(run.skipped for run in runs):
        for run in runs:
            found = run.predictions[level]
            unread |= np.array([not found[index] for index in orders[id(run)]], dtype=bool)
    counted = np.flatnonzero(~unread).tolist()
    if not counted:
        raise UserError("there is no sample that all runs could read: nothing can be compared")
    groups = first.recordings
    recordings = None if groups is None else [groups[index] for index in counted]

    true = [first.true[index] for index in counted]

    def predicted(run: EvaluatedRun, level: str) -> list[str]:
        order, found = orders[id(run)], run.predictions[level]
        return [found[order[index]] for index in counted]

    rows: list[Row] = []
    grouped = _grouped(runs)
    for label, members in zip(_labels(grouped), grouped, strict=True):
        said = {level: [predicted(run, level) for run in members] for level in first.predictions}
        right = {
            level: np.array([[a == b for a, b in zip(one, true, strict=True)] for one in of_level])
            for level, of_level in said.items()
        }
        base = rows[0] if rows else None
        row = Row(label, members, said, right, {})
        for name in first.predictions:
            row.figures[name] = _figures(row, base, name, recordings)
        rows.append(row)
    return Comparison(rows, counted, recordings, [first.names[i] for i in np.flatnonzero(unread)])


def _figures(row: Row, base: Row | None, level: str, recordings: list[str] | None) -> Figures:
    right = row.right[level]
    difference = None
    if base is not None:
        reference = base.right[level]
        same = row.seeds == base.seeds and None not in row.seeds
        paired = same or (len(right) == 1 and len(reference) == 1)
        difference = Difference(
            float(right.mean(1).mean() - reference.mean(1).mean()),
            bootstrap(right, reference, groups=recordings, same_seeds=same),
            [mcnemar(a, b) for a, b in zip(reference, right, strict=True)] if paired else [],
        )
    return Figures(
        [float(value) for value in right.mean(1)],
        bootstrap(right, groups=recordings),
        wilson(int(right.sum()), right.shape[1]) if len(right) == 1 else None,
        difference,
    )


def _grouped(runs: Iterable[EvaluatedRun]) -> list[list[EvaluatedRun]]:
    """Group runs that share all but the seed, in the order of the first of each group.

    Runs of one seed are not a sample over seeds: they stay apart.
    """
    groups: dict[str, list[EvaluatedRun]] = {}
    for number, run in enumerate(runs):
        key = to_json(run.settings, sort_keys=True) if run.run is not None else f"run {number}"
        groups.setdefault(key, []).append(run)
    found: list[list[EvaluatedRun]] = []
    for members in groups.values():
        seeds = [run.seed for run in members]
        if len(set(seeds)) == len(seeds) and None not in seeds:
            found.append(sorted(members, key=lambda run: run.seed or 0))
        else:
            found += [[run] for run in members]
    return found


def _labels(groups: Sequence[Sequence[EvaluatedRun]]) -> list[str]:
    labels = [_label(members) for members in groups]
    if len(set(labels)) == len(labels):
        return labels
    return [str(members[0].folder) for members in groups]


def _label(members: Sequence[EvaluatedRun]) -> str:
    first = members[0].name
    if len(members) > 1:
        first = _SEED.sub("", os.path.commonprefix([run.name for run in members])) or first
    return printable(first, _LABEL)


def _order(first: EvaluatedRun, run: EvaluatedRun) -> list[int]:
    """Return the place of each of the first run's samples in the list of another.

    Lists are the same where their files are, or where they are below the folder they share: a copy
    of a dataset is the same list.

    Raises:
        UserError: They differ.
    """
    if run.unit != first.unit or list(run.predictions) != list(first.predictions):
        raise UserError(
            f"{run.folder} is of {run.unit}s and {first.folder} of {first.unit}s: compare runs of "
            "one kind"
        )
    ours, theirs = first.names, run.names
    if set(ours) != set(theirs):
        ours, theirs = _below_common(ours), _below_common(theirs)
    places = {name: place for place, name in enumerate(theirs)}
    missing = [name for name in ours if name not in places]
    further = set(theirs) - set(ours)
    if missing or further or len(ours) != len(theirs):
        example = missing[0] if missing else min(further, default=theirs[0])
        only = first.folder if missing else run.folder
        raise UserError(
            f"{run.folder} and {first.folder} were evaluated on different lists: "
            f"{counts(len(theirs), run.unit)} against {len(ours)}, {len(ours) - len(missing)} of "
            f"them in both; {printable(example)} is in that of {only} alone. Evaluate them on one "
            "list (--data.root, --data.split)"
        )
    order = [places[name] for name in ours]
    for name, true, place in zip(ours, first.true, order, strict=True):
        if run.true[place] != true:
            raise UserError(
                f"{run.folder} and {first.folder} were evaluated with different labels: "
                f"{printable(name)} is {printable(run.true[place])!r} and {printable(true)!r}"
            )
    return order


def _below_common(names: Sequence[str]) -> list[str]:
    start = len(common_folder(names))
    return [name[start:] for name in names]


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file()


def _not_evaluated(folder: Path, places: Sequence[Path]) -> UserError:
    if any((place / "metrics.json").is_file() for place in places):
        return UserError(
            f"{folder} has no {PREDICTIONS}, as of segmentation, whose evaluation is by pixels: "
            "compare runs that classify videos or images"
        )
    kind = _json(folder / "run.json").get("program") if _is_run(folder) else None
    if kind == "reid":
        return UserError(f"{folder} is a run of reid: compare runs of video-snl")
    if kind is None and not _is_run(folder) and not (folder / "config.json").is_file():
        return UserError(
            f"{folder} is not the folder of a run or of an evaluation: it has no run.json and no "
            f"{PREDICTIONS}"
        )
    return UserError(
        f"{folder} is not evaluated yet: video-snl evaluate --checkpoint {folder} writes what is "
        "compared"
    )


def _recordings(path: Path, names: Sequence[str], run: Path | None) -> list[str] | None:
    """Return the recordings that ``evaluate`` noted; of earlier versions, by names and the run."""
    noted = _json(path).get("recordings") if path.is_file() else None
    if isinstance(noted, list) and len(noted) == len(names):
        return [str(group) for group in noted]
    return recordings_of(names, run)


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}): evaluate the run again") from error


def _predictions(path: Path) -> tuple[str, list[str], list[str], dict[str, list[str]]]:
    """Read ``predictions.csv``: the unit, the names, the true classes, and those of each level."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    head = list(reader.fieldnames or ())
    # "clip prediction" and "video prediction" of videos, "prediction" of images
    columns = {
        column.removesuffix("prediction").strip() or "image": column
        for column in head
        if column.endswith("prediction")
    }
    if not head or head[0] not in _UNITS or "true class" not in head or not columns:
        raise UserError(
            f"{path} is not a file of evaluate (its first line is {examples(head)}): evaluate the "
            "run again"
        )
    rows = list(reader)
    if not rows or any(None in row.values() for row in rows):
        raise UserError(f"{path} is cut off: evaluate the run again")
    return (
        _UNITS[head[0]],
        [row[head[0]] for row in rows],
        [row["true class"] for row in rows],
        {level: [row[column] for row in rows] for level, column in columns.items()},
    )
