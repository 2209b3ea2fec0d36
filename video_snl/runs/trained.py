"""Checkpoints of our own: their contents, and the trained network they hold.

Torch is imported where a file is read, so that a run's configuration is found without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from video_snl.config.task_spec import IMAGE, TASKS, VIDEO, AnyExperiment, TaskSpec, exact_spec
from video_snl.config.user_code import refuse_code
from video_snl.errors import UserError
from video_snl.runs.published import CONFIG, DIGEST, WEIGHTS, read_shared
from video_snl.runs.run import (
    Run,
    checkpoint_path,
    kind_of,
    newest_begun,
    newest_of,
    read_record,
    runs_in,
)
from video_snl.runs.validation import built_from, checked_experiment

if TYPE_CHECKING:
    from torch import nn

    from video_snl.config.video import Experiment

__all__ = [
    "Trained",
    "TrainedNetwork",
    "check_same_network",
    "checkpoint_metadata",
    "find_trained",
    "holds",
    "load_trained",
    "read_checkpoint",
    "stored_experiment",
    "stored_spec",
]


ExperimentT_co = TypeVar("ExperimentT_co", bound=AnyExperiment, covariant=True)


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork(Generic[ExperimentT_co]):
    """A trained network with all that is needed to use it.

    Attributes:
        model: The network, in evaluation mode.
        experiment: Configuration of the training.
        epoch: Index of its last finished epoch, from 0; None if its file does not say.
        path: File of the checkpoint.
        spec: Kind of task.
        stored: Description in its checkpoint (:func:`checkpoint_metadata`); empty for an exported
            file and for checkpoints of the paper's released code. That of a network with published
            weights has its name, as ``pretrained``, and the epoch -1: none of ours is finished.
    """

    model: nn.Module
    experiment: ExperimentT_co
    epoch: int | None
    path: Path
    spec: TaskSpec = VIDEO
    stored: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trained(TrainedNetwork[ExperimentT_co]):
    """A trained network that tells classes apart, of videos, images or pixels.

    Attributes:
        class_names: Names in the order of the labels.
        mean, std: Statistics of the input, for values in [0, 1].
    """

    class_names: list[str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def statistics(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and standard deviation together."""
        return self.mean, self.std


def find_trained(named: str | None) -> Trained[AnyExperiment]:
    """Load the network that a user means, of any kind of task of ``video-snl``.

    Args:
        named: Checkpoint, as for :func:`~video_snl.runs.run.checkpoint_path`.

    Raises:
        UserError: There is none, or it is damaged.
    """
    spec = stored_spec(named, "runs", (VIDEO, IMAGE))  # runs of both image tasks carry one name
    trained = load_trained(checkpoint_path(named, spec), spec)
    assert isinstance(trained, Trained)
    return trained


@overload
def load_trained(path: Path) -> Trained[Experiment]: ...


@overload
def load_trained(path: Path, spec: TaskSpec) -> TrainedNetwork[AnyExperiment]: ...


def load_trained(path: Path, spec: TaskSpec = VIDEO) -> TrainedNetwork[AnyExperiment]:
    """Load the network of a checkpoint, on the CPU and in evaluation mode.

    Args:
        path: The checkpoint.
        spec: Kind of task; either of the image tasks stands for both.

    Returns:
        A :class:`TrainedNetwork` of the kind's own class.

    Raises:
        UserError: The file is not a checkpoint of ``train``, is damaged, or its weights do not fit.
    """
    content = read_checkpoint(path, spec)
    about = content[spec.entry]
    experiment = spec.experiment(about["experiment"])
    operations = exact_spec(spec, experiment).make()
    with built_from(path):
        model = operations.empty_network(experiment, about)
    _fill(model, content, path)
    return operations.restored(model.eval(), experiment, content, path)


def read_checkpoint(
    path: Path, spec: TaskSpec = VIDEO, *, cache: bool = False
) -> Mapping[str, Any]:
    """Read and validate a checkpoint that ``train`` wrote; no code in it is run.

    Args:
        cache: The file is read again soon: keep its contents until then.

    Raises:
        UserError: The file is not a checkpoint, is damaged, has a newer format, or its network is
            made by code of other packages, which nobody allowed.
    """
    content = _values(path, cache=cache)
    if spec.entry not in content:
        _refuse_other_commands(content, path, spec)
        raise UserError(
            f"{path} was not written by {spec.command} train. Published weights go with the name "
            f"of their network: --pretrained NAME --weights {path}, or load(NAME, weights=...) in "
            f"Python; others start a training: {spec.command} train --model.weights {path}"
        )
    refuse_code(vars(checked_experiment(content, path, spec).model), path)
    weights = content.get("state_dict")
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{path} holds no weights (state_dict): it is damaged; take another copy.")
    return content


