"""Measured spectra as a table, as JSON, and as a folder of numbers and plots."""

from __future__ import annotations

import csv
import io
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from video_snl.analysis.spectrum.filter_plots import (
    plot_decay,
    plot_gain,
    plot_groups,
    plot_parts,
    plot_spectrum,
)
from video_snl.analysis.spectrum.filters import Parts
from video_snl.analysis.spectrum.measure import (
    BlockSpectra,
    GraphSpectrum,
    NetworkSpectra,
    SubBlockFilter,
)
from video_snl.utils.counts import counts
from video_snl.utils.files import write_json, write_text

__all__ = ["as_json", "mean_and_std", "table", "write_spectra"]

_STATISTICS = (  # of a graph
    "symmetry_error",
    "effective_rank",
    "radius",
    "complex_share",
    "smooth",
    "null",
    "oscillating",
)
_DIGITS = 7  # of the numbers written
_SPECTRUM_COLUMNS = (
    ("block", 22),
    ("positions", 11),
    ("effective rank", 17),
    ("max |mu|", 19),
    ("symmetry error", 21),
    ("complex", 9),
    ("mu > 0, = 0, < 0", 0),
)
_RESPONSE_COLUMNS = (
    ("block", 22),
    ("unit", 5),
    ("channels", 18),
    ("mean lambda", 13),
    *((f"lambda {at:g}", 11) for at in (0, 0.5, 1, 1.5)),
    ("lambda 2", 0),
)


def table(spectra: NetworkSpectra) -> str:
    """Return the spectra of all blocks with an affinity, then their responses, then notes."""
    several = f"{len(spectra.sources)} inputs, mean ± standard deviation"
    what = several if len(spectra.sources) > 1 else spectra.sources[0]
    lines = [f"{spectra.checkpoint}: {what}", ""]
    with_graphs = [block for block in spectra.blocks if block.graphs]
    if with_graphs:
        lines += [_header(_SPECTRUM_COLUMNS)]
        lines += [_row(_spectrum_cells(block), _SPECTRUM_COLUMNS) for block in with_graphs]
        lines.append("")
    if any(block.sub_blocks for block in spectra.blocks):
        lines.append("rms gain of the filter F(A, Z), the residual apart:")
        lines += [_header(_RESPONSE_COLUMNS)]
        lines += [
            _row(cells, _RESPONSE_COLUMNS)
            for block in spectra.blocks
            for cells in _response_cells(block)
        ]
        lines.append("")
    for block in spectra.blocks:
        lines += [f"{block.name} {block.position}: {note}" for note in block.notes]
    return "\n".join(lines).rstrip()


def as_json(spectra: NetworkSpectra) -> dict[str, Any]:
    """Return all numbers, as in ``spectrum.json``."""
    return {
        "checkpoint": spectra.checkpoint,
        "inputs": spectra.sources,
        "blocks": [_block_json(block) for block in spectra.blocks],
    }


def mean_and_std(values: Iterable[float]) -> dict[str, float | None]:
    """Return mean and standard deviation of a sample (n - 1); no deviation of a single value."""
    known = list(values)
    spread = statistics.stdev(known) if len(known) > 1 else None
    return {
        "mean": _short(statistics.fmean(known)),
        "std": None if spread is None else _short(spread),
    }


def write_spectra(folder: Path, spectra: NetworkSpectra) -> None:
    """Write ``spectrum.json``, ``eigenvalues.csv``, ``responses.csv`` and the plots of every block.

    Each file is written whole or not at all.

    Raises:
        OSError: for a file that cannot be written.
    """
    write_json(folder / "spectrum.json", as_json(spectra), finite=True)
    write_text(folder / "eigenvalues.csv", _csv(_eigenvalue_rows(spectra)))
    write_text(folder / "responses.csv", _csv(_response_rows(spectra)))
    for block in spectra.blocks:
        if block.graphs:
            _plot_graphs(folder, block)
        for sub_block in block.sub_blocks:
            _plot_sub_block(folder, block, sub_block)


