"""Training on pictures as the engine sees it. Without torch."""

from __future__ import annotations

from video_snl.config.datasets import IMAGE_DATASETS
from video_snl.config.image import ImageExperiment
from video_snl.config.task_spec import Program

__all__ = ["IMAGES", "SCENES", "image_program"]

_KIND, _ENTRY, _FORMAT = "video-snl on pictures", "video_snl_images", 1

IMAGES = Program(
    name="video-snl",
    kind=_KIND,
    entry=_ENTRY,
    format_version=_FORMAT,
    experiment=ImageExperiment.from_dict,
    monitor="val/top1",
    line=(("train/top1", "train top-1"), ("val/top1", "val top-1"), ("val/top5", "val top-5")),
    summary=(("val/top1", "top-1"), ("val/top5", "top-5")),
    losses=(("train/loss", "training"), ("val/loss", "test list")),
    shares=(
        ("train/top1", "training, top-1"),
        ("val/top1", "test list, top-1"),
        ("val/top5", "test list, top-5"),
    ),
    axes=("cross-entropy", "accuracy (%)"),
    samples="pictures",
)
"""Classification."""

SCENES = Program(
    name="video-snl",
    kind=_KIND,
    entry=_ENTRY,
    format_version=_FORMAT,
    experiment=ImageExperiment.from_dict,
    monitor="val/mIoU",
    line=(("train/aAcc", "train aAcc"), ("val/mIoU", "val mIoU"), ("val/aAcc", "val aAcc")),
    summary=(("val/mIoU", "mIoU"), ("val/mAcc", "mAcc"), ("val/aAcc", "aAcc")),
    losses=(("train/loss", "training, with the auxiliary head"), ("val/loss", "test list")),
    shares=(
        ("train/aAcc", "training, aAcc"),
        ("val/mIoU", "test list, mIoU"),
        ("val/mAcc", "test list, mAcc"),
        ("val/aAcc", "test list, aAcc"),
    ),
    axes=("cross-entropy", "share (%)"),
    samples="scenes",
)
"""Segmentation."""


def image_program(experiment: ImageExperiment) -> Program:
    """Which of the two an experiment is: its data set decides."""
    return SCENES if IMAGE_DATASETS[experiment.data.dataset].segments else IMAGES
