"""A re-identification experiment as typed values, without torch.

The defaults are the sample experiment, ``configs/reid/sample.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from reid.data.datasets.catalog import DatasetName
from video_snl.config.base import (
    BlockName,
    ExperimentBase,
    ModelBase,
    OptimizerBase,
    TrainerConfig,
)
from video_snl.config.user_code import DottedPath, is_dotted
from video_snl.utils.media import MAX_PIXELS

__all__ = [
    "CLIP_BACKBONES",
    "HeadName",
    "ReidDataConfig",
    "ReidExperiment",
    "ReidModelConfig",
    "ReidOptimizerConfig",
    "ResizeName",
    "ShortTracklets",
    "why_no_masks",
]

CameraRule = Literal["cross", "ignore"]
HeadName = Literal["mean", "attention", "rnn", "nonlocal3d", "normalised_mean"]
ResizeName = Literal["torch", "pillow"]
ShortTracklets = Literal["repeat", "mask"]

CLIP_BACKBONES = ("resnet50_3d", "i3d_r50", "i3d_small")
"""Backbones of clips (3D); the others see single frames."""


@dataclass
class ReidDataConfig:
    """Tracklets, and what is taken from them.

    Args:
        dataset: Name of the dataset; ``sample`` is generated once into the cache, ``folder`` is own
            data (docs/reid.md).
        root: Folder of the dataset. Default for ``sample``: the cache.
        split: Number of the division into training and test identities, from 0: iLIDS-VID and
            PRID-2011 have ten, the others one.
        frames: Frames T of a tracklet that the network sees at once; 1 to train on single images.
        height: Frames are resized to this height, in pixels.
        width: Frames are resized to this width, in pixels.
        identities: Identities P of a training batch, over all devices.
        tracklets: Tracklets K of each of them in it.
        flip: Flip a training tracklet left to right with probability one half.
        pad: Pad training tracklets by this many pixels and cut them out again at a random place.
        erasing: Probability that a rectangle of a training tracklet, the same in all its frames, is
            replaced by the mean colour.
        num_workers: Processes that read frames; 0 reads in the main process, for debugging.
        deadline: Seconds for one tracklet. A process that takes longer is killed and replaced.
        cameras: ``cross`` searches for the same identity under another camera; ``ignore`` lets
            other tracklets of the query's own camera be matches, too, for data of one camera.
        max_failures: Share of the training (or test) tracklets that may be unreadable before a
            command stops; three always may, unless this is 0.
        max_pixels: Most pixels of an image, height times width; a larger one counts as unreadable
            before memory is taken for it.
        resize: ``torch`` resizes frames by torch, bilinear with antialiasing, large JPEG images
            after a reduction by the decoder; ``pillow`` by Pillow's bilinear resize, always from
            the full size, as torchreid does.
        short_tracklets: What becomes of a tracklet shorter than a clip: ``repeat`` starts again
            at its first frame, as all versions before did; ``mask`` leaves the frames that do not
            exist out of blocks and temporal head. Default: ``mask`` where the network can
            (docs/reid/running.md); files with data options that do not name it keep ``repeat``.
    """

    dataset: DatasetName = "sample"
    root: str | None = None
    split: int = 0
    frames: int = 4
    height: int = 64
    width: int = 32
    identities: int = 8
    tracklets: int = 4
    flip: bool = True
    pad: int = 4
    erasing: float = 0.3
    num_workers: int = 1
    deadline: float = 20.0
    max_failures: float = 0.05
    cameras: CameraRule = "cross"
    max_pixels: int = MAX_PIXELS
    resize: ResizeName = "torch"
    short_tracklets: ShortTracklets | None = None


@dataclass
class ReidModelConfig(ModelBase):
    """The network and the blocks in it.

    Args:
        backbone: ``resnet50`` (stride 1 in its last stage), ``resnet50_3d`` (the same, inflated),
            ``i3d_r50``, ``i3d_small``, a model of torchreid such as ``osnet_x0_25``, or
            ``osnet_x0_25_msmt17`` (the same with its layer of 512 outputs; docs/reid/models.md
            lists all that have published weights).
        head: How the frames become one vector: ``mean``, ``attention`` (a learned weight for every
            frame), ``rnn`` (a GRU, averaged over its steps), ``nonlocal3d`` (one more block over
            all T x H x W positions of the last feature map, then the mean) or ``normalised_mean``
            (of the vectors of the frames, each divided by its norm).
        neck: BN-neck: BatchNorm between the vector of the triplet loss and the classifier; the
            normalised one is what is compared.
        positions: Where the blocks stand, such as ``after:layer2.2`` or any dotted module path.
            Default: the five places of NVAN in a ResNet-50, two in an OSNet, before:res4.-1 in I3D
            (docs/reid.md); other backbones need it.
        weights: Start from ``imagenet`` (torchvision's ResNet-50; torchreid's own download), from
            weights published under a name such as ``osnet_x0_25_msmt17``, or from a file.
    """

    backbone: str = "osnet_x0_25"
    head: HeadName = "mean"
    neck: bool = True
    block: BlockName | DottedPath = "snl"


@dataclass
class ReidOptimizerConfig(OptimizerBase):
    """Losses, Adam and its schedule.

    Args:
        epochs: Passes over the training identities.
        validate_every: Epochs from one validation to the next; a divisor of ``epochs``, so that the
            last epoch has one.
        accumulate: Batches whose gradients make one step.
        learning_rate: Initial learning rate of Adam.
        weight_decay: L2 penalty.
        schedule: ``step`` (times 0.1 every ``step_epochs``) or ``cosine`` (to zero).
        step_epochs: Epochs between drops of the ``step`` schedule.
        label_smoothing: Label smoothing of the cross-entropy.
        triplet_weight: Weight of the batch-hard triplet loss; 0 for none.
        triplet_margin: Margin of the triplet loss; null for the soft margin log(1 + exp(x)).
        center_weight: Weight of the centre loss; 0 for none.
        head_lr_factor: Factor on the learning rate of temporal head, neck and classifier.
    """

    epochs: int = 30
    validate_every: int = 5
    learning_rate: float = 3e-3
    weight_decay: float = 5e-4
    schedule: Literal["step", "cosine"] = "cosine"
    step_epochs: int = 40
    warmup_epochs: float = 2.0
    label_smoothing: float = 0.1
    triplet_weight: float = 1.0
    triplet_margin: float | None = 0.3
    center_weight: float = 0.0


@dataclass
class ReidExperiment(ExperimentBase):
    """One training run: data, model, optimizer and trainer."""

    data: ReidDataConfig = field(default_factory=ReidDataConfig)
    model: ReidModelConfig = field(default_factory=ReidModelConfig)
    optimizer: ReidOptimizerConfig = field(default_factory=ReidOptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        # Written out, so that a checkpoint says by what rule its network was trained. Whether a
        # block of a user's own takes a mask is known when it is imported (reid.options.with_rule).
        if self.data.short_tracklets is None and not is_dotted(self.model.block):
            rule: ShortTracklets = "mask" if why_no_masks(self.model) is None else "repeat"
            self.data = replace(self.data, short_tracklets=rule)

    @classmethod
    def dependent_defaults(cls, said: Callable[[str], Any]) -> dict[str, Any]:
        """Keep the rule of versions that had one, in files with data options that name none."""
        of_before = said("data.short_tracklets") is None and said("data") is not None
        return {"data.short_tracklets": "repeat"} if of_before else {}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a configuration from stored values, of versions before ``short_tracklets``, too."""
        data = values.get("data") if isinstance(values, Mapping) else None
        if isinstance(data, Mapping) and "short_tracklets" not in data:
            values = {**values, "data": {**data, "short_tracklets": "repeat"}}
        return super().from_dict(values)


def why_no_masks(model: ReidModelConfig) -> str | None:
    """Say why a network cannot leave out frames that do not exist; None where it can.

    A block of a user's own is not looked at: :func:`reid.options.check_short_tracklets` does that.
    """
    if model.backbone in CLIP_BACKBONES:
        return f"the convolutions of {model.backbone} over time look at all frames of a clip"
    if model.block == "ge" and model.block_options.get("extent"):
        return "the gates of block ge with an extent are of boxes of all positions of a clip"
    return None
