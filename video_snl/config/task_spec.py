"""The kinds of tasks: what each is called, measures and stores. Without torch.

A command is written once, over a :class:`TaskSpec`. What needs torch (loading data, building a
network, reading one input) is named here by its dotted path and imported on its first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeVar

from video_snl.config.backbones import IMAGE_BACKBONES
from video_snl.config.base import TrainerConfig
from video_snl.config.datasets import IMAGE_DATASETS
from video_snl.config.image import ImageExperiment
from video_snl.config.task import TaskName
from video_snl.config.video import Experiment
from video_snl.errors import UserError

if TYPE_CHECKING:
    from video_snl.tasks.operations import AnyOperations

__all__ = [
    "IMAGE",
    "SEGMENTATION",
    "TASKS",
    "TOP",
    "VIDEO",
    "AnyExperiment",
    "Card",
    "ExperimentT",
    "Schedule",
    "TaskSpec",
    "asked_spec",
    "exact_spec",
    "shown_metrics",
    "shown_tops",
]


class Schedule(Protocol):
    """The part of an optimizer's options that the engine reads."""

    @property
    def epochs(self) -> int: ...
    @property
    def accumulate(self) -> int: ...
    @property
    def gradient_clip(self) -> float | None: ...
    @property
    def ema_decay(self) -> float | None: ...


