"""A table for people: Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from video_snl.tables.cells import TABLES, PaperTable
from video_snl.tables.rows import Row
from video_snl.tables.sizes import Size
from video_snl.tables.statistics import Comparison, Spread, spread

__all__ = ["group_of", "markdown", "size_table"]

_NOT_AT_HAND = "not at hand"
_SIZES = ("parameters", "added", "paper's", "multiply-adds", "added", "paper's")


def markdown(number: int, rows: Sequence[Row], remarks: Sequence[str]) -> str:
    """Every network and data set of the table with its rows, then what the columns are.

    Args:
        remarks: Lines that say what is particular about these runs.
    """
    table = TABLES[number]
    parts = [f"# Table {number}: {table.title}", *remarks]
    for (dataset, backbone), group in groupby(rows, group_of):
        parts += [f"## {dataset}, {backbone}", _grid(table, list(group))]
    return "\n\n".join([*parts, _legend(table)]) + "\n"


def size_table(number: int, rows: Sequence[Row]) -> str:
    """The sizes alone, by the name that a cell has in the store."""
    head = ("cell", *_SIZES)
    return _lines(head, [(row.cell.row, *_sizes(row)) for row in rows])


def group_of(row: Row) -> tuple[str, str]:
    return row.cell.dataset, row.cell.backbone


def _grid(table: PaperTable, rows: Sequence[Row]) -> str:
    measure = "mIoU" if table.segments else "top-1"
    further = tuple(name.removeprefix("val/") for name in table.further)
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
        *_SIZES,
    )
    return _lines(head, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    paper = _NOT_AT_HAND if row.paper is None else f"{row.paper:.2f}"
    return (
        row.label,
        str(len(row.last)),
        _spread(spread(row.last)),
        _spread(spread(row.best)),
        *(_spread(value) for value in row.further.values()),
        _difference(row.difference),
        "-" if row.difference is None or row.difference.p is None else f"{row.difference.p:.3f}",
        paper,
        "-" if row.from_paper is None else f"{row.from_paper:+.2f}",
        *_sizes(row),
    )


def _sizes(row: Row) -> tuple[str, ...]:
    size, printed = row.size, row.printed
    if row.cell.compared_with is None:
        return f"{size.parameters:,}", "-", "-", _giga(size), "-", "-"
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
    return "\n".join(
        (
            f"{measure} of the test list in per cent: mean ± sample standard deviation over seeds.",
            "The best epoch is chosen on the test list, as the paper's released code does; it is",
            "therefore too high, and only it is compared with the paper's figure. Against no",
            "block: mean difference of the last epochs over common seeds with its 95 % interval,",
            "and p of the paired t-test, of each row alone. Multiply-adds without the products",
            "with the affinity, as the paper prints them.",
        )
    )
