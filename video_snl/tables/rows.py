"""The rows of a table: means over seeds and splits, and paired comparisons with no block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from video_snl.config.video import DataConfig, Experiment
from video_snl.tables.cells import BLOCKS, TABLES, Cell
from video_snl.tables.jobs import test_folder
from video_snl.tables.networks import Size
from video_snl.tables.paper import Printed, printed_of
from video_snl.tables.settings import Planned
from video_snl.tables.store import Contents, Result
from video_snl.tables.videos import VideoRow, video_rows
from video_snl.utils.counts import views_named

__all__ = [
    "Comparison",
    "Row",
    "Run",
    "Spread",
    "compare",
    "group_of",
    "precisions",
    "rows_of",
    "spread",
]

Run = int | str
"""What tells the runs of a row apart: the seed, or ``SPLIT/SEED`` where it has splits."""


_FURTHER = {
    "backbone_lr_factor": "learning rate of the backbone times",
    "block_lr_factor": "learning rate of blocks times",
    "head_lr_factor": "learning rate of the classifier times",
    "frozen_batchnorm": "frozen BatchNorm",
    "label_smoothing": "label smoothing",
    "cached_versions": "kept versions of a clip",
    "mixup": "mixup",
    "cutmix": "CutMix",
    "ema_decay": "EMA",
    "gradient_clip": "gradients clipped to",
    "accumulate": "accumulated parts of a step",
}
"""Options of an optimizer that are said where they are not the defaults."""
_SETTINGS = {"step_epochs": "epochs between drops", "milestones": "drops at epochs"}


@dataclass(frozen=True)
class Row:
    """A cell, over all of its splits, with its results in per cent.

    Attributes:
        last, best: The table's measure by run, of the last and the best epoch.
        further: Other measures of the last epoch.
        difference: Last epoch against the network without a block; None for that one.
        printed: What the paper prints; empty where the cell is not one of the paper's.
        paper: The paper's accuracy, or that of who gives one; None where it has none.
        settings: Hashes of the settings of its runs, one for each split.
        conditions: What ours are trained with, in words.
        splits: Splits it is over; none of images.
        videos: Accuracies of whole videos, where its runs were tested so.
        views: Clips and crops of these tests.
    """

    cell: Cell
    size: Size
    last: Mapping[Run, float]
    best: Mapping[Run, float]
    further: Mapping[str, Spread | None]
    difference: Comparison | None
    printed: Printed
    paper: float | None
    settings: tuple[str, ...] = ()
    conditions: str = ""
    splits: tuple[str, ...] = ()
    videos: VideoRow | None = None
    views: str = ""

    @property
    def label(self) -> str:
        """Block and setting."""
        return f"{BLOCKS[self.cell.block].label} {self.cell.setting}".strip()

    @property
    def from_paper(self) -> float | None:
        """Our mean of the best epochs, which the released code reports, less the paper's figure."""
        ours = spread(self.best)
        return None if ours is None or self.paper is None else ours.mean - self.paper


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


def rows_of(
    planned: Sequence[Planned],
    sizes: Sequence[Size],
    contents: Contents,
    seeds: Sequence[int],
    figures: Mapping[str, float],
) -> list[Row]:
    """Return the rows of a table.

    Args:
        contents: Contents of the store; results of other settings or seeds are left out.
        figures: The paper's accuracies in per cent, by row.
    """
    of_rows: dict[str, list[Planned]] = {}
    of_size: dict[str, Size] = {}
    for plan, size in zip(planned, sizes, strict=True):
        name = plan.cell.over_splits.row
        of_rows.setdefault(name, []).append(plan)
        of_size.setdefault(name, size)
    results = {name: _runs(plans, contents, seeds) for name, plans in of_rows.items()}
    rows = [_row(plans, of_size[name], results, figures) for name, plans in of_rows.items()]
    tested = _tested(of_rows, results)
    return [replace(row, **tested.get(row.cell.row, {})) for row in rows]


def _tested(
    of_rows: Mapping[str, Sequence[Planned]], results: Mapping[str, Mapping[Run, Result]]
) -> dict[str, dict[str, Any]]:
    """Return the accuracies of whole videos, with their views, of the rows that have them."""
    found: dict[str, dict[str, Any]] = {}
    for base, plans in of_rows.items():
        if plans[0].views is None or plans[0].cell.compared_with is not None:
            continue
        group = [name for name, of in of_rows.items() if _base_of(of[0].cell) == base]
        views = views_named(*plans[0].views)
        by_split = {name: _by_split(of_rows[name], results[name], views) for name in group}
        for name, row in video_rows(by_split, base, test_folder(plans[0].views)).items():
            found[name] = {"videos": row, "views": views}
    return found


def _base_of(cell: Cell) -> str:
    """Return the row of the network without a block, over all splits."""
    over = cell.over_splits
    return over.compared_with or over.row


def _by_split(
    plans: Sequence[Planned], results: Mapping[Run, Result], views: str
) -> dict[str, dict[int, Result]]:
    """Return the results that were tested with these views, by split and seed."""
    found: dict[str, dict[int, Result]] = {str(plan.cell.split): {} for plan in plans}
    for run, result in results.items():
        split, _, seed = str(run).rpartition("/")
        if result.views == views:
            found[split][int(seed)] = result
    return found


