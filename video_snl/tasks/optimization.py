"""Learning rates: schedules, factors for parts of the network, and frozen parts."""

from __future__ import annotations

import math
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from video_snl.config import OptimizerConfig
from video_snl.models.build import head_parameters, stage_modules
from video_snl.models.insertion import inserted_blocks

__all__ = ["freeze", "keep_frozen_layers_in_eval", "learning_rate_factor", "parameter_groups"]


def learning_rate_factor(config: OptimizerConfig, epoch: float) -> float:
    """What the initial learning rate is multiplied by, after ``epoch`` (fractional) epochs.

    ``step``: 0.1^floor(epoch / step_epochs); ``cosine``: (1 + cos(pi epoch / epochs)) / 2. During
    the warm-up it is also multiplied by a line from 0.1 to 1.
    """
    if config.schedule == "step":
        factor = 0.1 ** math.floor(epoch / config.step_epochs + 1e-9)
    else:
        factor = (1 + math.cos(math.pi * min(1.0, epoch / config.epochs))) / 2
    if epoch < config.warmup_epochs:
        factor *= 0.1 + 0.9 * epoch / config.warmup_epochs
    return factor


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Backbone, inserted blocks and head, each with its own learning rate; frozen ones left out."""
    head = head_parameters(model)
    blocks = {p for block in inserted_blocks(model).values() for p in block.parameters()}
    groups: dict[str, list[nn.Parameter]] = {"backbone": [], "blocks": [], "head": []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            part = "head" if parameter in head else "blocks" if parameter in blocks else "backbone"
            groups[part].append(parameter)
    factors = {
        "backbone": config.backbone_lr_factor,
        "blocks": config.block_lr_factor,
        "head": config.head_lr_factor,
    }
    return [
        {"params": parameters, "lr": config.learning_rate * factors[part], "name": part}
        for part, parameters in groups.items()
        if parameters
    ]


def freeze(model: nn.Module, config: OptimizerConfig) -> None:
    """Take the gradient from the frozen stages and, if asked for, the backbone's BatchNorms."""
    for module in _frozen_modules(model, config):
        module.requires_grad_(False)


def keep_frozen_layers_in_eval(model: nn.Module, config: OptimizerConfig) -> None:
    """Keep the running statistics of what is frozen; to be called after every ``train()``."""
    for module in _frozen_modules(model, config):
        module.eval()


def _frozen_modules(model: nn.Module, config: OptimizerConfig) -> list[nn.Module]:
    """Frozen parts of the backbone; an inserted block trains wherever it stands."""
    blocks = {m for block in inserted_blocks(model).values() for m in block.modules()}
    frozen = [
        module
        for stage in config.frozen_stages
        for module in stage_modules(model, stage)
        if module not in blocks
    ]
    if config.frozen_batchnorm:
        frozen += [m for m in model.modules() if isinstance(m, _BatchNorm) and m not in blocks]
    return frozen
