"""What the two commands' command lines have in common. Without torch."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from video_snl import __version__
from video_snl.errors import UserError
from video_snl.utils.files import FULL, storage_error
from video_snl.utils.processes import end_with_first_process

__all__ = [
    "Commands",
    "Parser",
    "add_profile",
    "add_resume",
    "adopt",
    "config_name",
    "experiment_parser",
    "given_options",
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
        The exit code: 0 done, 2 bad input or a disk that cannot be written to, 129, 130 and 143
        interrupted, 141 output no longer read.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words[0] if words and words[0] in commands else None
    if command is None:
        _overview(name, description, commands).parse_args(words or ["--help"])
        raise SystemExit(_EXIT_BAD_INPUT)
    build, run = commands[command]
    quieten_libraries()
    try:
        end_with_first_process()
        parser = build(f"{name} {command}")
        words = prepare(parser, command, words[1:])
        parsed = parser.parse_args(words)
        parsed.given = given_options(words)
        code = run(parsed)
        sys.stdout.flush()  # what cannot be written is found out here, not at exit
        return code
    except UserError as error:
        print(f"{name} {command}: error: {error}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print(f"\n{name} {command}: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone (as of "| head"); flushing at exit would say so again.
        _write_to_nowhere(sys.stdout)
        return _EXIT_UNREAD
    except Exception as error:
        found = storage_error(error)
        if found is None:
            raise
        return _storage_failed(f"{name} {command}", found)


def _storage_failed(command: str, error: OSError) -> int:
    """Say in one line that something cannot be written or read, and return the exit code."""
    place = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error)
    advice = "; make room and give the command again" if error.errno in FULL else ""
    with suppress(OSError):  # where stderr is what cannot be written
        print(f"{command}: error: {place}{reason}{advice}", file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:
        _write_to_nowhere(sys.stdout)
    return _EXIT_BAD_INPUT


def _write_to_nowhere(stream: TextIO) -> None:
    """Let what is yet to be flushed at exit go nowhere."""
    with suppress(OSError, ValueError):  # of a stream that is no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


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
        help="Continue the run in the folder RUN (default: the newest one of --trainer.output that "
        "began its first step) from its last finished epoch, with its own configuration.",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="Continue it also where the files of its lists have changed, or the batch size by a "
        "--config. (An option that is given beside --resume is accepted without.)",
    )


def given_options(words: Sequence[str]) -> frozenset[str]:
    """The options of an experiment that stand among the words of a command, such as data.root."""
    names = (word[2:].partition("=")[0] for word in words if word.startswith("--"))
    return frozenset(name for name in names if "." in name)


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
