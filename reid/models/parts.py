"""The parts of a tracklet's network that have learning rates of their own, or are frozen."""

from __future__ import annotations

from typing import cast

from torch import nn

from reid.models.network import TrackletNet
from video_snl.blocks.insertion import block_places
from video_snl.errors import UserError

__all__ = ["head_parameters", "stage_layers"]

_STEM = ("conv1", "bn1", "layer0", "blocks.0")  # of torchvision, torchreid, pytorchvideo


def head_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The parameters of temporal head, neck and classifier."""
    net = cast(TrackletNet, model)
    return {p for part in (net.head, net.neck, net.classifier) for p in part.parameters()}


def stage_layers(trunk: nn.Module, stage: str) -> list[nn.Module]:
    """The layers of a stage of a network's trunk that hold parameters themselves.

    A stage is ``stem``, one of the position grammar (``layer1``, ``res2``), or any module of the
    trunk by its dotted path.

    Raises:
        UserError: when the network has no such stage.
    """
    modules = dict(trunk.named_modules())
    places = {
        place.rpartition(".")[0]: path.rpartition(".")[0]
        for place, path in block_places(trunk).items()
    }
    if stage == "stem" and "stem" not in modules:
        found = [modules[name] for name in _STEM if name in modules]
    else:
        path = places.get(stage, stage)
        found = [modules[path]] if path in modules and path else []
    if not found:
        known = ["stem", *dict.fromkeys([*places, *dict(trunk.named_children())])]
        raise UserError(
            f"optimizer.frozen_stages names {stage!r}; this network has: {', '.join(known)}."
        )
    layers = [layer for part in found for layer in part.modules()]
    return [layer for layer in layers if next(layer.children(), None) is None]