def _refuse_other_commands(content: Mapping[str, Any], path: Path, spec: TaskSpec) -> None:
    """Refuse a checkpoint of another kind of task, and name the command that takes it.

    Raises:
        UserError: It is one.
    """
    entry = next((name for name in content if _is_ours(content[name])), None)
    if entry is None:
        return
    # The other package's entry is its command.
    command = next((each.command for each in TASKS.values() if each.entry == entry), entry)
    raise UserError(
        f"{path} was not written by {spec.command} train on {spec.inputs}, but by {command} train: "
        f"the commands of {command} take it, such as {command} export --checkpoint {path}"
    )


def _is_ours(value: Any) -> bool:
    return isinstance(value, Mapping) and "format_version" in value


def holds(path: Path, spec: TaskSpec) -> bool:
    """Tell if a file of weights is a checkpoint of this kind of task.

    Raises:
        UserError: It cannot be read.
    """
    return spec.entry in _values(path, cache=True)


_cached: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None


def _values(path: Path, *, cache: bool) -> Mapping[str, Any]:
    """Read a file, unless the last call cached it and the file is unchanged."""
    from video_snl.models.weights.sources import read_checkpoint as read_values

    global _cached
    last, _cached = _cached, None
    state = _file_state(path)
    if last is not None and last[0] == state:
        content = last[1]
    else:
        content = read_shared(path) if path.name == WEIGHTS else read_values(path)
    # Files of others are not read twice, and may be large.
    ours = any(map(_is_ours, content.values()))
    _cached = (state, content) if cache and ours else None
    return content


def _file_state(path: Path) -> tuple[Any, ...]:
    """Time, size and inode of a file, and for a published folder of its ``config.json``."""
    files = [path, path.with_name(CONFIG)] if path.name == WEIGHTS else [path]
    states = [file.stat() if file.exists() else None for file in files]
    return path.absolute(), *(s and (s.st_mtime_ns, s.st_size, s.st_ino) for s in states)


def checkpoint_metadata(content: Mapping[str, Any], spec: TaskSpec) -> dict[str, Any]:
    """Return what a checkpoint says of its network, without tensors."""
    return {key: content[key] for key in (spec.entry, "epoch", DIGEST) if key in content}


def _fill(model: nn.Module, content: Mapping[str, Any], path: Path) -> None:
    """Load the weights of a checkpoint into its network.

    Raises:
        UserError: They do not fit, or are not finite.
    """
    from video_snl.utils.finite import check_weights

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


def stored_experiment(
    named: str | None, output: str, *, checkpoint: bool, spec: TaskSpec = VIDEO
) -> AnyExperiment:
    """Return the configuration in a checkpoint, or in the record of a run to be resumed.

    Args:
        named: The run's folder (or the checkpoint); None or ``newest``: the newest one in
            ``output``, as :func:`newest_begun` and :func:`checkpoint_path` find it.
        output: Folder of runs.
        checkpoint: Read the checkpoint, not the run's record.
        spec: The kind of task.
    """
    if not checkpoint:
        newest = named in (None, "newest")
        folder = newest_begun(Path(output), spec).folder if newest else Path(str(named))
        experiment = Run.open(folder, spec).experiment
        refuse_code(vars(experiment.model), folder)
        return experiment
    path = checkpoint_path(named, spec)
    # The command that asks for the configuration reads the network next.
    content = read_checkpoint(path, spec, cache=True)
    return spec.experiment(content[spec.entry]["experiment"])


def stored_spec(named: str | None, output: str, specs: Sequence[TaskSpec]) -> TaskSpec:
    """Return the kind of task of a run or a checkpoint; the first where that is not clear.

    Args:
        named: The folder of a run, a file, ``newest`` for the newest run in ``output`` that can be
            trained on, or None for the newest one that has a checkpoint.
    """
    if named in (None, "newest"):
        runs = [run for spec in specs for run in runs_in(Path(output), spec)]
        runs.sort(key=lambda run: run.started)
        found = newest_of(runs, lambda run: run.trained if named is None else run.begun)
        return specs[0] if found is None else found.spec
    path = Path(str(named))
    if (path / "run.json").is_file():
        with suppress(UserError):  # a damaged record: its checkpoint says it as well
            kind = kind_of(read_record(path, specs[0]))
            return next((spec for spec in specs if spec.kind == kind), specs[0])
    try:
        path = checkpoint_path(str(path), specs[0])
    except UserError:
        return specs[0]  # which says what is wrong with the name
    return next((spec for spec in specs if holds(path, spec)), specs[0])


def check_same_network(asked: Any, stored: Any, path: Path) -> None:
    """Check that the options of a network are those of the checkpoint in ``path``.

    The origin of its weights does not matter.

    Raises:
        UserError: Options differ; the message names them.
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
