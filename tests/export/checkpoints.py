"""Checkpoints as training writes them, of networks that were not trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from video_snl.config.image import ImageDataConfig, ImageExperiment, ImageModelConfig
from video_snl.config.task_spec import IMAGE, exact_spec
from video_snl.config.video import DataConfig, Experiment, ModelConfig
from video_snl.models.image import build_image_model
from video_snl.models.video import build_model
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.base import Task

CLASSES = ["Bow", "Clap", "Dive"]
HALF = (0.4, 0.5, 0.6)


def lively(network: nn.Module) -> nn.Module:
    """Norms with statistics and weights of their own, as after a training; evaluation mode."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.running_mean, 0.0, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.1)
    return network.eval()


def video_network(
    block: str, backbone: str = "i3d_small", classes: int = len(CLASSES), **options: Any
) -> nn.Module:
    config = ModelConfig(backbone=backbone, block=block, zero_init=False, **options)  # type: ignore
    torch.manual_seed(0)
    return lively(build_model(config, classes)[0])


def video_checkpoint(
    path: Path,
    block: str = "snl",
    root: str | None = None,
    names: Sequence[str] = CLASSES,
    *,
    frames: int = 4,
    side: int = 32,
    num_units: int = 1,
) -> Path:
    """Write a checkpoint of clips of 4 x 32 x 32, the least of the small I3D, or of more."""
    size = {"clip_frames": frames, "crop": side, "short_side": side}
    data = DataConfig(dataset="ucf101", root=root, num_workers=0, **size)  # type: ignore[arg-type]
    model = ModelConfig(block=block, zero_init=False, num_units=num_units)  # type: ignore[arg-type]
    experiment = Experiment(data=data, model=model)
    network = video_network(block, classes=len(names), num_units=num_units)
    task = ActionRecognition(experiment, network, list(names), mean=HALF, std=HALF)
    return save(task, path)


def image_checkpoint(path: Path, backbone: str = "preresnet20") -> Path:
    """Write a checkpoint of images of 32 x 32 pixels; ``fcn_r50_d8`` labels all of them."""
    segments = backbone.startswith("fcn")
    data = ImageDataConfig(dataset="cityscapes" if segments else "digits")
    model = ImageModelConfig(backbone=backbone, zero_init=False)  # type: ignore[arg-type]
    experiment = ImageExperiment(data=data, model=model)
    torch.manual_seed(0)
    network = lively(build_image_model(model, len(CLASSES))[0])
    return save(
        exact_spec(IMAGE, experiment).make().task(experiment, network, CLASSES, (HALF, HALF)), path
    )


def save(task: Task, path: Path) -> Path:
    content: dict[str, Any] = {"epoch": 4, "state_dict": task.state_dict()}
    task.on_save_checkpoint(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def flipped(source: Path, target: Path, offset: int) -> Path:
    """A copy of a file with one bit of this byte flipped."""
    content = bytearray(source.read_bytes())
    content[offset] ^= 1 << 3
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target
