"""Networks of images, from a configuration: backbone, weights, then blocks.

Also the stages of such a network, which a training may freeze.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import nn

from video_snl.blocks.insertion import BlockFactory, insert_blocks
from video_snl.blocks.zoo import make_block
from video_snl.config.backbones import IMAGE_BACKBONES, ImageBackbone
from video_snl.config.image import ImageModelConfig
from video_snl.errors import UserError
from video_snl.models.released.blocks import ReleasedBlock
from video_snl.models.weights.image import load_blocks, load_image_weights
from video_snl.models.weights.loading import LoadReport

__all__ = ["block_positions", "build_image_model", "stage_layers"]

_STEM = ("conv", "conv1", "bn1", "stem")


def build_image_model(
    config: ImageModelConfig, num_classes: int, *, seed: int = 0, progress: bool = True
) -> tuple[nn.Module, LoadReport | None]:
    """Build the network of ``config``, and load the weights that it asks for.

    The initial weights are a function of ``seed``; those of the backbone do not depend on whether
    blocks are inserted. The global random state is left as it was.

    Returns:
        The network, and what was loaded into it where weights were asked for.

    Shapes:
        The network: float (B, 3, H, W), normalised -> (B, num_classes); one that segments ->
        (B, num_classes, H, W), in training :class:`~video_snl.models.fcn.SegmentationLogits`.

    Raises:
        UserError: for an unknown backbone, stages or positions that do not exist, options that
            exclude each other, or weights that cannot be had or do not fit.
    """
    if config.backbone not in IMAGE_BACKBONES:
        known = ", ".join(IMAGE_BACKBONES)
        raise UserError(f"model.backbone={config.backbone!r} is unknown; choose from: {known}.")
    backbone = IMAGE_BACKBONES[config.backbone]
    positions = block_positions(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = backbone.build(num_classes, config.dropout)
        report = loaded = None
        if config.weights is not None:
            report, loaded = load_image_weights(model, config, backbone.layout, progress=progress)
        if config.block != "none":
            _insert(model, config, backbone, positions)
        if report is not None and loaded is not None and config.block == "released":
            report = load_blocks(model, report, loaded, _released_block(config, backbone))
    return model, report


def block_positions(config: ImageModelConfig) -> list[str]:
    """Return where the blocks of ``config`` stand, in the grammar of positions.

    Raises:
        UserError: for stages and positions together, or stages that the network does not have.
    """
    backbone = IMAGE_BACKBONES[config.backbone]
    if config.stages is not None and config.positions is not None:
        raise UserError(
            f"model.stages={config.stages} and model.positions={config.positions} both say where "
            "blocks stand; give one of them."
        )
    if config.positions is not None:
        return config.positions
    if config.stages is None:
        return list(backbone.positions)
    unknown = [stage for stage in config.stages if stage not in backbone.stages]
    if unknown or len(set(config.stages)) < len(config.stages):
        known = ", ".join(map(str, backbone.stages)) or "none: leave stages out, or give positions"
        raise UserError(
            f"model.stages={config.stages}: backbone {config.backbone} takes each of these stages "
            f"once: {known}."
        )
    return [backbone.stages[stage] for stage in config.stages]


def stage_layers(model: nn.Module, stage: str) -> list[nn.Module]:
    """Return the layers of a stage, ``stem`` or ``layer1`` ..., that hold parameters themselves.

    Raises:
        UserError: when the network has no such stage.
    """
    backbone = getattr(model, "backbone", model)
    children = {
        n: m for n, m in backbone.named_children() if next(m.parameters(), None) is not None
    }
    # In a PreResNet the norm bn1 stands after the last stage.
    stem = [n for n in _STEM if n in children and not (n == "bn1" and "conv1" not in children)]
    stages = {"stem": [children[name] for name in stem]}
    stages |= {name: [part] for name, part in children.items() if name.startswith("layer")}
    if stage not in stages:
        raise UserError(
            f"optimizer.frozen_stages names {stage!r}; this network has: {', '.join(stages)}."
        )
    layers = [layer for part in stages[stage] for layer in part.modules()]
    return [layer for layer in layers if next(layer.children(), None) is None]


def _released_block(config: ImageModelConfig, backbone: ImageBackbone) -> ReleasedBlock:
    try:
        return ReleasedBlock.of(dict(config.block_options), backbone.affinity, backbone.sign)
    except ValueError as error:
        raise UserError(f"model: {error}") from error


def _insert(
    model: nn.Module, config: ImageModelConfig, backbone: ImageBackbone, positions: list[str]
) -> None:
    if config.reduction is not None and config.inter_channels is not None:
        raise UserError(
            f"model.reduction={config.reduction} and model.inter_channels="
            f"{config.inter_channels} both give Cs; give one of them."
        )
    if config.reduction is not None and config.reduction < 1:
        raise UserError(f"model.reduction={config.reduction} must be at least 1.")
    try:
        insert_blocks(
            model,
            _factory(config, backbone),
            positions,
            inter_channels=config.inter_channels,
            num_units=config.num_units,
            zero_init=config.zero_init,
            activation=config.activation,
        )
    except ValueError as error:
        raise UserError(f"model: {error}") from error


def _factory(config: ImageModelConfig, backbone: ImageBackbone) -> BlockFactory:
    """Return what makes the blocks: Cs may depend on the channels where one stands."""
    released = _released_block(config, backbone) if config.block == "released" else None

    def build(
        in_channels: int,
        *,
        ndim: int,
        inter_channels: int | None,
        num_units: int,
        zero_init: bool,
        activation: Literal["relu"] | None,
    ) -> nn.Module:
        width = inter_channels
        if config.reduction is not None:
            width = max(1, in_channels // config.reduction)
        make = partial(make_block, config.block) if released is None else released.build
        options = config.block_options if released is None else {}
        return make(
            in_channels,
            ndim=ndim,
            inter_channels=width,
            num_units=num_units,
            zero_init=zero_init,
            activation=activation,
            **options,  # type: ignore[arg-type]  # the block checks them
        )

    return build
