"""Base of the tasks: frozen parts, learning rates, seeds, and the entries of a checkpoint."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torchmetrics import Metric

from video_snl import __version__
from video_snl.config.task_spec import TaskSpec
from video_snl.config.video import TrainerConfig
from video_snl.errors import UserError
from video_snl.tasks.optimization import (
    HeadOf,
    LayersOf,
    PartOptions,
    freeze,
    keep_frozen_layers_in_eval,
    parameter_groups,
    scheduled,
)

__all__ = ["Parts", "SGDOptions", "Task", "TaskExperiment"]


class SGDOptions(PartOptions, Protocol):
    """The options of SGD, beside those of its parts."""

    @property
    def momentum(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


class TaskExperiment(Protocol):
    """The part of a configuration that a task reads."""

    @property
    def optimizer(self) -> SGDOptions: ...
    @property
    def trainer(self) -> TrainerConfig: ...
    def to_dict(self) -> dict[str, Any]: ...


class Parts:
    """Functions that find the parts of a kind of network.

    Args:
        head_of: Returns the parameters of its head.
        layers_of: Returns the layers of a stage by its name.
    """

    def __init__(self, head_of: HeadOf, layers_of: LayersOf) -> None:
        self.head_of, self.layers_of = head_of, layers_of


class Task(pl.LightningModule):
    """Base LightningModule of tasks that are trained with SGD.

    Args:
        experiment: The configuration.
        model: The network.
        spec: Kind of task, with the name and format of its checkpoints.
        parts: Functions that find the parts of the network.
        files: Paths of the training samples, to name those of a batch that went wrong.
    """

    noun = "videos"
    """Name of the samples in messages."""

    def __init__(
        self,
        experiment: TaskExperiment,
        model: nn.Module,
        *,
        spec: TaskSpec,
        parts: Parts,
        files: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.model, self.spec, self.files = model, spec, files
        self._options, self._parts = experiment, parts
        self._sizes: list[int] = []  # of the parts of a step, so far
        freeze(model, experiment.optimizer, parts.layers_of, parts.head_of)
        # Lightning trains modules in the mode it finds them in.
        self.train()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if mode:
            options, parts = self._options.optimizer, self._parts
            keep_frozen_layers_in_eval(self.model, options, parts.layers_of, parts.head_of)
        return self

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """Return what else is needed to use the network: class names, statistics of its input."""

    @abstractmethod
    def rate_factor(self, epoch: float) -> float:
        """Return the factor of the initial learning rate after so many (fractional) epochs."""

    def on_train_epoch_start(self) -> None:
        # Dropout draws from the global generator; so it, too, depends on seed and epoch alone.
        seed = self._options.trainer.seed
        torch.manual_seed(hash((seed, self.current_epoch, self.global_rank)) % 2**63)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._sizes = []
        self._sizes.append(len(batch["index"]))

    def weighted(self, loss: Tensor) -> Tensor:
        """Return the mean loss of a part of a step, times its samples over those of the first part.

        Only the last part of an epoch may have fewer than the others.
        """
        if not self._sizes or self._sizes[-1] == self._sizes[0]:
            return loss
        return loss * (self._sizes[-1] / self._sizes[0])

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Let the gradient be that of the mean over the samples of the step.

        Lightning divides the sum over the parts by ``optimizer.accumulate``, also where an epoch
        ends with fewer parts: its last step would be too short.
        """
        supposed = self.trainer.accumulate_grad_batches
        found = sum(self._sizes) / self._sizes[0]
        if found == supposed:
            return
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(supposed / found)

    def configure_optimizers(self) -> Any:
        config = self._options.optimizer
        optimizer = SGD(
            parameter_groups(self.model, config, self._parts.head_of),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=getattr(config, "nesterov", False),
        )
        steps = self.trainer.estimated_stepping_batches
        return scheduled(optimizer, config.epochs, steps, self.rate_factor)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[self.spec.entry] = {
            "format_version": self.spec.format_version,
            "experiment": self._options.to_dict(),
            "trained_with": __version__,
            **self.about(),
        }

    def log_epoch(self, metrics: Mapping[str, Metric], samples: int) -> None:
        for name, metric in metrics.items():
            # The metrics weigh themselves; the size is named since a batch may have no sample.
            self.log(name, metric, on_step=False, on_epoch=True, batch_size=max(1, samples))

    def checked(self, loss: Tensor, index: Tensor) -> Tensor:
        """Return the loss, once it is checked to be finite.

        Args:
            index: Numbers of the samples of its batch.

        Raises:
            UserError: It is not finite; the message names the samples, and says whether the weights
                were finite before.
        """
        if torch.isfinite(loss):
            return loss
        names = ", ".join(self.files[i] for i in index.tolist())
        raise UserError(
            f"the loss became {loss.item()} in epoch {self.current_epoch + 1} (step "
            f"{self.global_step + 1} of the run, with {_state_of(self.model)}); lower "
            f"--optimizer.learning_rate, set --optimizer.gradient_clip, or look at the {self.noun} "
            f"of this batch: {names}"
        )


def _state_of(model: nn.Module) -> str:
    """Say where a loss that is not finite comes from: a step before, or this batch."""
    values = dict(model.named_parameters()) | dict(model.named_buffers())
    broken = [name for name, value in values.items() if not value.isfinite().all()]
    if not broken:
        return "finite weights"
    return f"{len(broken)} of {len(values)} weights not finite, {broken[0]} the first"
