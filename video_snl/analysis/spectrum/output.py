"""The folder of a measurement: numbers and pictures, each written whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from video_snl.analysis.spectrum.filter_plots import (
    plot_decay,
    plot_gain,
    plot_groups,
    plot_parts,
    plot_spectrum,
)
from video_snl.analysis.spectrum.numbers import as_json, eigenvalue_rows, response_rows, text
from video_snl.analysis.spectrum.structure import BlockSpectra, Measured, UnitFilter
from video_snl.utils.counts import counts
from video_snl.utils.files import write_json, write_text

__all__ = ["write_spectra"]


def write_spectra(folder: Path, measured: Measured) -> None:
    """``spectrum.json``, ``eigenvalues.csv``, ``responses.csv`` and the pictures of every block.

    Raises:
        OSError: Something cannot be written.
    """
    write_json(folder / "spectrum.json", as_json(measured), finite=True)
    write_text(folder / "eigenvalues.csv", text(eigenvalue_rows(measured)))
    write_text(folder / "responses.csv", text(response_rows(measured)))
    for block in measured.blocks:
        if block.graphs:
            _draw_graphs(folder, block)
        for unit in block.units:
            _draw_unit(folder, block, unit)


def file_name(position: str) -> str:
    """``before:res4.5`` as ``before-res4.5``."""
    return re.sub(r"[^\w.]+", "-", position)


def _draw_graphs(folder: Path, block: BlockSpectra) -> None:
    name, title = file_name(block.position), f"{block.name} {block.position}"
    values = np.concatenate([graph.eigenvalues for graph in block.graphs])
    several = len(block.graphs) > 1
    every = f"{title}, {len(block.graphs)} graphs" if several else title
    spectrum = folder / f"eigenvalues-{name}.png"
    plot_spectrum(torch.from_numpy(values)[None], spectrum, title=every)
    sizes = [torch.from_numpy(np.sort(np.abs(g.eigenvalues))[::-1].copy()) for g in block.graphs]
    ranks = [graph.effective_rank for graph in block.graphs]
    plot_decay(sizes, ranks, folder / f"decay-{name}.png", title=every)


def _draw_unit(folder: Path, block: BlockSpectra, unit: UnitFilter) -> None:
    name = f"{file_name(block.position)}-unit{unit.unit}.png"
    title = f"{block.name} {block.position}, unit {unit.unit}"
    response = folder / f"response-{name}"
    plot_gain(unit.frequencies, unit.gain, unit.width, response, title=title)
    gains = {
        f"group {number}, {counts(len(group.channels), 'channel')}, mean $\\lambda$ "
        f"{group.mean_frequency:.2f}": torch.from_numpy(group.gain)
        for number, group in enumerate(unit.groups)
    }
    if len(gains) > 1:
        plot_groups(unit.frequencies, gains, folder / f"groups-{name}", title=title)
    if unit.parts is not None:
        plot_parts(unit.parts, folder / f"parts-{name}", title=title)
