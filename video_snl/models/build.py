"""From a model configuration to a network: backbone, weights, then blocks."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from video_snl.checkpoints import LoadReport, load_backbone_weights
from video_snl.config import ModelConfig
from video_snl.errors import UserError
from video_snl.models.i3d import BACKBONES
from video_snl.models.insertion import WithBlock, block_places, insert_blocks

__all__ = ["build_model", "head_parameters", "recompute_units", "stage_modules", "trunk_of"]


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
    """The layers of a stage that hold parameters themselves.

    Stages are ``stem`` and ``res2`` ... ``res5`` or ``layer1`` ... ``layer4``. In a network without
    residual stages that we know, its parts have their own names.

    Raises:
        UserError: when the network has no such stage.
    """
    stages = _stages(trunk_of(model))
    if stage not in stages:
        raise UserError(
            f"optimizer.frozen_stages names {stage!r}; this network has: {', '.join(stages)}."
        )
    layers = (layer for part in stages[stage] for layer in part.modules())
    return [layer for layer in layers if next(layer.children(), None) is None]


def _stages(trunk: nn.Module) -> dict[str, list[nn.Module]]:
    paths = {
        place.rpartition(".")[0]: path.rpartition(".")[0]
        for place, path in block_places(trunk).items()
    }
    stages = {name: [trunk.get_submodule(path)] for name, path in paths.items()}
    holding = {n: m for n, m in trunk.named_children() if next(m.parameters(), None) is not None}
    if not stages:
        return {name: [module] for name, module in holding.items()}
    if "blocks" in holding:
        return {**stages, "stem": [trunk.get_submodule("blocks.0")]}
    before = itertools.takewhile(lambda name: name not in stages, holding)
    return {**stages, "stem": [holding[name] for name in before]}


def trunk_of(model: nn.Module) -> nn.Module:
    """The part of ``model`` that has the stages: its ``trunk``, or else itself.

    A network with a ``trunk`` is one around another: all else in it is its head.
    """
    trunk = getattr(model, "trunk", model)
    assert isinstance(trunk, nn.Module)
    return trunk


def head_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The parameters of the classifier, the last linear layer, or of all that is not the trunk."""
    trunk = trunk_of(model)
    if trunk is not model:
        return set(model.parameters()) - set(trunk.parameters())
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return set(linear[-1].parameters())


def recompute_units(model: nn.Module) -> None:
    """Keep only the inputs of the residual units, and recompute the rest in the backward pass."""
    for unit in _units(model):
        unit.forward = functools.partial(  # type: ignore[method-assign]
            checkpoint, unit.forward, use_reentrant=False
        )


def _units(model: nn.Module) -> Iterator[nn.Module]:
    trunk = trunk_of(model)
    for path in block_places(trunk).values():
        unit = trunk.get_submodule(path)
        while isinstance(unit, WithBlock):
            unit = unit.module
        yield unit
