"""Pictures of a run, drawn without a display and written atomically."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from video_snl.engine.files import replace_file
from video_snl.engine.program import VIDEO_SNL, Program

__all__ = ["confusion_picture", "learning_curves"]

# Up to this many classes the cells of a confusion matrix carry their counts.
_NUMBERED_CLASSES = 12


def learning_curves(
    rows: Sequence[dict[str, float]], path: Path, program: Program = VIDEO_SNL
) -> None:
    """Losses, and the shares that a program measures, over the epochs."""
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for name, label in program.losses:
        loss.plot(epochs, [row.get(name, np.nan) for row in rows], label=label, marker=".")
    for name, label in program.shares:
        percent = [100 * row.get(name, np.nan) for row in rows]
        accuracy.plot(epochs, percent, label=label, marker=".")
    loss.set(xlabel="epoch", ylabel=program.axes[0], ylim=(0, None))
    accuracy.set(xlabel="epoch", ylabel=program.axes[1], ylim=(0, 102))
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)


def confusion_picture(
    matrix: np.ndarray, class_names: Sequence[str], path: Path, *, title: str
) -> None:
    """Confusion matrix in per cent of each true class. Shape: matrix (classes, classes) counts."""
    classes = len(class_names)
    totals = matrix.sum(1, keepdims=True)
    share = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    side = float(np.clip(0.55 * classes, 5, 22))
    figure = Figure(figsize=(side + 1.5, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
    size = 9 if classes <= 30 else 5
    ticks = range(classes)
    axes.set_xticks(ticks, class_names, rotation=90, fontsize=size)
    axes.set_yticks(ticks, class_names, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    if classes <= _NUMBERED_CLASSES:
        for row, column in np.ndindex(matrix.shape):
            colour = "white" if share[row, column] > 0.5 else "black"
            count = f"{int(matrix[row, column])}"
            axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=size)
    figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    replace_file(path, lambda temporary: figure.savefig(temporary, dpi=130))