def _spectrum_cells(block: BlockSpectra) -> list[str]:
    graphs = block.graphs
    sizes = sorted({len(graph.eigenvalues) for graph in graphs})
    numbers = (
        mean_and_std(getattr(graph, name) for graph in graphs)["mean"]
        for name in ("smooth", "null", "oscillating")
    )
    share = sum(graph.complex_share for graph in graphs) / len(graphs)
    return [
        block.position,
        str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}-{sizes[-1]}",
        _mean_cell([graph.effective_rank for graph in graphs]),
        _mean_cell([graph.radius for graph in graphs]),
        _mean_cell([graph.symmetry_error for graph in graphs]),
        f"{share:.1%}",
        ", ".join(f"{number:g}" for number in numbers),
    ]


def _response_cells(block: BlockSpectra) -> Iterator[list[str]]:
    for sub_block in block.sub_blocks:
        yield [block.position, str(sub_block.unit), "all", "", *_gain_cells(sub_block.rms)]
        for number, group in enumerate(sub_block.groups):
            title = f"group {number} ({len(group.channels)})"
            yield ["", "", title, f"{group.mean_frequency:.2f}", *_gain_cells(group.gain.tolist())]


def _gain_cells(gains: list[float]) -> list[str]:
    """Return the gains at the frequencies 0, 0.5, 1, 1.5 and 2."""
    last = len(gains) - 1
    return [f"{gains[quarter * last // 4]:.3g}" for quarter in range(5)]


def _mean_cell(values: list[float]) -> str:
    found = mean_and_std(values)
    mean, std = found["mean"], found["std"]
    return f"{mean:.4g}" if std is None else f"{mean:.4g} ± {std:.2g}"


def _header(columns: Sequence[tuple[str, int]]) -> str:
    return _row([name for name, _ in columns], columns)


def _row(cells: Sequence[str], columns: Sequence[tuple[str, int]]) -> str:
    """Put cells side by side; one that is too long moves the others."""
    return "".join(
        f"{cell:{max(width, 1)}}" if width == 0 or len(cell) < width else f"{cell} "
        for cell, (_, width) in zip(cells, columns, strict=True)
    ).rstrip()


def _block_json(block: BlockSpectra) -> dict[str, Any]:
    found: dict[str, Any] = {"position": block.position, "block": block.name, "notes": block.notes}
    if block.graphs:
        found["positions"] = sorted({len(graph.eigenvalues) for graph in block.graphs})
        found["statistics"] = {
            name: mean_and_std(getattr(graph, name) for graph in block.graphs)
            for name in _STATISTICS
        }
        found["graphs"] = [_graph_json(graph) for graph in block.graphs]
    return found | {"units": [_sub_block_json(sub_block) for sub_block in block.sub_blocks]}


def _graph_json(graph: GraphSpectrum) -> dict[str, Any]:
    values = graph.eigenvalues
    real = not np.iscomplexobj(values)
    return {
        "input": graph.source,
        "graph": graph.graph,
        **{name: _short(getattr(graph, name)) for name in _STATISTICS},
        # [real part, imaginary part, how many], without the imaginary part of real ones.
        "eigenvalues": [
            [_short(value.real), *([] if real else [_short(value.imag)]), count]
            for value, count in _multiplicities(values)
        ],
    }


def _sub_block_json(sub_block: SubBlockFilter) -> dict[str, Any]:
    return {
        "unit": sub_block.unit,
        "norm_in_gains": sub_block.folded,
        "frequencies": [_short(value) for value in sub_block.frequencies.tolist()],
        "rms_gain": [_short(value) for value in sub_block.rms],
        "largest_gain": [_short(value) for value in sub_block.gain.spectral.tolist()],
        "channel_groups": [
            {
                "channels": group.channels,
                "mean_frequency": _short(group.mean_frequency),
                "rms_gain": [_short(value) for value in group.gain.tolist()],
            }
            for group in sub_block.groups
        ],
        "energies": None if sub_block.parts is None else _energy_shares(sub_block.parts),
    }


