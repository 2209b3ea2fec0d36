"""The report of a table: means over seeds, the paper's figures beside them, Markdown and a plot."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

from video_snl.commands.intervals import Interval
from video_snl.config.video import Experiment
from video_snl.tables.cells import BLOCKS, TABLES, Cell, PaperTable
from video_snl.tables.jobs import views_named
from video_snl.tables.networks import Size
from video_snl.tables.paper import FIGURES, ILLEGIBLE, PaperFigures, Printed, printed_of
from video_snl.tables.settings import Planned
from video_snl.tables.store import Contents, Result
from video_snl.tables.videos import VideoRow, video_rows
from video_snl.utils.counts import counts
from video_snl.utils.files import replace_file

__all__ = [
    "Comparison",
    "Row",
    "Spread",
    "as_csv",
    "as_json",
    "compare",
    "group_of",
    "markdown",
    "paper_section",
    "precisions",
    "rows_of",
    "size_table",
    "spread",
    "draw_table",
]

_SIZES = ("parameters", "added", "paper's", "multiply-adds", "added", "paper's")
_SETTINGS = {"step_epochs": "epochs between drops", "milestones": "drops at epochs"}
_SHIFT = 0.18  # of the best epoch's marks below the last one's


Run = int | str
"""What tells the runs of a row apart: the seed, or ``SPLIT/SEED`` where it has splits."""


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
        views = views_named(plans[0].views)
        by_split = {name: _by_split(of_rows[name], results[name], views) for name in group}
        for name, row in video_rows(by_split, base).items():
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


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return plain values of the rows."""
    return [
        {
            "row": row.cell.row,
            **asdict(row),
            "paper_settings": FIGURES[row.cell.table].protocol,
            "paper_notes": list(FIGURES[row.cell.table].notes),
            "last_spread": _plain(spread(row.last)),
            "best_spread": _plain(spread(row.best)),
            "from_paper": row.from_paper,
        }
        for row in rows
    ]


def as_csv(rows: Sequence[Row]) -> str:
    """Return a line for every run; a row without runs has one, too, for the paper's figures."""
    table = FIGURES[rows[0].cell.table]
    measures = [name.removeprefix("val/") for name in table.measures]
    head = [
        "row",
        "split",
        "seed",
        "last",
        "best",
        "video",
        *(f"paper_{name}" for name in measures),
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*head, "paper_multiply_adds", "paper_parameters", "settings"])
    for row in rows:
        paper = [*map(_figure, _papers(row, table.measures))]
        paper += [row.printed.multiply_adds or "", row.printed.parameters or ""]
        hashes = dict(zip(row.splits or ("",), row.settings, strict=True))
        for run in row.last or [""]:
            split, _, seed = str(run).rpartition("/")
            ours = [f"{of[run]:.4f}" if run in of else "" for of in (row.last, row.best)]
            ours.append(_video_of(row, split, seed))
            settings = hashes[split] if run != "" else " ".join(row.settings)
            writer.writerow(
                [row.cell.row, split, seed, *ours, *(p.strip("-") for p in paper), settings]
            )
    return file.getvalue()


def _video_of(row: Row, split: str, seed: str) -> str:
    """Return the accuracy of a run at video level in per cent; empty where it has none."""
    if row.videos is None or not seed or int(seed) not in row.videos.values.get(split, {}):
        return ""
    return f"{100 * row.videos.values[split][int(seed)]:.4f}"


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


def markdown(number: int, rows: Sequence[Row], remarks: Sequence[str]) -> str:
    """Return every network and dataset of the table with its rows, then a legend.

    Args:
        remarks: Lines that say what is particular about these runs.
    """
    table = TABLES[number]
    figures = FIGURES[number]
    parts = [f"# Table {number}: {table.title}", *remarks]
    for (dataset, backbone), of_group in groupby(rows, group_of):
        group = list(of_group)
        parts += [f"## {dataset}, {backbone}", _grid(table, figures, group)]
        parts += [part for part in (_conditions(group), _whole_videos(group)) if part]
    return "\n\n".join([*parts, _legend(table), paper_section(number)]) + "\n"


def paper_section(number: int) -> str:
    """Return the paper's table as it is printed, with its settings and footnotes."""
    figures = FIGURES[number]
    parts = [f"## Table {number} as the paper prints it", f"{figures.about}."]
    costs = ("multiply-adds", "parameters") if figures.costs else ()
    shown = tuple(_measure(name) for name in figures.measures)
    for group, rows in figures.groups.items():
        if len(figures.groups) > 1:
            parts.append(f"{group[0]}, {group[1]}:")
        lines = []
        for row in rows:
            block, _, setting = row.partition("/")
            printed = printed_of(number, group, row)
            values = [_figure(printed.measures[name]) for name in figures.measures]
            values += [printed.multiply_adds or "-", printed.parameters or "-"] if costs else []
            label = BLOCKS[block].label.removesuffix(", twice")
            lines.append((f"{label} {_spaced(setting)}".strip(), *values))
        parts.append(_lines(("block", *shown, *costs), lines))
    if costs:
        parts.append(
            "Multiply-adds (GFLOPs of the paper) and parameters (millions) of the rows other than "
            "no block\nare additions to it."
        )
    parts.append(f"The paper's settings: {figures.protocol}.")
    notes = "\n".join(f"- {note}" for note in figures.notes)
    return "\n\n".join([*parts, *([notes] if notes else [])])


