"""Checkpoints of our own: what is in them, and the trained network back out of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from video_snl.config.task_spec import VIDEO_SNL, Program
from video_snl.config.video import Experiment
from video_snl.errors import UserError
from video_snl.models.video import build_model, check_clips
from video_snl.models.weights.sources import read_checkpoint as read_values
from video_snl.runs.published import CONFIG, DIGEST, WEIGHTS, read_shared
from video_snl.runs.validation import built_from, checked_experiment
from video_snl.utils.finite import check_weights

__all__ = [
    "Trained",
    "check_same_network",
    "fill",
    "holds",
    "load_trained",
    "read_checkpoint",
    "said_of",
]


@dataclass(frozen=True)
class Trained:
    """A trained network with all that is needed to use it.

    ``stored`` is what its checkpoint says of it (:func:`said_of`); empty of an exported file.
    """

    model: nn.Module
    experiment: Experiment
    class_names: list[str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    epoch: int
    path: Path
    stored: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(
    path: Path, program: Program = VIDEO_SNL, *, hold: bool = False
) -> Mapping[str, Any]:
    """The contents of a checkpoint that the program's ``train`` wrote; no code in it is run.

    Args:
        hold: The file is read again soon: keep what was read until then.

    Raises:
        UserError: when the file is no checkpoint, is damaged, or is of a newer format.
    """
    content = _values(path, hold=hold)
    if program.entry not in content:
        raise UserError(
            f"{path} was not written by {program.name} train. Weights from elsewhere start a "
            f"training: {program.name} train --model.weights {path}"
        )
    checked_experiment(content, path, program)
    weights = content.get("state_dict")
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{path} holds no weights (state_dict): it is damaged; take another copy.")
    return content


def holds(path: Path, program: Program) -> bool:
    """Whether a file of weights is a checkpoint that the program's ``train`` wrote.

    Raises:
        UserError: It cannot be read.
    """
    return program.entry in _values(path, hold=True)


_held: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None


def _values(path: Path, *, hold: bool) -> Mapping[str, Any]:
    """What is in a file; read anew, except where the last call held it and the file is the same."""
    global _held
    last, _held = _held, None
    mark = _mark(path)
    if last is not None and last[0] == mark:
        content = last[1]
    else:
        content = read_shared(path) if path.name == WEIGHTS else read_values(path)
    # Of files of others nobody asks again, and they may be large.
    ours = any(
        isinstance(value, Mapping) and "format_version" in value for value in content.values()
    )
    _held = (mark, content) if hold and ours else None
    return content


def _mark(path: Path) -> tuple[Any, ...]:
    """What tells whether a file, and of a published folder what is beside it, is as it was."""
    files = [path, path.with_name(CONFIG)] if path.name == WEIGHTS else [path]
    states = [file.stat() if file.exists() else None for file in files]
    return path.absolute(), *(s and (s.st_mtime_ns, s.st_size, s.st_ino) for s in states)


def said_of(content: Mapping[str, Any], program: Program) -> dict[str, Any]:
    """What a checkpoint says of its network: the program's entry and the epoch, without tensors."""
    return {key: content[key] for key in (program.entry, "epoch", DIGEST) if key in content}


def load_trained(path: Path) -> Trained:
    """The network of a checkpoint, on the CPU and in evaluation mode."""
    content = read_checkpoint(path)
    about = content["video_snl"]
    experiment = Experiment.from_dict(about["experiment"])
    # The weights come from this checkpoint: those the training started from are not needed again.
    experiment.model.weights = None
    with built_from(path):
        check_clips(experiment)
        model, _ = build_model(experiment.model, len(about["class_names"]))
    fill(model, content, path)
    return Trained(
        model=model.eval(),
        experiment=experiment,
        class_names=list(about["class_names"]),
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
        epoch=int(content["epoch"]),
        path=path,
        stored=said_of(content, VIDEO_SNL),
    )


def fill(model: nn.Module, content: Mapping[str, Any], path: Path) -> None:
    """Put the weights of a checkpoint of ours into its network.

    Raises:
        UserError: They do not fit, or are not finite.
    """
    weights = {
        name.removeprefix("model."): value
        for name, value in content["state_dict"].items()
        if name.startswith("model.")
    }
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"{path}: its weights do not fit the network of its own configuration "
            f"({str(error).splitlines()[-1].strip()})."
        ) from error
    check_weights(weights, str(path))


def check_same_network(asked: Any, stored: Any, path: Path) -> None:
    """Whether the options of a network are those of the checkpoint in ``path``.

    Where its weights once came from does not matter.

    Raises:
        UserError: naming the options that differ.
    """
    beside = ("weights", "allow_partial_weights", "num_classes")
    differing = [
        f"model.{name}: {getattr(asked, name)!r} asked for, {value!r} in the checkpoint"
        for name, value in vars(stored).items()
        if getattr(asked, name) != value and name not in beside
    ]
    if differing:
        raise UserError(
            f"{path} holds another network ({'; '.join(differing)}); give the --config it "
            "was trained with, or none."
        )
