"""Parameters and multiply-adds of cells, beside those of the network without a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from video_snl.commands.describe import image_description
from video_snl.config.image import ImageDataConfig, ImageModelConfig
from video_snl.data.image.catalog import image_class_count
from video_snl.tables.cells import BLOCKS
from video_snl.tables.settings import Planned

__all__ = ["Size", "sizes_of"]

# At an eighth of a scene's height and width all layers of the segmentation network, which has no
# other than convolutions and norms, cost a 64th, and are traced in a second. Gates have layers that
# cost the same at every size.
_PART = 8
_GATES = {block.block for block in BLOCKS.values() if block.gate}


@dataclass(frozen=True)
class Size:
    """Of a network in evaluation, and what its blocks add; products with affinities left out."""

    parameters: int
    multiply_adds: int
    added_parameters: int
    added_multiply_adds: int


def sizes_of(planned: Sequence[Planned]) -> list[Size]:
    """Of every cell, for pictures of the size that its network sees; no data set is needed."""
    known: dict[str, Size] = {}
    sizes = []
    for cell in planned:
        data, model = cell.experiment.data, cell.experiment.model
        key = repr((model, _classes(data), data.height, data.width))
        if key not in known:
            known[key] = _size(model, _classes(data), (data.height, data.width))
        sizes.append(known[key])
    return sizes


def _size(model: ImageModelConfig, classes: int, size: tuple[int, int]) -> Size:
    scene = model.backbone == "fcn_r50_d8" and not any(side % (8 * _PART) for side in size)
    part = _PART if scene and model.block not in _GATES else 1
    facts = image_description(model, classes, (size[0] // part, size[1] // part))
    blocks: list[dict[str, Any]] = facts["blocks"]
    return Size(
        parameters=facts["parameters"],
        multiply_adds=part**2 * facts["multiply_adds"],
        added_parameters=sum(block["parameters"] for block in blocks),
        added_multiply_adds=part**2 * sum(block["multiply_adds"] for block in blocks),
    )


def _classes(data: ImageDataConfig) -> int:
    """As published; of own folders as many as there are, or as of CIFAR-10 without any."""
    if data.dataset != "folder":
        return image_class_count(replace(data, root=None))
    return 10 if data.root is None else image_class_count(data)