def precisions(planned: Sequence[Planned], contents: Contents, seeds: Sequence[int]) -> list[str]:
    """Return a line that says so where results of several precisions stand in one table.

    ``trainer.precision: auto`` is another one on a GPU than on a CPU.
    """
    found: dict[str, list[str]] = {}
    for cell in planned:
        for seed, result in _chosen(cell, contents, seeds).items():
            found.setdefault(result.precision or "unknown", []).append(f"{cell.cell.row} {seed}")
    if len(found) < 2:
        return []
    most = max(found, key=lambda precision: len(found[precision]))
    others = [f"{name}: {', '.join(of)}" for name, of in found.items() if name != most]
    return [f"Results of several precisions: {most}, but {'; '.join(others)} (cell and seed)."]


def spread(values: Mapping[Any, float]) -> Spread | None:
    """Return mean and deviation of values by run; None without any."""
    if not values:
        return None
    array = np.array(list(values.values()))
    deviation = float(array.std(ddof=1)) if len(array) > 1 else None
    return Spread(float(array.mean()), deviation, len(array))


def compare(ours: Mapping[Any, float], base: Mapping[Any, float]) -> Comparison | None:
    """Compare ``ours`` - ``base`` over the seeds that both have; None where they share none.

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


def group_of(row: Row) -> tuple[str, str]:
    return row.cell.dataset, row.cell.backbone


def _chosen(planned: Planned, contents: Contents, seeds: Sequence[int]) -> dict[int, Result]:
    results = contents.of(planned.settings, TABLES[planned.cell.table].metric)
    return {seed: results[seed] for seed in seeds if seed in results}


def _runs(
    planned: Sequence[Planned], contents: Contents, seeds: Sequence[int]
) -> dict[Run, Result]:
    """Return the results of a row by seed, or by split and seed."""
    runs: dict[Run, Result] = {}
    for plan in planned:
        split = plan.cell.split
        for seed, result in _chosen(plan, contents, seeds).items():
            runs[seed if split is None else f"{split}/{seed}"] = result
    return runs


def _row(
    planned: Sequence[Planned],
    size: Size,
    results: Mapping[str, Mapping[Run, Result]],
    figures: Mapping[str, float],
) -> Row:
    cell = planned[0].cell.over_splits
    table = TABLES[cell.table]
    own = results[cell.row]
    last = _values(own, "last", table.metric)
    base = None if cell.compared_with is None else results[cell.compared_with]
    printed = printed_of(cell.table, (cell.dataset, cell.backbone), cell.entry)
    return Row(
        cell=cell,
        size=size,
        last=last,
        best=_values(own, "best", table.metric),
        further={name: spread(_values(own, "last", name)) for name in table.further},
        difference=None if base is None else compare(last, _values(base, "last", table.metric)),
        printed=printed,
        paper=figures.get(cell.row, printed.measures.get(table.metric)),
        settings=tuple(plan.settings for plan in planned),
        conditions=_conditions_of(planned[0].experiment),
        splits=tuple(plan.cell.split for plan in planned if plan.cell.split is not None),
    )


def _conditions_of(experiment: Any) -> str:
    """Return the settings of a cell in words, those apart in which the cells of a table differ."""
    data, optimizer = experiment.data, experiment.optimizer
    if isinstance(experiment, Experiment):
        shown = [f"clips of {data.clip_frames} x {data.crop} x {data.crop}{_stride(data)}"]
    else:
        shown = [f"images of {data.height} x {data.width}"]
    shown += [f"{optimizer.epochs} epochs", f"batches of {optimizer.batch_size}"]
    shown.append(f"learning rate {optimizer.learning_rate:g} ({optimizer.schedule})")
    for name, words in _SETTINGS.items():
        if optimizer.schedule in ("step", "milestones") and getattr(optimizer, name, None):
            at = getattr(optimizer, name)
            places = " and ".join(f"{epoch:g}" for epoch in (at if isinstance(at, list) else [at]))
            shown.append(f"{words} {places}")
    shown += [f"weight decay {optimizer.weight_decay:g}", f"momentum {optimizer.momentum:g}"]
    weights = experiment.model.weights
    shown.append("new weights" if weights is None else f"weights {weights.rpartition('/')[2]}")
    if optimizer.frozen_stages:
        shown.append(f"frozen {', '.join(optimizer.frozen_stages)}")
    plain = type(optimizer)()
    for name, words in _FURTHER.items():
        value = getattr(optimizer, name, None)
        if value != getattr(plain, name, None):
            shown.append(words if value is True else f"{words} {value:g}")
    return ", ".join(shown)


def _stride(data: DataConfig) -> str:
    if data.stride_seconds is not None:
        return f", frames {data.stride_seconds:g} s apart"
    return "" if data.frame_stride == 1 else f", every {data.frame_stride}. frame"


def _values(results: Mapping[Run, Result], which: str, metric: str) -> dict[Run, float]:
    """Return the values of a metric in per cent, by run, of those that have it."""
    return {
        run: 100 * result.metrics[which][metric]
        for run, result in results.items()
        if metric in result.metrics[which]
    }