def size_table(number: int, rows: Sequence[Row]) -> str:
    """Return the sizes alone, by the name that a cell has in the store."""
    head = ("cell", *_SIZES)
    return _lines(head, [(row.cell.row, *_sizes(row)) for row in rows])


def _measure(name: str) -> str:
    return {"val/top1": "top-1", "val/top5": "top-5"}.get(name, name.removeprefix("val/"))


def _figure(value: float | None) -> str:
    """Return a figure of the paper; one that it does not have is not a number."""
    if value is None:
        return ILLEGIBLE
    return "-" if math.isnan(value) else f"{value:.2f}"


def _spaced(setting: str) -> str:
    """Return a setting as the table heads it: ``Cs = C/2`` and ``stage 1``."""
    if setting.startswith("stage"):
        return f"stage {setting.removeprefix('stage')}"
    return setting.replace("=", " = ")


def _conditions(rows: Sequence[Row]) -> str:
    """Return what ours of a group were trained with, rows of other settings apart."""
    by_words: dict[str, list[str]] = {}
    for row in rows:
        if row.conditions:
            by_words.setdefault(row.conditions, []).append(row.label)
    if len(by_words) < 2:
        return "".join(f"Ours: {words}." for words in by_words)
    return "\n".join(f"- Ours ({', '.join(of)}): {words}." for words, of in by_words.items())


def _whole_videos(rows: Sequence[Row]) -> str:
    """Return the accuracies of whole videos by split and over all, where there are any."""
    tested = [row for row in rows if row.videos is not None and any(row.videos.values.values())]
    if not tested:
        return ""
    splits = list(rows[0].splits)
    head = (
        "block",
        "seeds",
        *(f"split {split}" for split in splits),
        "all videos",
        "against no block",
    )
    lines = [(row.label, *_video_cells(row.videos, splits)) for row in tested if row.videos]
    missed = next((row.videos.missed for row in tested if row.videos and row.videos.missed), "")
    words = (
        f"Whole videos ({rows[0].views}, last epoch): mean ± sample standard deviation over seeds. "
        "Over all splits, and\nagainst no block, with 95 % intervals of resampled recordings and "
        "seeds, the same for both sides."
    )
    return "\n\n".join(part for part in (words, _lines(head, lines), missed) if part)


def _video_cells(row: VideoRow, splits: Sequence[str]) -> tuple[str, ...]:
    shares = [{seed: 100 * v for seed, v in row.values.get(s, {}).items()} for s in splits]
    return (
        str(len(row.seeds)) if row.seeds else "-",
        *(_spread(spread(share)) for share in shares),
        _share(row.mean, row.interval),
        _share(row.difference, row.against, "+"),
    )


def _share(value: float | None, interval: Interval | None, sign: str = "") -> str:
    if value is None:
        return "-"
    ends = (
        ""
        if interval is None
        else f" [{100 * interval.low:{sign}.2f}, {100 * interval.high:{sign}.2f}]"
    )
    return f"{100 * value:{sign}.2f}{ends}"


def group_of(row: Row) -> tuple[str, str]:
    return row.cell.dataset, row.cell.backbone


def draw_table(number: int, rows: Sequence[Row], path: Path) -> None:
    """Draw the rows that have results, a panel for each network and dataset."""
    groups = [(name, list(group)) for name, group in groupby(rows, group_of)]
    height = sum(1.1 + 0.36 * len(group) for _, group in groups)
    figure = Figure(figsize=(8.5, height + 0.5), layout="constrained")
    ratios = [len(group) for _, group in groups]
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=ratios)
    for axes, ((dataset, backbone), group) in zip(panels[:, 0], groups, strict=True):
        _panel(axes, group)
        axes.set_title(f"{dataset}, {backbone}", fontsize=10)
    table = TABLES[number]
    measure = "mIoU" if table.segments else "top-1 accuracy"
    panels[-1, 0].set_xlabel(f"{measure} of the test list (%)")
    figure.suptitle(f"Table {number}: {table.title}", fontsize=11)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    FigureCanvasAgg(figure)
    replace_file(path, lambda temporary: figure.savefig(temporary, dpi=130))


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
        side = f"{data.clip_frames} x {data.crop} x {data.crop}"
        shown = [f"clips of {side}, every {data.frame_stride}. frame"]
        shown[0] = shown[0].replace(", every 1. frame", "")
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
    return ", ".join(shown)


def _values(results: Mapping[Run, Result], which: str, metric: str) -> dict[Run, float]:
    """Return the values of a metric in per cent, by run, of those that have it."""
    return {
        run: 100 * result.metrics[which][metric]
        for run, result in results.items()
        if metric in result.metrics[which]
    }


