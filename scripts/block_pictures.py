#!/usr/bin/env python
"""Plots of docs/blocks.md: spectra of real affinities, responses of real filters.

python scripts/block_pictures.py docs/pictures
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from video_snl.analysis.spectrum.filter_plots import plot_parts, plot_response, plot_spectrum
from video_snl.analysis.spectrum.filters import (
    eigenvalues,
    frequency_response,
    smooth_and_oscillating,
)
from video_snl.blocks import NonlocalBlock, make_block


def main(folder: Path) -> None:
    x = smooth_features()
    for name in ("snl", "nl"):
        values = eigenvalues(block(name).affinity(x))
        plot_spectrum(values, folder / f"spectrum_{name}.png", title=f"{name.upper()} at its start")
    frequencies = torch.linspace(0, 2, 101)
    for name, order in (("gsnl", 3), ("cayley", 2)):
        response = frequency_response(block(name, order=order), frequencies)
        title = f"{name}, order {order}, at its start"
        plot_response(frequencies, response, folder / f"response_{name}.png", title=title)
    parts = smooth_and_oscillating(block("snl"), x)
    plot_parts(parts, folder / "parts_snl.png", title="SNL at its start")


def block(name: str, **options: int) -> NonlocalBlock:
    torch.manual_seed(0)
    made = make_block(name, 64, ndim=3, zero_init=False, **options)  # type: ignore[arg-type]
    assert isinstance(made, NonlocalBlock)
    return made.eval()


def smooth_features() -> Tensor:
    """Return noise blurred over neighbouring positions, where features of a video are alike."""
    noise = torch.randn(1, 64, 4, 14, 14, generator=torch.Generator().manual_seed(0))
    smooth = F.avg_pool3d(noise, 3, 1, 1)
    return smooth / smooth.std()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
