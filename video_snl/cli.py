"""The command ``video-snl``. No torch is imported before a command's arguments are accepted."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from video_snl import __version__, cli_data, cli_trained
from video_snl.config import Experiment
from video_snl.errors import UserError

__all__ = ["main"]

_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130

_DESCRIPTION = """Action recognition with nonlocal blocks (arXiv:2108.02451).
Without --config, the defaults of every command are the sample experiment: a small I3D with one
spectral nonlocal block on a generated data set."""


class _Parser(ArgumentParser):
    """Bad arguments end in one line and exit code 2, without the usage text."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        line = " ".join(str(message).split())
        print(f"{self.prog}: error: {line}  (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(_EXIT_BAD_INPUT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 2 bad input, 130 and 143 interrupted)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words[0] if words and words[0] in _COMMANDS else None
    if command is None:
        _overview().parse_args(words or ["--help"])
        raise SystemExit(_EXIT_BAD_INPUT)
    build, run = _COMMANDS[command]
    # Of the libraries among themselves; nothing a user could act on.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
    try:
        parser = build(f"video-snl {command}")
        _adopt_stored_experiment(parser, command, words[1:])
        return run(parser.parse_args(words[1:]))
    except UserError as error:
        print(f"video-snl {command}: error: {error}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print(f"\nvideo-snl {command}: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED


def _overview() -> ArgumentParser:
    summaries = "\n".join(
        f"  {name:10}{str(build('').description).splitlines()[0]}"
        for name, (build, _) in _COMMANDS.items()
    )
    parser = _Parser(
        prog="video-snl",
        description=f"{_DESCRIPTION}\n\ncommands:\n{summaries}\n\n"
        "video-snl COMMAND --help explains every option of a command.",
        formatter_class=_raw_formatter(),
        usage="video-snl {" + ",".join(_COMMANDS) + "} ...",
    )
    parser.add_argument("--version", action="version", version=f"video-snl {__version__}")
    return parser


def _raw_formatter() -> Any:
    return type("_Formatter", (argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter), {})


def _experiment_parser(prog: str, description: str) -> ArgumentParser:
    parser = _Parser(prog=prog, description=description)
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with the sections data, model, optimizer and trainer; options given after "
        "it override its values.",
    )
    parser.add_class_arguments(Experiment, None)
    return parser


def _train_parser(prog: str) -> ArgumentParser:
    parser = _experiment_parser(prog, "Train a network on videos.")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="newest",
        type=str,
        metavar="RUN",
        help="Continue the run in the folder RUN (default: the newest one of --trainer.output) "
        "from its last finished epoch, with its own configuration.",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="After every epoch, print clips per second, the time spent waiting for clips, and the "
        "seconds of the processes that decode in open, seek, decode, resize, copy and transform.",
    )
    return parser


def _evaluate_parser(prog: str) -> ArgumentParser:
    parser = _experiment_parser(prog, cli_trained.EVALUATE)
    cli_trained.add_evaluate_options(parser)
    return parser


def _predict_parser(prog: str) -> ArgumentParser:
    parser = _Parser(prog=prog, description=cli_trained.PREDICT)
    cli_trained.add_predict_options(parser)
    return parser


def _describe_parser(prog: str) -> ArgumentParser:
    parser = _experiment_parser(
        prog, "Show a network: its layers, where the blocks stand, parameters and multiply-adds."
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    return parser


def _check_parser(prog: str) -> ArgumentParser:
    parser = _Parser(prog=prog, description=cli_data.CHECK)
    cli_data.add_check_options(parser)
    return parser


def _prepare_parser(prog: str) -> ArgumentParser:
    parser = _Parser(prog=prog, description=cli_data.PREPARE)
    cli_data.add_prepare_options(parser)
    return parser


def _experiment_of(arguments: Namespace) -> Experiment:
    values = arguments.clone().as_dict()
    sections = {name: values[name] for name in ("data", "model", "optimizer", "trainer")}
    return Experiment.from_dict(sections)


def _train(arguments: Namespace) -> int:
    from video_snl.engine.train import train

    config = arguments.config[-1] if arguments.config else None
    name = Path(str(config)).stem if config else "sample"
    return train(
        _experiment_of(arguments),
        config_name=name,
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


def _adopt_stored_experiment(parser: ArgumentParser, command: str, words: list[str]) -> None:
    """Let a run's stored configuration stand for the defaults where a command builds on a run."""
    if {"-h", "--help"} & set(words) or command not in ("train", "evaluate"):
        return
    probe = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    probe.add_argument("--resume", nargs="?", const="newest")
    probe.add_argument("--checkpoint")
    probe.add_argument("--trainer.output", dest="output", default="runs")
    known, _ = probe.parse_known_args(words)
    if command == "train" and known.resume is None:
        return
    from video_snl.engine.runs import stored_experiment

    chosen = known.resume if command == "train" else known.checkpoint
    stored = stored_experiment(chosen, known.output, checkpoint=command == "evaluate")
    parser.set_defaults(
        {
            f"{section}.{key}": value
            for section, values in stored.to_dict().items()
            for key, value in values.items()
        }
    )


_COMMANDS: dict[str, tuple[Callable[[str], ArgumentParser], Callable[[Namespace], int]]] = {
    "train": (_train_parser, _train),
    "evaluate": (_evaluate_parser, _evaluate),
    "predict": (_predict_parser, cli_trained.predict),
    "describe": (_describe_parser, _describe),
    "check": (_check_parser, cli_data.check),
    "prepare": (_prepare_parser, cli_data.prepare),
}