def _papers(row: Row, measures: Sequence[str]) -> list[float | None]:
    """Return the paper's figures of a row; a figure that is none is not a number."""
    return [row.printed.measures.get(name, float("nan")) for name in measures]


def _plain(value: Spread | None) -> dict[str, Any] | None:
    return None if value is None else asdict(value)


def _grid(table: PaperTable, figures: PaperFigures, rows: Sequence[Row]) -> str:
    measure = _measure(table.metric)
    further = tuple(map(_measure, table.further))
    papers = tuple(name for name in figures.measures if name != table.metric)
    head = (
        "block",
        "seeds",
        f"{measure}, last epoch",
        "best epoch",
        *further,
        "against no block",
        "p",
        "paper's",
        "ours - paper's",
        *(f"paper's {_measure(name)}" for name in papers),
        *_SIZES,
    )
    return _lines(head, [_cells(row, table.metric, papers) for row in rows])


def _cells(row: Row, metric: str, papers: Sequence[str]) -> tuple[str, ...]:
    paper = _figure(row.paper) if row.paper is not None else _figure(*_papers(row, [metric]))
    return (
        row.label,
        str(len(row.last)) + (f" ({counts(len(row.splits), 'split')})" if row.splits else ""),
        _spread(spread(row.last)),
        _spread(spread(row.best)),
        *(_spread(value) for value in row.further.values()),
        _difference(row.difference),
        "-" if row.difference is None or row.difference.p is None else f"{row.difference.p:.3f}",
        paper,
        "-" if row.from_paper is None else f"{row.from_paper:+.2f}",
        *map(_figure, _papers(row, papers)),
        *_sizes(row),
    )


def _sizes(row: Row) -> tuple[str, ...]:
    size, printed = row.size, row.printed
    if row.cell.compared_with is None:
        papers = printed.parameters or "-", printed.multiply_adds or "-"
        return f"{size.parameters:,}", "-", papers[0], _giga(size), "-", papers[1]
    return (
        f"{size.parameters:,}",
        f"+{size.added_parameters:,}",
        printed.parameters or "-",
        _giga(size),
        f"+{size.added_multiply_adds / 1e9:.4f} G",
        printed.multiply_adds or "-",
    )


def _giga(size: Size) -> str:
    return f"{size.multiply_adds / 1e9:.4f} G"


def _spread(value: Spread | None) -> str:
    if value is None:
        return "-"
    deviation = "" if value.deviation is None else f" ± {value.deviation:.2f}"
    return f"{value.mean:.2f}{deviation}"


def _difference(value: Comparison | None) -> str:
    if value is None:
        return "-"
    if value.low is None or value.high is None:
        seeds = "one seed" if value.seeds == 1 else "the same for every seed"
        return f"{value.difference:+.2f} ({seeds})"
    return f"{value.difference:+.2f} [{value.low:+.2f}, {value.high:+.2f}]"


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _legend(table: PaperTable) -> str:
    measure = "Mean intersection over union" if table.segments else "Top-1 accuracy"
    measure = "Clip-level top-1 accuracy" if table.videos else measure
    runs = "splits and seeds" if table.videos else "seeds"
    return "\n".join(
        (
            f"{measure} of the test list in per cent: mean ± sample standard deviation over",
            f"{runs}. The best epoch is chosen on the test list, as the paper's released code",
            "does; it is therefore too high, and only it is compared with the paper's figure.",
            f"Against no block: mean difference of the last epochs over common {runs} with",
            "its 95 % interval, and p of the paired t-test, of each row alone. Multiply-adds",
            "without the products with the affinity, as the paper prints them; a figure of the",
            "paper with + is an addition to no block.",
        )
    )


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    places = range(len(rows))
    base = spread(rows[0].last)
    if base is not None:
        axes.axvline(base.mean, color="0.6", linestyle="--", linewidth=1, label="no block, last")
    _marks(axes, [row.last for row in rows], -_SHIFT, "C0", "o", "last epoch")
    _marks(axes, [row.best for row in rows], _SHIFT, "C1", "s", "best epoch")
    papers = [(row.paper, place) for place, row in zip(places, rows, strict=True) if row.paper]
    if papers:
        axes.plot(*zip(*papers, strict=True), "k|", markersize=16, label="paper")
    axes.set_yticks(places, [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)


def _marks(
    axes: Axes,
    values: Sequence[Mapping[Run, float]],
    shift: float,
    colour: str,
    mark: str,
    label: str,
) -> None:
    """Draw a faint mark for every seed of a row, a full one with a bar for mean and deviation."""
    for place, by_seed in enumerate(values):
        height = place + shift
        found = spread(by_seed)
        if found is None:
            continue
        seeds = list(by_seed.values())
        axes.plot(seeds, [height] * len(seeds), mark, color=colour, alpha=0.35, markersize=4)
        axes.errorbar(
            found.mean,
            height,
            xerr=found.deviation,
            fmt=mark,
            color=colour,
            markersize=6,
            capsize=3,
            label=label,
        )
        label = "_"
