"""The report of a table: means over seeds, and the paper's figures beside them, as Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from video_snl.commands.intervals import Interval
from video_snl.tables.cells import BLOCKS, TABLES, PaperTable
from video_snl.tables.networks import Size
from video_snl.tables.paper import FIGURES, ILLEGIBLE, PaperFigures, printed_of
from video_snl.tables.rows import Comparison, Row, Spread, group_of, spread
from video_snl.tables.videos import VideoRow
from video_snl.utils.counts import counts

__all__ = ["as_csv", "as_json", "conditions", "markdown", "paper_section", "size_table"]

_SIZES = ("parameters", "added", "paper's", "multiply-adds", "added", "paper's")


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return plain values of the rows."""
    return [
        {
            "row": row.cell.row,
            **asdict(row),
            "paper_settings": FIGURES[row.cell.table].protocol,
            "paper_notes": list(FIGURES[row.cell.table].notes),
            "last_spread": _plain(spread(row.last)),
            "best_spread": _plain(spread(row.best)),
            "from_paper": row.from_paper,
        }
        for row in rows
    ]


def as_csv(rows: Sequence[Row]) -> str:
    """Return a line for every run; a row without runs has one, too, for the paper's figures."""
    table = FIGURES[rows[0].cell.table]
    measures = [name.removeprefix("val/") for name in table.measures]
    head = [
        "row",
        "split",
        "seed",
        "last",
        "best",
        "video",
        *(f"paper_{name}" for name in measures),
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*head, "paper_multiply_adds", "paper_parameters", "settings"])
    for row in rows:
        paper = [*map(_figure, _papers(row, table.measures))]
        paper += [row.printed.multiply_adds or "", row.printed.parameters or ""]
        hashes = dict(zip(row.splits or ("",), row.settings, strict=True))
        for run in row.last or [""]:
            split, _, seed = str(run).rpartition("/")
            ours = [f"{of[run]:.4f}" if run in of else "" for of in (row.last, row.best)]
            ours.append(_video_of(row, split, seed))
            settings = hashes[split] if run != "" else " ".join(row.settings)
            writer.writerow(
                [row.cell.row, split, seed, *ours, *(p.strip("-") for p in paper), settings]
            )
    return file.getvalue()


def _video_of(row: Row, split: str, seed: str) -> str:
    """Return the accuracy of a run at video level in per cent; empty where it has none."""
    if row.videos is None or not seed or int(seed) not in row.videos.values.get(split, {}):
        return ""
    return f"{100 * row.videos.values[split][int(seed)]:.4f}"


def markdown(number: int, rows: Sequence[Row], remarks: Sequence[str]) -> str:
    """Return every network and dataset of the table with its rows, then a legend.

    Args:
        remarks: Lines that say what is particular about these runs.
    """
    table = TABLES[number]
    figures = FIGURES[number]
    parts = [f"# Table {number}: {table.title}", *remarks]
    for (dataset, backbone), of_group in groupby(rows, group_of):
        group = list(of_group)
        parts += [f"## {dataset}, {backbone}", _grid(table, figures, group)]
        parts += [part for part in (_conditions(group), _whole_videos(group)) if part]
    return "\n\n".join([*parts, _legend(table), paper_section(number)]) + "\n"


def paper_section(number: int) -> str:
    """Return the paper's table as it is printed, with its settings and footnotes."""
    figures = FIGURES[number]
    parts = [f"## Table {number} as the paper prints it", f"{figures.about}."]
    costs = ("multiply-adds", "parameters") if figures.costs else ()
    shown = tuple(_measure(name) for name in figures.measures)
    for group, rows in figures.groups.items():
        if len(figures.groups) > 1:
            parts.append(f"{group[0]}, {group[1]}:")
        lines = []
        for row in rows:
            block, _, setting = row.partition("/")
            printed = printed_of(number, group, row)
            values = [_figure(printed.measures[name]) for name in figures.measures]
            values += [printed.multiply_adds or "-", printed.parameters or "-"] if costs else []
            label = BLOCKS[block].label.removesuffix(", twice")
            lines.append((f"{label} {_spaced(setting)}".strip(), *values))
        parts.append(_lines(("block", *shown, *costs), lines))
    if costs:
        parts.append(
            "Multiply-adds (GFLOPs of the paper) and parameters (millions) of the rows other than "
            "no block\nare additions to it."
        )
    parts.append(f"The paper's settings: {figures.protocol}.")
    notes = "\n".join(f"- {note}" for note in figures.notes)
    return "\n\n".join([*parts, *([notes] if notes else [])])


def size_table(number: int, rows: Sequence[Row]) -> str:
    """Return the sizes alone, by the name that a cell has in the store."""
    head = ("cell", *_SIZES)
    return _lines(head, [(row.cell.row, *_sizes(row)) for row in rows])


def _measure(name: str) -> str:
    return {"val/top1": "top-1", "val/top5": "top-5"}.get(name, name.removeprefix("val/"))


def _figure(value: float | None) -> str:
    """Return a figure of the paper; one that it does not have is not a number."""
    if value is None:
        return ILLEGIBLE
    return "-" if math.isnan(value) else f"{value:.2f}"


