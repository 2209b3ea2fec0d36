"""The page of an evaluation: accuracies with intervals, classes, confusions, mistakes, calibration.

Everything is on one page, also the film strips of some samples: the most confident mistakes first,
then a few of every cell of the confusion matrix, up to a number in all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from video_snl.commands.intervals import (
    LEVEL,
    Bin,
    Interval,
    bootstrap,
    calibration_bins,
    calibration_error,
    if_few,
    wilson,
)
from video_snl.commands.reports import has_label, predicted_classes
from video_snl.config.task_spec import shown_tops
from video_snl.render.film_strips import Strip
from video_snl.render.page import flat_settings, per_cent, shortened_name, write_page
from video_snl.utils.counts import counts
from video_snl.utils.files import write_json
from video_snl.utils.pages import page_script
from video_snl.utils.text import common_folder

__all__ = ["About", "Samples", "choose_shown", "write_evaluation_page"]

_PACKAGE = "video_snl.commands"
_MISTAKES = 12  # that are shown without a click
_PER_CELL = 8  # film strips of a cell of the matrix
_MATRIX_CLASSES = 150  # more make a table that no browser likes, and nobody reads
_NUMBERED_CLASSES = 40
_CONFUSIONS = 20
_LISTED = 100  # samples of a cell that are named, and of long lists fewer
_MANY, _LISTED_OF_MANY = 10_000, 10
_FAINTEST, _FULLEST = 0.25, 0.6  # letters can be read on these


@dataclass(frozen=True)
class Samples:
    """Test samples with their scores.

    Attributes:
        unit: Word for one: ``video`` or ``image``.
        names: (N,) paths, or what stands for them.
        class_names: Names in the order of the labels.
        label: (N,).
        read: (N,), which could be read.
        counted: (N,), which the figures are of.
        levels: (N, classes) scores by the name of the level; the last one is the page's main one.
        recordings: (N,) recordings of the samples; None where they are not known.
    """

    unit: str
    names: Sequence[str]
    class_names: Sequence[str]
    label: np.ndarray
    read: np.ndarray
    counted: np.ndarray
    levels: Mapping[str, np.ndarray]
    recordings: Sequence[str] | None = None

    @cached_property
    def scores(self) -> np.ndarray:
        """Scores of the main level."""
        return list(self.levels.values())[-1]

    @cached_property
    def predicted(self) -> np.ndarray:
        """Predicted classes of the main level; -1 for a sample without scores."""
        return predicted_classes(self.scores)

    @cached_property
    def confidence(self) -> np.ndarray:
        """Scores of the predicted classes, in float64; zero without any."""
        return np.nan_to_num(self.scores.max(1).astype(np.float64), nan=0.0)

    @cached_property
    def cells(self) -> dict[tuple[int, int], list[int]]:
        """Counted samples by label and prediction; the surest mistakes and unsurest hits first."""
        found: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index in np.flatnonzero(self.counted & (self.predicted >= 0)).tolist():
            found[int(self.label[index]), int(self.predicted[index])].append(index)
        for (label, predicted), members in found.items():
            sign = 1 if label == predicted else -1
            members.sort(key=lambda index: (sign * self.confidence[index], index))
        return dict(found)

    @cached_property
    def mistakes(self) -> list[int]:
        """Counted samples that were taken for another class, the surest first."""
        wrong = [i for (a, b), members in self.cells.items() if a != b for i in members]
        return sorted(wrong, key=lambda index: (-self.confidence[index], index))


@dataclass(frozen=True)
class About:
    """What the page says of an evaluation beside its figures.

    Attributes:
        title: Heading.
        facts: Line below it.
        settings: Nested settings of the run and the evaluation.
        command: Command line that repeats it.
    """

    title: str
    facts: str
    settings: Mapping[str, Any]
    command: str


def write_evaluation_page(
    folder: Path,
    samples: Samples,
    about: About,
    draw: Callable[[list[int]], Mapping[int, Strip]],
    strips: int,
) -> Path:
    """Write ``report.html`` and ``intervals.json`` into a folder, each atomically.

    Args:
        samples: The evaluated samples.
        about: What else the page says.
        draw: Function that draws film strips of samples.
        strips: Most film strips on the page.

    Returns:
        Path of the page.
    """
    figures = [_level_figures(samples, name) for name in samples.levels]
    shown = choose_shown(samples, strips)
    drawn = draw(shown) if shown else {}
    main = figures[-1]
    page = folder / "report.html"
    values = {
        "title": about.title,
        "facts": about.facts,
        "unit": samples.unit,
        "units": f"{samples.unit}s",
        "main_level": main.name,
        "levels": [_level_view(each) for each in figures],
        "resampled": _resampled(samples),
        "tops": shown_tops(len(samples.class_names)),
        "unreadable": [samples.names[index] for index in np.flatnonzero(~samples.read).tolist()],
        "skipped": not samples.counted.all(),
        "classes": _class_rows(samples),
        "matrix": _matrix(samples),
        "confusions": _confusions(samples),
        "mistakes": [_sample_view(samples, i, drawn) for i in samples.mistakes[:_MISTAKES]],
        "mistake_count": len(samples.mistakes),
        "calibration": _calibration_view(main.bins),
        "error": "-" if main.error is None else f"{main.error:.3f}",
        "settings": list(flat_settings(about.settings)),
        "command": about.command,
        "data": _page_data(samples, drawn),
        "script": page_script(_PACKAGE, "tables.js", "evaluation.js"),
    }
    write_page(page, _PACKAGE, "evaluation.html", values)
    write_json(folder / "intervals.json", _plain(samples, figures))
    return page


def choose_shown(samples: Samples, most: int) -> list[int]:
    """Choose the samples that get a film strip, at most ``most``.

    At first the most confident mistakes; then, a sample of each at a time, the cells of the matrix:
    the confusions, those of many samples first, after the first round also the classes themselves.
    """
    wrong = sorted(
        (cell for cell in samples.cells if cell[0] != cell[1]),
        key=lambda cell: (-len(samples.cells[cell]), cell),
    )
    right = sorted(cell for cell in samples.cells if cell[0] == cell[1])
    rounds = [(wrong, 0), (right, 0)]
    rounds += [(cells, turn) for cells in (wrong, right) for turn in range(1, _PER_CELL)]
    order = samples.mistakes[:_MISTAKES]
    for cells, turn in rounds:
        order += [samples.cells[cell][turn] for cell in cells if turn < len(samples.cells[cell])]
    return list(dict.fromkeys(order))[:most]


class _Figures(NamedTuple):
    name: str
    tops: list[tuple[int, float, Interval, Interval]]
    bins: list[Bin]
    error: float | None


def _level_figures(samples: Samples, name: str) -> _Figures:
    counted, scores = samples.counted, samples.levels[name]
    label, of = samples.label[counted], scores[counted]
    groups = None
    if samples.recordings is not None:
        groups = [samples.recordings[index] for index in np.flatnonzero(counted).tolist()]
    tops = []
    for k in shown_tops(len(samples.class_names)):
        right = has_label(of, label, k)
        resampled = bootstrap(right, groups=groups)
        tops.append((k, float(right.mean()), wilson(int(right.sum()), len(right)), resampled))
    predicted = predicted_classes(of)
    found = predicted >= 0
    bins = calibration_bins(
        of[found].max(1) if found.any() else [], predicted[found] == label[found]
    )
    return _Figures(name, tops, bins, calibration_error(bins))


def _plain(samples: Samples, figures: Iterable[_Figures]) -> dict[str, Any]:
    """Return what ``intervals.json`` holds."""
    return {
        "level": LEVEL,
        "resampled": "recordings" if samples.recordings is not None else f"{samples.unit}s",
        "units": _resampled_count(samples),
        **{
            each.name: {
                **{
                    f"top{k}": {
                        "value": share,
                        "wilson": list(by_formula),
                        "bootstrap": list(by_resampling),
                    }
                    for k, share, by_formula, by_resampling in each.tops
                },
                "calibration_error": each.error,
            }
            for each in figures
        },
        # By the rows of predictions.csv, for compare.
        "recordings": None if samples.recordings is None else list(samples.recordings),
    }


def _resampled_count(samples: Samples) -> int:
    if samples.recordings is None:
        return int(samples.counted.sum())
    return len({samples.recordings[i] for i in np.flatnonzero(samples.counted).tolist()})


def _resampled(samples: Samples) -> str:
    word = samples.unit if samples.recordings is None else "recording"
    number = _resampled_count(samples)
    return f"{counts(number, word)} with replacement{if_few(number)}"


def _level_view(figures: _Figures) -> dict[str, Any]:
    return {
        "name": figures.name,
        "tops": [
            {"value": per_cent(share), "wilson": _range(by_formula), "bootstrap": _range(resampled)}
            for _, share, by_formula, resampled in figures.tops
        ],
        "error": "-" if figures.error is None else f"{figures.error:.3f}",
    }


def _range(interval: Interval) -> str:
    low, high = (f"{100 * value:.1f}" for value in interval)
    return f"{low} – {high}\N{NO-BREAK SPACE}%"


def _class_rows(samples: Samples) -> list[dict[str, Any]]:
    label, predicted = samples.label[samples.counted], samples.predicted[samples.counted]
    rows = []
    for index, name in enumerate(samples.class_names):
        total, taken = int((label == index).sum()), int((predicted == index).sum())
        right = int(((label == index) & (predicted == index)).sum())
        recall = right / total if total else None
        precision = right / taken if taken else None
        others = {
            b: len(members) for (a, b), members in samples.cells.items() if a == index and b != a
        }
        worst = max(others, key=lambda b: (others[b], -b), default=None)
        rows.append(
            {
                "index": index,
                "name": name,
                "total": total,
                "right": right,
                "recall": _share(recall),
                "interval": _range(wilson(right, total)) if total else "-",
                "precision": _share(precision),
                "f1": _share(2 * right / (total + taken) if total + taken else None),
                "confused": "" if worst is None else samples.class_names[worst],
                "confused_index": worst,
                "confused_count": 0 if worst is None else others[worst],
            }
        )
    return rows


def _share(value: float | None) -> dict[str, Any]:
    return {
        "text": "-" if value is None else per_cent(value),
        "value": -1 if value is None else value,
    }


def _matrix(samples: Samples) -> dict[str, Any] | None:
    """Return the rows of the matrix; None where there are too many classes for one."""
    names = samples.class_names
    if len(names) > _MATRIX_CLASSES:
        return None
    unread = samples.counted & (samples.predicted < 0)
    rows = []
    for label, name in enumerate(names):
        members = samples.counted & (samples.label == label)
        total = int(members.sum())
        cells = []
        for predicted in range(len(names)):
            count = len(samples.cells.get((label, predicted), ()))
            share = count / total if total else 0.0
            fill = _FAINTEST + (_FULLEST - _FAINTEST) * share
            cells.append(None if not count else {"count": count, "fill": f"{fill:.2f}"})
        rows.append({"name": name, "cells": cells, "unread": int((members & unread).sum())})
    return {
        "rows": rows,
        "numbered": len(names) <= _NUMBERED_CLASSES,
        "unread": bool(unread.any()),
    }


def _confusions(samples: Samples) -> list[dict[str, Any]]:
    wrong = {cell: len(members) for cell, members in samples.cells.items() if cell[0] != cell[1]}
    first = sorted(wrong, key=lambda cell: (-wrong[cell], cell))[:_CONFUSIONS]
    names, totals = samples.class_names, np.bincount(samples.label[samples.counted])
    return [
        {
            "cell": f"{a},{b}",
            "true": names[a],
            "predicted": names[b],
            "count": wrong[a, b],
            "share": per_cent(wrong[a, b] / int(totals[a])),
        }
        for a, b in first
    ]


def _sample_view(samples: Samples, index: int, drawn: Mapping[int, Strip]) -> dict[str, Any]:
    true = samples.class_names[samples.label[index]]
    predicted = samples.class_names[samples.predicted[index]]
    score = per_cent(samples.confidence[index])
    name = shortened_name(samples.names[index])
    alt = f"{name}: {true}, taken for {predicted} ({score})"
    return {
        "index": index,
        "true": true,
        "predicted": predicted,
        "score": score,
        "name": name,
        "image": drawn.get(index, Strip()).view(alt),
    }


def _calibration_view(bins: Sequence[Bin]) -> list[dict[str, Any]]:
    most = max((each.size for each in bins), default=0)
    return [
        {
            "low": f"{100 * each.low:.0f}",
            "high": f"{100 * each.high:.0f}",
            "left": 100 * each.low,
            "width": 100 * (each.high - each.low),
            "count": each.size,
            "height": 100 * each.accuracy,
            "dot": 100 * each.confidence,
            "accuracy": per_cent(each.accuracy),
            "confidence": per_cent(each.confidence),
            "share": 18 * each.size / most,
        }
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    ]


def _page_data(samples: Samples, drawn: Mapping[int, Strip]) -> dict[str, Any]:
    """Return what the script shows of the cells of the matrix.

    A sample is its name, its score in tenths of a per cent, and its number, by which ``strips``
    and ``notes`` have its image or why there is none; those of the mistakes are in the markup.
    """
    named = _LISTED if len(samples.names) <= _MANY else _LISTED_OF_MANY
    start = common_folder(samples.names)
    here = set(samples.mistakes[:_MISTAKES])
    return {
        "unit": samples.unit,
        "classes": list(samples.class_names),
        "start": start,
        "cells": {
            f"{a},{b}": {
                "count": len(members),
                "samples": [
                    [
                        samples.names[index][len(start) :],
                        round(1000 * float(samples.confidence[index])),
                        index,
                    ]
                    for index in members[:named]
                ],
            }
            for (a, b), members in sorted(samples.cells.items())
        },
        "strips": {
            index: [strip.uri, strip.width, strip.height]
            for index, strip in drawn.items()
            if strip.uri and index not in here
        },
        "notes": {index: strip.note for index, strip in drawn.items() if strip.note},
    }
