"""``video-snl compare``: evaluated runs as a table, as JSON and as a page."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from video_snl.commands.comparison import Comparison, Figures, Row, compare_runs, read_run
from video_snl.commands.intervals import LEVEL, Interval, if_few
from video_snl.errors import UserError
from video_snl.render.film_strips import Strip, video_strips
from video_snl.render.page import shortened_name, write_page
from video_snl.utils.counts import counts, noun
from video_snl.utils.files import check_file
from video_snl.utils.json_text import to_json
from video_snl.utils.pages import page_script

__all__ = ["compare"]

_PACKAGE = "video_snl.commands"
_LISTED = 200  # names of changed samples on the page, of each row and direction


def compare(
    named: Sequence[str],
    *,
    page: str = "comparison.html",
    strips: int = 24,
    as_json: bool = False,
) -> int:
    """Compare evaluated runs with the first of them; print a table or JSON, write a page.

    Args:
        named: Folders of runs, or of evaluations.
        page: File of the page.
        strips: Most film strips on the page.
        as_json: Print JSON in the place of a table.

    Returns:
        0.

    Raises:
        UserError: There are fewer than two, one is not evaluated, or their test lists differ.
    """
    if len(named) < 2:
        raise UserError(f"{named[0]} alone: give two runs or more, the first is compared with")
    if len({Path(name).resolve() for name in named}) < len(named):
        raise UserError("a run is named twice: give each once")
    if strips < 0:
        raise UserError(f"--strips {strips}: give the number of film strips, 0 for none.")
    check_file("--page", page, "comparison.html")
    found = compare_runs([read_run(name) for name in named])
    _write_page(Path(page), found, strips)
    print(to_json(_plain(found, page), indent=2) if as_json else _text(found))
    print(f"page: {page}", file=sys.stderr if as_json else sys.stdout)
    return 0


# Text


def _text(found: Comparison) -> str:
    lines = [_facts(found)]
    width = max(3, *(len(_titled(row)) for row in found.rows))
    for level in found.levels:
        lines += ["", f"{level} level"]
        lines.append(
            f"{'run':{width}}  {'top-1':>15}  {'95 %':>15}  {'against the first':>25}  McNemar's p"
        )
        for row in found.rows:
            figures = row.figures[level]
            against = _difference(figures) or "-"
            lines.append(
                f"{_titled(row):{width}}  {_accuracy(figures):>15}  "
                f"{_range(figures.interval):>15}  {against:>25}  {_tests(figures)}"
            )
    if found.differing:
        lines += ["", "settings that differ, in the order of the rows:"]
        for name, values in found.differing.items():
            lines.append(f"  {name}: {' | '.join(map(str, values))}")
    if found.left_out:
        lines += ["", f"left out, not read by all runs: {', '.join(found.left_out)}"]
    return "\n".join(lines)


def _facts(found: Comparison) -> str:
    first, (number, word) = found.first, found.resampled
    said = f"{counts(len(found.counted), f'test {first.unit}')}"
    seeds = " and seeds" if any(len(row.runs) > 1 for row in found.rows) else ""
    return f"{said}; 95 % intervals by resampling {counts(number, word)}{seeds}{if_few(number)}"


def _titled(row: Row) -> str:
    seeds = [str(seed) for seed in row.seeds if seed is not None]
    return f"{row.label} ({noun(len(seeds), 'seed')} {', '.join(seeds)})" if seeds else row.label


def _accuracy(figures: Figures) -> str:
    deviation = figures.deviation
    spread = "" if deviation is None else f" ± {100 * deviation:.2f}"
    return f"{100 * figures.mean:.2f}{spread}"


def _range(interval: Interval, sign: str = "") -> str:
    return f"[{100 * interval.low:{sign}.1f}, {100 * interval.high:{sign}.1f}]"


def _difference(figures: Figures) -> str:
    found = figures.difference
    if found is None:
        return ""
    return f"{100 * found.value:+.2f} {_range(found.interval, '+')}"


def _tests(figures: Figures) -> str:
    """Format McNemar's tests: p, and how many samples became wrong and right."""
    if figures.difference is None or not figures.difference.tests:
        return "-"
    return ", ".join(
        f"{test.p:.2g} (-{test.lost} +{test.gained})" for test in figures.difference.tests
    )


# JSON


def _plain(found: Comparison, page: str) -> dict[str, Any]:
    number, word = found.resampled
    return {
        "level": LEVEL,
        f"{found.first.unit}s": len(found.counted),
        "resampled": f"{word}s",
        "units": number,
        "left_out": found.left_out,
        "rows": [_plain_row(found, row) for row in found.rows],
        "settings": found.differing,
        "page": page,
    }


def _plain_row(found: Comparison, row: Row) -> dict[str, Any]:
    lost, gained = found.changed(row, found.levels[-1])
    return {
        "name": row.label,
        "runs": [str(run.folder) for run in row.runs],
        "seeds": row.seeds,
        "levels": {level: _plain_figures(figures) for level, figures in row.figures.items()},
        "lost": [found.first.names[found.counted[index]] for index in lost],
        "gained": [found.first.names[found.counted[index]] for index in gained],
    }


