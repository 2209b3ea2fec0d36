"""Spectra of the blocks of a network on some inputs."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from video_snl.analysis.explain.finite import check_finite
from video_snl.analysis.explain.rows import has_affinity
from video_snl.analysis.spectrum.eigenvalues import compressed, solved_size
from video_snl.analysis.spectrum.filters import (
    Part,
    Parts,
    ResponseGain,
    complex_share,
    effective_rank,
    frequency_response,
    graph_and_signals,
    parts_of,
    response_gain,
)
from video_snl.analysis.spectrum.structure import (
    BlockSpectra,
    ChannelGroup,
    GraphSpectrum,
    UnitFilter,
)
from video_snl.blocks.block import NonlocalBlock
from video_snl.blocks.filters import ChannelGraph

__all__ = ["BlockMeasure", "measures"]

_FREQUENCIES = 41  # from 0 to 2


class Sample(NamedTuple):
    """What one input gives of one block: its graphs, and the parts of the units' signals."""

    graphs: Sequence[GraphSpectrum] = ()
    parts: Sequence[Parts] = ()
    note: str = ""


class BlockMeasure:
    """A block whose spectra are measured, one input after the other.

    Args:
        position, name: Of the block.
        block: In evaluation mode.
        largest: Rows of the largest matrix whose eigenvalues are computed.
        groups: Into how many its output channels are put, where it has none of its own.
    """

    def __init__(
        self, position: str, name: str, block: nn.Module, *, largest: int, groups: int
    ) -> None:
        self._found, self._named = BlockSpectra(position, name), f"{name} {position}"
        self._largest, self._groups = largest, groups
        self._block = _fused(block) if has_affinity(block) else None
        self._parts: list[list[Parts]] = []
        if self._block is None:
            self._found.notes.append("no affinity between positions: it has no spectrum")
        else:
            self._parts = [[] for _ in self._block.stage]
            self._found.notes += _notes(self._block)

    @torch.no_grad()
    def measured(self, source: str, x: Tensor) -> Sample:
        """Measure the affinity for one feature map (1, C, *grid), the block's input.

        Raises:
            UserError: It is not finite, or what the block makes of it.
        """
        name, block = self._named, self._block
        _check(f"the features before {name} of {source}", x)
        if block is None or block.recipe.pool > 1:
            return Sample()
        affinity, signals = graph_and_signals(block, x, len(block.stage))
        rows = solved_size(affinity, math.prod(x.shape[2:]))
        if rows > self._largest:
            return Sample(
                note=f"no eigenvalues: they are those of a matrix of {rows} rows, more than "
                f"--max_size {self._largest}"
            )
        core = compressed(affinity)
        _check(f"the affinity of {name} of {source}", core.matrix)
        for z in signals:
            _check(f"the signal of {name} of {source}", z)
        # One decomposition for the spectrum and all units: with eigenvectors where they are used.
        apart = core.is_symmetric() and not isinstance(block.filter, ChannelGraph)
        spaces = core.eigenspaces() if apart else None
        values = core.eigenvalues() if spaces is None else spaces.eigenvalues()
        errors = core.symmetry_error()
        graphs = [_spectrum(source, n, values, errors, core.eps) for n in range(len(values))]
        if spaces is None:
            return Sample(graphs)
        return Sample(graphs, [parts_of(block, spaces, z, u) for u, z in enumerate(signals)])

    def keep(self, sample: Sample) -> None:
        """Let an input count."""
        self._found.graphs += sample.graphs
        for own, parts in zip(self._parts, sample.parts, strict=False):
            own.append(parts)
        if sample.note and sample.note not in self._found.notes:
            self._found.notes.append(sample.note)

    @torch.no_grad()
    def found(self) -> BlockSpectra:
        """What was measured, with the filters of the units.

        Raises:
            UserError: The weights of a filter are not finite.
        """
        if self._block is not None:
            for unit in self._block.stage:
                _check(f"the weights of {self._named}", unit.combine.weight)
            self._found.units = [
                _unit_filter(self._block, unit, self._groups, _joined(parts))
                for unit, parts in enumerate(self._parts)
            ]
        return self._found


