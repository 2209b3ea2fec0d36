"""``train``: the network and the data of a run, for any kind of task."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl

from video_snl.config.task_spec import AnyExperiment, TaskSpec
from video_snl.engine.fit import fit, is_first_process, opened_run, resumed_folder, tell
from video_snl.engine.resume import Asked
from video_snl.models.video import recompute_units
from video_snl.runs.run import Run, weights_digest
from video_snl.runs.trained import read_checkpoint
from video_snl.tasks.operations import without_weights

__all__ = ["make_task", "train", "train_run"]


def train(
    experiment: AnyExperiment,
    spec: TaskSpec,
    *,
    config_name: str | None,
    asked: Asked,
    profile: bool = False,
) -> int:
    """Train a new run, or resume one.

    Args:
        experiment: The configuration.
        spec: The kind of task.
        config_name: Name of a new run, unless ``trainer.name`` is given.
        asked: The run to resume, if any.
        profile: Print where loading took time.

    Returns:
        The exit code.

    Raises:
        UserError: The options, the data or the run to resume do not go together.
    """
    _, code = train_run(experiment, spec, config_name=config_name, asked=asked, profile=profile)
    return code


def train_run(
    experiment: AnyExperiment,
    spec: TaskSpec,
    *,
    config_name: str | None,
    asked: Asked,
    profile: bool = False,
) -> tuple[Run, int]:
    """Train as :func:`train` does; return the run and the exit code.

    Raises:
        UserError: As for :func:`train`.
    """
    operations = spec.make()
    operations.check_options(experiment)
    resumed = resumed_folder(experiment, spec, asked)
    if resumed is None:
        experiment, data = operations.load_data(experiment)
    else:
        experiment, data = operations.load_resumed(experiment, resumed)
    summary = operations.data_summary(data)
    if summary is not None:
        tell(summary)
    operations.check_data(experiment, data)
    name = operations.run_name(experiment, config_name)
    # Weights that do not fit leave no folder behind; a resumed run's are read under its lock.
    task = make_task(experiment, data, spec) if resumed is None else None
    weights = weights_digest(experiment.model.weights) if resumed is None else None
    with opened_run(experiment, spec, name, asked, operations.lists(data)) as run:
        if is_first_process():
            operations.write_lists(data, run.folder)
            if weights is not None:  # the file may be another one later
                run.update(weights_sha256=weights)
        if task is None:
            task = make_task(experiment, data, spec, resumed=run.last_checkpoint)
        samples = operations.datamodule(experiment, data, run.folder)
        every = operations.validate_every(experiment)
        code = fit(experiment, task, samples, run, profile=profile, validate_every=every)
        return run, code


def make_task(
    experiment: AnyExperiment, data: object, spec: TaskSpec, *, resumed: Path | None = None
) -> pl.LightningModule:
    """Build the network with its weights, ready to train.

    Args:
        experiment: The configuration.
        data: The dataset of the kind of task.
        spec: The kind of task.
        resumed: A checkpoint whose weights Lightning loads next; its labels are taken, and its
            statistics unless ``data.statistics`` names others.

    Raises:
        UserError: The weights do not fit, or the checkpoint knows other labels.
    """
    operations = spec.make()
    labels, stored = operations.labels(data), None
    if resumed is not None and resumed.is_file():
        stored = read_checkpoint(resumed, spec)[spec.entry]
        operations.check_resumed(stored, data, resumed)
        labels = operations.stored_labels(stored)
    # A resumed run takes its weights from the checkpoint, not from where it once started.
    start = experiment if stored is None else without_weights(experiment)
    model, report = operations.build_network(start, len(labels), seed=experiment.trainer.seed)
    if report is not None:
        tell(report.summary())
        for position in operations.blocks(model):
            tell(f"  block at {position}: new ({operations.block_name(experiment)})")
    frozen = getattr(experiment.optimizer, "frozen_stages", [])
    if report is None and stored is None and frozen:
        tell(
            f"the frozen stages {', '.join(frozen)} keep their new, random weights: give "
            "--model.weights"
        )
    if experiment.trainer.activation_checkpointing:
        recompute_units(operations.recomputed(model))
    statistics = operations.statistics(experiment, data, report)
    if stored is not None and statistics is not None and experiment.data.statistics == "auto":
        statistics = tuple(stored["mean"]), tuple(stored["std"])  # type: ignore[assignment]
    return operations.training_task(experiment, model, labels, statistics, data)
