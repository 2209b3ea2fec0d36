"""Operations that kinds of task with named classes share: of videos, images and pixels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from video_snl.config.task_spec import ExperimentT
from video_snl.errors import UserError
from video_snl.runs.trained import Trained, checkpoint_metadata
from video_snl.tasks.base import Task
from video_snl.tasks.datamodule import check_last_batch
from video_snl.tasks.operations import Operations, Reading, without_weights
from video_snl.utils.counts import counts
from video_snl.utils.media import check_named, named_media
from video_snl.utils.text import same_labels, without_password

__all__ = ["AnyClassOperations", "ClassData", "ClassOperations"]


class ClassData(Protocol):
    """A dataset with named classes."""

    @property
    def train(self) -> Sized: ...
    @property
    def class_names(self) -> list[str]: ...


ClassDataT = TypeVar("ClassDataT", bound=ClassData)


class ClassOperations(
    Operations[ExperimentT, ClassDataT, str, Trained[ExperimentT], Path | Tensor]
):
    """Operations that tasks with named classes share.

    An item is the path of a file, or an image of a dataset as uint8 (H, W, 3).
    """

    @abstractmethod
    def class_count(self, experiment: ExperimentT) -> int:
        """Return the number of classes of the dataset that a configuration names."""

    def labels(self, data: ClassDataT) -> list[str]:
        return list(data.class_names)

    def stored_labels(self, stored: Mapping[str, Any]) -> list[str]:
        return list(stored["class_names"])

    def label_count(self, experiment: ExperimentT) -> int:
        return experiment.model.num_classes or self.class_count(experiment)

    def check_data(self, experiment: ExperimentT, data: ClassDataT) -> None:
        """Check that there are classes to tell apart, as many as the configuration says.

        Raises:
            UserError: There is one class alone, or another number.
        """
        asked, classes = experiment.model.num_classes, len(data.class_names)
        if classes < 2:
            raise UserError(
                f"the dataset has 1 class: training tells {self.spec.inputs} of at least 2 classes "
                "apart; add another class to --data.root"
            )
        if asked not in (None, classes):
            raise UserError(
                f"model.num_classes={asked}, but the dataset has {classes} classes; leave the "
                "option out."
            )

    @abstractmethod
    def keep_frozen(self, model: nn.Module, experiment: ExperimentT) -> None:
        """Put the frozen layers of a network in training mode into evaluation mode."""

    def check_batches(
        self,
        experiment: ExperimentT,
        data: ClassDataT,
        batch_size: int,
        *,
        smaller_last: bool = True,
    ) -> None:
        """Refuse batches of one sample that BatchNorm cannot be trained with.

        Raises:
            UserError: There is one, as :func:`~video_snl.tasks.datamodule.check_last_batch`.
        """

        def build() -> nn.Module:
            seed, classes = experiment.trainer.seed, len(data.class_names)
            model, _ = self.build_network(without_weights(experiment), classes, seed=seed)
            model.train()
            self.keep_frozen(model, experiment)
            return model

        check_last_batch(
            experiment,
            batch_size,
            len(data.train),
            self.input_shape(experiment),
            build,
            smaller_last=smaller_last,
        )

    def check_evaluation(self, experiment: ExperimentT) -> None:
        """Validate the options that an evaluation uses.

        Raises:
            UserError: An option is out of its range.
        """

    @abstractmethod
    def load_test_data(
        self, experiment: ExperimentT, known: list[str] | None
    ) -> tuple[ExperimentT, ClassDataT]:
        """Load the dataset to evaluate on, which may have no training list.

        Args:
            known: Class names of the network.
        """

    def load_trained_test_data(
        self, experiment: ExperimentT, trained: Trained[ExperimentT]
    ) -> tuple[ExperimentT, ClassDataT]:
        """Load the dataset to evaluate a trained network on, as its run has it divided."""
        return self.load_test_data(experiment, trained.class_names)

    def check_trained(
        self, trained: Trained[ExperimentT], experiment: ExperimentT, data: ClassDataT
    ) -> None:
        """Check that a trained network can be evaluated on the data.

        Raises:
            UserError: It knows other classes.
        """
        known, asked = trained.class_names, data.class_names
        if not same_labels(asked, known):
            raise UserError(
                f"{trained.path} knows {counts(len(known), 'class')} ({', '.join(known[:3])}, "
                f"...), the dataset has {len(asked)} ({', '.join(asked[:3])}, ...); evaluate on "
                "the dataset it was trained on."
            )

    def check_resumed(self, stored: Mapping[str, Any], data: ClassDataT, path: Path) -> None:
        if not same_labels(stored["class_names"], data.class_names):
            raise UserError(
                f"{path} was trained on {len(stored['class_names'])} other classes than the "
                f"{len(data.class_names)} of the dataset; resume with the data it was trained on."
            )

    def restored(
        self, model: nn.Module, experiment: ExperimentT, content: Mapping[str, Any], path: Path
    ) -> Trained[ExperimentT]:
        about = content[self.spec.entry]
        mean, std = tuple(about["mean"]), tuple(about["std"])
        return Trained(
            model=model,
            experiment=without_weights(experiment),
            epoch=int(content["epoch"]),
            path=path,
            spec=self.spec,
            stored=checkpoint_metadata(content, self.spec),
            class_names=list(about["class_names"]),
            mean=mean,
            std=std,
        )

    def find_inputs(
        self, paths: Sequence[str], command: str, asked: Reading
    ) -> list[tuple[str, Path | Tensor]]:
        assert self.spec.inputs != "tracklets"
        found = named_media(paths, self.spec.inputs, f"{self.spec.command} {command}")
        return [(str(path), path) for path in found]

    def find_input(self, source: str, asked: Reading) -> tuple[str, Path | Tensor]:
        check_named(source)
        path = Path(source)
        if path.is_dir():
            raise UserError(f"{source} is a folder: name one {self.spec.input}.")
        if not path.is_file():
            raise UserError(f"{without_password(source)}: no such file.")
        return source, path

    @abstractmethod
    def scoring_task(self, trained: Trained[ExperimentT]) -> Task:
        """Make the LightningModule that scores the inputs of a trained network."""

    def heading(self, experiment: ExperimentT, model: nn.Module, labels: int) -> str:
        kind = "clip (channels, T, H, W)" if self.spec.name == "video" else "image (channels, H, W)"
        shape = self.input_shape(experiment)
        return f"{experiment.model.backbone}, {counts(labels, 'class')}; {kind} = {shape}"


AnyClassOperations = ClassOperations[Any, Any]
"""The operations of a kind of task with classes that is known only when a command runs."""
