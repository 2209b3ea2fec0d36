"""The configuration of an experiment on images as typed values, without torch.

The defaults are ``configs/digits/preresnet20_snl.yaml``: scikit-learn's digits, real images that
need no download.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from video_snl.config.backbones import ImageBackboneName
from video_snl.config.base import (
    BlockName,
    ExperimentBase,
    ModelBase,
    OptimizerBase,
    TrainerConfig,
)
from video_snl.config.datasets import ImageDatasetName, ImageStatistics
from video_snl.config.user_code import DottedPath
from video_snl.utils.media import MAX_PIXELS

__all__ = [
    "ImageBackboneName",
    "ImageDataConfig",
    "ImageDatasetName",
    "ImageExperiment",
    "ImageModelConfig",
    "ImageOptimizerConfig",
    "ImageStatistics",
]


@dataclass
class ImageDataConfig:
    """Images, and how they are cropped and augmented.

    Args:
        dataset: ``digits`` (comes with scikit-learn), ``cifar10``, ``cifar100``, ``imagenet``,
            ``cub200`` (CUB-200-2011), ``cityscapes`` (segmentation) or ``folder`` (own images,
            one folder per class, see docs/images.md).
        root: Folder of the dataset; ``digits`` needs none.
        download: Fetch ``cifar10`` or ``cifar100`` into the root where it is not there yet.
        height: Height in pixels of what the network sees; for segmentation, in training.
        width: Width in pixels of what the network sees.
        short_side: Images are resized so that their shorter side has this many pixels, before
            the crop of evaluation (from the centre) and before a training crop of kind ``random``.
            Default: they stay as they are.
        training_crop: ``random`` (pad by ``pad``, cut at a random place) or ``resized`` (a
            rectangle of random area and aspect, resized). Segmentation has a crop of its own.
        pad: Black pixels that are put around a training image before a crop of kind ``random``.
        crop_area: Least and largest area of a crop of kind ``resized``, as shares of the image;
            its aspect lies between 3/4 and 4/3.
        flip: Flip a training image left to right with probability one half.
        color_jitter: Training images change brightness, contrast and saturation, each by a factor
            drawn from [1 - x, 1 + x]; 0 changes nothing.
        hue_jitter: Training images turn their hue by a part of the circle drawn from [-x, x]; at
            most 0.5.
        rand_augment: Operations of RandAugment applied to a training image; 0 for none.
        rand_augment_magnitude: Strength of these operations, 0 to 30.
        scales: Least and largest factor by which a training image of segmentation is resized before
            its crop.
        largest_class: A training crop of segmentation is drawn again, up to ten times, while one
            class has at least this share of its labelled pixels.
        photometric: Training images of segmentation change brightness, contrast, saturation and hue
            as in mmsegmentation's PhotoMetricDistortion.
        sliding_windows: Segmentation is tested by windows of ``height`` x ``width`` whose scores
            are averaged where they overlap, and not on whole images.
        window_stride: Rows and columns from a window to the next; default two thirds of it.
        statistics: Mean and standard deviation of the input: ``auto`` (those of the dataset,
            ``imagenet`` for ``folder``), ``digits``, ``cifar10``, ``cifar100``, ``imagenet`` or
            ``cifar_released`` (what the paper's released code used for both CIFARs).
        in_memory: Decode every image of a ``folder`` once, into one array: its crop of
            evaluation, 3 * height * width bytes each, kept in the cache. Digits and CIFAR always
            are in memory.
        num_workers: Processes that read files; 0 reads in the main process, for debugging.
            Images in memory need none.
        max_failures: Share of the training (or test) images that may be unreadable before a
            command stops; three always may, unless this is 0.
        max_pixels: Most pixels of an image, height times width; a larger one counts as unreadable
            before memory is taken for it.
    """

    dataset: ImageDatasetName = "digits"
    root: str | None = None
    download: bool = False
    height: int = 32
    width: int = 32
    short_side: int | None = None
    training_crop: Literal["random", "resized"] = "random"
    pad: int = 4
    crop_area: list[float] = field(default_factory=lambda: [0.08, 1.0])
    flip: bool = False
    color_jitter: float = 0.0
    hue_jitter: float = 0.0
    rand_augment: int = 0
    rand_augment_magnitude: int = 9
    scales: list[float] = field(default_factory=lambda: [0.5, 2.0])
    largest_class: float = 0.75
    photometric: bool = True
    sliding_windows: bool = False
    window_stride: list[int] | None = None
    statistics: ImageStatistics = "auto"
    in_memory: bool = False
    num_workers: int = 1
    max_failures: float = 0.05
    max_pixels: int = MAX_PIXELS


@dataclass
class ImageModelConfig(ModelBase):
    """The network and the blocks in it.

    Args:
        backbone: ``preresnet20``, ``preresnet56`` (textbook, for CIFAR), ``preresnet20_snl``,
            ``preresnet56_snl``, ``preresnet110_snl`` (those of the paper's released code),
            ``resnet50_cifar`` (3x3 stem, no max-pool), ``resnet50`` (torchvision's) or
            ``fcn_r50_d8`` (segmentation: ResNet50-V1c of output stride 8 and an FCN head).
        block: ``snl``, another block (docs/blocks.md), ``none``, ``released`` (a block in the form
            of the released code, whose ``kind`` is one of ``block_options``), or the dotted path of
            a block of your own (docs/extend.md), such as ``my_package.MyBlock``, which is imported.
        stages: Stages that get one block each, such as ``[1, 2, 3]``, at the paper's place in
            each: after the second residual unit of a PreResNet, before the last one of a ResNet.
            Default: stage 1 of a PreResNet, stage 3 (res4) of a ResNet; in ``fcn_r50_d8`` the
            block stands between the two convolutions of the head.
        positions: Where the blocks stand instead, such as ``after:layer1.1`` or any dotted module
            path.
        reduction: Cs = C / reduction for every block, such as 1, 2 or 4; default that of the
            block, which is mostly 2.
        inter_channels: Transferred channels Cs of every block, instead of ``reduction``.
        num_classes: Number of outputs of the classifier; default the classes of the dataset.
        weights: Start from ``imagenet`` (torchvision's ResNet-50; not for networks of CIFAR), a
            file or a URL: of torchvision, mmsegmentation, the released code, or our own.
    """

    backbone: ImageBackboneName = "preresnet20"
    block: BlockName | Literal["released"] | DottedPath = "snl"
    stages: list[int] | None = None
    reduction: int | None = None
    num_classes: int | None = None


@dataclass
class ImageOptimizerConfig(OptimizerBase):
    """SGD and its schedule.

    Args:
        epochs: Passes over the training list (or of ``epoch_steps`` steps each). After each of
            them the test list is scored and a checkpoint kept.
        epoch_steps: Steps of an epoch; default as many as a pass takes. The order goes on from one
            epoch to the next, pass after pass.
        batch_size: Images of one step, over all devices and micro-batches together.
        test_batch_size: Images tested at once on a device; default as many as it takes at once
            in training, and 1 for segmentation.
        learning_rate: Initial learning rate.
        momentum: Momentum of SGD.
        nesterov: Use Nesterov's momentum.
        weight_decay: L2 penalty.
        schedule: ``milestones`` (times ``drop`` at each of them), ``cosine`` (to zero) or ``poly``
            (down to ``least_learning_rate`` along (1 - t)^``power``).
        milestones: Epochs after which the learning rate drops, such as ``[150, 250]``.
        drop: Factor on the learning rate at a milestone.
        power: Exponent of the ``poly`` schedule.
        least_learning_rate: Where the ``poly`` schedule ends.
    """

    epochs: int = 12
    epoch_steps: int | None = None
    batch_size: int = 64
    test_batch_size: int | None = None
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    schedule: Literal["milestones", "cosine", "poly"] = "cosine"
    milestones: list[float] = field(default_factory=list)
    drop: float = 0.1
    power: float = 0.9
    least_learning_rate: float = 0.0


@dataclass
class ImageExperiment(ExperimentBase):
    """One training run on images: data, model, optimizer and trainer."""

    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    model: ImageModelConfig = field(default_factory=ImageModelConfig)
    optimizer: ImageOptimizerConfig = field(default_factory=ImageOptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
