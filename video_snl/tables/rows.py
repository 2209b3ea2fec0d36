"""The rows of a table: what was measured of a cell, beside what the paper prints of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from video_snl.tables.cells import BLOCKS, TABLES, Cell
from video_snl.tables.paper import PRINTED, Printed
from video_snl.tables.settings import Planned
from video_snl.tables.sizes import Size
from video_snl.tables.statistics import Comparison, Spread, compare, spread
from video_snl.tables.store import Contents, Result

__all__ = ["Row", "as_json", "precisions", "rows_of"]


@dataclass(frozen=True)
class Row:
    """A cell with its results, in per cent.

    Attributes:
        last, best: The table's measure by seed, of the last and the best epoch.
        further: Other measures of the last epoch.
        difference: From the network without a block, of the last epoch; None for that one.
        printed: What the paper prints of its size; empty where the cell is not one of the paper's.
        paper: The paper's accuracy, where it is at hand.
    """

    cell: Cell
    size: Size
    last: Mapping[int, float]
    best: Mapping[int, float]
    further: Mapping[str, Spread | None]
    difference: Comparison | None
    printed: Printed
    paper: float | None

    @property
    def label(self) -> str:
        """Block and setting."""
        return f"{BLOCKS[self.cell.block].label} {self.cell.setting}".strip()

    @property
    def from_paper(self) -> float | None:
        """Our mean of the best epochs, which the released code reports, less the paper's figure."""
        ours = spread(self.best)
        return None if ours is None or self.paper is None else ours.mean - self.paper


def rows_of(
    planned: Sequence[Planned],
    sizes: Sequence[Size],
    contents: Contents,
    seeds: Sequence[int],
    figures: Mapping[str, float],
) -> list[Row]:
    """The rows of a table.

    Args:
        contents: Of the store; results of other settings or seeds are left out.
        figures: The paper's, by row.
    """
    results = {p.cell.row: _chosen(p, contents, seeds) for p in planned}
    return [
        _row(plan.cell, size, results, figures) for plan, size in zip(planned, sizes, strict=True)
    ]


def precisions(planned: Sequence[Planned], contents: Contents, seeds: Sequence[int]) -> list[str]:
    """A line that says so where results of several precisions stand in one table.

    ``trainer.precision: auto`` is another one on a GPU than on a CPU.
    """
    found: dict[str, list[str]] = {}
    for cell in planned:
        for seed, result in _chosen(cell, contents, seeds).items():
            found.setdefault(result.precision or "unknown", []).append(f"{cell.cell.row} {seed}")
    if len(found) < 2:
        return []
    most = max(found, key=lambda precision: len(found[precision]))
    others = [f"{name}: {', '.join(of)}" for name, of in found.items() if name != most]
    return [f"Results of several precisions: {most}, but {'; '.join(others)} (cell and seed)."]


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Plain values of the rows."""
    return [
        {
            "row": row.cell.row,
            **asdict(row),
            "last_spread": _plain(spread(row.last)),
            "best_spread": _plain(spread(row.best)),
            "from_paper": row.from_paper,
        }
        for row in rows
    ]


def _chosen(planned: Planned, contents: Contents, seeds: Sequence[int]) -> dict[int, Result]:
    results = contents.of(planned.settings, TABLES[planned.cell.table].metric)
    return {seed: results[seed] for seed in seeds if seed in results}


def _row(
    cell: Cell,
    size: Size,
    results: Mapping[str, Mapping[int, Result]],
    figures: Mapping[str, float],
) -> Row:
    table = TABLES[cell.table]
    own = results[cell.row]
    last = _values(own, "last", table.metric)
    base = None if cell.compared_with is None else results[cell.compared_with]
    papers = cell.dataset in table.datasets and cell.backbone in table.backbones
    printed = PRINTED.get(cell.table, {}).get(cell.block) if papers else None
    return Row(
        cell=cell,
        size=size,
        last=last,
        best=_values(own, "best", table.metric),
        further={name: spread(_values(own, "last", name)) for name in table.further},
        difference=None if base is None else compare(last, _values(base, "last", table.metric)),
        printed=printed or Printed(),
        paper=figures.get(cell.row),
    )


def _values(results: Mapping[int, Result], which: str, metric: str) -> dict[int, float]:
    """In per cent, by seed."""
    return {seed: 100 * result.metrics[which][metric] for seed, result in results.items()}


def _plain(value: Spread | None) -> dict[str, Any] | None:
    return None if value is None else asdict(value)