def measures(
    blocks: Mapping[str, nn.Module], name: str, *, largest: int, groups: int
) -> dict[str, BlockMeasure]:
    """One of each block, by position."""
    return {
        position: BlockMeasure(position, name, block, largest=largest, groups=groups)
        for position, block in blocks.items()
    }


def _check(name: str, values: Tensor) -> None:
    check_finite(name, values.detach().double().cpu().numpy(), "measured")


def _fused(block: nn.Module) -> NonlocalBlock:
    assert isinstance(block, NonlocalBlock)
    return copy.deepcopy(block).fuse()


def _notes(block: NonlocalBlock) -> list[str]:
    notes = []
    if block.recipe.pool > 1:
        notes.append(
            f"no eigenvalues: its keys are pooled over {block.recipe.pool} positions, and the "
            "affinity is not square"
        )
    if block.recipe.recurrence > 1:
        notes.append(
            f"applied {block.recipe.recurrence} times in a row: the affinity is that of the first "
            "time, the response that of one"
        )
    if isinstance(block.filter, ChannelGraph):
        notes.append("the vertices of its graphs are the channels of all positions")
    if any(isinstance(unit.norm, nn.GroupNorm) for unit in block.stage):
        notes.append("its GroupNorm depends on the input, and is not part of the gains")
    if any(unit.activation for unit in block.stage):
        notes.append("the gains are those before its ReLU")
    return notes


def _spectrum(source: str, graph: int, values: Tensor, errors: Tensor, eps: float) -> GraphSpectrum:
    own = values[graph]
    radius = float(own.abs().max())
    # As in parts_of: what is smaller is rounding in A's own dtype.
    least = len(own) * eps * radius
    smooth, oscillating = int((own.real > least).sum()), int((own.real < -least).sum())
    return GraphSpectrum(
        source=source,
        graph=graph,
        eigenvalues=own.cpu().numpy(),
        symmetry_error=float(errors[graph]),
        effective_rank=float(effective_rank(own)),
        radius=radius,
        complex_share=float(complex_share(own)),
        smooth=smooth,
        null=len(own) - smooth - oscillating,
        oscillating=oscillating,
    )


def _unit_filter(block: NonlocalBlock, unit: int, groups: int, parts: Parts | None) -> UnitFilter:
    frequencies = torch.linspace(0, 2, _FREQUENCIES, dtype=torch.float64)
    singular, squares = [], []
    # One frequency at a time: the responses to all of them are large.
    for frequency in frequencies.split(1):
        weight = block.stage[unit].combine.weight
        response = frequency_response(block, frequency.to(weight.device), unit).double()
        singular.append(response_gain(response).singular_values)
        squares.append(response.square().sum(1))
    width = response.shape[1]
    values, power = torch.cat(singular).cpu(), torch.cat(squares).cpu() / width
    return UnitFilter(
        unit=unit,
        frequencies=frequencies,
        gain=ResponseGain(values, values[:, 0], torch.linalg.vector_norm(values, dim=-1)),
        width=width,
        groups=_channel_groups(frequencies, power, block.recipe.groups, groups),
        folded=isinstance(block.stage[unit].norm, nn.Identity),
        parts=parts,
    )


def _channel_groups(
    frequencies: Tensor, power: Tensor, own: int, wanted: int
) -> list[ChannelGroup]:
    """The block's own groups, or channels alike in what frequencies they are given.

    Shapes: (L,), power (L, C), the squared gain of each output channel.
    """
    channels = power.shape[1]
    if own > 1:
        members = torch.arange(channels).chunk(own)
    else:
        members = _mean_frequency(frequencies, power).argsort(stable=True).chunk(wanted)
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
    """sum_l lambda_l p_l / sum_l p_l; 1 where there is no power. Shape: power (L, C) -> (C,)."""
    total = power.sum(0)
    mean = (frequencies[:, None] * power).sum(0) / total.where(total > 0, 1)
    return mean.where(total > 0, 1)


def _joined(parts: Iterable[Parts]) -> Parts | None:
    """Those of all inputs as a batch."""
    found = list(parts)
    if not found:
        return None
    return Parts(
        *(
            Part(*(torch.cat(values).cpu() for values in zip(*same, strict=True)))
            for same in zip(*found, strict=True)
        )
    )
