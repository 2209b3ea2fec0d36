"""Operations of a kind of task: load its data, build its network, read one input.

A kind of task is a value of :class:`~video_snl.config.task_spec.TaskSpec` (its names and metrics,
without torch) and a subclass of :class:`Operations` (the rest). Commands are written over the two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.statistics import Statistics
from video_snl.config.task_spec import ExperimentT, TaskSpec
from video_snl.config.video import ShortVideos
from video_snl.errors import UserError
from video_snl.models.weights.loading import LoadReport
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import TrainedNetwork
from video_snl.tasks.datamodule import RunData
from video_snl.tasks.preprocessing import Preprocessed

__all__ = [
    "AnyOperations",
    "Lists",
    "ModelInput",
    "Operations",
    "Reading",
    "evenly_spaced",
    "without_weights",
]

Lists = Mapping[str, Iterable[tuple[str, object]]]
"""Files of each list with the label of each file, by the list's name: ``training``, ``test``."""


@dataclass(frozen=True)
class Reading:
    """Options of reading files that a user names; None: as in training.

    Attributes:
        short_videos: What becomes of a video shorter than a clip.
        deadline: Seconds of decoding after which a file is given up.
        max_pixels: Most pixels of an image or a frame.
        layout: What a folder of tracklets is taken for; see ``reid check --help``.

    Raises:
        UserError: A value is out of its range.
    """

    short_videos: ShortVideos | None = None
    deadline: float | None = None
    max_pixels: int | None = None
    layout: str | None = None

    def __post_init__(self) -> None:
        if self.deadline is not None and not self.deadline > 0:
            raise UserError(f"--deadline {self.deadline}: give seconds, more than 0.")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise UserError(f"--max_pixels {self.max_pixels}: give a number of pixels, 1 or more.")


@dataclass(frozen=True)
class ModelInput:
    """One input of a network.

    Attributes:
        frames: uint8 (T, H, W, 3), the frames before normalisation; T = 1 for an image.
        clip: Normalised input, (1, 3, T, H, W) or (1, 3, H, W).
        notes: Sentences on how it was read.
    """

    frames: np.ndarray
    clip: Tensor
    notes: list[str] = field(default_factory=list)


DataT = TypeVar("DataT")
LabelT = TypeVar("LabelT")
TrainedT = TypeVar("TrainedT", bound=TrainedNetwork[Any])
ItemT = TypeVar("ItemT")


