"""The command ``video-snl``. No torch is imported before a command's arguments are accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from video_snl.cli.compare import COMPARE, Compare, compare
from video_snl.cli.data import CHECK, PREPARE, Check, Prepare, check, prepare
from video_snl.cli.explain import EXPLAIN, Explain, ExplainImage, explain
from video_snl.cli.export import EXPORT, Export, export, is_of_images
from video_snl.cli.features import FEATURES, Features, features
from video_snl.cli.publish import PUBLISH, Publish, publish
from video_snl.cli.serve import SERVE, Serve, ServeAny, serve
from video_snl.cli.spectrum import SPECTRUM, Spectrum, SpectrumOfImages, spectrum
from video_snl.cli.table import TABLE, Table, table
from video_snl.cli.trained import (
    EVALUATE,
    EVALUATE_IMAGES,
    PREDICT,
    Evaluate,
    EvaluateImages,
    Predict,
    PredictImages,
    evaluate,
    predict,
)
from video_snl.config.files import Given, GivenValues
from video_snl.config.image import ImageExperiment
from video_snl.config.options import Json, Profile, Resume, option, option_group, options_of
from video_snl.config.parsing import (
    COMMON_DESCRIBE,
    COMMON_EVALUATE,
    COMMON_TRAIN,
    Command,
    Commands,
    adopt,
    check_root,
    config_name,
    experiment_of,
    parse_command,
    run_command,
)
from video_snl.config.task import TaskName
from video_snl.config.task_spec import IMAGE, VIDEO, AnyExperiment, TaskSpec, asked_spec
from video_snl.config.video import Experiment
from video_snl.errors import UserError
from video_snl.utils.quick_imports import quick_imports

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from video_snl.config.parser import Parser
    from video_snl.runs.run import Run

__all__ = [
    "IMAGE_COMMANDS",
    "main",
    "parse_training",
    "run_training",
]

_DESCRIPTION = """Action recognition with nonlocal blocks (arXiv:2108.02451).
Without --config, the defaults of every command are the sample experiment: a small I3D with one
spectral nonlocal block on a generated dataset. train, evaluate, predict, explain and describe also
take networks of images: give --task image or --task segmentation, or a configuration of
configs/digits, cifar10, cifar100, imagenet, cub200 or cityscapes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 2 bad input, 130 and 143 interrupted)."""
    return run_command("video-snl", _DESCRIPTION, _COMMANDS, arguments, _prepare, _choose)


@option_group
class _Train(Profile, Resume):
    """Options of ``train``."""


@option_group
class _TrainVideos(_Train):
    """Options of ``train`` for videos.

    Args:
        preview: Write a page (.html) with the first clips as the network would see them, with
            their labels, times and augmentation, and stop there; default none.
    """

    preview: str | None = option(metavar="PAGE")


def _train(arguments: Namespace, spec: TaskSpec) -> int:
    if spec.inputs == "videos":
        options = options_of(_TrainVideos, arguments)
        if options.preview is not None:
            return _preview(arguments, spec, options)
    _, code = run_training(arguments, spec)
    return code


def _preview(arguments: Namespace, spec: TaskSpec, options: _TrainVideos) -> int:
    experiment = _experiment(arguments, spec)
    assert isinstance(experiment, Experiment) and options.preview is not None
    if options.resume is not None:
        raise UserError("--preview is of a training that begins: leave out --resume.")
    from video_snl.engine.preview import write_preview

    return write_preview(experiment, spec, Path(options.preview))


def _experiment(arguments: Namespace, spec: TaskSpec) -> AnyExperiment:
    experiment = experiment_of(spec.configuration, arguments)  # refused before torch is loaded
    asked_spec(spec, experiment, arguments.task)
    if spec.inputs == "videos" and experiment.data.num_workers:
        from video_snl.data.workers.forkserver import start_forkserver

        start_forkserver()  # imports its modules while this process imports its own
    return experiment


def parse_training(given: GivenValues) -> tuple[Namespace, TaskSpec]:
    """Parse options of ``train`` that are values; return the arguments and the kind of task.

    The kind may stand for both image tasks.

    Raises:
        UserError: One is unknown, of another type, or a configuration cannot be read.
    """
    command, arguments = parse_command(
        "video-snl", "train", given, _COMMANDS, _prepare, _choose, raises=True
    )
    return arguments, IMAGE if command.experiment is ImageExperiment else VIDEO


def run_training(arguments: Namespace, spec: TaskSpec) -> tuple[Run, int]:
    """Train as the arguments of ``train`` say; return the run and the exit code.

    Raises:
        UserError: The options, the data or the run to resume do not go together.
    """
    experiment = _experiment(arguments, spec)
    if arguments.resume is None:
        check_root(arguments)
    spec = asked_spec(spec, experiment, arguments.task)
    options: _Train = options_of(_TrainVideos if spec.inputs == "videos" else _Train, arguments)
    with quick_imports():
        from video_snl.engine.resume import Asked
        from video_snl.engine.train import train_run

    return train_run(
        experiment,
        spec,
        config_name=config_name(arguments),
        asked=Asked(options.resume, arguments.given, options.force),
        profile=options.profile,
    )


def _describe(arguments: Namespace, spec: TaskSpec) -> int:
    experiment = experiment_of(spec.configuration, arguments)  # refused before torch is loaded
    spec = asked_spec(spec, experiment, arguments.task)
    from video_snl.commands.describe import describe

    return describe(experiment, spec, as_json=arguments.json)


def _choose(command: str, given: Given, task: TaskName | None) -> Commands:
    """Return the commands for images in the place of those for videos, where images are meant."""
    if command not in IMAGE_COMMANDS:
        return _COMMANDS
    of_images = _uses_images(command, given) if task is None else task != "video"
    return {**_COMMANDS, **IMAGE_COMMANDS} if of_images else _COMMANDS


def _uses_images(command: str, given: Given) -> bool:
    """Tell whether the run, checkpoint or exported file that a command uses is of images."""
    if given.asks_for_help or command == "describe" or (command == "train" and not _resumes(given)):
        return False
    model = given.option("model")
    if command == "predict" and model is not None:
        return is_of_images(model)
    from video_snl.runs.trained import stored_spec

    try:
        return stored_spec(*_used_run(command, given), (VIDEO, IMAGE)) is IMAGE
    except UserError:
        return False  # the command reads it again, and says what is wrong with it


def _resumes(given: Given) -> bool:
    return given.said("resume", alone="newest") is not None


def _used_run(command: str, given: Given) -> tuple[str | None, str]:
    """Return the run or checkpoint that a command uses, as named, and the folder of runs."""
    if command == "train":
        named = given.said("resume", alone="newest")
        return str(named), str(given.said("trainer.output") or "runs")
    has_config = _COMMANDS[command].experiment is not None
    named = given.said("checkpoint") if has_config else given.option("checkpoint")
    return (None if named is None else str(named)), "runs"


def _prepare(parser: Parser, command: str, given: Given) -> Given:
    """Let a run's stored configuration stand for the defaults where a command builds on a run."""
    if given.asks_for_help or command not in ("train", "evaluate"):
        return given
    if command == "train" and not _resumes(given):
        return given
    from video_snl.runs.run import checkpoint_path, newest_begun
    from video_snl.runs.trained import holds, stored_experiment, stored_spec

    of_images = parser.experiment is not Experiment
    spec = IMAGE if of_images else VIDEO
    chosen, output = _used_run(command, given)
    task, other = given.said("task"), VIDEO if of_images else IMAGE
    if task is not None and stored_spec(chosen, output, (spec, other)) is other:
        raise UserError(
            f"task: {task} does not go with {chosen or 'the newest run'}, which is of "
            f"{other.inputs}: leave the task out, or name another run."
        )
    if of_images and command == "evaluate" and not holds(checkpoint_path(chosen, spec), spec):
        return given  # of the released code: the options say what it is
    if command == "train" and chosen == "newest":
        # Named here: the stored configuration may name another folder of runs, of before a move.
        chosen = str(newest_begun(Path(output), spec).folder)
        given = given.adding(f"--resume={chosen}")
    stored = stored_experiment(chosen, output, checkpoint=command == "evaluate", spec=spec)
    adopt(parser, stored.to_dict())
    return given


