"""What of a dataset no training can use, told before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from video_snl.config.task_spec import AnyExperiment
from video_snl.errors import UserError
from video_snl.tasks.datamodule import share_of_batch

__all__ = ["check_class_count", "check_last_batch"]


def check_class_count(classes: int, noun: str) -> None:
    """Refuse a dataset of a single class, of which nothing can be learned.

    Raises:
        UserError: There are fewer than two classes.
    """
    if classes < 2:
        raise UserError(
            f"the dataset has 1 class: training tells {noun} of at least 2 classes apart; add "
            "another class to --data.root"
        )


def check_last_batch(
    experiment: AnyExperiment,
    batch_size: int,
    samples: int,
    sample_shape: Sequence[int],
    build: Callable[[], nn.Module],
    *,
    smaller_last: bool = True,
) -> None:
    """Refuse batches of one sample whose feature maps shrink to one position.

    BatchNorm in training mode needs more than one value per channel; torch raises in the middle of
    the first epoch. The network is run on shapes alone, and only where a batch of one comes up.

    Args:
        batch_size: Samples of a step, over all devices and accumulated parts.
        samples: Samples of an epoch.
        sample_shape: Of one input, such as (3, T, H, W).
        build: Makes the network in training mode, its frozen layers in evaluation mode.
        smaller_last: The last batch of an epoch holds what is left over.

    Raises:
        UserError: There is such a batch, or it cannot be divided; names the options.
    """
    optimizer, trainer = experiment.optimizer, experiment.trainer
    devices = 1 if trainer.devices == "auto" else trainer.devices
    world = max(1, devices * trainer.nodes)
    part = share_of_batch(batch_size, optimizer.accumulate, world)
    share = -(-samples // world)
    last = share % part if smaller_last else 0
    if part != 1 and last != 1:
        return
    try:
        _run_on_shapes(build(), sample_shape)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        size = " x ".join(map(str, sample_shape[1:]))
        what = "batches hold 1 sample" if part == 1 else f"the last of {samples} samples is alone"
        raise UserError(
            f"optimizer.batch_size={batch_size}: {what} in its batch on a device, and "
            f"an input of {size} shrinks to one position, of which BatchNorm can take no "
            "deviation: give another --optimizer.batch_size (or accumulate), or larger inputs "
            "(--data.crop; of images --data.height and --data.width)"
        ) from error


def _run_on_shapes(model: nn.Module, sample_shape: Sequence[int]) -> None:
    try:
        model.to("meta")(torch.zeros(1, *sample_shape, device="meta"))
    except (NotImplementedError, RuntimeError):
        # An operation without arithmetic on shapes: training itself will tell.
        return