class Operations(ABC, Generic[ExperimentT, DataT, LabelT, TrainedT, ItemT]):
    """Operations of one kind of task.

    A kind of task says, in this order, the types of its configuration, of its dataset, of one label
    of the classifier, of a trained network, and of the item that stands for one input.
    """

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec

    # Data

    @abstractmethod
    def check_options(self, experiment: ExperimentT) -> None:
        """Validate all options before anything is read.

        Raises:
            UserError: An option is out of its range, or does not go with another one.
        """

    @abstractmethod
    def load_data(self, experiment: ExperimentT) -> tuple[ExperimentT, DataT]:
        """Load the lists of the dataset.

        Returns:
            The configuration, in which a dataset that had to be recognised is named; and the data.

        Raises:
            UserError: The dataset cannot be read, or has an empty list.
        """

    def load_resumed(self, experiment: ExperimentT, run: Path) -> tuple[ExperimentT, DataT]:
        """Load the lists of the dataset as a run has them that is trained on.

        Args:
            experiment: The configuration.
            run: Folder of the run.

        Raises:
            UserError: As for :meth:`load_data`.
        """
        return self.load_data(experiment)

    def data_summary(self, data: DataT) -> str | None:
        """Return the lines about the data that a training prints first; None for none."""
        return None

    def write_lists(self, data: DataT, run: Path) -> None:
        """Write into a run's folder which samples train and test, where we chose them just now."""

    def run_name(self, experiment: ExperimentT, config_name: str | None) -> str:
        """Return the beginning of the name of a new run's folder.

        Args:
            experiment: The configuration.
            config_name: Name of its file, if it has one.
        """
        return config_name or str(experiment.data.dataset)

    @abstractmethod
    def check_data(self, experiment: ExperimentT, data: DataT) -> None:
        """Check that the data can be trained on with these options.

        Raises:
            UserError: They do not go together.
        """

    @abstractmethod
    def lists(self, data: DataT) -> Lists:
        """Return every list with the label of each file, for the run's fingerprints."""

    @abstractmethod
    def datamodule(self, experiment: ExperimentT, data: DataT, folder: Path | None) -> RunData:
        """Make the Lightning data module; ``folder`` is that of the run."""

    # Network

    @abstractmethod
    def labels(self, data: DataT) -> list[LabelT]:
        """Return what the classifier tells apart: class names, or numbers of identities."""

    @abstractmethod
    def label_count(self, experiment: ExperimentT) -> int:
        """Return the number of labels, reading no data where it is known without."""

    @abstractmethod
    def input_shape(self, experiment: ExperimentT) -> tuple[int, ...]:
        """Return the shape of one input as it is trained on: (3, T, H, W) or (3, H, W)."""

    @abstractmethod
    def smallest_input(self, experiment: ExperimentT) -> tuple[int, ...]:
        """Return the least (T, H, W) or (H, W) that the network takes."""

    @abstractmethod
    def build_network(
        self, experiment: ExperimentT, labels: int, *, seed: int = 0
    ) -> tuple[nn.Module, LoadReport | None]:
        """Build the network, with the report on the weights it starts from, if it has any.

        Raises:
            UserError: The configuration has no network, or its weights do not fit.
        """

    @abstractmethod
    def stored_labels(self, stored: Mapping[str, Any]) -> list[LabelT]:
        """Return the labels in a checkpoint's entry of this kind of task."""

    def empty_network(self, experiment: ExperimentT, stored: Mapping[str, Any]) -> nn.Module:
        """Build the network of a checkpoint, to be filled with the checkpoint's weights.

        Args:
            experiment: The configuration in the checkpoint.
            stored: Entry of this kind of task in the checkpoint.
        """
        return self.build_network(without_weights(experiment), len(self.stored_labels(stored)))[0]

    @abstractmethod
    def restored(
        self, model: nn.Module, experiment: ExperimentT, content: Mapping[str, Any], path: Path
    ) -> TrainedT:
        """Return a network with the rest of what its checkpoint says.

        Args:
            model: The network with its weights, in evaluation mode.
            experiment: Configuration in the checkpoint.
            content: Contents of the checkpoint.
            path: The checkpoint.
        """

    def recomputed(self, model: nn.Module) -> nn.Module:
        """Return the part whose residual units ``activation_checkpointing`` recomputes."""
        return model

    # Training

    @abstractmethod
    def check_resumed(self, stored: Mapping[str, Any], data: DataT, path: Path) -> None:
        """Check that a checkpoint knows the labels of the data.

        Args:
            stored: Entry of this kind of task in the checkpoint.
            path: The checkpoint, for the message.

        Raises:
            UserError: It knows others.
        """

    def statistics(
        self, experiment: ExperimentT, data: DataT, report: LoadReport | None
    ) -> Statistics | None:
        """Return mean and standard deviation of the input; None where they are fixed."""
        return None

    @abstractmethod
    def training_task(
        self,
        experiment: ExperimentT,
        model: nn.Module,
        labels: list[LabelT],
        statistics: Statistics | None,
        data: DataT,
    ) -> pl.LightningModule:
        """Make the LightningModule that trains the network."""

    def validate_every(self, experiment: ExperimentT) -> int:
        """Return the number of epochs between two validations."""
        return 1

    # One input

    def reading(self, trained: TrainedT, asked: Reading) -> TrainedT:
        """Return a trained network whose configuration reads files as a user asks.

        The reader and decode device of its training suited other files, perhaps another machine.
        """
        data = trained.experiment.data
        named = {each.name for each in fields(data)}
        changes: dict[str, Any] = {"reader": "auto", "decode_device": "cpu"} | {
            each.name: value
            for each in fields(asked)
            if (value := getattr(asked, each.name)) is not None
        }
        data = replace(data, **{name: value for name, value in changes.items() if name in named})
        return replace(trained, experiment=replace(trained.experiment, data=data))

    def find_checkpoint(self, named: str | None, *, option: str = "--checkpoint") -> Path:
        """Return the checkpoint file that a user means; None is the newest run that has one.

        Args:
            named: A file, the folder of a run, or a published folder.
            option: The option that names it, for messages.

        Raises:
            UserError: It is not there.
        """
        return checkpoint_path(named, self.spec, option=option)

    @abstractmethod
    def find_inputs(
        self, paths: Sequence[str], command: str, asked: Reading
    ) -> list[tuple[str, ItemT]]:
        """Return name and item of the inputs that paths name, themselves or below a folder.

        Args:
            command: Name of the command, for messages.

        Raises:
            UserError: A path is not there, or a folder holds none.
        """

    @abstractmethod
    def find_input(self, source: str, asked: Reading) -> tuple[str, ItemT]:
        """Return name and item of the one input that a path names.

        Raises:
            UserError: It is not there, or there are several.
        """

    @abstractmethod
    def test_inputs(self, trained: TrainedT, count: int) -> list[tuple[str, ItemT]]:
        """Return at most ``count`` inputs, evenly spaced over the test list of the training.

        Raises:
            UserError: The list cannot be read.
        """

    @abstractmethod
    def read_input(
        self,
        trained: TrainedT,
        name: str,
        item: ItemT,
        device: torch.device,
        *,
        option: str | None = None,
    ) -> ModelInput:
        """Read one input as the network is tested on it.

        Args:
            name: Name of the input.
            item: Value that stands for it in :meth:`find_inputs` or :meth:`test_inputs`.
            device: Device of the clip.
            option: The option that names the input, for messages.

        Raises:
            UserError: It cannot be read.
        """

    # Description

    def blocks(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return the blocks of a network by their positions."""
        return dict(inserted_blocks(model))

    def block_name(self, experiment: ExperimentT) -> str:
        """Return the name of its blocks."""
        return str(experiment.model.block)

    def scores_classes(self, trained: TrainedT) -> bool:
        """Tell if the network gives one score for each class of an input."""
        return True

    def output(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return what computes the network's result of a normalised input: logits, or features."""
        return model

    @abstractmethod
    def preprocessed(self, trained: TrainedT) -> Preprocessed:
        """Return the network that takes decoded frames, as its evaluation prepares them."""

    @abstractmethod
    def layers(self, model: nn.Module) -> list[tuple[str, nn.Module]]:
        """Return the rows of ``describe``: name and module, in the order of the computation."""

    @abstractmethod
    def heading(self, experiment: ExperimentT, model: nn.Module, labels: int) -> str:
        """Return the first lines of ``describe``."""

    def facts(self, model: nn.Module, labels: int) -> dict[str, Any]:
        """Return what ``describe --json`` says beside parameters and multiply-adds."""
        return {}


AnyOperations = Operations[Any, Any, Any, Any, Any]
"""The operations of a kind of task that is known only when a command runs."""


def without_weights(experiment: ExperimentT) -> ExperimentT:
    """Return a configuration whose network starts from no other weights."""
    return replace(experiment, model=replace(experiment.model, weights=None))


def evenly_spaced(count: int, length: int) -> list[int]:
    """Return ``count`` indices of a list, or all of a shorter one: the middles of equal parts."""
    count = min(count, length)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]