def _plain_figures(figures: Figures) -> dict[str, Any]:
    difference = figures.difference
    return {
        "top1": figures.mean,
        "std": figures.deviation,
        "values": figures.values,
        "interval": list(figures.interval),
        "wilson": None if figures.by_formula is None else list(figures.by_formula),
        "difference": None
        if difference is None
        else {
            "value": difference.value,
            "interval": list(difference.interval),
            "mcnemar": [test._asdict() for test in difference.tests],
        },
    }


# Page


def _write_page(path: Path, found: Comparison, strips: int) -> None:
    level = found.levels[-1]
    changes = {id(row): found.changed(row, level) for row in found.rows[1:]}
    shown = _chosen(list(changes.values()), strips) if found.first.unit == "video" else []
    names = {index: found.first.names[found.counted[index]] for index in shown}
    drawn = video_strips(list(names.values()))
    images = {index: drawn[name] for index, name in names.items()}
    values = {
        "title": f"Comparison of {counts(sum(len(row.runs) for row in found.rows), 'run')}",
        "facts": f"{_facts(found)}.",
        "unit": found.first.unit,
        "units": f"{found.first.unit}s",
        "resampled": counts(*found.resampled),
        "main_level": level,
        "left_out": found.left_out,
        "levels": [
            {"name": name, "rows": _row_views(found, name), "reach": _reach(found, name)}
            for name in reversed(found.levels)
        ],
        "labels": [_titled(row) for row in found.rows],
        "runs": [
            {"label": _titled(row), "folders": [str(run.folder) for run in row.runs]}
            for row in found.rows
        ],
        "differing": list(found.differing.items()),
        "changes": [
            {
                "label": _titled(row),
                "parts": [
                    _changes_view(found, row, part, images, heading, kind)
                    for part, heading, kind in zip(
                        changes[id(row)],
                        _headings(found, row),
                        ("wrong", "right"),
                        strict=True,
                    )
                ],
            }
            for row in found.rows[1:]
        ],
        "script": page_script(_PACKAGE, "tables.js"),
    }
    write_page(path, _PACKAGE, "compare.html", values)


def _headings(found: Comparison, row: Row) -> tuple[str, str]:
    if max(len(row.runs), len(found.rows[0].runs)) > 1:
        return "Right less often", "Right more often"
    return "From right to wrong", "From wrong to right"


def _chosen(changes: Sequence[tuple[list[int], list[int]]], most: int) -> list[int]:
    """Take one sample of each row and direction at a time, until there are ``most``."""
    lists = [part for parts in changes for part in parts]
    longest = max(map(len, lists), default=0)
    order = [part[turn] for turn in range(longest) for part in lists if turn < len(part)]
    return list(dict.fromkeys(order))[:most]


def _row_views(found: Comparison, level: str) -> list[dict[str, Any]]:
    reach = _reach(found, level)
    views = []
    for row in found.rows:
        figures = row.figures[level]
        difference, formula = figures.difference, figures.by_formula
        bar = None
        if difference is not None:
            ends = (difference.interval.low, difference.value, difference.interval.high)
            bar = [round(100 + 100 * end / reach, 2) for end in ends]
        views.append(
            {
                "label": _titled(row),
                "accuracy": _accuracy(figures),
                "value": figures.mean,
                "interval": _range(figures.interval),
                "formula": "-" if formula is None else _range(formula),
                "difference": _difference(figures),
                "change": 0 if difference is None else difference.value,
                "bar": bar,
                "tests": _tests(figures),
            }
        )
    return views


def _reach(found: Comparison, level: str) -> float:
    """Return the largest difference that the bars have room for."""
    ends = [
        abs(end)
        for row in found.rows
        if (difference := row.figures[level].difference) is not None
        for end in difference.interval
    ]
    return max([0.01, *ends]) * 1.05


def _changes_view(
    found: Comparison,
    row: Row,
    places: Sequence[int],
    images: Mapping[int, Strip],
    heading: str,
    kind: str,
) -> dict[str, Any]:
    entries = [
        _change_view(found, row, place, images[place]) for place in places if place in images
    ]
    rest = [found.first.names[found.counted[place]] for place in places if place not in images]
    return {
        "heading": f"{heading}: {len(places)}",
        "kind": kind,
        "entries": entries,
        "rest": [shortened_name(name) for name in rest[:_LISTED]],
        "more": max(0, len(rest) - _LISTED),
    }


def _change_view(found: Comparison, row: Row, place: int, strip: Strip) -> dict[str, Any]:
    level, index = found.levels[-1], found.counted[place]
    name = shortened_name(found.first.names[index])
    before, after = (_said(found, each, place) for each in (found.rows[0], row))
    true = found.first.true[index]
    alt = f"{name}: {true}; before {before}, now {after} ({level} level)"
    return {
        "true": true,
        "before": before,
        "after": after,
        "name": name,
        "image": strip.view(alt),
    }


def _said(found: Comparison, row: Row, place: int) -> str:
    """Return what a row's runs say of a sample: a class, or how many are right."""
    level = found.levels[-1]
    if len(row.runs) > 1:
        right = row.right[level][:, place]
        return f"right in {int(right.sum())} of {len(right)} runs"
    return row.predicted[level][0][place] or "(unreadable)"
