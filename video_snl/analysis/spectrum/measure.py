"""Spectra of the blocks of a network, measured on one input after the other.

Every input gives each block an affinity, of which the eigenvalues are measured, and signals, of
which the energies are. The filters of the sub-blocks are the same for all inputs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from video_snl.analysis.explain.rows import has_affinity
from video_snl.analysis.explain.structure import check_finite
from video_snl.analysis.spectrum.eigenvalues import (
    CompressedAffinity,
    complex_share,
    compress,
    effective_rank,
    solved_size,
)
from video_snl.analysis.spectrum.filters import (
    Part,
    Parts,
    ResponseGain,
    frequency_response,
    response_gain,
    signal_parts,
)
from video_snl.blocks.block import NonlocalBlock
from video_snl.blocks.filters import ChannelGraph

__all__ = [
    "BlockMeasurement",
    "BlockSpectra",
    "ChannelGroup",
    "GraphSpectrum",
    "NetworkSpectra",
    "SubBlockFilter",
]

_FREQUENCIES = 41  # from 0 to 2


class GraphSpectrum(NamedTuple):
    """The spectrum of one affinity, made from one input.

    Attributes:
        source: name of the input.
        graph: number of the graph; CGNL's groups are graphs of their own, elsewhere it is 0.
        eigenvalues: eigenvalues (N,) by descending real part, zeros included; real where A is
            symmetric.
        symmetry_error: ||A - A^T|| / ||A||.
        effective_rank: exp of the entropy of |mu| / sum |mu|.
        radius: the largest |mu|.
        complex_share: share of the eigenvalues that are not real.
        smooth, null, oscillating: numbers of eigenvalues with real parts above, at and below zero,
            that is of lambda = 1 - mu < 1, = 1, > 1.
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
    """A group of output channels and its rms gain at the frequencies of the filter.

    Attributes:
        channels: numbers of the channels, ascending.
        gain: rms gain (L,).
        mean_frequency: mean of the frequencies, weighted with the squared gain: below 1 the
            channels smooth, above they sharpen.
    """

    channels: list[int]
    gain: np.ndarray
    mean_frequency: float


class SubBlockFilter(NamedTuple):
    """The filter of one sub-block.

    Attributes:
        unit: number of the sub-block, from 0.
        frequencies: graph frequencies (L,).
        gain: gains of all channels together.
        width: Cs, channels of the signal.
        groups: groups of output channels.
        folded: True where the scale of the norm is part of the gains.
        parts: parts of the signals of all inputs, where A is symmetric.
    """

    unit: int
    frequencies: Tensor
    gain: ResponseGain
    width: int
    groups: list[ChannelGroup]
    folded: bool
    parts: Parts | None

    @property
    def rms(self) -> list[float]:
        """Return the root mean square gain of random signals, at every frequency."""
        return self.gain.rms(self.width).tolist()


@dataclass
class BlockSpectra:
    """The spectra of one block; without an affinity it has neither graphs nor sub-blocks."""

    position: str
    name: str
    graphs: list[GraphSpectrum] = field(default_factory=list)
    sub_blocks: list[SubBlockFilter] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class NetworkSpectra:
    """The spectra of all blocks of a network on some inputs."""

    checkpoint: str
    sources: list[str]
    blocks: list[BlockSpectra]


class InputSpectra(NamedTuple):
    """Spectra of one block on one input: its graphs, and parts of the sub-blocks' signals."""

    graphs: Sequence[GraphSpectrum] = ()
    parts: Sequence[Parts] = ()
    note: str = ""


class BlockMeasurement:
    """The measurement of a block's spectra, on one input after the other.

    Args:
        position, name: position and name of the block.
        block: the block, in evaluation mode.
        largest: number of rows of the largest matrix whose eigenvalues are computed.
        groups: number of groups of output channels, where the block has none of its own.
    """

    def __init__(
        self, position: str, name: str, block: nn.Module, *, largest: int, groups: int
    ) -> None:
        self._spectra, self._title = BlockSpectra(position, name), f"{name} {position}"
        self._largest, self._groups = largest, groups
        self._block: NonlocalBlock | None = None
        self._parts: list[list[Parts]] = []
        if has_affinity(block):
            assert isinstance(block, NonlocalBlock)
            self._block = copy.deepcopy(block).fuse()
            self._parts = [[] for _ in block.sub_blocks]
            self._spectra.notes += _notes(self._block)
        else:
            self._spectra.notes.append("no affinity between positions: it has no spectrum")

    @torch.no_grad()
    def measure(self, source: str, x: Tensor) -> InputSpectra:
        """Measure the affinity for one feature map (1, C, *grid), the block's input.

        Raises:
            UserError: for an input that is not finite, or that the block makes infinite.
        """
        title, block = self._title, self._block
        _check(f"the features before {title} of {source}", x)
        if block is None or block.config.pool > 1:
            return InputSpectra()
        affinity, signals = block.graph_and_signals(x, len(block.units))
        rows = solved_size(affinity, math.prod(x.shape[2:]))
        if rows > self._largest:
            return InputSpectra(
                note=f"no eigenvalues: they are those of a matrix of {rows} rows, more than "
                f"--max_size {self._largest}"
            )
        compressed = compress(affinity)
        _check(f"the affinity of {title} of {source}", compressed.matrix)
        for z in signals:
            _check(f"the signal of {title} of {source}", z)
        if not compressed.is_symmetric() or isinstance(block.filter, ChannelGraph):
            return InputSpectra(_graph_spectra(source, compressed, compressed.eigenvalues()))
        # One decomposition for the spectrum and for the parts of all sub-blocks.
        decomposed = compressed.decompose()
        parts = [signal_parts(block, decomposed, z, unit) for unit, z in enumerate(signals)]
        return InputSpectra(_graph_spectra(source, compressed, decomposed.eigenvalues()), parts)

    def add(self, spectra: InputSpectra) -> None:
        """Add what :meth:`measure` returned for an input to the result."""
        self._spectra.graphs += spectra.graphs
        for own, parts in zip(self._parts, spectra.parts, strict=False):
            own.append(parts)
        if spectra.note and spectra.note not in self._spectra.notes:
            self._spectra.notes.append(spectra.note)

    @torch.no_grad()
    def result(self) -> BlockSpectra:
        """Return the spectra of all inputs, with the filters of the sub-blocks.

        Raises:
            UserError: for weights of a filter that are not finite.
        """
        if self._block is not None:
            for sub_block in self._block.sub_blocks:
                _check(f"the weights of {self._title}", sub_block.combine.weight)
            self._spectra.sub_blocks = [
                _sub_block_filter(self._block, unit, self._groups, _joined(parts))
                for unit, parts in enumerate(self._parts)
            ]
        return self._spectra