def _of(run: Callable[..., int], spec: TaskSpec) -> Callable[[Namespace], int]:
    return partial(run, spec=spec)


_SHOW = "Show a network: its layers, where the blocks stand, parameters and multiply-adds."
_COMMANDS: Commands = {
    "train": Command(
        "Train a network on videos.", _TrainVideos, _of(_train, VIDEO), Experiment, COMMON_TRAIN
    ),
    "evaluate": Command(
        EVALUATE,
        Evaluate,
        _of(evaluate, VIDEO),
        Experiment,
        (*COMMON_EVALUATE, "clips", "crops"),
    ),
    "compare": Command(COMPARE, Compare, compare),
    "predict": Command(PREDICT, Predict, _of(predict, VIDEO)),
    "describe": Command(
        _SHOW,
        Json,
        _of(_describe, VIDEO),
        Experiment,
        (*COMMON_DESCRIBE, "data.clip_frames", "data.crop"),
    ),
    "features": Command(FEATURES, Features, features),
    "explain": Command(EXPLAIN, Explain, _of(explain, VIDEO), extras=("explain",)),
    "spectrum": Command(SPECTRUM, Spectrum, _of(spectrum, VIDEO), extras=("explain",)),
    "check": Command(CHECK, Check, check),
    "prepare": Command(PREPARE, Prepare, prepare),
    "table": Command(TABLE, Table, table),
    "export": Command(EXPORT, Export, export, extras=("export",)),
    "publish": Command(PUBLISH, Publish, publish),
    "serve": Command(SERVE, Serve, _of(serve, VIDEO), extras=("serve",)),
}
IMAGE_COMMANDS: Commands = {
    "train": Command(
        "Train a network on images.", _Train, _of(_train, IMAGE), ImageExperiment, COMMON_TRAIN
    ),
    "evaluate": Command(
        EVALUATE_IMAGES,
        EvaluateImages,
        _of(evaluate, IMAGE),
        ImageExperiment,
        (*COMMON_EVALUATE, "kind"),
    ),
    "predict": Command(
        "Name what is on images: the best classes.", PredictImages, _of(predict, IMAGE)
    ),
    "describe": Command(
        _SHOW,
        Json,
        _of(_describe, IMAGE),
        ImageExperiment,
        (*COMMON_DESCRIBE, "data.height", "data.width"),
    ),
    "explain": Command(EXPLAIN, ExplainImage, _of(explain, IMAGE), extras=("explain",)),
    "spectrum": Command(SPECTRUM, SpectrumOfImages, _of(spectrum, IMAGE), extras=("explain",)),
    "serve": Command(SERVE, ServeAny, _of(serve, IMAGE), extras=("serve",)),
}
"""In the place of those of the same names, where images are meant."""
