"""The report of a table: means over seeds, the paper's figures beside them, Markdown and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

from video_snl.tables.cells import BLOCKS, PRINTED, TABLES, Cell, PaperTable, Printed
from video_snl.tables.networks import Size
from video_snl.tables.settings import Planned
from video_snl.tables.store import Contents, Result
from video_snl.utils.files import replace_file

__all__ = [
    "Comparison",
    "Row",
    "Spread",
    "as_json",
    "compare",
    "group_of",
    "markdown",
    "precisions",
    "rows_of",
    "size_table",
    "spread",
    "draw_table",
]

_NOT_AT_HAND = "not at hand"
_SIZES = ("parameters", "added", "paper's", "multiply-adds", "added", "paper's")
_SHIFT = 0.18  # of the best epoch's marks below the last one's


@dataclass(frozen=True)
class Row:
    """A cell with its results, in per cent.

    Attributes:
        last, best: The table's measure by seed, of the last and the best epoch.
        further: Other measures of the last epoch.
        difference: Last epoch against the network without a block; None for that one.
        printed: Size as the paper prints it; empty where the cell is not one of the paper's.
        paper: The paper's accuracy, where it is at hand.
    """

    cell: Cell
    size: Size
    last: Mapping[int, float]
    best: Mapping[int, float]
    further: Mapping[str, Spread | None]
    difference: Comparison | None
    printed: Printed
    paper: float | None

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
    results = {p.cell.row: _chosen(p, contents, seeds) for p in planned}
    return [
        _row(plan.cell, size, results, figures) for plan, size in zip(planned, sizes, strict=True)
    ]


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
            "last_spread": _plain(spread(row.last)),
            "best_spread": _plain(spread(row.best)),
            "from_paper": row.from_paper,
        }
        for row in rows
    ]


def spread(values: Mapping[int, float]) -> Spread | None:
    """Return mean and deviation of values by seed; None without any."""
    if not values:
        return None
    array = np.array(list(values.values()))
    deviation = float(array.std(ddof=1)) if len(array) > 1 else None
    return Spread(float(array.mean()), deviation, len(array))


def compare(ours: Mapping[int, float], base: Mapping[int, float]) -> Comparison | None:
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
    parts = [f"# Table {number}: {table.title}", *remarks]
    for (dataset, backbone), group in groupby(rows, group_of):
        parts += [f"## {dataset}, {backbone}", _grid(table, list(group))]
    return "\n\n".join([*parts, _legend(table)]) + "\n"


def size_table(number: int, rows: Sequence[Row]) -> str:
    """Return the sizes alone, by the name that a cell has in the store."""
    head = ("cell", *_SIZES)
    return _lines(head, [(row.cell.row, *_sizes(row)) for row in rows])


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


def _row(
    cell: Cell,
    size: Size,
    results: Mapping[str, Mapping[int, Result]],
    figures: Mapping[str, float],
) -> Row:
    table = TABLES[cell.table]
    own = results[cell.row]
    last = _values(own, "last", table.metric)
    base = None if cell.compared_with is None else results[cell.compared_with]
    papers = cell.dataset in table.datasets and cell.backbone in table.backbones
    printed = PRINTED.get(cell.table, {}).get(cell.block) if papers else None
    return Row(
        cell=cell,
        size=size,
        last=last,
        best=_values(own, "best", table.metric),
        further={name: spread(_values(own, "last", name)) for name in table.further},
        difference=None if base is None else compare(last, _values(base, "last", table.metric)),
        printed=printed or Printed(),
        paper=figures.get(cell.row),
    )


def _values(results: Mapping[int, Result], which: str, metric: str) -> dict[int, float]:
    """Return the values of a metric in per cent, by seed."""
    return {seed: 100 * result.metrics[which][metric] for seed, result in results.items()}


def _plain(value: Spread | None) -> dict[str, Any] | None:
    return None if value is None else asdict(value)


def _grid(table: PaperTable, rows: Sequence[Row]) -> str:
    measure = "mIoU" if table.segments else "top-1"
    further = tuple(name.removeprefix("val/") for name in table.further)
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
        *_SIZES,
    )
    return _lines(head, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    paper = _NOT_AT_HAND if row.paper is None else f"{row.paper:.2f}"
    return (
        row.label,
        str(len(row.last)),
        _spread(spread(row.last)),
        _spread(spread(row.best)),
        *(_spread(value) for value in row.further.values()),
        _difference(row.difference),
        "-" if row.difference is None or row.difference.p is None else f"{row.difference.p:.3f}",
        paper,
        "-" if row.from_paper is None else f"{row.from_paper:+.2f}",
        *_sizes(row),
    )


def _sizes(row: Row) -> tuple[str, ...]:
    size, printed = row.size, row.printed
    if row.cell.compared_with is None:
        return f"{size.parameters:,}", "-", "-", _giga(size), "-", "-"
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
    return "\n".join(
        (
            f"{measure} of the test list in per cent: mean ± sample standard deviation over seeds.",
            "The best epoch is chosen on the test list, as the paper's released code does; it is",
            "therefore too high, and only it is compared with the paper's figure. Against no",
            "block: mean difference of the last epochs over common seeds with its 95 % interval,",
            "and p of the paired t-test, of each row alone. Multiply-adds without the products",
            "with the affinity, as the paper prints them.",
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
    values: Sequence[Mapping[int, float]],
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
