"""The command ``video-snl``. No torch is imported before a command's arguments are accepted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from video_snl import (
    cli_data,
    cli_explain,
    cli_export,
    cli_publish,
    cli_serve,
    cli_spectrum,
    cli_table,
    cli_trained,
)
from video_snl.cli_images import IMAGE_COMMANDS, are_about_images
from video_snl.command_line import (
    Commands,
    Parser,
    add_profile,
    add_resume,
    adopt,
    config_name,
    experiment_parser,
    quieten_libraries,
    run_command,
    sections_of,
)
from video_snl.config import Experiment
from video_snl.errors import UserError

__all__ = ["main"]

_DESCRIPTION = """Action recognition with nonlocal blocks (arXiv:2108.02451).
Without --config, the defaults of every command are the sample experiment: a small I3D with one
spectral nonlocal block on a generated data set. train, evaluate, predict, explain and describe
also take networks of pictures: those of configs/digits, cifar10, cifar100, imagenet, cub200 and
cityscapes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 2 bad input, 130 and 143 interrupted)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    quieten_libraries()
    prepare = partial(_prepare, pictures=False)
    commands = _COMMANDS
    if words and words[0] in IMAGE_COMMANDS and _mean_pictures(words[0], words[1:]):
        commands, prepare = {**_COMMANDS, **IMAGE_COMMANDS}, partial(_prepare, pictures=True)
    return run_command("video-snl", _DESCRIPTION, commands, words, prepare)


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
    return Experiment.from_dict(sections_of(arguments))


def _train(arguments: Namespace) -> int:
    from video_snl.engine.resume import Asked
    from video_snl.engine.train import train

    return train(
        _experiment_of(arguments),
        config_name=config_name(arguments),
        asked=Asked(arguments.resume, arguments.given, arguments.force),
        profile=arguments.profile,
    )


def _evaluate(arguments: Namespace) -> int:
    from video_snl.engine.evaluate import evaluate

    return evaluate(
        _experiment_of(arguments),
        checkpoint=arguments.checkpoint,
        clips=arguments.clips,
        crops=arguments.crops,
        output=arguments.output,
        unreadable=arguments.unreadable,
    )


def _describe(arguments: Namespace) -> int:
    from video_snl.engine.describe import describe

    return describe(_experiment_of(arguments), as_json=arguments.json)


def _mean_pictures(command: str, words: list[str]) -> bool:
    """Whether a command is about pictures: by its words, else by the run it builds on."""
    about = are_about_images(words)
    if about is not None or {"-h", "--help"} & set(words) or command == "describe":
        return bool(about)
    known = _probed(words)
    if command == "train" and known.resume is None:
        return False
    if command == "predict" and known.model is not None:
        return cli_export.is_of_pictures(known.model)
    from video_snl.engine.image_programs import IMAGES
    from video_snl.engine.program import VIDEO_SNL
    from video_snl.engine.runs import stored_program

    named = known.resume if command == "train" else known.checkpoint
    output = known.output if command == "train" else "runs"
    try:
        return stored_program(named, output, (VIDEO_SNL, IMAGES)) is IMAGES
    except UserError:
        return False  # the command reads it again, and says what is wrong with it


def _probed(words: list[str]) -> argparse.Namespace:
    probe = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    probe.add_argument("--resume", nargs="?", const="newest")
    probe.add_argument("--checkpoint")
    probe.add_argument("--model")
    probe.add_argument("--trainer.output", dest="output", default="runs")
    return probe.parse_known_args(words)[0]


def _prepare(
    parser: ArgumentParser, command: str, words: list[str], *, pictures: bool
) -> list[str]:
    """Let a run's stored configuration stand for the defaults where a command builds on a run."""
    if {"-h", "--help"} & set(words) or command not in ("train", "evaluate"):
        return words
    known = _probed(words)
    if command == "train" and known.resume is None:
        return words
    from video_snl.engine.image_programs import IMAGES
    from video_snl.engine.program import VIDEO_SNL
    from video_snl.engine.runs import newest_begun, stored_experiment

    program = IMAGES if pictures else VIDEO_SNL
    if pictures and command == "evaluate":
        from video_snl.engine.runs import checkpoint_path
        from video_snl.engine.trained import holds

        if not holds(checkpoint_path(known.checkpoint, program), program):
            return words  # of the released code: the options say what it is
    chosen = known.resume if command == "train" else known.checkpoint
    if command == "train" and chosen == "newest":
        # Named here: the stored configuration may name another folder of runs, of before a move.
        chosen = str(newest_begun(Path(known.output), program).folder)
        words = [*words, f"--resume={chosen}"]
    stored = stored_experiment(
        chosen, known.output, checkpoint=command == "evaluate", program=program
    )
    adopt(parser, stored.to_dict())
    return words


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
