"""Recognise the kind of task of a configuration: its ``task``, or else what it names.

Configurations and runs of versions before 0.2 do not say their task. It is recognised here, and
nowhere else: the backbone decides, or else the dataset.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_type_hints

from video_snl.config.backbones import IMAGE_BACKBONES
from video_snl.config.datasets import IMAGE_DATASETS
from video_snl.config.files import Source, entry, option_names
from video_snl.config.image import ImageDatasetName, ImageExperiment, ImageModelConfig
from video_snl.config.video import DataConfig, Experiment, ModelConfig
from video_snl.errors import UserError

__all__ = [
    "EXPERIMENTS",
    "TaskName",
    "check_program",
    "recognise_task",
    "task_of_values",
    "tasks_of",
]

TaskName = Literal["video", "image", "segmentation", "reid"]
EXPERIMENTS = {"video": Experiment, "image": ImageExperiment, "segmentation": ImageExperiment}
"""Configurations of the tasks of ``video-snl``."""

# What only configurations of the other program have. This package does not know ``reid``; a test
# there compares the two.
_OF_REID = frozenset(
    {
        "data.cameras",
        "data.frames",
        "data.identities",
        "data.resize",
        "data.short_tracklets",
        "data.tracklets",
        "data.erasing",
        "model.head",
        "model.neck",
        "optimizer.validate_every",
        "optimizer.triplet_weight",
        "optimizer.triplet_margin",
        "optimizer.center_weight",
    }
)
_REID_DATASETS = ("mars", "ilids-vid", "prid2011")
_REID_BACKBONES = re.compile(r"osnet_.*|resnet50_3d")
# Names of options that both programs have: they say nothing of whose a configuration is.
_SHARED = frozenset(
    f"{section}.{key}"
    for section, keys in {
        "data": "dataset root split height width pad flip num_workers deadline max_failures "
        "max_pixels",
        "model": "backbone block block_options positions inter_channels num_units zero_init "
        "activation dropout weights allow_partial_weights",
        "optimizer": "epochs accumulate learning_rate weight_decay schedule step_epochs "
        "warmup_epochs label_smoothing gradient_clip ema_decay backbone_lr_factor block_lr_factor "
        "head_lr_factor frozen_stages frozen_batchnorm",
        "trainer": "seed output name accelerator devices nodes precision channels_last "
        "activation_checkpointing sync_batchnorm loggers progress",
    }.items()
    for key in keys.split()
)

_PROGRAMS = {"video-snl": tuple(EXPERIMENTS), "reid": ("reid",)}
_SEGMENTATION = {name for name, each in IMAGE_BACKBONES.items() if each.segments} | {
    name for name, each in IMAGE_DATASETS.items() if each.segments
}


def _names(config: type, key: str) -> tuple[str, ...]:
    return get_args(get_type_hints(config)[key])


def _tasks_by_name(videos: tuple[str, ...], images: tuple[str, ...]) -> dict[str, list[TaskName]]:
    found: dict[str, list[TaskName]] = {name: ["video"] for name in videos}
    for name in images:
        found.setdefault(name, []).append("segmentation" if name in _SEGMENTATION else "image")
    return found


_BACKBONES = _tasks_by_name(_names(ModelConfig, "backbone"), _names(ImageModelConfig, "backbone"))
_DATASETS = _tasks_by_name(_names(DataConfig, "dataset"), get_args(ImageDatasetName))


def recognise_task(said: Callable[[str], Any], prog: str) -> TaskName | None:
    """Return the task that options are about, None where they do not say.

    Args:
        said: Gives the value of an option by its name, such as ``data.dataset``, or None.
        prog: Program and command, such as ``video-snl train``.

    Raises:
        UserError: The task is unknown, of the other program, or does not go with the backbone or
            the dataset.
    """
    program, _, command = prog.partition(" ")
    task = said("task")
    of_program = _PROGRAMS[program]
    if task is not None and task not in of_program:
        if task not in get_args(TaskName):
            choices = f"{'one of ' * (len(of_program) > 1)}{', '.join(of_program)}"
            raise UserError(f"task: expected {choices}; found {task!r:.60}.")
        other = next(name for name, tasks in _PROGRAMS.items() if task in tasks)
        raise UserError(f"task: {task} is a task of {other}: use {other} {command}".strip() + ".")
    if program == "reid":
        return "reid"
    candidates = []
    for option, known in (("model.backbone", _BACKBONES), ("data.dataset", _DATASETS)):
        name = said(option)
        tasks = known.get(name, []) if isinstance(name, str) else []
        if task is not None and tasks and task not in tasks:
            raise UserError(
                f"task: {task} does not go with {option}: {name}, whose task is "
                f"{' or '.join(tasks)}."
            )
        candidates.append(tasks)
    if task is not None:
        return task  # type: ignore[no-any-return]  # one of its program's
    return next((tasks[0] for tasks in candidates if len(tasks) == 1), None)


def task_of_values(values: Mapping[str, Any], program: str) -> TaskName | None:
    """Return the task of a stored configuration, as :func:`recognise_task` does.

    Args:
        values: Sections of plain values.
        program: Name of the program that wrote it.
    """
    return recognise_task(lambda name: entry(values, name), program)


def tasks_of(experiment: type) -> tuple[str, ...]:
    """Return the tasks of the program of a class of configurations, the class's own at first."""
    own = [task for task, kind in EXPERIMENTS.items() if kind is experiment]
    if not own:
        return _PROGRAMS["reid"]
    return (*own, *(task for task in EXPERIMENTS if task not in own))


def check_program(source: Source, experiment: type, prog: str) -> None:
    """Refuse a configuration that is of the other program.

    Args:
        experiment: Experiment of the command.
        prog: Program and command, such as ``reid train``.

    Raises:
        UserError: It says which program the configuration is of.
    """
    program, _, command = prog.partition(" ")
    if program not in _PROGRAMS:
        return
    names = set(source.names())
    ours = option_names(Experiment) | option_names(ImageExperiment)
    own = option_names(experiment)
    dataset = str(entry(source.values, "data.dataset"))
    backbone = str(entry(source.values, "model.backbone"))
    if program == "video-snl":
        other = "reid"
        marks = sorted(names & _OF_REID)
        others_dataset = dataset in _REID_DATASETS
        others_backbone = _REID_BACKBONES.fullmatch(backbone) is not None
        known = names & (ours - _OF_REID - _SHARED)
    else:
        other = "video-snl"
        marks = sorted(names & (ours - own))
        others_dataset = dataset in _DATASETS.keys() - {"sample", "folder"}
        others_backbone = backbone in _BACKBONES.keys() - {"i3d_r50", "i3d_small", "resnet50"}
        known = names & (own - ours)
    marks += [f"data.dataset: {dataset}"] if others_dataset else []
    marks += [f"model.backbone: {backbone}"] if others_backbone else []
    if marks and not known:
        raise UserError(
            f"{source.said}: this is a configuration of {other} ({marks[0]}), not of {program}: "
            f"use {other} {command}."
        )
