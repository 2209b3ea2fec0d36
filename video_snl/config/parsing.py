"""The command lines of both programs: their commands, and how they end. Without torch.

The overview of a program needs no package at all; a command loads its parser when it is given.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from video_snl import __version__
from video_snl.config.base import ExperimentBase
from video_snl.config.files import Given, nearest, with_underscores
from video_snl.config.options import add_options
from video_snl.config.task import TaskName, recognise_task, task_of_values
from video_snl.config.task_spec import ExperimentT
from video_snl.config.user_code import allowing_code
from video_snl.config.validation import check_limits
from video_snl.errors import UserError
from video_snl.utils.extras import explain_missing
from video_snl.utils.files import FULL, storage_error
from video_snl.utils.processes import end_with_first_process
from video_snl.utils.quick_imports import quick_imports
from video_snl.utils.text import cut_line

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from video_snl.config.parser import Parser

__all__ = [
    "COMMON_DESCRIBE",
    "COMMON_EVALUATE",
    "COMMON_TRAIN",
    "Choose",
    "Command",
    "Commands",
    "Prepare",
    "adopt",
    "config_name",
    "experiment_of",
    "check_root",
    "parse_command",
    "quieten_libraries",
    "run_command",
    "sections_of",
]

_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130
_EXIT_UNREAD = 141  # as of a command that SIGPIPE ends

_DECODERS = ("av", "decord", "torchcodec")

COMMON_TRAIN = (
    "config",
    "data.dataset",
    "data.root",
    "model.backbone",
    "model.block",
    "optimizer.epochs",
    "optimizer.batch_size",
    "optimizer.learning_rate",
    "trainer.output",
    "resume",
)
"""The ten options of ``train`` that most runs need."""
COMMON_EVALUATE = (
    "config",
    "data.dataset",
    "data.root",
    "data.num_workers",
    "trainer.accelerator",
    "checkpoint",
    "output",
    "unreadable",
    "strips",
)
"""Options of ``evaluate``."""
COMMON_DESCRIBE = (
    "config",
    "model.backbone",
    "model.block",
    "model.positions",
    "model.num_classes",
    "json",
)
"""Options of ``describe``."""


@dataclass(frozen=True)
class Command:
    """A command of a program.

    Attributes:
        description: First line of its help, and what else there is to say.
        options: Dataclass of its options (:mod:`~video_snl.config.options`).
        run: Runs it; returns the exit code.
        experiment: Configuration whose sections are options, too; None where there is none.
        common: Names of the options that most runs need, which ``--help`` shows; empty for all.
        extras: Extras of the installation that it needs.
    """

    description: str
    options: type
    run: Callable[[Namespace], int]
    experiment: type[ExperimentBase] | None = None
    common: tuple[str, ...] = ()
    extras: tuple[str, ...] = ("train",)

    def parser(self, prog: str) -> Parser:
        """Build the parser, for the program and command named ``prog``."""
        from video_snl.config.parser import Parser, add_experiment

        parser = Parser(prog=prog, description=self.description)
        if self.experiment is not None:
            add_experiment(parser, self.experiment)
        add_options(parser, self.options)
        if self.common:
            parser.show_common(self.common)
        return parser


Commands = Mapping[str, Command]
"""The commands of a program by their names."""
Prepare = Callable[["Parser", str, Given], Given]
"""Gets the parser, the command and its words; returns the words to be parsed."""
Choose = Callable[[str, Given, TaskName | None], Commands]
"""Gets the command, its words and the task that they say; returns the commands of that task."""


def run_command(
    name: str,
    description: str,
    commands: Commands,
    arguments: Sequence[str] | None,
    prepare: Prepare,
    choose: Choose | None = None,
) -> int:
    """Run one of a program's commands.

    Args:
        name: Name of the program.
        description: Line in the overview of commands.
        commands: Commands of the program; of several kinds of task, those of the default one.
        arguments: The words of the command line; None for those of the process.
        prepare: Completes the words, and the defaults of the parser.
        choose: Chooses the commands of another kind of task; None where there is one kind.

    Returns:
        The exit code: 0 done, 2 bad input or a disk that cannot be written to, 129, 130 and 143
        interrupted, 141 output no longer read.
    """
    _print_any_name()
    words = _command_first(list(sys.argv[1:] if arguments is None else arguments), commands)
    command = words[0] if words and words[0] in commands else None
    called = f"{name} {command}" if command else name
    extras = commands[command].extras if command else ("train",)
    quieten_libraries()
    # Threads of torch that wait for each other spin for 0.1 ms, then sleep. (Read when torch is
    # loaded, which it is not yet.) GNU's OpenMP spins for 3 ms, which keeps the processes that
    # decode from the cores; to sleep at once (OMP_WAIT_POLICY=PASSIVE) makes a training step with
    # two threads a fifth slower. docs/benchmarks.md has both.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        if command is None:
            _without_command(name, description, commands, words)
        _check_current_folder()
        end_with_first_process()
        given = Given(with_underscores(words[1:]))
        with allowing_code("allow_code" in given.options()):
            with quick_imports():
                chosen, parsed = parse_command(name, command, given, commands, prepare, choose)
            code = chosen.run(parsed)
        sys.stdout.flush()  # what cannot be written is found out here, not at exit
        return code
    except UserError as error:
        line = " ".join(part.strip() for part in str(error).splitlines())
        print(f"{called}: error: {line}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    except ModuleNotFoundError as error:
        missing = explain_missing(error, extras)
        if missing is None:
            raise
        print(f"{called}: error: {missing}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    except BrokenPipeError:
        # Whoever read the output has gone (as of "| head"); flushing at exit would say so again.
        _write_to_nowhere(sys.stdout)
        return _EXIT_UNREAD
    except KeyboardInterrupt:
        print(f"\n{called}: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            # Every command asks for files by the names it was given, each in a place of its own.
            line = f"{cut_line(str(error.filename))}: too long"
            print(f"{called}: error: {line}", file=sys.stderr)
            return _EXIT_BAD_INPUT
        found = storage_error(error)
        if found is None:
            raise
        return _storage_failed(called, found)


def parse_command(
    name: str,
    command: str,
    given: Given,
    commands: Commands,
    prepare: Prepare,
    choose: Choose | None = None,
    *,
    raises: bool = False,
) -> tuple[Command, Namespace]:
    """Parse what a command was given.

    Args:
        name: Name of the program.
        command: Name of the command.
        given: Its words, or values.
        commands, prepare, choose: As for :func:`run_command`.
        raises: Raise a UserError where the process would else end.

    Returns:
        The command, of the kind of task that is meant, and its arguments.

    Raises:
        UserError: A configuration cannot be read, is of the other program, or breaks a limit.
        SystemExit: The words are not arguments of this command.
    """
    has_task = commands[command].experiment is not None
    task = recognise_task(given.said, f"{name} {command}") if has_task else None
    chosen = (commands if choose is None else choose(command, given, task))[command]
    parser = chosen.parser(f"{name} {command}")
    parser.raises = raises
    parser.check_options(given)
    if task is not None:
        parser.set_defaults(task=task)
    asked = given.words
    given = prepare(parser, command, given)
    parsed = parser.parse_args(given)
    parsed.words = list(asked)
    if command == "train":  # of others --model, say, is no file of a section
        parsed.dataset_is_named = given.said("data.dataset") is not None
    parsed.given = frozenset(option for option in given.options() if "." in option)
    return chosen, parsed


def check_root(arguments: Namespace) -> None:
    """Refuse the folder of a dataset that nobody named where there is none.

    The sample dataset would be generated there, and a mistyped folder trained on it.

    Args:
        arguments: Arguments of ``train``, as :func:`parse_command` returns them.

    Raises:
        UserError: It does not exist.
    """
    root = arguments.data.root
    if arguments.dataset_is_named or root is None or os.path.exists(os.path.expanduser(root)):
        return
    raise UserError(
        f"data.root={root} does not exist: give the folder of a dataset, or for the sample dataset "
        "of generated videos, which is made there, --data.dataset sample"
    )


def _check_current_folder() -> None:
    """Raise UserError where the current folder was removed: no name of a file means anything."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the current folder was removed: change to another (cd)") from error


