"""Which pictures a run is about, and what is taken from them, as typed values without torch.

The defaults are scikit-learn's digits: real pictures that need no download.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from video_snl.config.datasets import ImageDatasetName, ImageStatistics
from video_snl.utils.media import MAX_PIXELS

__all__ = ["ImageDataConfig", "ImageDatasetName", "ImageStatistics"]


@dataclass
class ImageDataConfig:
    """Which pictures, and how they are cut and changed. The batch size is the optimizer's.

    Args:
        dataset: ``digits`` (comes with scikit-learn), ``cifar10``, ``cifar100``, ``imagenet``,
            ``cub200`` (CUB-200-2011), ``cityscapes`` (segmentation) or ``folder`` (own pictures,
            one folder per class, see docs/images.md).
        root: Folder of the data set; ``digits`` needs none.
        download: Fetch ``cifar10`` or ``cifar100`` into the root where it is not there yet.
        height: Height in pixels of what the network sees; of scenes, in training.
        width: Its width.
        short_side: Pictures are resized so that their shorter side has this many pixels, before
            the crop of evaluation (from the centre) and before a training crop of kind ``random``.
            Default: they stay as they are.
        training_crop: ``random`` (pad by ``pad``, cut at a random place) or ``resized`` (a
            rectangle of random area and aspect, resized). Scenes have a crop of their own kind.
        pad: Black pixels that are put around a training picture before a crop of kind ``random``.
        crop_area: Least and largest area of a crop of kind ``resized``, as shares of the picture;
            its aspect lies between 3/4 and 4/3.
        flip: Flip a training picture left to right with probability one half.
        color_jitter: Training pictures change brightness, contrast and saturation, each by a factor
            drawn from [1 - x, 1 + x]; 0 changes nothing.
        hue_jitter: Training pictures turn their hue by a part of the circle drawn from [-x, x]; at
            most 0.5.
        rand_augment: Operations of RandAugment applied to a training picture; 0 for none.
        rand_augment_magnitude: How strong they are, 0 to 30.
        scales: Least and largest factor by which a training scene is resized before its crop.
        largest_class: A training crop of a scene is drawn again, up to ten times, while one class
            has at least this share of its labelled pixels.
        photometric: Training scenes change brightness, contrast, saturation and hue as in
            mmsegmentation's PhotoMetricDistortion.
        sliding_windows: Scenes are tested by windows of ``height`` x ``width`` whose scores are
            averaged where they overlap, and not as a whole.
        window_stride: Rows and columns from a window to the next; default two thirds of it.
        statistics: Mean and standard deviation of the input: ``auto`` (those of the data set,
            ``imagenet`` for ``folder``), ``digits``, ``cifar10``, ``cifar100``, ``imagenet`` or
            ``cifar_released`` (what the paper's released code used for both CIFARs).
        in_memory: Decode every picture of a ``folder`` once, into one array: its crop of
            evaluation, 3 * height * width bytes each, kept in the cache. Digits and CIFAR always
            are in memory.
        num_workers: Processes that read files; 0 reads in the main process, for debugging.
            Pictures in memory need none.
        max_failures: Share of the training (or test) pictures that may be unreadable before a
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
