"""Trainings on images that take seconds: a few steps of preresnet20 on the digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny import option_words
from video_snl.config.image import (
    ImageDataConfig,
    ImageExperiment,
    ImageModelConfig,
    ImageOptimizerConfig,
)


def image_options(output: Path, **overrides: Any) -> list[str]:
    """Options of ``video-snl train``; keys of ``overrides`` have ``__`` for the dot."""
    options: dict[str, Any] = {
        "data.dataset": "digits",
        "optimizer.epochs": 3,
        "optimizer.epoch_steps": 2,
        "optimizer.batch_size": 16,
        "optimizer.test_batch_size": 128,
        "optimizer.learning_rate": 0.02,
        "trainer.output": output,
        "trainer.accelerator": "cpu",
        "trainer.loggers": "[csv]",
        "trainer.progress": "false",
    }
    return option_words(options, overrides)


def segmentation_options(root: Path, output: Path, **overrides: Any) -> list[str]:
    """Return the same of a segmentation of small images."""
    options: dict[str, Any] = {
        "data__dataset": "cityscapes",
        "data__root": root,
        "data__height": 32,
        "data__width": 32,
        "data__num_workers": 0,
        "model__backbone": "fcn_r50_d8",
        "optimizer__epochs": 1,
        "optimizer__epoch_steps": 1,
        "optimizer__batch_size": 2,
        "optimizer__test_batch_size": 1,
    }
    return image_options(output, **{**options, **overrides})


def experiment(**sections: dict[str, Any]) -> ImageExperiment:
    """Make an experiment with these options, the others at their defaults."""
    return ImageExperiment(
        data=ImageDataConfig(**sections.get("data", {})),
        model=ImageModelConfig(**sections.get("model", {})),
        optimizer=ImageOptimizerConfig(**sections.get("optimizer", {})),
    )
