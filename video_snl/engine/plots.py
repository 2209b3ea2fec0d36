"""Plots of a run, drawn without a display and written atomically."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from video_snl.config.task_spec import VIDEO, TaskSpec, shown_metrics
from video_snl.render.fonts import figure_fonts, spelled
from video_snl.utils.files import replace_file

__all__ = ["confusion_picture", "learning_curves"]

# Up to this many classes the cells of a confusion matrix carry their counts.
_NUMBERED_CLASSES = 12
_DPI = 130


def learning_curves(
    rows: Sequence[dict[str, float]],
    path: Path,
    spec: TaskSpec = VIDEO,
    classes: int | None = None,
) -> None:
    """Draw losses, and the shares that a kind of task measures, over the epochs.

    Args:
        classes: Number of classes: a top-5 of five classes or fewer is not drawn.
    """
    run = spelled(path.parent.name)
    with figure_fonts([run]):
        _save(_learning_figure(rows, run, spec, classes), path)


def _learning_figure(
    rows: Sequence[dict[str, float]], run: str, spec: TaskSpec, classes: int | None
) -> Figure:
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    figure.suptitle(f"Learning curves of {run}" if run else "Learning curves", parse_math=False)
    loss, accuracy = figure.subplots(1, 2)
    for name, label in spec.losses:
        loss.plot(epochs, [row.get(name, np.nan) for row in rows], label=label, marker=".")
    for name, label in shown_metrics(spec.shares, classes):
        percent = [100 * row.get(name, np.nan) for row in rows]
        accuracy.plot(epochs, percent, label=label, marker=".")
    loss.set(xlabel="epoch", ylabel=spec.axes[0], ylim=(0, None))
    accuracy.set(xlabel="epoch", ylabel=spec.axes[1], ylim=(0, 102))
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def confusion_picture(
    matrix: np.ndarray, class_names: Sequence[str], path: Path, *, title: str, unit: str
) -> None:
    """Draw a confusion matrix: colours are per cent of each true class, numbers are counts.

    Args:
        matrix: Counts, shape (classes, classes), rows being the true classes.
        class_names: Names in the order of the matrix.
        path: PNG to write.
        title: Title of the figure.
        unit: Plural of what is counted: ``videos``, ``images`` or ``pixels``.
    """
    names = [spelled(name) for name in class_names]
    with figure_fonts([title, *names]):
        _save(_confusion_figure(matrix, names, title, unit), path)


def _confusion_figure(matrix: np.ndarray, names: Sequence[str], title: str, unit: str) -> Figure:
    classes = len(names)
    totals = matrix.sum(1, keepdims=True)
    share = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    side = float(np.clip(0.55 * classes, 5, 22))
    figure = Figure(figsize=(side + 1.5, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
    size = 9 if classes <= 30 else 5
    ticks = range(classes)
    # A name with dollar signs is not a formula.
    axes.set_xticks(ticks, names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=size, parse_math=False)
    numbered = classes <= _NUMBERED_CLASSES
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{title}\nnumbers: {unit}" if numbered else title, fontsize=11)
    if numbered:
        for row, column in np.ndindex(matrix.shape):
            colour = "white" if share[row, column] > 0.5 else "black"
            count = short_count(int(matrix[row, column]))
            axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=size)
    figure.colorbar(image, ax=axes, label=f"share of the {unit} of the true class (%)", shrink=0.8)
    return figure


def short_count(count: int) -> str:
    """Return a count in at most five characters: ``9999``, ``12.3k``, ``4.57M``."""
    if count < 10_000:
        return str(count)
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g}{letter}"
    return str(count)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.set_dpi(_DPI)
    layout = figure.get_layout_engine()
    assert layout is not None
    # savefig would draw all of the figure once more to come to the same layout.
    layout.execute(figure)
    figure.set_layout_engine(None)
    replace_file(path, lambda temporary: figure.savefig(temporary, dpi=_DPI))
