"""The command ``video-snl``. No torch is imported before a command's arguments are accepted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from video_snl.cli.data import CHECK, PREPARE, Check, Prepare, check, prepare
from video_snl.cli.explain import EXPLAIN, Explain, explain
from video_snl.cli.export import EXPORT, Export, export, is_of_images
from video_snl.cli.images import IMAGE_COMMANDS
from video_snl.cli.publish import PUBLISH, Publish, publish
from video_snl.cli.serve import SERVE, Serve, serve
from video_snl.cli.spectrum import SPECTRUM, Spectrum, spectrum
from video_snl.cli.table import TABLE, Table, table
from video_snl.cli.trained import EVALUATE, PREDICT, Evaluate, Predict, predict
from video_snl.config.files import Given
from video_snl.config.options import Json, Profile, Resume, option_group, options_of
from video_snl.config.parsing import (
    COMMON_DESCRIBE,
    COMMON_EVALUATE,
    COMMON_TRAIN,
    Command,
    Commands,
    Parser,
    adopt,
    config_name,
    experiment_of,
    run_command,
)
from video_snl.config.task import TaskName
from video_snl.config.video import Experiment
from video_snl.errors import UserError

__all__ = ["main"]

_DESCRIPTION = """Action recognition with nonlocal blocks (arXiv:2108.02451).
Without --config, the defaults of every command are the sample experiment: a small I3D with one
spectral nonlocal block on a generated data set. train, evaluate, predict, explain and describe
also take networks of images: those of configs/digits, cifar10, cifar100, imagenet, cub200 and
cityscapes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 2 bad input, 130 and 143 interrupted)."""
    return run_command("video-snl", _DESCRIPTION, _COMMANDS, arguments, _prepare, _choose)


@option_group
class _Train(Profile, Resume):
    """Options of ``train``."""


def _train(arguments: Namespace) -> int:
    experiment = experiment_of(Experiment, arguments)  # refused before torch is loaded
    from video_snl.engine.resume import Asked
    from video_snl.engine.train import train

    return train(
        experiment,
        config_name=config_name(arguments),
        asked=Asked(arguments.resume, arguments.given, arguments.force),
        profile=arguments.profile,
    )


def _evaluate(arguments: Namespace) -> int:
    experiment = experiment_of(Experiment, arguments)  # refused before torch is loaded
    options = options_of(Evaluate, arguments)
    from video_snl.commands.evaluate import evaluate

    return evaluate(
        experiment,
        checkpoint=options.checkpoint,
        clips=options.clips,
        crops=options.crops,
        output=options.output,
        unreadable=options.unreadable,
    )


def _describe(arguments: Namespace) -> int:
    experiment = experiment_of(Experiment, arguments)  # refused before torch is loaded
    from video_snl.commands.describe import describe

    return describe(experiment, as_json=arguments.json)


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
    from video_snl.config.image_programs import IMAGES
    from video_snl.config.task_spec import VIDEO_SNL
    from video_snl.runs.run import stored_program

    try:
        return stored_program(*_used_run(command, given), (VIDEO_SNL, IMAGES)) is IMAGES
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
    from video_snl.config.image_programs import IMAGES
    from video_snl.config.task_spec import VIDEO_SNL
    from video_snl.runs.run import newest_begun, stored_experiment, stored_program

    of_images = parser.experiment is not Experiment
    program = IMAGES if of_images else VIDEO_SNL
    chosen, output = _used_run(command, given)
    task, other = given.said("task"), VIDEO_SNL if of_images else IMAGES
    if task is not None and stored_program(chosen, output, (program, other)) is other:
        raise UserError(
            f"task: {task} does not go with {chosen or 'the newest run'}, which is of "
            f"{'videos' if of_images else 'images'}: leave the task out, or name another run."
        )
    if of_images and command == "evaluate":
        from video_snl.runs.run import checkpoint_path
        from video_snl.runs.trained import holds

        if not holds(checkpoint_path(chosen, program), program):
            return given  # of the released code: the options say what it is
    if command == "train" and chosen == "newest":
        # Named here: the stored configuration may name another folder of runs, of before a move.
        chosen = str(newest_begun(Path(output), program).folder)
        given = Given([*given.words, f"--resume={chosen}"])
    stored = stored_experiment(chosen, output, checkpoint=command == "evaluate", program=program)
    adopt(parser, stored.to_dict())
    return given


_COMMANDS: Commands = {
    "train": Command("Train a network on videos.", _Train, _train, Experiment, COMMON_TRAIN),
    "evaluate": Command(
        EVALUATE, Evaluate, _evaluate, Experiment, (*COMMON_EVALUATE, "clips", "crops")
    ),
    "predict": Command(PREDICT, Predict, predict),
    "describe": Command(
        "Show a network: its layers, where the blocks stand, parameters and multiply-adds.",
        Json,
        _describe,
        Experiment,
        (*COMMON_DESCRIBE, "data.clip_frames", "data.crop"),
    ),
    "explain": Command(EXPLAIN, Explain, explain),
    "spectrum": Command(SPECTRUM, Spectrum, spectrum),
    "check": Command(CHECK, Check, check),
    "prepare": Command(PREPARE, Prepare, prepare),
    "table": Command(TABLE, Table, table),
    "export": Command(EXPORT, Export, export),
    "publish": Command(PUBLISH, Publish, publish),
    "serve": Command(SERVE, Serve, serve),
}
