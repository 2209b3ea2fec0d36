"""Printed results of evaluations, as text and as JSON."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, NamedTuple

from reid.data.datasets.catalog import num_splits
from reid.report.evaluation import Evaluation, metrics, ranking_metrics
from video_snl.utils.counts import counts, noun
from video_snl.utils.json_text import to_json

__all__ = ["CAMERAS_IGNORED", "Result", "json_of", "summary_text", "text_of"]

_COLUMNS = {
    "rank1": "rank-1",
    "rank5": "rank-5",
    "rank10": "rank-10",
    "rank20": "rank-20",
    "mAP": "mAP",
    "mINP": "mINP",
}
CAMERAS_IGNORED = (
    "cameras are ignored: every other tracklet of the identity is a match, under the query's own "
    "camera, too; these figures do not compare with those across cameras"
)
_NAMED = 3  # tracklets that a line names


class Result(NamedTuple):
    """Evaluation of one checkpoint, on one split, and the page of its report."""

    evaluation: Evaluation
    split: int
    page: Path


def text_of(result: Result) -> str:
    """Return a table of the protocols, and what was left out."""
    evaluation, settings = result.evaluation, result.evaluation.settings
    numbers = metrics(evaluation)
    data = numbers["data"]
    queries = next(iter(numbers["rankings"].values()))["queries"]
    network = f"epoch {settings['epoch']} of {settings['checkpoint']}"
    if "pretrained" in settings:
        network = (
            f"{settings['pretrained']}, trained on {settings['trained_on']}: {settings['weights']}"
        )
    lines = [
        f"{data['name']}, split {result.split}, {network}",
        f"{counts(queries, 'query')}, {counts(data['gallery'], 'gallery tracklet')} "
        f"({counts(data['distractors'], 'distractor')}), {counts(data['cameras'], 'camera')}; "
        f"{settings['frames']}, {settings['metric']} distance",
        *([CAMERAS_IGNORED] if evaluation.cameras == "ignore" else []),
        _row("protocol", [*_COLUMNS.values(), "counted", "no match"]),
    ]
    for name, ranking in numbers["rankings"].items():
        shares = [f"{ranking[column]:.2%}" for column in _COLUMNS]
        counted = [str(ranking["queries_counted"]), str(ranking["queries_without_match"])]
        lines.append(_row(name, [*shares, *counted]))
    return "\n".join([*lines, *_left_out(numbers, evaluation), f"report: {result.page}"])


def summary_text(results: list[Result]) -> str:
    """Return mean and standard deviation over the checkpoints, by protocol."""
    splits = ", ".join(str(result.split) for result in results)
    lines = [
        f"mean and standard deviation over {counts(len(results), 'checkpoint')} (of "
        f"{noun(len(results), 'split')} {splits}), "
        f"{_covered(results)} {noun(_splits(results), 'split')}",
        _row("protocol", list(_COLUMNS.values()), width=15),
    ]
    for name, columns in _over(results).items():
        cells = [
            f"{100 * columns[column]['mean']:.2f} +- {100 * columns[column]['std']:.2f}"
            for column in _COLUMNS
        ]
        lines.append(_row(name, cells, width=15))
    return "\n".join(lines)


def json_of(results: list[Result]) -> str:
    """Return one evaluation as in ``metrics.json``, or several with mean and deviation."""
    each = [
        {**metrics(result.evaluation), "split": result.split, "report": str(result.page)}
        for result in results
    ]
    value: dict[str, Any] = each[0]
    if len(each) > 1:
        value = {
            "checkpoints": each,
            "over_checkpoints": _over(results),
            "splits": _covered(results),
        }
    return to_json(value, indent=2)


def _covered(results: list[Result]) -> str:
    """Say how many of the dataset's splits were evaluated, such as ``7 of 10``."""
    return f"{len({result.split for result in results})} of {_splits(results)}"


def _splits(results: list[Result]) -> int:
    return num_splits(results[0].evaluation.data.name)


def _over(results: list[Result]) -> dict[str, dict[str, dict[str, float]]]:
    """Compute by protocol and metric the mean and the sample standard deviation."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in results[0].evaluation.rankings:
        rows = [ranking_metrics(result.evaluation.rankings[name]) for result in results]
        found[name] = {
            column: {
                "mean": statistics.mean(row[column] for row in rows),
                "std": statistics.stdev(row[column] for row in rows),
            }
            for column in _COLUMNS
        }
    return found


def _left_out(numbers: dict[str, Any], evaluation: Evaluation) -> list[str]:
    lines = []
    without = numbers["queries_without_match"]
    if without:
        lines.append(
            f"queries without a match in the gallery ({next(iter(numbers['rankings']))}): "
            f"{_some(without)}"
        )
    skipped = numbers["skipped_frames"]
    if skipped:
        lines.append(
            f"frames that could not be read and were skipped: {sum(skipped.values())}, in "
            f"{counts(len(skipped), 'tracklet')}: {_some(list(skipped))}"
        )
    asked = {tracklet.path for tracklet in evaluation.data.query}
    unread = numbers["unreadable"]
    parts = {
        "queries that cannot be read, they count as wrong": [n for n in unread if n in asked],
        "gallery tracklets that cannot be read, they are left out": [
            n for n in unread if n not in asked
        ],
    }
    lines += [f"{what}: {len(names)} ({_some(names)})" for what, names in parts.items() if names]
    return lines


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


def _row(name: str, cells: list[str], width: int = 10) -> str:
    return f"{name:18}" + "".join(f"{cell:>{width}}" for cell in cells)
