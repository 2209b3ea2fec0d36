"""What is measured of a network's blocks, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from video_snl.analysis.spectrum.filters import Parts, ResponseGain

__all__ = ["BlockSpectra", "ChannelGroup", "GraphSpectrum", "Measured", "UnitFilter"]


class GraphSpectrum(NamedTuple):
    """Of one affinity, made from one input.

    Attributes:
        source: The input.
        graph: Its number; CGNL's groups are graphs of their own, elsewhere it is 0.
        eigenvalues: By descending real part (N,), zeros included; real where A is symmetric.
        symmetry_error: ||A - A^T|| / ||A||.
        effective_rank: exp of the entropy of |mu| / sum |mu|.
        radius: The largest |mu|.
        complex_share: Of the eigenvalues that are not real.
        smooth, null, oscillating: Eigenvalues with real parts above, at and below zero: those of
            lambda = 1 - mu < 1, = 1, > 1.
    """

    source: str
    graph: int
    eigenvalues: np.ndarray
    symmetry_error: float
    effective_rank: float
    radius: float
    complex_share: float
    smooth: int
    null: int
    oscillating: int


class ChannelGroup(NamedTuple):
    """Output channels, ascending, and their rms gain (L,) at the frequencies of the filter.

    ``mean_frequency`` is that of their squared gain: below 1 they smooth, above they sharpen.
    """

    channels: list[int]
    gain: np.ndarray
    mean_frequency: float


class UnitFilter(NamedTuple):
    """The filter of one unit.

    Attributes:
        frequencies: (L,).
        gain: Of all channels together.
        width: Cs, channels of the signal it is applied to.
        groups: Of output channels.
        folded: The scale of the unit's norm is part of the gains.
        parts: Of the signals of all inputs, where A is symmetric.
    """

    unit: int
    frequencies: Tensor
    gain: ResponseGain
    width: int
    groups: list[ChannelGroup]
    folded: bool
    parts: Parts | None


@dataclass
class BlockSpectra:
    """One block; one without an affinity has neither graphs nor units."""

    position: str
    name: str
    graphs: list[GraphSpectrum] = field(default_factory=list)
    units: list[UnitFilter] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Measured:
    """All blocks of a network on some inputs."""

    checkpoint: str
    sources: list[str]
    blocks: list[BlockSpectra]
