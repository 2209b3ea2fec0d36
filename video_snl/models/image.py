"""From a configuration to a network of images: backbone, weights, then blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

import torch
from torch import nn

from video_snl.blocks.insertion import BlockFactory, insert_blocks
from video_snl.blocks.zoo import make_block
from video_snl.config.image import ImageBackboneName, ImageModelConfig
from video_snl.errors import UserError
from video_snl.models.fcn import FCN
from video_snl.models.preresnet import (
    BASIC,
    BOTTLENECK,
    PreActUnit,
    released_preresnet,
    textbook_preresnet,
)
from video_snl.models.released.blocks import AffinityName, Sign
from video_snl.models.released.new_blocks import ReleasedBlock
from video_snl.models.resnet import resnet50, resnet50_cifar
from video_snl.models.weights.image import Layout, ReleasedPlace, load_blocks, load_image_weights
from video_snl.models.weights.loading import LoadReport

__all__ = ["IMAGE_BACKBONES", "ImageBackbone", "block_positions", "build_image_model"]


@dataclass(frozen=True)
class ImageBackbone:
    """A network of images by name.

    Attributes:
        build: makes it, of a number of classes and a probability of dropout.
        default: where the paper's block stands.
        layout: how files of its weights are laid out.
        stages: the paper's place in each stage.
        smallest: least height and width of an image.
        segments: it classifies pixels, and in training has an auxiliary output.
        affinity, sign: of blocks of the released code in it.
    """

    build: Callable[[int, float], nn.Module]
    default: tuple[str, ...]
    layout: Layout
    stages: Mapping[int, str] = field(default_factory=dict)
    smallest: int = 4
    segments: bool = False
    affinity: AffinityName | None = None
    sign: Sign = "+"


_PRERESNET = {stage: f"after:layer{stage}.1" for stage in (1, 2, 3)}
_RESNET50 = {1: "before:layer1.2", 2: "before:layer2.3", 3: "before:layer3.5", 4: "before:layer4.2"}


def _textbook(units: int, advice: str) -> ImageBackbone:
    layout = Layout("conv.weight", ("fc.",), foreign={"fc2.weight": advice})
    build = partial(textbook_preresnet, units)
    return ImageBackbone(build, (_PRERESNET[1],), layout, _PRERESNET)


def _released(unit: PreActUnit, units: int) -> ImageBackbone:
    layout = Layout(
        "conv.weight",
        ("fc2.",),
        # The released training script hangs a ResNet's stem and classifier on every network.
        places=tuple(
            ReleasedPlace(f"layer{stage}", 2, units, place) for stage, place in _PRERESNET.items()
        ),
        left_over=("conv1.weight", "fc.weight", "fc.bias"),
        required={"fc2.weight": "the textbook's have the backbones preresnet20 and preresnet56"},
    )
    return ImageBackbone(
        partial(released_preresnet, unit, units),
        (_PRERESNET[1],),
        layout,
        _PRERESNET,
        affinity="relu_sym",
    )


_RESNET = Layout(
    "conv1.weight",
    ("fc.",),
    imagenet=True,
    places=(ReleasedPlace("layer3", 5, 6, _RESNET50[3]),),
)
_FCN = Layout(
    "backbone.stem.0.weight",
    ("decode_head.conv_seg.", "auxiliary_head.conv_seg."),
    imagenet=True,
    named={"decode_head.SNL.": "after:decode_head.convs.0"},
    inside="backbone.",
    heads=("decode_head.", "auxiliary_head.", "fc."),
)

IMAGE_BACKBONES: dict[ImageBackboneName, ImageBackbone] = {
    "preresnet20": _textbook(3, "it is the released code's: choose backbone preresnet20_snl"),
    "preresnet56": _textbook(9, "it is the released code's: choose backbone preresnet56_snl"),
    "preresnet20_snl": _released(BASIC, 3),
    "preresnet56_snl": _released(BOTTLENECK, 9),
    "preresnet110_snl": _released(BOTTLENECK, 18),
    "resnet50_cifar": ImageBackbone(resnet50_cifar, (_RESNET50[3],), _RESNET, _RESNET50),
    "resnet50": ImageBackbone(resnet50, (_RESNET50[3],), _RESNET, _RESNET50, smallest=32),
    "fcn_r50_d8": ImageBackbone(
        FCN,
        ("after:decode_head.convs.0",),
        _FCN,
        smallest=16,
        segments=True,
        affinity="relu_sym",
        sign="-",
    ),
}


def build_image_model(
    config: ImageModelConfig, num_classes: int, *, seed: int = 0, progress: bool = True
) -> tuple[nn.Module, LoadReport | None]:
    """The network of ``config``, and what was loaded into it where weights were asked for.

    The initial weights are a function of ``seed``; those of the backbone do not depend on whether
    blocks are inserted. The global random state is left as it was.

    Shapes:
        The network: float (B, 3, H, W), normalised -> (B, num_classes); one that segments ->
        (B, num_classes, H, W), in training :class:`~video_snl.models.fcn.SegmentationLogits`.

    Raises:
        UserError: for an unknown backbone, stages or positions that do not exist, options that
            exclude each other, or weights that cannot be had or do not fit.
    """
    if config.backbone not in IMAGE_BACKBONES:
        known = ", ".join(get_args(ImageBackboneName))
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
    """Where the blocks of ``config`` stand, in the grammar of positions.

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
        return list(backbone.default)
    unknown = [stage for stage in config.stages if stage not in backbone.stages]
    if unknown or len(set(config.stages)) < len(config.stages):
        known = ", ".join(map(str, backbone.stages)) or "none: leave stages out, or give positions"
        raise UserError(
            f"model.stages={config.stages}: backbone {config.backbone} takes each of these stages "
            f"once: {known}."
        )
    return [backbone.stages[stage] for stage in config.stages]


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
    """Makes the blocks: Cs may depend on the channels where one stands."""
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