class AnyExperiment(Protocol):
    """The configuration of a run, of any kind of task: a dataclass with these sections."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def data(self) -> Any: ...
    @property
    def model(self) -> Any: ...
    @property
    def optimizer(self) -> Schedule: ...
    @property
    def trainer(self) -> TrainerConfig: ...
    def to_dict(self) -> dict[str, Any]: ...
    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self: ...


ExperimentT = TypeVar("ExperimentT", bound=AnyExperiment)
"""The class of the configurations of one kind of task."""


Named = tuple[tuple[str, str], ...]
"""Metrics, each with its label."""


TOP = 5
"""Top-k accuracy is also measured for this k."""


def shown_tops(classes: int | None) -> tuple[int, ...]:
    """Return the k for which a top-k accuracy is shown: of 5 classes or fewer top-5 says nothing.

    Args:
        classes: Number of classes; None if unknown.
    """
    return (1, TOP) if classes is None or classes > TOP else (1,)


def shown_metrics(metrics: Named, classes: int | None) -> Named:
    """Return the metrics without the top-k accuracies that are not shown."""
    hidden = "top5" if TOP not in shown_tops(classes) else None
    return tuple((name, label) for name, label in metrics if name.rpartition("/")[2] != hidden)


@dataclass(frozen=True)
class Card:
    """Description of a kind of task for the card of a published network.

    Attributes:
        pipeline: Name of the task on model hubs.
        purpose: Predicate of the sentence "The network ...".
        tags: Further tags on model hubs.
        use: The command that uses the network.
        example: Arguments of that command.
    """

    pipeline: str
    purpose: str
    tags: tuple[str, ...]
    use: str
    example: str


_CLASSIFIED = {"class_names": list[str], "mean": list[float], "std": list[float]}


@dataclass(frozen=True)
class TaskSpec:
    """One kind of task.

    Attributes:
        name: Name of the kind, as in ``task:`` of a configuration.
        command: Name of the program that trains it.
        kind: Entry ``program`` in the records of its runs.
        entry: Name of its own entry in a checkpoint.
        format_version: Version of that entry.
        configuration: Class of its configurations.
        operations: Dotted path ``module:Class`` of its
            :class:`~video_snl.tasks.operations.Operations`.
        inputs: Kind of files that are read one at a time, in the plural.
        monitor: Metric whose highest value makes the best epoch.
        line: Shares printed after each epoch.
        summary: Shares printed at the end of a run.
        losses, shares: Learning curves, left and right.
        axes: Labels of their vertical axes.
        card: Text for the card of a published network.
        samples: Name of the loader's samples.
        batch: Options that set the size of a training batch.
        entries: Names and types of the entries of its part of a checkpoint, ``format_version`` and
            ``experiment`` apart.
    """

    name: TaskName
    command: str
    kind: str
    entry: str
    format_version: int
    configuration: type[AnyExperiment]
    operations: str
    inputs: Literal["videos", "images", "tracklets"]
    monitor: str
    line: Named
    summary: Named
    losses: Named
    shares: Named
    axes: tuple[str, str]
    card: Card
    samples: str = "clips"
    batch: tuple[str, ...] = ("optimizer.batch_size",)
    entries: Mapping[str, Any] = field(default_factory=lambda: _CLASSIFIED)

    @property
    def input(self) -> str:
        """One of ``inputs``, in the singular."""
        return self.inputs.removesuffix("s")

    def experiment(self, values: dict[str, Any]) -> AnyExperiment:
        """Build a configuration from plain values.

        Raises:
            TypeError, KeyError: They do not fit.
        """
        return self.configuration.from_dict(values)

    def make(self) -> AnyOperations:
        """Import and make its :class:`~video_snl.tasks.operations.Operations`."""
        module, _, name = self.operations.partition(":")
        operations: AnyOperations = getattr(importlib.import_module(module), name)(self)
        return operations


VIDEO = TaskSpec(
    name="video",
    command="video-snl",
    kind="video-snl",
    entry="video_snl",
    format_version=1,
    configuration=Experiment,
    operations="video_snl.tasks.video_operations:VideoOperations",
    inputs="videos",
    monitor="val/top1",
    line=(("train/top1", "train top-1"), ("val/top1", "val top-1"), ("val/top5", "val top-5")),
    summary=(("val/top1", "clip-level top-1"), ("val/top5", "top-5")),
    losses=(("train/loss", "training"), ("val/loss", "test list")),
    shares=(
        ("train/top1", "training, top-1"),
        ("val/top1", "test list, top-1"),
        ("val/top5", "test list, top-5"),
    ),
    axes=("cross-entropy", "clip-level accuracy (%)"),
    card=Card(
        pipeline="video-classification",
        purpose="names actions in videos",
        tags=("video", "action-recognition"),
        use="predict",
        example="VIDEO",
    ),
)
"""Classification of videos."""

IMAGE = TaskSpec(
    name="image",
    command="video-snl",
    kind="video-snl on pictures",
    entry="video_snl_images",
    format_version=1,
    configuration=ImageExperiment,
    operations="video_snl.tasks.image_operations:ImageOperations",
    inputs="images",
    monitor="val/top1",
    line=VIDEO.line,
    summary=(("val/top1", "top-1"), ("val/top5", "top-5")),
    losses=VIDEO.losses,
    shares=VIDEO.shares,
    axes=("cross-entropy", "accuracy (%)"),
    card=Card(
        pipeline="image-classification",
        purpose="names the class of an image",
        tags=("image",),
        use="predict",
        example="IMAGE",
    ),
    samples="images",
)
"""Classification of images."""

# Runs and checkpoints of both kinds of image tasks carry one name; the dataset tells them apart.
SEGMENTATION = replace(
    IMAGE,
    name="segmentation",
    operations="video_snl.tasks.image_operations:SegmentationOperations",
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
    card=replace(
        IMAGE.card, pipeline="image-segmentation", purpose="labels every pixel of an image"
    ),
)
"""Semantic segmentation of images."""

TASKS: dict[str, TaskSpec] = {spec.name: spec for spec in (VIDEO, IMAGE, SEGMENTATION)}
"""The kinds of tasks of ``video-snl``; ``reid`` hands its own in."""


def exact_spec(spec: TaskSpec, experiment: AnyExperiment) -> TaskSpec:
    """Return the task of an experiment where ``spec`` may stand for both image tasks."""
    if spec.entry != IMAGE.entry:
        return spec
    return SEGMENTATION if IMAGE_DATASETS[experiment.data.dataset].segments else IMAGE


def asked_spec(spec: TaskSpec, experiment: AnyExperiment, task: str) -> TaskSpec:
    """Return the task of a command's options.

    Args:
        spec: The task of the command; it may stand for both image tasks.
        experiment: The options.
        task: The task that they name.

    Raises:
        UserError: Backbone and dataset are of another task. (Of two tasks, they are refused where
            they are used.)
    """
    exact = exact_spec(spec, experiment)
    if task == exact.name:
        return exact
    dataset, backbone = experiment.data.dataset, experiment.model.backbone
    if IMAGE_BACKBONES[backbone].segments == IMAGE_DATASETS[dataset].segments:
        segments = task == SEGMENTATION.name
        backbones = [name for name, each in IMAGE_BACKBONES.items() if each.segments == segments]
        datasets = [name for name, each in IMAGE_DATASETS.items() if each.segments == segments]
        raise UserError(
            f"task: {task} does not go with model.backbone: {backbone} and data.dataset: "
            f"{dataset}, whose task is {exact.name}; name others, such as --model.backbone "
            f"{backbones[0]} --data.dataset {datasets[0]}."
        )
    return exact
