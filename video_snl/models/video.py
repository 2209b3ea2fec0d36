"""From a model configuration to a network: backbone, weights, then blocks."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from video_snl.blocks.insertion import WithBlock, block_places, insert_blocks
from video_snl.config.video import ModelConfig
from video_snl.errors import UserError
from video_snl.models.i3d import BACKBONES
from video_snl.models.weights.loading import LoadReport, load_backbone_weights

__all__ = ["build_model", "head_parameters", "recompute_units", "stage_modules"]


def build_model(
    config: ModelConfig, num_classes: int, *, seed: int = 0, progress: bool = True
) -> tuple[nn.Module, LoadReport | None]:
    """The network of ``config``, and what was loaded into it where weights were asked for.

    The initial weights are a function of ``seed``; those of the backbone do not depend on whether
    blocks are inserted. The global random state is left as it was.

    Raises:
        UserError: for positions that do not exist, options that exclude each other, or weights
            that cannot be had or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BACKBONES[config.backbone].build(num_classes, config.dropout)
        report = None
        if config.weights is not None:
            report = load_backbone_weights(
                model,
                config.weights,
                backbone=config.backbone,
                allow_partial=config.allow_partial_weights,
                progress=progress,
            )
        if config.block != "none":
            _insert(model, config)
    return model, report


def _insert(model: nn.Module, config: ModelConfig) -> None:
    try:
        insert_blocks(
            model,
            config.block,
            config.positions,
            inter_channels=config.inter_channels,
            num_units=config.num_units,
            zero_init=config.zero_init,
            activation=config.activation,
            **config.block_options,  # type: ignore[arg-type]  # the block checks them
        )
    except ValueError as error:
        raise UserError(f"model: {error}") from error


def stage_modules(model: nn.Module, stage: str) -> list[nn.Module]:
    """The layers of a stage, ``stem`` or ``res2`` ... ``res5``, that hold parameters themselves.

    Raises:
        UserError: when the network has no such stage.
    """
    paths = {
        place.rpartition(".")[0]: path.rpartition(".")[0]
        for place, path in block_places(model).items()
    }
    paths["stem"] = "blocks.0"
    if stage not in paths:
        raise UserError(
            f"optimizer.frozen_stages names {stage!r}; this network has: {', '.join(paths)}."
        )
    layers = model.get_submodule(paths[stage]).modules()
    return [layer for layer in layers if next(layer.children(), None) is None]


def head_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The parameters of the classifier, the last linear layer."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return set(linear[-1].parameters())


def recompute_units(model: nn.Module) -> None:
    """Keep only the inputs of the residual units, and recompute the rest in the backward pass.

    Raises:
        UserError: The network has no residual units, so that nothing would be saved.
    """
    units = list(_units(model))
    if not units:
        raise UserError(
            "trainer.activation_checkpointing recomputes the residual units of a ResNet, and this "
            "network has none: leave it out, or take a ResNet such as resnet50."
        )
    for unit in units:
        unit.forward = functools.partial(  # type: ignore[method-assign]
            checkpoint, unit.forward, use_reentrant=False
        )


def _units(model: nn.Module) -> Iterator[nn.Module]:
    for path in block_places(model).values():
        unit = model.get_submodule(path)
        while isinstance(unit, WithBlock):
            unit = unit.module
        yield unit