def _check(name: str, values: Tensor) -> None:
    check_finite(name, values.detach().double().cpu().numpy(), "measured")


def _notes(block: NonlocalBlock) -> list[str]:
    notes = []
    if block.config.pool > 1:
        notes.append(
            f"no eigenvalues: its keys are pooled over {block.config.pool} positions, and the "
            "affinity is not square"
        )
    if block.config.recurrence > 1:
        notes.append(
            f"applied {block.config.recurrence} times in a row: the affinity is that of the first "
            "time, the response that of one"
        )
    if isinstance(block.filter, ChannelGraph):
        notes.append("the vertices of its graphs are the channels of all positions")
    if any(isinstance(sub_block.norm, nn.GroupNorm) for sub_block in block.sub_blocks):
        notes.append("its GroupNorm depends on the input, and is not part of the gains")
    if any(sub_block.activation for sub_block in block.sub_blocks):
        notes.append("the gains are those before its ReLU")
    return notes


def _graph_spectra(
    source: str, affinity: CompressedAffinity, eigenvalues: Tensor
) -> list[GraphSpectrum]:
    """Summarise the eigenvalues (B, N) of an affinity, a graph for each batch element."""
    errors = affinity.symmetry_error()
    spectra = []
    for graph, values in enumerate(eigenvalues):
        bound = affinity.null_bound(values)
        smooth, oscillating = int((values.real > bound).sum()), int((values.real < -bound).sum())
        spectra.append(
            GraphSpectrum(
                source=source,
                graph=graph,
                eigenvalues=values.cpu().numpy(),
                symmetry_error=float(errors[graph]),
                effective_rank=float(effective_rank(values)),
                radius=float(values.abs().max()),
                complex_share=float(complex_share(values)),
                smooth=smooth,
                null=len(values) - smooth - oscillating,
                oscillating=oscillating,
            )
        )
    return spectra


def _sub_block_filter(
    block: NonlocalBlock, unit: int, groups: int, parts: Parts | None
) -> SubBlockFilter:
    frequencies = torch.linspace(0, 2, _FREQUENCIES, dtype=torch.float64)
    sub_block = block.sub_blocks[unit]
    singular, squares = [], []
    # One frequency at a time: the responses to all of them are large.
    for frequency in frequencies.split(1):
        at = frequency.to(sub_block.combine.weight.device)
        response = frequency_response(block, at, unit).double()
        singular.append(response_gain(response).singular_values)
        squares.append(response.square().sum(1))
    width = response.shape[1]
    power = torch.cat(squares).cpu() / width
    return SubBlockFilter(
        unit=unit,
        frequencies=frequencies,
        gain=ResponseGain.from_singular_values(torch.cat(singular).cpu()),
        width=width,
        groups=_channel_groups(frequencies, power, block.config.groups, groups),
        folded=isinstance(sub_block.norm, nn.Identity),
        parts=parts,
    )


def _channel_groups(frequencies: Tensor, power: Tensor, own: int, count: int) -> list[ChannelGroup]:
    """Return the block's own groups, or ``count`` groups by the mean frequency of the channels.

    Shapes: frequencies (L,); power (L, C), the squared gain of each output channel.
    """
    channels = power.shape[1]
    if own > 1:
        members = torch.arange(channels).chunk(own)
    else:
        members = _mean_frequency(frequencies, power).argsort(stable=True).chunk(count)
    groups = []
    for chosen in members:
        mean = power[:, chosen].mean(1)
        groups.append(
            ChannelGroup(
                channels=sorted(chosen.tolist()),
                # The mean square over all groups is that of the block.
                gain=(channels * mean).sqrt().numpy(),
                mean_frequency=float(_mean_frequency(frequencies, mean[:, None])),
            )
        )
    return groups


def _mean_frequency(frequencies: Tensor, power: Tensor) -> Tensor:
    """Return sum_l lambda_l p_l / sum_l p_l; 1 where there is no power. Shape: (L, C) -> (C,)."""
    total = power.sum(0)
    mean = (frequencies[:, None] * power).sum(0) / total.where(total > 0, 1)
    return mean.where(total > 0, 1)


def _joined(parts: Sequence[Parts]) -> Parts | None:
    """Join the parts of all inputs into a batch."""
    if not parts:
        return None
    return Parts(
        *(
            Part(*(torch.cat(values).cpu() for values in zip(*same, strict=True)))
            for same in zip(*parts, strict=True)
        )
    )
