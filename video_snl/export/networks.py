"""An exported file as a trained network, which the commands use as one from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from video_snl.config.image import ImageExperiment, ImageOptimizerConfig
from video_snl.config.image_programs import IMAGES
from video_snl.config.task_spec import VIDEO_SNL, AnyExperiment, Program
from video_snl.config.video import Experiment, OptimizerConfig
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.export.formats import FORMATS, Run, format_of
from video_snl.export.inputs import Input
from video_snl.runs.published import stored_facts
from video_snl.runs.trained import Trained
from video_snl.runs.trained_images import TrainedImages
from video_snl.runs.validation import checked_experiment

__all__ = ["Exported", "checked_facts", "exported_program", "find_exported", "load_exported"]


class Exported(nn.Module):
    """A network that something else runs: torch's exported graph, or onnxruntime.

    Shapes: as of its file's input -> logits.
    """

    def __init__(self, run: Run, given: Input) -> None:
        super().__init__()
        self.given = given
        self._run = (run,)  # in a tuple: it is no module of ours to be moved or set to training

    def forward(self, x: Tensor) -> Tensor:
        self.given.check(x.shape)
        if "batch" in self.given.free or len(x) == 1:
            return self._run[0](x)
        return torch.cat([self._run[0](part) for part in x.split(1)])


def find_exported(
    model: str, program: Program, accelerator: str
) -> tuple[Trained | TrainedImages, torch.device]:
    """The network of the file that ``--model`` names, and the device that it is to run on.

    Args:
        program: ``VIDEO_SNL`` or ``IMAGES``.
        accelerator: As ``--accelerator``; ``auto`` is the CPU for ONNX files.

    Raises:
        UserError: The file is no such one, or there is no such device, or it does not run there.
    """
    device = _device(Path(model), accelerator)
    return load_exported(Path(model), program, device), device


def _device(path: Path, accelerator: str) -> torch.device:
    cpu_only = format_of(path) == "onnx"
    device = device_of("cpu" if cpu_only and accelerator == "auto" else accelerator)
    if cpu_only and device.type != "cpu":
        raise UserError(f"{path}: ONNX files run on the CPU here; give --accelerator cpu.")
    return device


def exported_program(path: Path) -> Program:
    """Whether a file's network is one of videos or of pictures.

    Raises:
        UserError: It is no file that ``export`` wrote.
    """
    content = _facts(path, _checked(path).describe(path))
    return IMAGES if IMAGES.entry in content else VIDEO_SNL


def load_exported(path: Path, program: Program, device: torch.device) -> Trained | TrainedImages:
    """The network of an exported file.

    Args:
        program: ``VIDEO_SNL`` or ``IMAGES``.

    Raises:
        UserError: It is no file that ``export`` wrote, is damaged, or is of the other kind.
    """
    form = _checked(path)
    run, text = form.read(path, device)
    content = _facts(path, text)
    experiment, given = checked_facts(content, path, program)
    about, epoch = content[program.entry], int(content["epoch"])
    model, names = Exported(run, given).eval(), list(about["class_names"])
    mean, std = tuple(about["mean"]), tuple(about["std"])
    # Which parts were frozen cannot be asked of a graph, and does not matter any more.
    if isinstance(experiment, ImageExperiment):
        images = replace(experiment, optimizer=ImageOptimizerConfig())
        return TrainedImages(model, images, names, mean, std, epoch, path)
    assert isinstance(experiment, Experiment)
    videos = replace(experiment, optimizer=OptimizerConfig())
    return Trained(model, videos, names, mean, std, epoch, path)


def checked_facts(
    content: Mapping[str, Any], path: Path, program: Program
) -> tuple[AnyExperiment, Input]:
    """The configuration of an exported file, and what its network takes.

    Raises:
        UserError: An entry is missing, or of another type or size.
    """
    experiment = checked_experiment(content, path, program)
    try:
        return experiment, Input.from_facts(content["input"])
    except TypeError as error:
        raise UserError(
            f"{path}: input.{error}; it is damaged: export the checkpoint again."
        ) from error


def _checked(path: Path) -> Any:
    form = FORMATS[format_of(path)]
    if not path.is_file():
        raise UserError(f"--model {path}: no such file.")
    form.check()
    return form


def _facts(path: Path, text: str) -> Mapping[str, Any]:
    if not text:
        raise UserError(
            f"{path} does not say which classes it knows and what it was trained on, so it was not "
            "written by video-snl export; export the checkpoint again."
        )
    return stored_facts(text, path)
