"""What was measured as numbers: for JSON, and for CSV files."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from video_snl.analysis.spectrum.filters import Part
from video_snl.analysis.spectrum.structure import BlockSpectra, GraphSpectrum, Measured, UnitFilter

__all__ = ["STATISTICS", "as_json", "eigenvalue_rows", "mean_and_spread", "response_rows", "text"]

STATISTICS = (
    "symmetry_error",
    "effective_rank",
    "radius",
    "complex_share",
    "smooth",
    "null",
    "oscillating",
)
"""Of a graph."""

_DIGITS = 7  # of the numbers written


def mean_and_spread(values: Iterable[float]) -> dict[str, float | None]:
    """Mean and standard deviation (of a sample: n - 1); None for that of a single value."""
    known = list(values)
    spread = statistics.stdev(known) if len(known) > 1 else None
    return {
        "mean": _short(statistics.fmean(known)),
        "std": None if spread is None else _short(spread),
    }


def as_json(measured: Measured) -> dict[str, Any]:
    return {
        "checkpoint": measured.checkpoint,
        "inputs": measured.sources,
        "blocks": [_block(block) for block in measured.blocks],
    }


def text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue()


def eigenvalue_rows(measured: Measured) -> Iterator[Sequence[Any]]:
    """A row for every eigenvalue, equal ones together."""
    yield "block", "input", "graph", "real", "imaginary", "multiplicity"
    for block in measured.blocks:
        for graph in block.graphs:
            place = block.position, graph.source, graph.graph
            for value, count in _multiplicities(graph.eigenvalues):
                yield *place, _short(value.real), _short(value.imag), count


def response_rows(measured: Measured) -> Iterator[Sequence[Any]]:
    """A row for every frequency of every group of channels, and of all channels."""
    yield "block", "unit", "channels", "frequency", "rms_gain", "largest_gain"
    for block in measured.blocks:
        for unit in block.units:
            place = block.position, unit.unit
            frequencies = unit.frequencies.tolist()
            largest = unit.gain.spectral.tolist()
            for row in zip(frequencies, rms(unit), largest, strict=True):
                yield *place, "all", *map(_short, row)
            for number, group in enumerate(unit.groups):
                for pair in zip(frequencies, group.gain.tolist(), strict=True):
                    yield *place, f"group {number}", *map(_short, pair), ""


def rms(unit: UnitFilter) -> list[float]:
    """The root mean square gain of random signals, at every frequency."""
    return (unit.gain.frobenius / unit.width**0.5).tolist()


def _block(block: BlockSpectra) -> dict[str, Any]:
    found: dict[str, Any] = {"position": block.position, "block": block.name, "notes": block.notes}
    if block.graphs:
        found["positions"] = sorted({len(graph.eigenvalues) for graph in block.graphs})
        found["statistics"] = {
            name: mean_and_spread(getattr(graph, name) for graph in block.graphs)
            for name in STATISTICS
        }
        found["graphs"] = [_graph(graph) for graph in block.graphs]
    return found | {"units": [_unit(unit) for unit in block.units]}


def _graph(graph: GraphSpectrum) -> dict[str, Any]:
    values = graph.eigenvalues
    real = not np.iscomplexobj(values)
    return {
        "input": graph.source,
        "graph": graph.graph,
        **{name: _short(getattr(graph, name)) for name in STATISTICS},
        # [real part, imaginary part, how many], the imaginary part being left out of real ones.
        "eigenvalues": [
            [_short(value.real), *([] if real else [_short(value.imag)]), count]
            for value, count in _multiplicities(values)
        ],
    }


def _unit(unit: UnitFilter) -> dict[str, Any]:
    return {
        "unit": unit.unit,
        "norm_in_gains": unit.folded,
        "frequencies": [_short(value) for value in unit.frequencies.tolist()],
        "rms_gain": [_short(value) for value in rms(unit)],
        "largest_gain": [_short(value) for value in unit.gain.spectral.tolist()],
        "channel_groups": [
            {
                "channels": group.channels,
                "mean_frequency": _short(group.mean_frequency),
                "rms_gain": [_short(value) for value in group.gain.tolist()],
            }
            for group in unit.groups
        ],
        "energies": None if unit.parts is None else _energies(unit.parts._asdict()),
    }


def _energies(parts: dict[str, Part]) -> dict[str, Any]:
    """Shares of the smooth, null and oscillating parts in Z, A Z and F(A, Z) of all inputs."""
    sums = {
        stage: {name: float(getattr(part, stage).sum()) for name, part in parts.items()}
        for stage in ("signal", "product", "output")
    }
    return {
        stage: {name: _short(value / (sum(each.values()) or 1)) for name, value in each.items()}
        for stage, each in sums.items()
    }


def _multiplicities(values: np.ndarray) -> Iterator[tuple[Any, int]]:
    for value, same in groupby(values.tolist()):
        yield value, sum(1 for _ in same)


def _short(value: float) -> float:
    """As many digits as are worth writing; no -0."""
    return float(f"{value:.{_DIGITS}g}") + 0.0
