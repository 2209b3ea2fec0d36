"""The Trainer as configured, and how its loops end when they are stopped."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from video_snl.config.video import Experiment, OptimizerConfig, TrainerConfig
from video_snl.engine.trainer import make_trainer, stopping_in_order
from video_snl.errors import UserError


def test_terminated_loop_ends_in_143() -> None:
    with pytest.raises(SystemExit) as stopped, stopping_in_order():
        raise SIGTERMException
    assert stopped.value.code == 143


def test_interrupted_loop_ends_in_keyboard_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), stopping_in_order():
        raise SystemExit(1)


def test_options_reach_the_trainer(tmp_path: Path) -> None:
    experiment = Experiment(
        optimizer=OptimizerConfig(epochs=7, accumulate=4, gradient_clip=0.5),
        trainer=TrainerConfig(accelerator="cpu", loggers=["tensorboard"], progress=False),
    )
    trainer = make_trainer(experiment, tmp_path)
    assert (trainer.max_epochs, trainer.accumulate_grad_batches) == (7, 4)
    assert trainer.gradient_clip_val == 0.5
    assert trainer.precision == "32-true"
    assert [type(logger) for logger in trainer.loggers] == [TensorBoardLogger]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_missing_logger_says_what_to_install(tmp_path: Path) -> None:
    experiment = Experiment(trainer=TrainerConfig(accelerator="cpu", loggers=["wandb"]))
    with pytest.raises(UserError, match="pip install wandb"):
        make_trainer(experiment, tmp_path)


def test_more_devices_than_there_are(tmp_path: Path) -> None:
    experiment = Experiment(trainer=TrainerConfig(accelerator="cpu", devices=0))
    with pytest.raises(UserError, match="trainer: "):
        make_trainer(experiment, tmp_path)
