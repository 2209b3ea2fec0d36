#!/usr/bin/env python
"""Figure of README.md: accuracies from scratch and from published weights, of docs/results.csv.

    python scripts/pretrained_picture.py docs/results.csv docs/pictures/pretrained.png

A bar is the mean of its runs, each of which is a dot.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PANELS = {
    ("UCF-5", "video top-1"): "UCF-5: videos named right (%)",
    ("Market subset", "mAP"): "People of Market-1501: mAP (%)",
}
COLOURS = {
    "from scratch": "0.65",
    "published weights, no training": "C1",
    "published weights, linear probe": "C1",
    "fine-tuned": "C0",
}
BLOCKS = {"": "", "none": ", no block", "nl": ", NL", "snl": ", SNL"}


def main(table: Path, path: Path) -> None:
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    for panel, ((data, measure), title) in zip(axes, PANELS.items(), strict=True):
        found = [row for row in rows if (row["data"], row["measure"]) == (data, measure)]
        _panel(panel, found)
        panel.set_title(title, fontsize=10)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=130)


def _panel(axes: Axes, rows: list[dict[str, str]]) -> None:
    bars: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["start"] in COLOURS and row["block"] in BLOCKS:
            bars.setdefault((row["start"], row["block"]), []).append(float(row["percent"]))
    order = sorted(bars, key=lambda bar: (list(COLOURS).index(bar[0]), list(BLOCKS).index(bar[1])))
    for place, bar in enumerate(order):
        values = bars[bar]
        mean = sum(values) / len(values)
        axes.barh(place, mean, color=COLOURS[bar[0]], height=0.65)
        axes.plot(values, [place] * len(values), "k.", markersize=4, alpha=0.6)
        axes.text(1, place, f"{mean:.1f}", va="center", fontsize=9, color="white", weight="bold")
    axes.set_yticks(range(len(order)), [f"{start}{BLOCKS[block]}" for start, block in order])
    axes.tick_params(labelsize=9)
    axes.set_xlim(0, 100)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
