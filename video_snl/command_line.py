"""What the two commands' command lines have in common. Without torch."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from video_snl import __version__
from video_snl.errors import UserError

__all__ = [
    "Commands",
    "Parser",
    "add_profile",
    "add_resume",
    "adopt",
    "config_name",
    "experiment_parser",
    "quieten_libraries",
    "run_command",
    "sections_of",
]

_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130
_EXIT_UNREAD = 141  # as of a command that SIGPIPE ends

Commands = Mapping[str, tuple[Callable[[str], ArgumentParser], Callable[[Namespace], int]]]
"""Of every command, what makes its parser (of its program's name) and what runs it."""


class Parser(ArgumentParser):
    """Bad arguments end in one line and exit code 2, without the usage text."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        line = " ".join(str(message).split())
        print(f"{self.prog}: error: {line}  (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(_EXIT_BAD_INPUT)


def run_command(
    name: str,
    description: str,
    commands: Commands,
    arguments: Sequence[str] | None,
    prepare: Callable[[ArgumentParser, str, list[str]], list[str]],
) -> int:
    """Run one of a program's commands.

    Args:
        prepare: Gets the parser, the command and its words; returns the words to be parsed.

    Returns:
        The exit code: 0 done, 2 bad input, 130 and 143 interrupted, 141 output no longer read.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words[0] if words and words[0] in commands else None
    if command is None:
        _overview(name, description, commands).parse_args(words or ["--help"])
        raise SystemExit(_EXIT_BAD_INPUT)
    build, run = commands[command]
    quieten_libraries()
    try:
        parser = build(f"{name} {command}")
        return run(parser.parse_args(prepare(parser, command, words[1:])))
    except UserError as error:
        print(f"{name} {command}: error: {error}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print(f"\n{name} {command}: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone (as of "| head"); flushing at exit would say so again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_UNREAD


def quieten_libraries() -> None:
    """Leave out warnings of the libraries among themselves; nothing a user could act on."""
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")


def _overview(name: str, description: str, commands: Commands) -> ArgumentParser:
    summaries = "\n".join(
        f"  {command:10}{str(build('').description).splitlines()[0]}"
        for command, (build, _) in commands.items()
    )
    parser = Parser(
        prog=name,
        description=f"{description}\n\ncommands:\n{summaries}\n\n"
        f"{name} COMMAND --help explains every option of a command.",
        formatter_class=_raw_formatter(),
        usage=f"{name} {{{','.join(commands)}}} ...",
    )
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    return parser


def _raw_formatter() -> Any:
    return type("_Formatter", (argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter), {})


def experiment_parser(
    prog: str, description: str, experiment: type, *, kind: type[Parser] = Parser
) -> ArgumentParser:
    """A parser with the options of an experiment's four sections.

    Args:
        kind: Says what becomes of bad arguments.
    """
    parser = kind(prog=prog, description=description)
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with the sections data, model, optimizer and trainer; options given after "
        "it override its values.",
    )
    parser.add_class_arguments(experiment, None)
    return parser


def add_resume(parser: ArgumentParser) -> None:
    """The option of ``train`` that goes on with a run."""
    parser.add_argument(
        "--resume",
        nargs="?",
        const="newest",
        type=str,
        metavar="RUN",
        help="Continue the run in the folder RUN (default: the newest one of --trainer.output) "
        "from its last finished epoch, with its own configuration.",
    )


def add_profile(parser: ArgumentParser, what: str) -> None:
    """The option of ``train`` that says where loading took time."""
    parser.add_argument(
        "--profile",
        action="store_true",
        help=f"After every epoch, print {what} per second, the time spent waiting for them, and "
        "the seconds of the processes that decode in open, seek, decode, resize, copy and "
        "transform.",
    )


def sections_of(arguments: Namespace) -> dict[str, Any]:
    """The plain values of an experiment."""
    values = arguments.clone().as_dict()
    return {name: values[name] for name in ("data", "model", "optimizer", "trainer")}


def config_name(arguments: Namespace, without: str = "sample") -> str:
    """What a run is called after: its configuration file, or what ``without`` one says."""
    return Path(str(arguments.config[-1])).stem if arguments.config else without


def adopt(parser: ArgumentParser, sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Let a stored experiment stand for the defaults."""
    parser.set_defaults(
        {
            f"{section}.{key}": value
            for section, values in sections.items()
            for key, value in values.items()
        }
    )
