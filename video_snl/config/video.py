"""The experiment as typed values: what the commands take as options and YAML, without torch.

The defaults are the sample experiment, ``configs/ucf101/sample.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from video_snl.config.backbones import VIDEO_BACKBONES, VideoBackboneName
from video_snl.config.base import (
    BlockName,
    ExperimentBase,
    ModelBase,
    OptimizerBase,
    OptionValue,
    TrainerConfig,
)
from video_snl.config.datasets import VideoDatasetName
from video_snl.config.statistics import VideoStatistics
from video_snl.config.user_code import DottedPath
from video_snl.errors import OptionsError
from video_snl.utils.media import MAX_PIXELS

__all__ = [
    "DataConfig",
    "Experiment",
    "BlockName",
    "ModelConfig",
    "OptimizerConfig",
    "OptionValue",
    "TrainerConfig",
]

SplitBy = Literal["group", "fifth"]
ShortVideos = Literal["error", "repeat_last", "wrap"]
Sampling = Literal["dense", "uniform"]
ReaderName = Literal["auto", "decord", "pyav", "torchcodec", "frames"]
DecodeDevice = Literal["cpu", "cuda"]


@dataclass
class DataConfig:
    """Videos, and how clips are cut from them.

    Args:
        dataset: ``sample`` (generated once into the cache), ``ucf101``, ``folder`` (one folder of
            videos per class) or ``csv`` (columns path, label and optionally split and group).
            Where it is left at its default, what ``root`` holds is recognised.
        root: Folder of the dataset (for ``csv`` the file). Default for ``sample``: the cache.
        split: UCF-101's official split 1, 2 or 3, or ``paper`` (train list 1 divided again:
            groups 11-25 train, 8-10 test). ``folder`` and ``csv`` have split 1 only.
        split_by: How ``folder`` and ``csv`` are divided where they do not say which videos test:
            ``group`` (whole recordings test: the column group, folders in the class folders, or
            names like UCF-101's; else by file) or ``fifth`` (every fifth file). Default ``group``;
            ``fifth`` for runs and configurations with data options that do not name it.
        clip_frames: Frames of a clip.
        frame_stride: Distance between the frames of a clip, in frames of the video.
        stride_seconds: Distance between the frames of a clip in seconds, by the frame rate of each
            file, to the nearest frame; in the place of ``frame_stride``, which then holds only for
            folders of frames. Default none.
        sampling: ``dense`` (a clip is a stretch of the video, every ``frame_stride``-th frame) or
            ``uniform`` (it spans the whole video: one frame of each of ``clip_frames`` parts).
        short_side: Frames are shrunk so that their shorter side has this many pixels.
        frame_size: Height and width that frames are resized to, whatever their shape, in the place
            of ``short_side``, such as ``[128, 171]``. Default none.
        crop: Side of the square crop the network sees, in pixels.
        flip: Flip a training clip left to right with probability one half.
        crop_scales: Multi-scale training crops: the sides of a crop are drawn from these shares of
            the shorter side, such as ``[1, 0.875, 0.75, 0.66]``, and resized to ``crop``. Default
            none: a crop has ``crop`` pixels of the frame.
        color_jitter: Training clips change brightness, contrast and saturation, each by a factor
            drawn from [1 - x, 1 + x]; 0 changes nothing.
        hue_jitter: Training clips turn their hue by a part of the circle drawn from [-x, x]; at
            most 0.5.
        rand_augment: Operations of RandAugment applied to a training clip; 0 for none.
        rand_augment_magnitude: Strength of these operations, 0 to 30.
        short_videos: What to do with a video shorter than a clip: ``error``, ``repeat_last``
            (repeat its last frame) or ``wrap`` (start again from its first).
        statistics: Mean and standard deviation of the input: ``auto`` (those the weights were
            trained with, else those of the backbone), ``kinetics``, ``imagenet``, ``torchvision``
            or ``hara``.
        num_workers: Processes that decode videos; 0 decodes in the main process, for debugging:
            no deadline holds there.
        deadline: Seconds for one file. A process that takes longer is killed and replaced, and the
            file counts as unreadable.
        max_failures: Share of the training (or test) videos that may be unreadable before a command
            stops; three always may, unless this is 0. See docs/reading-videos.md.
        reader: What decodes: ``decord``, ``pyav``, ``torchcodec`` (an extra), ``frames`` (every
            video is a folder of numbered .jpg or .png files) or ``auto`` (``pyav``, or ``decord``
            where it is faster on the first files and gives the same pixels). All give the same
            frames.
        decode_device: ``cpu``, or ``cuda`` to decode on the first GPU (torchcodec, or decord built
            for it), for runs on one GPU.
        max_pixels: Largest number of pixels of a frame, height times width. A file with a larger
            one counts as unreadable, before memory is taken for it.
    """

    dataset: VideoDatasetName = "sample"
    root: str | None = None
    split: Literal[1, 2, 3, "paper"] = 1
    split_by: SplitBy | None = None
    clip_frames: int = 4
    frame_stride: int = 1
    stride_seconds: float | None = None
    sampling: Sampling = "dense"
    short_side: int = 80
    frame_size: list[int] | None = None
    crop: int = 80
    flip: bool = True
    crop_scales: list[float] = field(default_factory=list)
    color_jitter: float = 0.0
    hue_jitter: float = 0.0
    rand_augment: int = 0
    rand_augment_magnitude: int = 9
    short_videos: ShortVideos = "error"
    statistics: VideoStatistics = "auto"
    num_workers: int = 1
    deadline: float = 20.0
    max_failures: float = 0.05
    reader: ReaderName = "auto"
    decode_device: DecodeDevice = "cpu"
    max_pixels: int = MAX_PIXELS

    @property
    def resize(self) -> int | tuple[int, int]:
        """Size of the frames: pixels of the shorter side, or height and width."""
        return (
            self.short_side if self.frame_size is None else (self.frame_size[0], self.frame_size[1])
        )

    def check_frames(self) -> None:
        """Refuse frames and clips that cannot be cut.

        Raises:
            OptionsError: A value is out of its range, or the crop does not fit the frame.
        """
        seconds, size = self.stride_seconds, self.frame_size
        if seconds is not None and not 0 < seconds <= 3600:
            raise OptionsError(f"data.stride_seconds={seconds:g}: give more than 0, at most 3600")
        if size is not None and (len(size) != 2 or not all(1 <= side <= 8192 for side in size)):
            raise OptionsError(
                f"data.frame_size={size}: give height and width, 1 to 8192 pixels each, such as "
                "[128, 171]"
            )
        if self.sampling == "uniform" and (self.frame_stride != 1 or seconds is not None):
            named = (
                f"frame_stride={self.frame_stride}"
                if seconds is None
                else (f"stride_seconds={seconds:g}")
            )
            raise OptionsError(
                f"data.{named} means nothing with data.sampling=uniform, whose clips span the "
                "whole video: leave it out"
            )
        short = self.short_side if size is None else min(size)
        if self.crop > short:
            named = f"data.short_side={short}" if size is None else f"data.frame_size={size}"
            raise OptionsError(
                f"data.crop={self.crop} does not fit {named}: crop at most the shorter side"
            )


@dataclass
class ModelConfig(ModelBase):
    """The network and the blocks in it.

    Args:
        backbone: ``i3d_r50`` (the paper's), ``i3d_small`` (short clips on a CPU), or one of
            pytorchvideo's or torchvision's networks; see docs/pretrained.md.
        positions: Where the blocks stand, such as ``before:res4.5``; a negative unit counts from
            the end of the stage, any dotted module path may stand for the place. Default: those of
            the backbone, ``before:res4.-1`` in an I3D.
        num_classes: Number of outputs of the classifier; default the classes of the dataset.
        weights: Start from ``kinetics`` or the name of the backbone (its published weights),
            ``imagenet`` (torchvision's ResNet-50, inflated), or a file or URL.
    """

    backbone: VideoBackboneName = "i3d_small"
    block: BlockName | DottedPath = "snl"
    num_classes: int | None = None


@dataclass
class OptimizerConfig(OptimizerBase):
    """SGD and its schedule.

    Args:
        epochs: Passes over the training list, one clip of each video in a pass.
        batch_size: Clips of one step, over all devices and micro-batches together.
        learning_rate: Initial learning rate.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty.
        schedule: ``step`` (times 0.1 every ``step_epochs``) or ``cosine`` (to zero).
        step_epochs: Epochs between drops of the ``step`` schedule.
        mixup: Mix pairs of clips and their labels by a share drawn from Beta(x, x); 0 for none.
        cutmix: Put a rectangle of one clip into another, of an area drawn from Beta(x, x), and mix
            their labels; 0 for none. With ``mixup``, every step draws which of the two it does.
        frozen_stages: Stages that do not train, such as ``[stem, res2]``.
        cached_versions: Compute once what the frozen first stages make of each training clip, in so
            many augmented versions, and train the rest from these: epochs take turns over them.
            They are kept in the cache and shared by runs that differ in their seed, block or
            learning rates. 0: every epoch draws its clips anew.
    """

    epochs: int = 8
    batch_size: int = 16
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["step", "cosine"] = "cosine"
    step_epochs: int = 40
    mixup: float = 0.0
    cutmix: float = 0.0
    cached_versions: int = 0


@dataclass
class Experiment(ExperimentBase):
    """One training run: data, model, optimizer and trainer."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        # Written out, so that a run with the default and one that names it are of one network.
        if self.model.positions is None:
            self.model = replace(self.model, positions=_positions(self.model.backbone))
        if self.data.split_by is None:
            self.data = replace(self.data, split_by="group")

    @classmethod
    def dependent_defaults(cls, said: Callable[[str], Any]) -> dict[str, Any]:
        """Return defaults that depend on what else is said.

        They are the places of the backbone's blocks, which ``--model.positions+`` adds to, and how
        own videos are divided: files with data options that do not name it keep the division of
        versions that had one.
        """
        of_before = said("data.split_by") is None and said("data") is not None
        return {
            "model.positions": _positions(said("model.backbone") or ModelConfig.backbone),
            "data.split_by": "fifth" if of_before else "group",
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a configuration from stored values, those of versions before ``split_by``, too."""
        data = values.get("data") if isinstance(values, Mapping) else None
        if isinstance(data, Mapping) and "split_by" not in data:
            values = {**values, "data": {**data, "split_by": "fifth"}}
        return super().from_dict(values)


def _positions(backbone: object) -> list[str] | None:
    known = VIDEO_BACKBONES.get(backbone) if isinstance(backbone, str) else None
    return None if known is None else list(known.positions)
