"""Learning rates: schedules, factors for parts of the network, and frozen parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.image import ImageOptimizerConfig
from video_snl.models.video import head_parameters, stage_modules

__all__ = [
    "HeadOf",
    "LayersOf",
    "PartOptions",
    "RateOptions",
    "freeze",
    "image_rate_factor",
    "keep_frozen_layers_in_eval",
    "learning_rate_factor",
    "parameter_groups",
    "scheduled",
]

HeadOf = Callable[[nn.Module], set[nn.Parameter]]
LayersOf = Callable[[nn.Module, str], list[nn.Module]]


class PartOptions(Protocol):
    """The options of an optimizer that say what trains, and how fast beside the rest."""

    @property
    def epochs(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def backbone_lr_factor(self) -> float: ...
    @property
    def block_lr_factor(self) -> float: ...
    @property
    def head_lr_factor(self) -> float: ...
    @property
    def frozen_stages(self) -> Sequence[str]: ...
    @property
    def frozen_batchnorm(self) -> bool: ...


class RateOptions(Protocol):
    """The options of a schedule."""

    @property
    def epochs(self) -> int: ...
    @property
    def schedule(self) -> str: ...
    @property
    def step_epochs(self) -> int: ...
    @property
    def warmup_epochs(self) -> float: ...


def scheduled(
    optimizer: Optimizer, epochs: int, steps: float, factor: Callable[[float], float]
) -> Any:
    """Return an optimizer and its schedule as ``configure_optimizers`` of Lightning does.

    Args:
        steps: Number of steps of the whole run of so many ``epochs``.
        factor: Returns the factor of the initial learning rate after so many epochs.
    """
    steps_of_epoch = max(1, int(steps) // epochs)
    schedule = LambdaLR(optimizer, lambda step: factor(step / steps_of_epoch))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def learning_rate_factor(config: RateOptions, epoch: float) -> float:
    """Return the factor of the initial learning rate after ``epoch`` (fractional) epochs.

    ``step``: 0.1^floor(epoch / step_epochs); ``cosine``: (1 + cos(pi epoch / epochs)) / 2. During
    the warm-up it is also multiplied by a line from 0.1 to 1.
    """
    if config.schedule == "step":
        factor = 0.1 ** math.floor(epoch / config.step_epochs + _ROUNDING)
    else:
        factor = _cosine(epoch / config.epochs)
    return factor * _warmth(epoch, config.warmup_epochs)


def image_rate_factor(config: ImageOptimizerConfig, epoch: float) -> float:
    """Return the same factor for runs on images; with t = epoch / epochs:

    ``milestones``: drop^(number of milestones that are past); ``cosine``: (1 + cos(pi t)) / 2;
    ``poly``: f + (1 - f) (1 - t)^power, f = least_learning_rate / learning_rate.
    """
    share = min(1.0, epoch / config.epochs)
    if config.schedule == "milestones":
        past = sum(epoch + _ROUNDING >= milestone for milestone in config.milestones)
        factor = config.drop**past
    elif config.schedule == "poly":
        least = config.least_learning_rate / config.learning_rate if config.learning_rate else 0.0
        factor = least + (1 - least) * (1 - share) ** config.power
    else:
        factor = _cosine(share)
    return factor * _warmth(epoch, config.warmup_epochs)


_ROUNDING = 1e-9  # of a step's share of an epoch


def _cosine(share: float) -> float:
    return (1 + math.cos(math.pi * min(1.0, share))) / 2


def _warmth(epoch: float, warmup_epochs: float) -> float:
    return 0.1 + 0.9 * epoch / warmup_epochs if epoch < warmup_epochs else 1.0


def parameter_groups(
    model: nn.Module, config: PartOptions, head_of: HeadOf = head_parameters
) -> list[dict[str, Any]]:
    """Group backbone, blocks and head, each with its learning rate; frozen ones are left out."""
    head = head_of(model)
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


def _no_head(model: nn.Module) -> set[nn.Parameter]:
    return set()


def freeze(
    model: nn.Module,
    config: PartOptions,
    layers_of: LayersOf = stage_modules,
    head_of: HeadOf = _no_head,
) -> None:
    """Take the gradient from the frozen stages and, if asked for, the backbone's BatchNorms.

    Args:
        head_of: The parameters of the head, whose BatchNorms train; by default there are none.
    """
    for module in _frozen_modules(model, config, layers_of, head_of):
        module.requires_grad_(False)


def keep_frozen_layers_in_eval(
    model: nn.Module,
    config: PartOptions,
    layers_of: LayersOf = stage_modules,
    head_of: HeadOf = _no_head,
) -> None:
    """Keep the running statistics of what is frozen; to be called after every ``train()``."""
    for module in _frozen_modules(model, config, layers_of, head_of):
        module.eval()


def _frozen_modules(
    model: nn.Module, config: PartOptions, layers_of: LayersOf, head_of: HeadOf
) -> list[nn.Module]:
    """Return the frozen parts of the backbone; an inserted block trains wherever it stands."""
    blocks = {m for block in inserted_blocks(model).values() for m in block.modules()}
    frozen = [
        module
        for stage in config.frozen_stages
        for module in layers_of(model, stage)
        if module not in blocks
    ]
    if config.frozen_batchnorm:
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m not in blocks]
        head = head_of(model)
        frozen += [m for m in norms if head.isdisjoint(m.parameters())]
    return frozen