def _command_first(words: list[str], commands: Commands) -> list[str]:
    """Put a command that stands after ``--task`` and its value before them."""
    before = 1 if words and words[0].startswith("--task=") else 2
    if words and words[0].partition("=")[0] == "--task" and words[before:]:
        command, *rest = words[before:]
        return [command, *words[:before], *rest] if command in commands else words
    return words


def _print_any_name() -> None:
    """Let names of files that are not UTF-8 be printed, with what is not escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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
    with suppress(OSError, ValueError):  # of a stream that is not a file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def quieten_libraries() -> None:
    """Leave out warnings of the libraries among themselves; nothing a user could act on."""
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")


def _without_command(
    name: str, description: str, commands: Commands, words: Sequence[str]
) -> NoReturn:
    """Show what commands there are, or refuse what stands in the place of one.

    Raises:
        SystemExit: In either case.
    """
    if words and not words[0].startswith("-"):
        near = nearest(words[0], commands)
        advice = f"the nearest is {near}; " if near else ""
        line = cut_line(f"unknown command {words[0]}: {advice}there are {', '.join(commands)}")
        print(f"{name}: error: {line}  (see {name} --help)", file=sys.stderr)
        raise SystemExit(_EXIT_BAD_INPUT)
    if words and words[0] == "--version":
        print(_versions(name))
        raise SystemExit(0)
    if set(words) <= {"-h", "--help", "--version", "all"}:
        _overview(name, description, commands).parse_args(words or ["--help"])
    from video_snl.config.parser import refuse_options

    refuse_options(name, words)


def _overview(name: str, description: str, commands: Commands) -> argparse.ArgumentParser:
    summaries = "\n".join(
        f"  {name:10}{command.description.splitlines()[0]}" for name, command in commands.items()
    )
    parser = argparse.ArgumentParser(
        prog=name,
        description=f"{description}\n\ncommands:\n{summaries}\n\n"
        f"{name} COMMAND --help explains the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"{name} {{{','.join(commands)}}} ...",
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="Show this help message and exit.")
    parser.add_argument(
        "--version",
        action="store_true",
        help="Print the versions of this program, Python, torch and the decoders, and exit.",
    )
    return parser


def _versions(program: str) -> str:
    """Return the versions of a program, Python, torch and the decoders, from their metadata."""
    decoders = [f"{name} {_version(name)}" for name in _DECODERS if _version(name)]
    return (
        f"{program} {__version__}\nPython {sys.version.split()[0]}\n"
        f"torch {_version('torch') or 'is not installed'}\n"
        f"decoders: {', '.join(decoders) or 'none'}"
    )


def _version(name: str) -> str | None:
    from importlib import metadata  # which no other option needs

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def sections_of(arguments: Namespace) -> dict[str, Any]:
    """Return the sections of a configuration as plain values."""
    values = arguments.clone().as_dict()
    return {name: values[name] for name in ("data", "model", "optimizer", "trainer")}


def experiment_of(kind: type[ExperimentT], arguments: Namespace) -> ExperimentT:
    """Build the configuration that a command was given.

    Args:
        kind: Class of the configuration.
        arguments: Result of the parser.

    Raises:
        UserError: An option has a value that it cannot take.
    """
    try:
        experiment = kind.from_dict(sections_of(arguments))
    except TypeError as error:
        raise UserError(f"{error}.") from error
    check_limits(experiment)
    return experiment


def config_name(arguments: Namespace) -> str | None:
    """Return the name of the last configuration file, which a run is called after; None without."""
    files = [name for name in arguments.config or () if name is not None]
    return Path(files[-1]).stem if files else None


def adopt(parser: ArgumentParser, sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Let a stored configuration stand for the defaults."""
    defaults = {
        f"{section}.{key}": value
        for section, values in sections.items()
        for key, value in values.items()
    }
    task = task_of_values(sections, parser.prog)
    parser.set_defaults(defaults if task is None else {**defaults, "task": task})
