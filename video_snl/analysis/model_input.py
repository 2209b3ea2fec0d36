"""A network with one input to be analysed: the same for all kinds of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from video_snl.analysis.explain.maps import (
    as_grid,
    block_maps,
    gradcam,
    last_unit,
    map_count,
    positions_limit,
)
from video_snl.analysis.explain.positions import check_position
from video_snl.analysis.explain.rows import has_affinity
from video_snl.analysis.explain.structure import BlockMaps, Explanation, Grid
from video_snl.blocks.block import NonlocalBlock
from video_snl.blocks.filters import ChannelGraph
from video_snl.config.task_spec import TOP, AnyExperiment
from video_snl.runs.trained import Trained, TrainedNetwork
from video_snl.tasks.metrics import top_classes

__all__ = ["AnalysisInput", "analysis_input", "block_inputs", "explained"]


@dataclass(frozen=True)
class AnalysisInput:
    """A network in evaluation mode, and one input of it.

    Attributes:
        source: Name of the video, image or tracklet.
        checkpoint: File of the network.
        run: Callable that sends the clip through the network.
        scores: Module (1, 3, T, H, W), or for images (1, 3, H, W), -> (1, classes) logits; None
            where there are no classes to name.
        blocks: Blocks by their positions.
        block: Name of the blocks.
        frames: uint8 (T, H, W, 3), the clip before its normalisation.
        clip: Input of the network.
        class_names: Names in the order of the scores.
        notes: Sentences on how it was read.
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


def analysis_input(
    trained: TrainedNetwork[AnyExperiment], name: str, item: object, device: torch.device
) -> AnalysisInput:
    """Read one input for a trained network of any kind of task.

    Args:
        trained: The network; it is moved to the device.
        name: Name of the input.
        item: Value for it, as for :meth:`~video_snl.tasks.operations.Operations.read_input`.
        device: Device of network and clip.

    Raises:
        UserError: It cannot be read.
    """
    operations = trained.spec.make()
    read = operations.read_input(trained, name, item, device)
    model = trained.model.to(device)
    scored, notes = operations.scores_classes(trained), list(read.notes)
    class_names: list[str] = []
    if isinstance(trained, Trained) and scored:
        class_names = trained.class_names
    elif isinstance(trained, Trained):
        notes.append("The network labels every pixel: there are no scores and no Grad-CAM.")
    return AnalysisInput(
        source=name,
        checkpoint=trained.path,
        run=model,
        scores=model if scored else None,
        blocks=operations.blocks(model),
        block=operations.block_name(trained.experiment),
        frames=read.frames,
        clip=read.clip,
        class_names=class_names,
        notes=notes,
    )


def explained(shown: list[AnalysisInput], at: Grid | None = None) -> list[Explanation]:
    """Explain several networks on one page, whose size they share.

    Raises:
        UserError: ``at`` is no position of the first block's feature map.
    """
    inputs = [block_inputs(given) for given in shown]
    if at is not None:
        grids = [as_grid(tuple(x.shape[2:])) for found in inputs for x in found.values()]
        check_position(at, grids[0] if grids else None)
    blocks = [block for given in shown for block in given.blocks.values()]
    limit = positions_limit(sum(map(map_count, blocks)))
    return [_explained(*pair, limit) for pair in zip(shown, inputs, strict=True)]


def _explained(given: AnalysisInput, inputs: dict[str, Tensor], limit: int) -> Explanation:
    shown: list[BlockMaps] = []
    notes = list(given.notes)
    for position, x in inputs.items():
        block = given.blocks[position]
        maps = block_maps(position, given.block, block, x, limit)
        notes += [note for note in _block_notes(block, maps) if note not in notes]
        shown += maps
    classes, cam, more = _named(given)
    if not given.blocks:
        instead = "" if cam is None else "; Grad-CAM shows what speaks for the predicted class"
        notes.append(
            f"The network has no blocks: there are no maps of where positions look{instead}."
        )
    return Explanation(
        source=given.source,
        checkpoint=str(given.checkpoint),
        frames=given.frames,
        classes=classes,
        gradcam=cam,
        blocks=shown,
        notes=notes + more,
    )


@torch.no_grad()
def block_inputs(given: AnalysisInput) -> dict[str, Tensor]:
    """Return the input of every block, in the order they are run."""
    found: dict[str, Tensor] = {}
    handles = []
    for position, block in given.blocks.items():

        def note(_: nn.Module, passed: tuple[Tensor, ...], position: str = position) -> None:
            found[position] = passed[0].detach()

        handles.append(block.register_forward_pre_hook(note))
    try:
        given.run(given.clip)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _named(given: AnalysisInput) -> tuple[list[tuple[str, float]], np.ndarray | None, list[str]]:
    """Return the highest classes, Grad-CAM of the first, and notes on it."""
    if given.scores is None:
        return [], None, []
    with torch.no_grad():
        scores = given.scores(given.clip)[0].float().softmax(-1)
    classes = top_classes(scores, given.class_names, TOP)
    layer = last_unit(given.scores)
    if layer is None:
        return classes, None, ["No Grad-CAM: this network has no stages of residual units."]
    cam = gradcam(given.scores, layer, given.clip, given.class_names.index(classes[0][0]))
    note = "" if cam.any() else f"Grad-CAM is zero: no position speaks for {classes[0][0]}."
    return classes, cam, [note] if note else []


def _block_notes(block: nn.Module, maps: list[BlockMaps]) -> list[str]:
    """Return notes on what the maps of a block do not show by themselves."""
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
