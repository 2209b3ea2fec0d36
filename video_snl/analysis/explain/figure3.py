"""Figures in the layout of Figure 3 of arXiv:2108.02451, drawn without a display.

Frames stand side by side. Below them are maps, laid over the frames: where a position looks, and
(A of the figure) the feature map before and after a block.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from video_snl.analysis.explain.positions import corresponding
from video_snl.analysis.explain.structure import (
    BlockMaps,
    Box,
    Explanation,
    Grid,
    box_of,
    flat_index,
    is_signed,
)
from video_snl.render.fonts import figure_fonts, spelled
from video_snl.utils.files import replace_file

__all__ = ["draw_features", "draw_looks", "frames_shown"]

_MOST_FRAMES = 8
_CELL = 1.5  # inches, the height of a frame
_LABEL = 1.35  # inches, to the left of a row
_BAR = 0.85  # inches, to the right of a row, for its colour bar
_TITLE = 0.22  # inches, above all
_MARK = "#00e5ff"
_COLOURS, _SIGNED = colormaps["inferno"], colormaps["coolwarm"]


class _Row(NamedTuple):
    """Maps (t, h, w) with the value that is drawn brightest; None for the bare frames.

    ``signed`` is that of the whole map which the row is part of; ``unit`` labels its colour bar.
    """

    label: str
    maps: np.ndarray | None
    largest: float = 1.0
    marked: Box | None = None
    signed: bool = False
    unit: str = ""


def draw_looks(explanation: Explanation, at: Grid, of: Grid, path: Path) -> None:
    """Draw where a position looks, by every block, sub-block and kind of map.

    A row of maps has one scale: its brightest colour is the largest value at another position than
    the one itself, whose own value may be far above. A kind that has negative weights, be it of
    another position, is blue and red, as on the page.

    Args:
        at: A position of the grid ``of``.
    """
    blocks = explanation.blocks
    frames = _size(explanation)
    boxes = [box_of(corresponding(at, of, block), block.grid, frames) for block in blocks]
    rows = [_Row("frames", None, marked=boxes[0])]
    what = f"where position {', '.join(map(str, at))} (time, row, column) looks"
    for block, box in zip(blocks, boxes, strict=True):
        here = flat_index(corresponding(at, of, block), block.grid)
        for kind, values in block.maps.items():
            sizes = np.abs(values[here])
            largest = float(np.delete(sizes, here).max(initial=0.0)) or float(sizes.max())
            maps = values[here].reshape(block.grid)
            label = f"{block.block}\n{_short(block)}\n{kind}"
            rows.append(_Row(label, maps, largest, box, is_signed(values), "weight"))
    _draw(explanation, rows, boxes[0], path, what)


def draw_features(explanation: Explanation, path: Path) -> None:
    """Draw the feature maps before and after every sub-block, on one scale, and Grad-CAM."""
    rows = [_Row("frames", None)]
    for block in explanation.blocks:
        largest = float(max(block.before.max(), block.after.max()))
        for when, maps in (("before", block.before), ("after", block.after)):
            label = f"{block.block}\n{_short(block)}\n{when}"
            rows.append(_Row(label, maps, largest, unit="length of\nthe features"))
    if explanation.gradcam is not None:
        label = f"Grad-CAM\n{spelled(explanation.classes[0][0])}"
        rows.append(_Row(label, explanation.gradcam, unit="share of\nthe largest"))
    parts = ["features before and after the blocks"] if explanation.blocks else []
    parts += [] if explanation.gradcam is None else ["Grad-CAM"]
    _draw(explanation, rows, None, path, ", ".join(parts))


def frames_shown(frames: int, marked: Box | None) -> list[int]:
    """Return the numbers of up to 8 frames, evenly spaced; one shows the marked position."""
    count = min(frames, _MOST_FRAMES)
    shown = [(2 * place + 1) * frames // (2 * count) for place in range(count)]
    if marked is not None and not any(marked.start <= frame < marked.stop for frame in shown):
        nearest = min(range(count), key=lambda place: abs(shown[place] - marked.start))
        shown[nearest] = marked.start
    return shown


def _draw(
    explanation: Explanation, rows: list[_Row], marked: Box | None, path: Path, what: str
) -> None:
    source = spelled(PurePath(explanation.source).name)
    with figure_fonts([source, *(row.label for row in rows)]):
        _draw_rows(explanation, rows, marked, path, f"{source}: {what}")


def _draw_rows(
    explanation: Explanation, rows: list[_Row], marked: Box | None, path: Path, title: str
) -> None:
    total, height, width = _size(explanation)
    shown = frames_shown(total, marked)
    cell = _CELL * width / height
    # Room for the title, which a single narrow frame does not have.
    width_ = max(_LABEL + len(shown) * cell + _BAR, 0.075 * len(title) + 0.3)
    size = width_, len(rows) * _CELL + 0.3 + _TITLE
    figure = Figure(size)
    figure.suptitle(title, fontsize=9, y=1 - 0.05 / size[1], va="top", parse_math=False)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(rows),
        len(shown),
        left=_LABEL / size[0],
        right=(_LABEL + len(shown) * cell) / size[0],
        top=1 - (0.28 + _TITLE) / size[1],
        bottom=0.02 / size[1],
        wspace=0.03,
        hspace=0.03,
    )
    for line, row in enumerate(rows):
        if row.maps is not None:
            _colour_bar(figure, grid[line, len(shown) - 1].get_position(figure), row)
        for column, frame in enumerate(shown):
            axes = figure.add_subplot(grid[line, column])
            _cell(axes, explanation.frames[frame], row, frame, total)
            if line == 0:
                axes.set_title(f"frame {frame}", fontsize=8, pad=3)
            if column == 0:
                axes.set_ylabel(
                    row.label,
                    fontsize=8,
                    rotation=0,
                    ha="right",
                    va="center",
                    labelpad=6,
                    parse_math=False,
                )
    replace_file(path, lambda temporary: figure.savefig(temporary, dpi=150))


def _colour_bar(figure: Figure, beside: Bbox, row: _Row) -> None:
    """Draw the colours of a row with their values, to the right of it."""
    scale = row.largest if row.largest > 0 else 1.0
    width = figure.get_figwidth()
    place = (beside.x1 + 0.08 / width, beside.y0 + 0.1 * beside.height)
    axes = figure.add_axes((*place, 0.1 / width, 0.8 * beside.height))
    colours = ScalarMappable(
        Normalize(-scale if row.signed else 0, scale), _SIGNED if row.signed else _COLOURS
    )
    bar = figure.colorbar(colours, cax=axes)
    ticks = [-scale, 0, scale] if row.signed else [0, scale / 2, scale]
    bar.set_ticks(ticks, labels=[f"{value:.2g}" for value in ticks])
    bar.ax.tick_params(labelsize=7, length=2)
    bar.set_label(row.unit, fontsize=7)


def _cell(axes: Axes, frame: np.ndarray, row: _Row, number: int, total: int) -> None:
    height, width = frame.shape[:2]
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    whole = (0, width, height, 0)
    if row.maps is None:
        axes.imshow(frame, extent=whole)
    else:
        # In grey and darker, so that all colour is the map's.
        axes.imshow(frame.mean(-1), cmap="gray", vmin=0, vmax=400, extent=whole)
        values = row.maps[_time_of(number, total, len(row.maps))]
        scale = row.largest if row.largest > 0 else 1.0
        axes.imshow(
            np.clip(values / scale, -1, 1),
            cmap=_SIGNED if row.signed else _COLOURS,
            vmin=-1 if row.signed else 0,
            vmax=1,
            alpha=0.65,
            extent=whole,
            interpolation="bilinear",
        )
    axes.set(xlim=(0, width), ylim=(height, 0))
    box = row.marked
    if box is not None and box.start <= number < box.stop:
        corner = (box.left, box.top)
        sides = (box.right - box.left, box.bottom - box.top)
        axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=_MARK, lw=1.5))


def _time_of(frame: int, frames: int, steps: int) -> int:
    """Return the time step of a map that a frame belongs to, by the parts of :func:`box_of`."""
    for step in range(steps):
        box = box_of((step, 0, 0), (steps, 1, 1), (frames, 1, 1))
        if box.start <= frame < box.stop:
            return step
    raise ValueError(f"frame {frame} of {frames} is outside the clip.")


def _short(block: BlockMaps) -> str:
    return block.position.replace(":", " ") + (f" unit {block.unit}" if block.unit else "")


def _size(explanation: Explanation) -> Grid:
    total, height, width, _ = explanation.frames.shape
    return total, height, width
