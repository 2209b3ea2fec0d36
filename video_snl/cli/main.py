"""The command ``video-snl``. No torch is imported before a command's arguments are accepted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from video_snl.cli import data as cli_data
from video_snl.cli import explain as cli_explain
from video_snl.cli import export as cli_export
from video_snl.cli import publish as cli_publish
from video_snl.cli import serve as cli_serve
from video_snl.cli import spectrum as cli_spectrum
from video_snl.cli import table as cli_table
from video_snl.cli import trained as cli_trained
from video_snl.cli.images import IMAGE_COMMANDS, are_about_images
from video_snl.config.files import Given
from video_snl.config.parsing import (
    Commands,
    Parser,
    add_profile,
    add_resume,
    adopt,
    config_name,
    experiment_of,
    experiment_parser,
    run_command,
)
from video_snl.config.task_spec import IMAGE, VIDEO
from video_snl.config.video import Experiment
from video_snl.errors import UserError

__all__ = ["main"]

_DESCRIPTION = """Action recognition with nonlocal blocks (arXiv:2108.02451).
Without --config, the defaults of every command are the sample experiment: a small I3D with one
spectral nonlocal block on a generated data set. train, evaluate, predict, explain and describe
also take networks of pictures: those of configs/digits, cifar10, cifar100, imagenet, cub200 and
cityscapes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 2 bad input, 130 and 143 interrupted)."""
    return run_command("video-snl", _DESCRIPTION, _COMMANDS, arguments, _prepare, _choose)


def _train_parser(prog: str) -> ArgumentParser:
    parser = experiment_parser(prog, "Train a network on videos.", Experiment)
    add_resume(parser)
    add_profile(parser, "clips")
    return parser


def _evaluate_parser(prog: str) -> ArgumentParser:
    parser = experiment_parser(prog, cli_trained.EVALUATE, Experiment)
    cli_trained.add_evaluate_options(parser)
    return parser


def _predict_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_trained.PREDICT)
    cli_trained.add_predict_options(parser)
    return parser


def _describe_parser(prog: str) -> ArgumentParser:
    parser = experiment_parser(
        prog,
        "Show a network: its layers, where the blocks stand, parameters and multiply-adds.",
        Experiment,
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    return parser


def _explain_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_explain.EXPLAIN_DESCRIPTION)
    cli_explain.add_explain_options(parser)
    return parser


def _spectrum_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_spectrum.SPECTRUM_DESCRIPTION)
    cli_spectrum.add_spectrum_options(parser)
    return parser


def _check_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_data.CHECK)
    cli_data.add_check_options(parser)
    return parser


def _prepare_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_data.PREPARE)
    cli_data.add_prepare_options(parser)
    return parser


def _table_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_table.TABLE)
    cli_table.add_table_options(parser)
    return parser


def _export_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_export.EXPORT)
    cli_export.add_export_options(parser)
    return parser


def _publish_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_publish.PUBLISH)
    cli_publish.add_publish_options(parser)
    return parser


def _serve_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_serve.SERVE_DESCRIPTION)
    cli_serve.add_serve_options(parser)
    return parser


def _experiment_of(arguments: Namespace) -> Experiment:
    return experiment_of(Experiment, arguments)


def _train(arguments: Namespace) -> int:
    experiment = _experiment_of(arguments)  # refused before torch is loaded
    from video_snl.engine.resume import Asked
    from video_snl.engine.train import train

    return train(
        experiment,
        VIDEO,
        config_name=config_name(arguments),
        asked=Asked(arguments.resume, arguments.given, arguments.force),
        profile=arguments.profile,
    )


def _evaluate(arguments: Namespace) -> int:
    experiment = _experiment_of(arguments)  # refused before torch is loaded
    from video_snl.commands.evaluate import evaluate

    return evaluate(
        experiment,
        VIDEO,
        checkpoint=arguments.checkpoint,
        clips=arguments.clips,
        crops=arguments.crops,
        output=arguments.output,
        unreadable=arguments.unreadable,
    )


def _describe(arguments: Namespace) -> int:
    experiment = _experiment_of(arguments)  # refused before torch is loaded
    from video_snl.commands.describe import describe

    return describe(experiment, VIDEO, as_json=arguments.json)


def _choose(command: str, given: Given) -> Commands:
    """The commands for images in the place of those for videos, where images are meant."""
    if command in IMAGE_COMMANDS and _means_images(command, given):
        return {**_COMMANDS, **IMAGE_COMMANDS}
    return _COMMANDS


def _means_images(command: str, given: Given) -> bool:
    """Tell whether a command is about images: by its words and files, else by the run it uses."""
    if command in _WITH_EXPERIMENT:
        about = are_about_images(given)
        if about is not None or command == "describe":
            return bool(about)
    if given.asks_for_help or (command == "train" and not _resumes(given)):
        return False
    model = given.option("model")
    if command == "predict" and model is not None:
        return cli_export.is_of_pictures(model)
    from video_snl.runs.trained import stored_spec

    try:
        return stored_spec(*_used_run(command, given), (VIDEO, IMAGE)) is IMAGE
    except UserError:
        return False  # the command reads it again, and says what is wrong with it


def _resumes(given: Given) -> bool:
    return given.said("resume", alone="newest") is not None


def _used_run(command: str, given: Given) -> tuple[str | None, str]:
    """The run or checkpoint that a command uses, as named, and the folder of runs."""
    if command == "train":
        named = given.said("resume", alone="newest")
        return str(named), str(given.said("trainer.output") or "runs")
    named = given.said("checkpoint") if command in _WITH_EXPERIMENT else given.option("checkpoint")
    return (None if named is None else str(named)), "runs"


def _prepare(parser: ArgumentParser, command: str, given: Given) -> Given:
    """Let a run's stored configuration stand for the defaults where a command builds on a run."""
    if given.asks_for_help or command not in ("train", "evaluate"):
        return given
    if command == "train" and not _resumes(given):
        return given
    from video_snl.runs.run import newest_begun
    from video_snl.runs.trained import stored_experiment

    pictures = isinstance(parser, Parser) and parser.experiment is not Experiment
    spec = IMAGE if pictures else VIDEO
    chosen, output = _used_run(command, given)
    if pictures and command == "evaluate":
        from video_snl.runs.run import checkpoint_path
        from video_snl.runs.trained import holds

        if not holds(checkpoint_path(chosen, spec), spec):
            return given  # of the released code: the options say what it is
    if command == "train" and chosen == "newest":
        # Named here: the stored configuration may name another folder of runs, of before a move.
        chosen = str(newest_begun(Path(output), spec).folder)
        given = Given([*given.words, f"--resume={chosen}"])
    stored = stored_experiment(chosen, output, checkpoint=command == "evaluate", spec=spec)
    adopt(parser, stored.to_dict())
    return given


# Those that take --config and the options of its sections.
_WITH_EXPERIMENT = ("train", "evaluate", "describe")

_COMMANDS: Commands = {
    "train": (_train_parser, _train),
    "evaluate": (_evaluate_parser, _evaluate),
    "predict": (_predict_parser, cli_trained.predict),
    "describe": (_describe_parser, _describe),
    "explain": (_explain_parser, cli_explain.explain),
    "spectrum": (_spectrum_parser, cli_spectrum.spectrum),
    "check": (_check_parser, cli_data.check),
    "prepare": (_prepare_parser, cli_data.prepare),
    "table": (_table_parser, cli_table.table),
    "export": (_export_parser, cli_export.export),
    "publish": (_publish_parser, cli_publish.publish),
    "serve": (_serve_parser, cli_serve.serve),
}
