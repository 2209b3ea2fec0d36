"""The parts of a network of images that have learning rates of their own, or are frozen."""

from __future__ import annotations

from torch import nn

from video_snl.blocks.insertion import inserted_blocks
from video_snl.errors import UserError

__all__ = ["head_parameters", "stage_layers"]

_STEM = ("conv", "conv1", "bn1", "stem")


def head_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The parameters of the classifier, or of the heads of segmentation without their blocks."""
    parts = [m for name, m in model.named_children() if name in ("decode_head", "auxiliary_head")]
    if not parts:
        parts = [[m for m in model.modules() if isinstance(m, nn.Linear)][-1]]
    blocks = {p for block in inserted_blocks(model).values() for p in block.parameters()}
    return {p for part in parts for p in part.parameters()} - blocks


def stage_layers(model: nn.Module, stage: str) -> list[nn.Module]:
    """The layers of a stage, ``stem`` or ``layer1`` ..., that hold parameters themselves.

    Raises:
        UserError: when the network has no such stage.
    """
    trunk = getattr(model, "backbone", model)
    children = {n: m for n, m in trunk.named_children() if next(m.parameters(), None) is not None}
    # In a PreResNet the norm bn1 stands behind the last stage.
    stem = [n for n in _STEM if n in children and not (n == "bn1" and "conv1" not in children)]
    stages = {"stem": [children[name] for name in stem]}
    stages |= {name: [part] for name, part in children.items() if name.startswith("layer")}
    if stage not in stages:
        raise UserError(
            f"optimizer.frozen_stages names {stage!r}; this network has: {', '.join(stages)}."
        )
    layers = [layer for part in stages[stage] for layer in part.modules()]
    return [layer for layer in layers if next(layer.children(), None) is None]
