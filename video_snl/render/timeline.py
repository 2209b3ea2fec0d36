"""Scores of a video's windows over time, and the actions found in it: numbers and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from video_snl.errors import UserError
from video_snl.render.fonts import figure_fonts, spelled
from video_snl.utils.files import replace_file

__all__ = ["Action", "Timeline", "draw_timeline", "find_actions"]

_CURVES = 6
_LONG = 120.0  # seconds from which on times are minutes and seconds
_TICKS, _STEPS = 8, (30, 60, 120, 300, 600, 1200, 1800, 3600)
_LETTERS = 32  # of a class name
_DPI = 130


class Timeline(NamedTuple):
    """Scores of windows over a video.

    Attributes:
        starts, ends: (W,) in seconds, ascending.
        scores: (W, classes).
    """

    starts: np.ndarray
    ends: np.ndarray
    scores: np.ndarray


class Action(NamedTuple):
    """A span of time in which one class has the highest score, and enough of it.

    Attributes:
        start, end: Seconds.
        label: Its class.
        score: Mean score of the class over the windows of the span.
    """

    start: float
    end: float
    label: int
    score: float


def find_actions(timeline: Timeline, threshold: float) -> list[Action]:
    """Return the spans in which the same class is best, with a score of at least ``threshold``.

    Of windows that overlap, each stands for the times that are nearest its middle; where there are
    gaps between windows, for no more than its own.
    """
    starts, ends = _parts(timeline)
    best, highest = timeline.scores.argmax(1), timeline.scores.max(1)
    spans: list[list[int]] = []
    for window in np.flatnonzero(highest >= threshold).tolist():
        last = spans[-1][-1] if spans else None
        follows = last == window - 1 and starts[window] <= ends[window - 1] + 1e-6
        if last is not None and follows and best[window] == best[last]:
            spans[-1].append(window)
        else:
            spans.append([window])
    return [
        Action(
            float(starts[span[0]]),
            float(ends[span[-1]]),
            int(best[span[0]]),
            float(highest[span].mean(dtype=np.float64)),
        )
        for span in spans
    ]


def draw_timeline(
    timeline: Timeline,
    actions: Sequence[Action],
    names: Sequence[str],
    target: Path,
    *,
    title: str,
    threshold: float,
) -> None:
    """Draw the curves of the best classes over time and, below, the actions; a PNG.

    Shown are at most six classes: those of the actions, longest first, then those of the highest
    scores; further actions are grey.

    Raises:
        UserError: The file cannot be written.
    """
    shown = _shown_classes(timeline, actions)
    words = {
        label: spelled(_short(names[label])) for label in {*shown, *(a.label for a in actions)}
    }
    with figure_fonts([title, *words.values()]):
        figure = _figure(timeline, actions, shown, words, spelled(title), threshold)
        FigureCanvasAgg(figure)
        try:
            replace_file(target, lambda file: figure.savefig(file, dpi=_DPI, format="png"))
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"--plot {target} cannot be written ({reason})") from error


def _parts(timeline: Timeline) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of the time that each window stands for."""
    starts = np.asarray(timeline.starts, dtype=np.float64).copy()
    ends = np.asarray(timeline.ends, dtype=np.float64).copy()
    middles = (starts + ends) / 2
    for before, after in pairwise(range(len(starts))):
        border = (middles[before] + middles[after]) / 2
        ends[before] = min(ends[before], border)
        starts[after] = max(starts[after], border)
    return starts, ends


def _shown_classes(timeline: Timeline, actions: Sequence[Action]) -> list[int]:
    length: dict[int, float] = {}
    for action in actions:
        length[action.label] = length.get(action.label, 0.0) + action.end - action.start
    found = sorted(length, key=lambda label: (-length[label], label))
    peaks = np.argsort(-timeline.scores.max(0), kind="stable").tolist()
    return list(dict.fromkeys([*found, *peaks]))[:_CURVES]


def _figure(
    timeline: Timeline,
    actions: Sequence[Action],
    shown: Sequence[int],
    words: dict[int, str],
    title: str,
    threshold: float,
) -> Figure:
    colours = {label: colormaps["tab10"](index) for index, label in enumerate(shown)}
    rows = list(dict.fromkeys([*(a.label for a in actions if a.label in colours), *shown]))
    rows = [label for label in rows if any(a.label == label for a in actions)]
    others = any(action.label not in colours for action in actions)
    count = max(1, len(rows) + others)
    figure = Figure(figsize=(10, 4.0 + 0.32 * count), layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 0.32 * count + 0.25])
    middles = (timeline.starts + timeline.ends) / 2
    for label in shown:
        above.plot(
            middles,
            100 * timeline.scores[:, label],
            marker="." if len(middles) <= 60 else None,
            color=colours[label],
            label=words[label],
        )
    above.axhline(100 * threshold, color="0.5", linestyle="--", linewidth=1)
    above.set(ylabel="score (%)", ylim=(0, 102))
    above.grid(alpha=0.3)
    legend = above.legend(loc="upper left", bbox_to_anchor=(1.005, 1), frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    _draw_actions(below, actions, rows, colours, words, others)
    end = float(timeline.ends[-1])
    below.set_xlim(float(timeline.starts[0]), end)
    long = end > _LONG
    below.set_xlabel("time (min:s)" if long else "time (s)")
    if long:
        step = next((step for step in _STEPS if end / step <= _TICKS), end / _TICKS)
        below.xaxis.set_major_locator(MultipleLocator(step))
        below.xaxis.set_major_formatter(FuncFormatter(_clock))
    return figure


def _draw_actions(
    axes: Axes,
    actions: Sequence[Action],
    rows: Sequence[int],
    colours: dict[int, tuple[float, float, float, float]],
    words: dict[int, str],
    others: bool,
) -> None:
    for action in actions:
        row = rows.index(action.label) if action.label in colours else len(rows)
        span = [(action.start, action.end - action.start)]
        axes.broken_barh(span, (row - 0.36, 0.72), facecolors=colours.get(action.label, "0.6"))
    labels = [*(words[label] for label in rows), *(["other classes"] if others else [])]
    axes.set_yticks(range(len(labels)), labels, parse_math=False, fontsize=9)
    axes.set_ylim(max(1, len(labels)) - 0.5, -0.5)
    axes.set_title("actions found" if actions else "no action found", fontsize=9, loc="left")
    axes.grid(axis="x", alpha=0.3)


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _clock(seconds: float, _: object) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
