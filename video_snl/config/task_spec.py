"""What the engine has to know of a command that trains: its names, its metrics. Without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from video_snl.config.video import Experiment, TrainerConfig

__all__ = [
    "TOP",
    "VIDEO_SNL",
    "AnyExperiment",
    "Program",
    "Schedule",
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
    """The configuration of a run, of whichever program."""

    @property
    def data(self) -> Any: ...
    @property
    def model(self) -> Any: ...
    @property
    def optimizer(self) -> Schedule: ...
    @property
    def trainer(self) -> TrainerConfig: ...
    def to_dict(self) -> dict[str, Any]: ...


Named = tuple[tuple[str, str], ...]
"""Metrics, and what they are called where they are shown."""


TOP = 5
"""A label is also looked for among this many of the highest scores."""


def shown_tops(classes: int | None) -> tuple[int, ...]:
    """Return the k for which a top-k accuracy is shown: of 5 classes or fewer top-5 says nothing.

    Args:
        classes: How many there are; None where that is not known.
    """
    return (1, TOP) if classes is None or classes > TOP else (1,)


def shown_metrics(metrics: Named, classes: int | None) -> Named:
    """Return the metrics without the top-k accuracies that are not shown."""
    hidden = "top5" if TOP not in shown_tops(classes) else None
    return tuple((name, label) for name, label in metrics if name.rpartition("/")[2] != hidden)


_CLASSIFIED = {"class_names": list[str], "mean": list[float], "std": list[float]}


@dataclass(frozen=True)
class Program:
    """A program that trains.

    Attributes:
        name: Of the command.
        kind: Of its runs, as their records say: a command may train more than one kind of network.
        entry: Its own entry in a checkpoint.
        format_version: Of what stands there.
        experiment: A configuration from its plain values; a TypeError or KeyError where they do not
            fit.
        monitor: The metric whose highest value makes the best epoch.
        line: Shares that the line of an epoch shows.
        summary: Shares that the last lines of a run show.
        losses, shares: The learning curves, left and right.
        axes: Labels of their vertical axes.
        samples: What the loader's samples are called.
        batch: The options that say how large a training batch is.
        entries: Names and types of the entries of its part of a checkpoint, ``format_version`` and
            ``experiment`` apart.
    """

    name: str
    kind: str
    entry: str
    format_version: int
    experiment: Callable[[dict[str, Any]], AnyExperiment]
    monitor: str
    line: Named
    summary: Named
    losses: Named
    shares: Named
    axes: tuple[str, str]
    samples: str = "clips"
    batch: tuple[str, ...] = ("optimizer.batch_size",)
    entries: Mapping[str, Any] = field(default_factory=lambda: _CLASSIFIED)


VIDEO_SNL = Program(
    name="video-snl",
    kind="video-snl",
    entry="video_snl",
    format_version=1,
    experiment=Experiment.from_dict,
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
)
