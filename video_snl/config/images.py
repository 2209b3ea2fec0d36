"""The network of an image experiment as typed values, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from video_snl.config.backbones import ImageBackboneName
from video_snl.config.video import BlockName, OptionValue

__all__ = ["ImageBackboneName", "ImageModelConfig"]


@dataclass
class ImageModelConfig:
    """The network of images and the blocks in it.

    Args:
        backbone: ``preresnet20``, ``preresnet56`` (textbook, for CIFAR), ``preresnet20_snl``,
            ``preresnet56_snl``, ``preresnet110_snl`` (those of the paper's released code),
            ``resnet50_cifar`` (3x3 stem, no max-pool), ``resnet50`` (torchvision's) or
            ``fcn_r50_d8`` (segmentation: ResNet50-V1c of output stride 8 and an FCN head).
        block: ``snl``, another block (docs/blocks.md), ``none``, or ``released``: a block in the
            form of the released code, whose ``kind`` is one of ``block_options``.
        block_options: Options of the block itself, such as ``{order: 3}`` of ``gsnl``.
        stages: Stages that get one block each, such as ``[1, 2, 3]``, at the paper's place in
            each: after the second residual unit of a PreResNet, before the last one of a ResNet.
            Default: stage 1 of a PreResNet, stage 3 (res4) of a ResNet; in ``fcn_r50_d8`` the
            block stands between the two convolutions of the head.
        positions: Where the blocks stand instead, such as ``after:layer1.1`` or any dotted module
            path.
        reduction: Cs = C / reduction for every block, such as 1, 2 or 4; default that of the
            block, which is mostly 2.
        inter_channels: Transferred channels Cs of every block, instead of ``reduction``.
        num_units: Units of a block that share one affinity (the stage of ``ns``).
        zero_init: Blocks start as the identity (the weight of their last norm is zero).
        activation: ``relu`` puts a ReLU behind a block's norm, as the paper's released code does;
            it needs ``zero_init: false``.
        dropout: Probability of dropout before the classifier.
        num_classes: Size of the classifier; default as many as the data set has classes.
        weights: Start from ``imagenet`` (torchvision's ResNet-50; not for networks of CIFAR), a
            file or a URL: of torchvision, mmsegmentation, the released code, or our own.
        allow_partial_weights: Accept weights of which less than 95 % of the backbone's parameters
            match.
    """

    backbone: ImageBackboneName = "preresnet20"
    block: BlockName | Literal["released"] = "snl"
    block_options: dict[str, OptionValue] = field(default_factory=dict)
    stages: list[int] | None = None
    positions: list[str] | None = None
    reduction: int | None = None
    inter_channels: int | None = None
    num_units: int = 1
    zero_init: bool = True
    activation: Literal["relu"] | None = None
    dropout: float = 0.0
    num_classes: int | None = None
    weights: str | None = None
    allow_partial_weights: bool = False
