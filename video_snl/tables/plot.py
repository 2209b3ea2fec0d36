"""The figure of a table: every row's runs, their mean and the paper's figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from video_snl.tables.cells import TABLES
from video_snl.tables.rows import Row, Run, group_of, spread
from video_snl.utils.files import replace_file

__all__ = ["draw_table"]

_SHIFT = 0.18  # of the best epoch's marks below the last one's


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
