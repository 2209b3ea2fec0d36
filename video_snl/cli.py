"""The command ``video-snl``. No torch is imported before a command's arguments are accepted."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from video_snl import cli_data, cli_explain, cli_trained
from video_snl.command_line import (
    Commands,
    Parser,
    add_profile,
    add_resume,
    adopt,
    config_name,
    experiment_parser,
    run_command,
    sections_of,
)
from video_snl.config import Experiment

__all__ = ["main"]

_DESCRIPTION = """Action recognition with nonlocal blocks (arXiv:2108.02451).
Without --config, the defaults of every command are the sample experiment: a small I3D with one
spectral nonlocal block on a generated data set."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 2 bad input, 130 and 143 interrupted)."""
    return run_command("video-snl", _DESCRIPTION, _COMMANDS, arguments, _prepare)


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


def _check_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_data.CHECK)
    cli_data.add_check_options(parser)
    return parser


def _prepare_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_data.PREPARE)
    cli_data.add_prepare_options(parser)
    return parser


def _experiment_of(arguments: Namespace) -> Experiment:
    return Experiment.from_dict(sections_of(arguments))


def _train(arguments: Namespace) -> int:
    from video_snl.engine.train import train

    return train(
        _experiment_of(arguments),
        config_name=config_name(arguments),
        resume=arguments.resume,
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


def _prepare(parser: ArgumentParser, command: str, words: list[str]) -> list[str]:
    """Let a run's stored configuration stand for the defaults where a command builds on a run."""
    if {"-h", "--help"} & set(words) or command not in ("train", "evaluate"):
        return words
    probe = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    probe.add_argument("--resume", nargs="?", const="newest")
    probe.add_argument("--checkpoint")
    probe.add_argument("--trainer.output", dest="output", default="runs")
    known, _ = probe.parse_known_args(words)
    if command == "train" and known.resume is None:
        return words
    from video_snl.engine.runs import stored_experiment

    chosen = known.resume if command == "train" else known.checkpoint
    stored = stored_experiment(chosen, known.output, checkpoint=command == "evaluate")
    adopt(parser, stored.to_dict())
    return words


_COMMANDS: Commands = {
    "train": (_train_parser, _train),
    "evaluate": (_evaluate_parser, _evaluate),
    "predict": (_predict_parser, cli_trained.predict),
    "describe": (_describe_parser, _describe),
    "explain": (_explain_parser, cli_explain.explain),
    "check": (_check_parser, cli_data.check),
    "prepare": (_prepare_parser, cli_data.prepare),
}
