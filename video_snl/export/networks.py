"""An exported file as a trained network, which the commands use as one from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from video_snl.config.statistics import Statistics
from video_snl.config.task_spec import IMAGE, VIDEO, AnyExperiment, TaskSpec, exact_spec
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.export.formats import FORMATS, Run, format_of
from video_snl.export.inputs import Input
from video_snl.runs.published import stored_facts
from video_snl.runs.trained import Trained
from video_snl.runs.validation import checked_experiment
from video_snl.tasks.preprocessing import to_pixels

__all__ = [
    "Exported",
    "checked_facts",
    "exported_spec",
    "find_exported",
    "load_exported",
    "read_exported",
]


class Exported(nn.Module):
    """A network that something else runs: torch's exported graph, or onnxruntime.

    Shapes: as of its file's input -> logits.
    """

    def __init__(self, run: Run, given: Input) -> None:
        super().__init__()
        self.given = given
        self._run = (run,)  # in a tuple: it is not a module of ours to be moved or set to training

    def forward(self, *inputs: Tensor) -> Tensor:
        self.given.check(inputs[0].shape)
        if "batch" in self.given.free or len(inputs[0]) == 1:
            return self._run[0](*inputs)
        parts = zip(*(x.split(1) for x in inputs), strict=True)
        return torch.cat([self._run[0](*part) for part in parts])


class _Pixels(Exported):
    """A network whose file has the preprocessing inside, for inputs that are normalised."""

    def __init__(self, network: Exported, statistics: Statistics) -> None:
        super().__init__(network, network.given)
        self.statistics = statistics

    def forward(self, *inputs: Tensor) -> Tensor:
        return super().forward(to_pixels(inputs[0], self.statistics))


def find_exported(
    model: str, spec: TaskSpec, accelerator: str
) -> tuple[Trained[AnyExperiment], torch.device]:
    """Load the file that ``--model`` names, and find the device it runs on.

    Args:
        spec: ``VIDEO`` or ``IMAGE``.
        accelerator: As ``--accelerator``; ``auto`` is the CPU for ONNX files.

    Raises:
        UserError: The file is no such one, or there is no such device, or it does not run there.
    """
    device = _device(Path(model), accelerator)
    return load_exported(Path(model), spec, device), device


def _device(path: Path, accelerator: str) -> torch.device:
    cpu_only = format_of(path) == "onnx"
    device = device_of("cpu" if cpu_only and accelerator == "auto" else accelerator)
    if cpu_only and device.type != "cpu":
        raise UserError(f"{path}: ONNX files run on the CPU here; give --accelerator cpu.")
    return device


def exported_spec(path: Path) -> TaskSpec:
    """Return the kind of task of an exported file.

    Raises:
        UserError: It is not a file that ``export`` wrote.
    """
    content = _facts(path, _checked(path).describe(path))
    return IMAGE if IMAGE.entry in content else VIDEO


def load_exported(path: Path, spec: TaskSpec, device: torch.device) -> Trained[AnyExperiment]:
    """Load the network of an exported file.

    Args:
        path: The file.
        spec: Kind of task of the file; either of the image tasks stands for both.
        device: The device it runs on.

    Raises:
        UserError: It is not a file that ``export`` wrote, is damaged, or is of another kind.
    """
    network, content, experiment = read_exported(path, spec, device)
    about = content[spec.entry]
    mean, std = tuple(about["mean"]), tuple(about["std"])
    # Which parts were frozen cannot be asked of a graph, and does not matter any more.
    optimizer = type(experiment.optimizer)()
    return Trained(
        model=(_Pixels(network, (mean, std)) if network.given.pixels else network).eval(),  # type: ignore[arg-type]
        experiment=replace(experiment, optimizer=optimizer),
        epoch=int(content["epoch"]),
        path=path,
        spec=exact_spec(spec, experiment),
        class_names=list(about["class_names"]),
        mean=mean,  # type: ignore[arg-type]
        std=std,  # type: ignore[arg-type]
    )


def read_exported(
    path: Path, spec: TaskSpec, device: torch.device
) -> tuple[Exported, Mapping[str, Any], AnyExperiment]:
    """Read the network of an exported file as it is, what the file says, and its configuration.

    Args:
        path, spec, device: As for :func:`load_exported`.

    Raises:
        UserError: As for :func:`load_exported`.
    """
    run, text = _checked(path).read(path, device)
    content = _facts(path, text)
    ours = (IMAGE.entry, VIDEO.entry)
    if spec.entry in ours and content["program"] not in ours:
        raise UserError(
            f"{path} holds a network of {content['program']}, which video-snl does not run: use it "
            "in onnxruntime or torch (docs/deployment.md)."
        )
    experiment, given = checked_facts(content, path, spec)
    return Exported(run, given), content, experiment


def checked_facts(
    content: Mapping[str, Any], path: Path, spec: TaskSpec
) -> tuple[AnyExperiment, Input]:
    """Return the configuration of an exported file, and the input that its network takes.

    Raises:
        UserError: An entry is missing, or of another type or size.
    """
    experiment = checked_experiment(content, path, spec)
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