def _energy_shares(parts: Parts) -> dict[str, dict[str, float]]:
    """Return the shares of the parts in the energies of Z, A Z and F(A, Z) of all inputs."""
    shares = {}
    for quantity in ("signal", "product", "output"):
        totals = parts.totals(quantity)
        whole = sum(totals.values()) or 1
        shares[quantity] = {name: _short(value / whole) for name, value in totals.items()}
    return shares


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue()


def _eigenvalue_rows(spectra: NetworkSpectra) -> Iterator[Sequence[Any]]:
    """Yield a row for every eigenvalue, equal ones together."""
    yield "block", "input", "graph", "real", "imaginary", "multiplicity"
    for block in spectra.blocks:
        for graph in block.graphs:
            place = block.position, graph.source, graph.graph
            for value, count in _multiplicities(graph.eigenvalues):
                yield *place, _short(value.real), _short(value.imag), count


def _response_rows(spectra: NetworkSpectra) -> Iterator[Sequence[Any]]:
    """Yield a row for every frequency, of all channels and of every group."""
    yield "block", "unit", "channels", "frequency", "rms_gain", "largest_gain"
    for block in spectra.blocks:
        for sub_block in block.sub_blocks:
            place = block.position, sub_block.unit
            frequencies = sub_block.frequencies.tolist()
            largest = sub_block.gain.spectral.tolist()
            for row in zip(frequencies, sub_block.rms, largest, strict=True):
                yield *place, "all", *map(_short, row)
            for number, group in enumerate(sub_block.groups):
                for pair in zip(frequencies, group.gain.tolist(), strict=True):
                    yield *place, f"group {number}", *map(_short, pair), ""


def _multiplicities(values: np.ndarray) -> Iterator[tuple[Any, int]]:
    for value, same in groupby(values.tolist()):
        yield value, sum(1 for _ in same)


def _short(value: float) -> float:
    """Round to the digits that are written, without -0."""
    return float(f"{value:.{_DIGITS}g}") + 0.0


def _plot_graphs(folder: Path, block: BlockSpectra) -> None:
    name, title = _file_name(block.position), f"{block.name} {block.position}"
    values = np.concatenate([graph.eigenvalues for graph in block.graphs])
    several = len(block.graphs) > 1
    title = f"{title}, {len(block.graphs)} graphs" if several else title
    plot_spectrum(torch.from_numpy(values)[None], folder / f"eigenvalues-{name}.png", title=title)
    sizes = [torch.from_numpy(np.sort(np.abs(g.eigenvalues))[::-1].copy()) for g in block.graphs]
    ranks = [graph.effective_rank for graph in block.graphs]
    plot_decay(sizes, ranks, folder / f"decay-{name}.png", title=title)


def _plot_sub_block(folder: Path, block: BlockSpectra, sub_block: SubBlockFilter) -> None:
    name = f"{_file_name(block.position)}-unit{sub_block.unit}.png"
    title = f"{block.name} {block.position}, unit {sub_block.unit}"
    frequencies = sub_block.frequencies
    response = folder / f"response-{name}"
    plot_gain(frequencies, sub_block.gain, sub_block.width, response, title=title)
    gains = {
        f"group {number}, {counts(len(group.channels), 'channel')}, mean $\\lambda$ "
        f"{group.mean_frequency:.2f}": torch.from_numpy(group.gain)
        for number, group in enumerate(sub_block.groups)
    }
    if len(gains) > 1:
        plot_groups(frequencies, gains, folder / f"groups-{name}", title=title)
    if sub_block.parts is not None:
        plot_parts(sub_block.parts, folder / f"parts-{name}", title=title)


def _file_name(position: str) -> str:
    """Turn ``before:res4.5`` into ``before-res4.5``."""
    return re.sub(r"[^\w.]+", "-", position)
