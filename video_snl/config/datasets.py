"""The datasets that configurations can name, each one entry. Without torch.

To add a dataset, write one file with its loader, and an entry in :data:`VIDEO_DATASETS` or
:data:`IMAGE_DATASETS`. The names of the entries are the choices of ``data.dataset``; loaders are
named as ``module:function`` and imported when the data is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from video_snl.config.statistics import STATISTICS, Statistics

__all__ = [
    "IMAGE_DATASETS",
    "IMAGE_STATISTICS",
    "VIDEO_DATASETS",
    "ImageDatasetEntry",
    "ImageDatasetName",
    "ImageStatistics",
    "VideoDatasetEntry",
    "VideoDatasetName",
]


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """A dataset that a configuration can name.

    Attributes:
        loader: ``module:function`` that loads it.
        root: Description of ``data.root`` for messages; None where no root is needed.
        classes: Number of its classes as published; None where only its files tell.
        counter: ``module:function``, from a configuration with a root to the number of classes that
            its files have, opening no sample.
    """

    loader: str
    root: str | None = None
    classes: int | None = None
    counter: str | None = None

    def load(self) -> Callable[..., Any]:
        """Return the loader, imported."""
        return resolve_name(self.loader)

    def count(self, config: Any) -> int | None:
        """Return the number of classes, opening no sample; None where all lists must be read.

        Args:
            config: The ``data`` section of a configuration.
        """
        if self.counter is None or (config.root is None and self.classes is not None):
            return self.classes
        return resolve_name(self.counter)(config)


@dataclass(frozen=True, kw_only=True)
class VideoDatasetEntry(DatasetEntry):
    """A dataset of videos; its loader takes a ``DataConfig`` and the classes of a trained network.

    The loader is ``(config, known) -> VideoSet``. ``known`` is None in training; for an evaluation
    it holds the names of the network's classes, for datasets that need not have all of them.

    Attributes:
        splits: It has several splits, of which ``data.split`` chooses one.
    """

    splits: bool = False


@dataclass(frozen=True, kw_only=True)
class ImageDatasetEntry(DatasetEntry):
    """A dataset of images; its loader is ``(config: ImageDataConfig, seed) -> ImageSet``.

    Attributes:
        statistics: Input statistics of its training images; None for ImageNet's.
        side: Height and width of all of its images in pixels, where they have one size.
        segments: It has a label for every pixel.
        downloads: ``data.download`` can fetch it.
        in_memory: ``data.in_memory`` can keep all of its images in memory.
    """

    statistics: Statistics | None = None
    side: int | None = None
    segments: bool = False
    downloads: bool = False
    in_memory: bool = False


VIDEO_DATASETS: dict[str, VideoDatasetEntry] = {
    "sample": VideoDatasetEntry(
        loader="video_snl.data.synthetic.sample:load", classes=4, splits=True
    ),
    "ucf101": VideoDatasetEntry(
        loader="video_snl.data.video.ucf101:load",
        root="the folder that holds UCF-101/ and ucfTrainTestlist/ (scripts/train_ucf101.sh takes "
        "it from UCF101_ROOT)",
        classes=101,
        counter="video_snl.data.video.ucf101:count_classes",
        splits=True,
    ),
    "folder": VideoDatasetEntry(
        loader="video_snl.data.video.folders:load_folder_config",
        root="the folder that holds one folder of videos per class",
    ),
    "csv": VideoDatasetEntry(
        loader="video_snl.data.video.csv_lists:load_csv_config",
        root="the file with the columns path,label[,split][,group]",
    ),
}
"""Datasets of videos by name."""

IMAGE_DATASETS: dict[str, ImageDatasetEntry] = {
    "digits": ImageDatasetEntry(
        loader="video_snl.data.image.small:load_digits",
        classes=10,
        statistics=((0.3051, 0.3051, 0.3051), (0.3238, 0.3238, 0.3238)),
        side=32,
    ),
    "cifar10": ImageDatasetEntry(
        loader="video_snl.data.image.small:load_cifar",
        root="the folder that holds cifar-10-batches-py/ (or is to: --data.download true)",
        classes=10,
        statistics=((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        side=32,
        downloads=True,
    ),
    "cifar100": ImageDatasetEntry(
        loader="video_snl.data.image.small:load_cifar",
        root="the folder that holds cifar-100-python/ (or is to: --data.download true)",
        classes=100,
        statistics=((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
        side=32,
        downloads=True,
    ),
    "imagenet": ImageDatasetEntry(
        loader="video_snl.data.image.folders:load_imagenet",
        root="the folder that holds train/ and val/ with a folder per class (ILSVRC 2012, "
        "image-net.org, after registration)",
        classes=1000,
        counter="video_snl.data.image.folders:count_classes",
        statistics=STATISTICS["imagenet"],
    ),
    "cub200": ImageDatasetEntry(
        loader="video_snl.data.image.cub:load",
        root="the folder that holds CUB_200_2011/ (CUB_200_2011.tgz, "
        "data.caltech.edu/records/65de6-vp158)",
        classes=200,
        counter="video_snl.data.image.cub:count_classes",
    ),
    "cityscapes": ImageDatasetEntry(
        loader="video_snl.data.image.cityscapes:load",
        root="the folder that holds leftImg8bit/ and gtFine/ (cityscapes-dataset.com, after "
        "registration)",
        classes=19,
        segments=True,
    ),
    "folder": ImageDatasetEntry(
        loader="video_snl.data.image.folders:load_folder",
        root="the folder that holds train/<class>/ and test/<class>/ (or val/<class>/)",
        counter="video_snl.data.image.folders:count_classes",
        in_memory=True,
    ),
}
"""Datasets of images by name."""

IMAGE_STATISTICS: dict[str, Statistics] = {
    **{name: entry.statistics for name, entry in IMAGE_DATASETS.items() if entry.statistics},
    # What the paper's released code used for both CIFARs: its deviations are means of the single
    # images' ones.
    "cifar_released": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
"""Input statistics that ``data.statistics`` can name for images."""

# Type checkers know no types that are computed.
if TYPE_CHECKING:
    VideoDatasetName = str
    ImageDatasetName = str
    ImageStatistics = str
else:
    VideoDatasetName = Literal[tuple(VIDEO_DATASETS)]
    ImageDatasetName = Literal[tuple(IMAGE_DATASETS)]
    ImageStatistics = Literal["auto", *IMAGE_STATISTICS]
