"""One network and what it is shown: what all kinds of networks have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from video_snl.analysis.explain.gradcam import gradcam, last_unit
from video_snl.analysis.explain.maps import as_grid, block_maps, map_count, positions_limit
from video_snl.analysis.explain.positions import check_position
from video_snl.analysis.explain.rows import has_affinity
from video_snl.analysis.explain.structure import BlockMaps, Explanation, Grid
from video_snl.blocks.block import NonlocalBlock
from video_snl.blocks.filters import ChannelGraph

__all__ = ["Subject", "block_inputs", "explained"]

_TOP = 5


@dataclass(frozen=True)
class Subject:
    """A network, in evaluation mode, and the clip it is asked about.

    Attributes:
        source: The video, picture or tracklet.
        checkpoint: The network's file.
        scores: (1, 3, T, H, W), or of pictures (1, 3, H, W), -> (1, classes) logits; None where
            there are no classes to name.
        run: Sends the clip through the network.
        blocks: By position.
        block: What they are called.
        frames: uint8 (T, H, W, 3), the clip before its normalisation.
        clip: The network's input.
        class_names: In the order of the scores.
        notes: To begin with.
    """

    source: str
    checkpoint: Path
    run: Callable[[Tensor], object]
    scores: nn.Module | None
    blocks: Mapping[str, nn.Module]
    block: str
    frames: np.ndarray
    clip: Tensor
    class_names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def explained(subjects: list[Subject], at: Grid | None = None) -> list[Explanation]:
    """What is shown of several networks on one page, whose size they share.

    Raises:
        UserError: ``at`` is no position of the first block's feature map.
    """
    inputs = [block_inputs(subject) for subject in subjects]
    if at is not None:
        grids = [as_grid(tuple(x.shape[2:])) for found in inputs for x in found.values()]
        check_position(at, grids[0] if grids else None)
    blocks = [block for subject in subjects for block in subject.blocks.values()]
    limit = positions_limit(sum(map(map_count, blocks)))
    return [_explained(*pair, limit) for pair in zip(subjects, inputs, strict=True)]


def _explained(subject: Subject, inputs: dict[str, Tensor], limit: int) -> Explanation:
    shown: list[BlockMaps] = []
    notes = list(subject.notes)
    for position, x in inputs.items():
        block = subject.blocks[position]
        maps = block_maps(position, subject.block, block, x, limit)
        notes += [note for note in _block_notes(block, maps) if note not in notes]
        shown += maps
    classes, cam, more = _named(subject)
    if not subject.blocks:
        instead = "" if cam is None else "; Grad-CAM shows what speaks for the predicted class"
        notes.append(
            f"The network has no blocks: there are no maps of where positions look{instead}."
        )
    return Explanation(
        source=subject.source,
        checkpoint=str(subject.checkpoint),
        frames=subject.frames,
        classes=classes,
        gradcam=cam,
        blocks=shown,
        notes=notes + more,
    )


@torch.no_grad()
def block_inputs(subject: Subject) -> dict[str, Tensor]:
    """What every block is given, in the order they are passed."""
    found: dict[str, Tensor] = {}
    handles = []
    for position, block in subject.blocks.items():

        def note(_: nn.Module, given: tuple[Tensor, ...], position: str = position) -> None:
            found[position] = given[0].detach()

        handles.append(block.register_forward_pre_hook(note))
    try:
        subject.run(subject.clip)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _named(subject: Subject) -> tuple[list[tuple[str, float]], np.ndarray | None, list[str]]:
    """The highest classes, Grad-CAM of the first, and what is to be said of that."""
    if subject.scores is None:
        return [], None, []
    with torch.no_grad():
        scores = subject.scores(subject.clip)[0].float().softmax(-1)
    values, labels = scores.topk(min(_TOP, len(scores)))
    named = [subject.class_names[label] for label in labels.tolist()]
    classes = list(zip(named, values.tolist(), strict=True))
    layer = last_unit(subject.scores)
    if layer is None:
        return classes, None, ["No Grad-CAM: this network has no stages of residual units."]
    cam = gradcam(subject.scores, layer, subject.clip, int(labels[0]))
    note = "" if cam.any() else f"Grad-CAM is zero: no position speaks for {named[0]}."
    return classes, cam, [note] if note else []


def _block_notes(block: nn.Module, maps: list[BlockMaps]) -> list[str]:
    """What the maps of a block do not show by themselves."""
    first = maps[0]
    notes = []
    if not has_affinity(block):
        notes.append(
            f"{first.block} has no affinity between positions: only its sensitivity is shown."
        )
    if isinstance(block, NonlocalBlock):
        notes += _affinity_notes(block, first.block)
    if first.grid != first.full_grid:
        full, shown = (" x ".join(map(str, grid)) for grid in (first.full_grid, first.grid))
        notes.append(
            f"{first.block} {first.position} has {full} positions (time x rows x columns). Shown "
            f"are {shown}: the rows of evenly spaced positions, their values being means over the "
            "positions of a box."
        )
    if all(np.array_equal(unit.before, unit.after) for unit in maps):
        notes.append(f"{first.block} {first.position} leaves the feature map as it is.")
    return notes


def _affinity_notes(block: NonlocalBlock, name: str) -> list[str]:
    notes = []
    if block.config.pool > 1:
        notes.append(
            f"{name} looks at keys pooled over {block.config.pool} positions along rows and "
            "columns: positions that share a key share its weight equally."
        )
    if block.config.recurrence > 1:
        notes.append(
            f"{name} is applied {block.config.recurrence} times in a row: the affinity is that of "
            "the first time, the sensitivity that of all together."
        )
    if isinstance(block.filter, ChannelGraph):
        notes.append(
            f"The graph of {name} has the channels of all positions for its vertices: the affinity "
            "between two positions is the mean over the channels of the one, and the sum over "
            "those of the other."
        )
    return notes