def _spaced(setting: str) -> str:
    """Return a setting as the table heads it: ``Cs = C/2`` and ``stage 1``."""
    if setting.startswith("stage"):
        return f"stage {setting.removeprefix('stage')}"
    return setting.replace("=", " = ")


def conditions(rows: Sequence[Row]) -> list[str]:
    """Return what ours are trained with, a text for each network and dataset."""
    return [text for _, group in groupby(rows, group_of) if (text := _conditions(list(group)))]


def _conditions(rows: Sequence[Row]) -> str:
    """Return what ours of a group were trained with, rows of other settings apart."""
    by_words: dict[str, list[str]] = {}
    for row in rows:
        if row.conditions:
            by_words.setdefault(row.conditions, []).append(row.label)
    if len(by_words) < 2:
        return "".join(f"Ours: {words}." for words in by_words)
    return "\n".join(f"- Ours ({', '.join(of)}): {words}." for words, of in by_words.items())


def _whole_videos(rows: Sequence[Row]) -> str:
    """Return the accuracies of whole videos by split and over all, where there are any."""
    tested = [row for row in rows if row.videos is not None and any(row.videos.values.values())]
    if not tested:
        return ""
    splits = list(rows[0].splits)
    head = (
        "block",
        "seeds",
        *(f"split {split}" for split in splits),
        "all videos",
        "against no block",
    )
    lines = [(row.label, *_video_cells(row.videos, splits)) for row in tested if row.videos]
    resampled = next((row.videos.resampled for row in tested if row.videos), "")
    missed = next((row.videos.missed for row in tested if row.videos and row.videos.missed), "")
    words = (
        f"Whole videos ({rows[0].views}, last epoch): mean ± sample standard deviation over seeds. "
        "Over all splits, and\nagainst no block, with 95 % intervals of resampled "
        f"{resampled} and seeds, the same for both sides."
    )
    return "\n\n".join(part for part in (words, _lines(head, lines), missed) if part)


def _video_cells(row: VideoRow, splits: Sequence[str]) -> tuple[str, ...]:
    shares = [{seed: 100 * v for seed, v in row.values.get(s, {}).items()} for s in splits]
    return (
        str(max(len(row.seeds), *(len(of) for of in row.values.values()))),
        *(_spread(spread(share)) for share in shares),
        _share(row.mean, row.interval),
        _share(row.difference, row.against, "+"),
    )


def _share(value: float | None, interval: Interval | None, sign: str = "") -> str:
    if value is None:
        return "-"
    ends = (
        ""
        if interval is None
        else f" [{100 * interval.low:{sign}.2f}, {100 * interval.high:{sign}.2f}]"
    )
    return f"{100 * value:{sign}.2f}{ends}"


def _papers(row: Row, measures: Sequence[str]) -> list[float | None]:
    """Return the paper's figures of a row; a figure that is none is not a number."""
    return [row.printed.measures.get(name, float("nan")) for name in measures]


def _plain(value: Spread | None) -> dict[str, Any] | None:
    return None if value is None else asdict(value)


def _grid(table: PaperTable, figures: PaperFigures, rows: Sequence[Row]) -> str:
    measure = _measure(table.metric)
    further = tuple(map(_measure, table.further))
    papers = tuple(name for name in figures.measures if name != table.metric)
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
        *(f"paper's {_measure(name)}" for name in papers),
        *_SIZES,
    )
    return _lines(head, [_cells(row, table.metric, papers) for row in rows])


def _cells(row: Row, metric: str, papers: Sequence[str]) -> tuple[str, ...]:
    paper = _figure(row.paper) if row.paper is not None else _figure(*_papers(row, [metric]))
    return (
        row.label,
        str(len(row.last)) + (f" ({counts(len(row.splits), 'split')})" if row.splits else ""),
        _spread(spread(row.last)),
        _spread(spread(row.best)),
        *(_spread(value) for value in row.further.values()),
        _difference(row.difference),
        "-" if row.difference is None or row.difference.p is None else f"{row.difference.p:.3f}",
        paper,
        "-" if row.from_paper is None else f"{row.from_paper:+.2f}",
        *map(_figure, _papers(row, papers)),
        *_sizes(row),
    )


def _sizes(row: Row) -> tuple[str, ...]:
    size, printed = row.size, row.printed
    if row.cell.compared_with is None:
        papers = printed.parameters or "-", printed.multiply_adds or "-"
        return f"{size.parameters:,}", "-", papers[0], _giga(size), "-", papers[1]
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
    measure = "Clip-level top-1 accuracy" if table.videos else measure
    runs = "splits and seeds" if table.videos else "seeds"
    return "\n".join(
        (
            f"{measure} of the test list in per cent: mean ± sample standard deviation over",
            f"{runs}. The best epoch is chosen on the test list, as the paper's released code",
            "does; it is therefore too high, and only it is compared with the paper's figure.",
            f"Against no block: mean difference of the last epochs over common {runs} with",
            "its 95 % interval, and p of the paired t-test, of each row alone. Multiply-adds",
            "without the products with the affinity, as the paper prints them; a figure of the",
            "paper with + is an addition to no block.",
        )
    )
