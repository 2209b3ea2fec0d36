"""The command lines of both programs: commands, their parsers, and how they end. Without torch."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TextIO

from jsonargparse import ArgumentParser, Namespace

from video_snl.config.base import ExperimentBase
from video_snl.config.files import Given, Source, dumped, list_options, nearest, with_lists
from video_snl.config.help import Formatter, HelpAction, VersionAction
from video_snl.config.options import add_options
from video_snl.config.task import (
    TaskName,
    check_program,
    recognise_task,
    task_of_values,
    tasks_of,
)
from video_snl.config.task_spec import ExperimentT
from video_snl.config.validation import check_limits
from video_snl.errors import UserError
from video_snl.utils.files import FULL, storage_error
from video_snl.utils.processes import end_with_first_process

__all__ = [
    "COMMON_DESCRIBE",
    "COMMON_EVALUATE",
    "COMMON_TRAIN",
    "Choose",
    "Command",
    "Commands",
    "Parser",
    "Prepare",
    "add_experiment",
    "adopt",
    "config_name",
    "experiment_of",
    "parse_command",
    "quieten_libraries",
    "run_command",
    "sections_of",
]

_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130
_EXIT_UNREAD = 141  # as of a command that SIGPIPE ends

_LONGEST = 600  # characters of a parser's message; values that it quotes may be of any length

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "dict": "options as {name: value}",
    "list": "a list, as [a, b]",
    "tuple": "a list, as [a, b]",
    "NoneType": "null",
}
"""Names of Python's types in messages about values of another type."""

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
    """

    description: str
    options: type
    run: Callable[[Namespace], int]
    experiment: type[ExperimentBase] | None = None
    common: tuple[str, ...] = ()

    def parser(self, prog: str) -> Parser:
        """Build the parser, for the program and command named ``prog``."""
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


class Parser(ArgumentParser):
    """A parser whose bad arguments end in one line and exit code 2, without the usage text.

    Options are never abbreviated. Those of an experiment win over the file of their section, that
    over ``--config``, wherever they stand (:class:`~video_snl.config.files.Given`).

    Attributes:
        experiment: The class whose sections are options, None where there are none.
        common: Names of the options that ``--help`` shows, empty for all; ``--help all`` shows all.
        raises: Raise a UserError for bad arguments, for a caller in Python.
    """

    experiment: type[ExperimentBase] | None = None
    common: tuple[str, ...] = ()
    raises = False
    _given: Given | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        options = {"allow_abbrev": False, "add_help": False, "formatter_class": Formatter, **kwargs}
        super().__init__(*args, **options)
        self.add_argument(
            "-h",
            "--help",
            action=HelpAction,
            default=argparse.SUPPRESS,
            help="Show this help message and exit.",
        )

    def show_common(self, names: tuple[str, ...]) -> None:
        """Let ``--help`` show these options, and ``--help all`` all of them."""
        self.common = names
        [action] = [action for action in self._actions if isinstance(action, HelpAction)]
        action.take_all()

    def parse_args(
        self, args: Iterable[str] | Given | None = None, *more: Any, **kwargs: Any
    ) -> Any:
        """Parse the words of a command.

        Args:
            args: The words, or these taken apart; default those of the process.

        Raises:
            UserError: A configuration cannot be read, is of the other program, or breaks a limit.
            SystemExit: The words are not arguments of this command.
        """
        given = args if isinstance(args, Given) else Given(sys.argv[1:] if args is None else args)
        given.check_values()
        if self.experiment is None:
            return super().parse_args(given.words, *more, **kwargs)
        files: list[str] = []
        if not given.asks_for_help:  # help is given whether or not the files can be read
            files = self._file_words(given)
            defaults = self.experiment.dependent_defaults(given.said)
            self.set_defaults({k: v for k, v in defaults.items() if self.get_default(k) is None})
        words = given.other_words(list_options(self.experiment), self._alone)
        self._given = given
        parsed = super().parse_args([*files, *words], *more, **kwargs)
        parsed.config = [source.name for source in given.configs] or None
        return parsed

    def check_options(self, given: Given) -> None:
        """Refuse options that there are not, before any file is looked at.

        Raises:
            SystemExit: It names the option, and the nearest one that there is.
        """
        for name in given.options():
            if name and not self._has(name):
                self._refuse(f"--{name}")

    def _has(self, name: str) -> bool:
        """Tell whether there is an option, or an entry of one, such as block_options.order."""
        option = name.removesuffix("+")  # which adds to a list
        known = self._option_string_actions
        above = (option[:at] for at, letter in enumerate(option) if letter == ".")
        return f"--{option}" in known or any("." in each and f"--{each}" in known for each in above)

    def error(self, message: str, ex: Exception | None = None) -> Any:
        line = _cut(_plain(self._placed(" ".join(str(message).split()))))
        if line.startswith("unrecognized arguments: "):
            roots = [name for name in ("--data.root", "--root") if self._has(name[2:])]
            line += f": the folder of a dataset is {roots[0]} FOLDER" if roots else ""
        if self.raises:
            raise UserError(line)
        print(f"{self.prog}: error: {line}  (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(_EXIT_BAD_INPUT)

    def _placed(self, line: str) -> str:
        """Return a message of jsonargparse, with the file that a value is from."""
        _, sign, rest = line.rpartition('Parser key "')
        name, quote, reason = rest.partition('": ')
        if not sign or not quote:
            return line
        source = None if self._given is None else self._given.source_of(name)
        where = f"{source.said}: " if source is not None else "" if "." in name else "--"
        return f"{where}{name}: {reason}"

    def _parse_optional(self, arg_string: str) -> Any:
        # argparse asks this of every word before it does anything, so that an option that does not
        # exist is an error beside --help, too.
        found = super()._parse_optional(arg_string)
        option = found[0] if isinstance(found, list) else found
        if option is not None and (option[0] is None or f"-{arg_string}" in self._long_options()):
            self._refuse(arg_string)
        return found

    def _refuse(self, word: str) -> NoReturn:
        name = word.partition("=")[0]
        section = name.lstrip("-").partition(".")[0]
        own = any(option.startswith(f"--{section}.") for option in self._long_options())
        if (
            self.experiment is None
            and not own
            and section
            in (
                "config",
                "data",
                "model",
                "optimizer",
                "trainer",
            )
        ):
            advice = (
                "configurations and their options are for train, evaluate and describe, and stand "
                "after the command"
            )
        elif self.experiment is None and section == "task":
            advice = (
                "it is for train, evaluate and describe, such as train --task TASK; the other "
                "commands know the task by their checkpoint or their files"
            )
        elif section in ("pretrained", "weights", "checkpoint") and self._has("model.weights"):
            advice = (
                "a published network is --model.backbone NAME, the weights that it starts from are "
                "--model.weights NAME or FILE"
            )
        elif not word.startswith("--") and f"-{word}" not in self._long_options():
            advice = f"a value that starts with a dash is given as --option={word}"
        else:
            near = nearest(f"--{name.lstrip('-')}", self._long_options())
            advice = f"the nearest is {near}" if near else "there is none like it"
        self.error(f"unknown option {name}: {advice}")
        raise AssertionError("error returned")  # of the class argparse.ArgumentParser, it does not

    def _long_options(self) -> list[str]:
        return [option for option in self._option_string_actions if option.startswith("--")]

    def _alone(self, name: str) -> str | None:
        action = self._option_string_actions.get(f"--{name}")
        return str(action.const) if action is not None and action.nargs == "?" else None

    def _file_words(self, given: Given) -> list[str]:
        """Return the options of files as words, those that win at last."""
        assert self.experiment is not None
        lists, words = list_options(self.experiment), []
        for source in given.configs:
            self._check_names(source)
            # Which task it is has been decided: an option may override that of a file.
            values = {key: value for key, value in source.values.items() if key != "task"}
            words.append(f"--config={dumped(with_lists(values, lists))}")
        for section, source in given.sections:
            self._check_names(source)
            words.append(f"--{section}={dumped(with_lists(source.values, lists)[section])}")
        return words

    def _check_names(self, source: Source) -> None:
        """Refuse options that there are not.

        Raises:
            UserError: It names the option, and the nearest one that there is.
        """
        assert self.experiment is not None
        check_program(source, self.experiment, self.prog)
        for name in source.names():
            if self._has(name) or name.rpartition(".")[2] == "$schema":  # for editors
                continue
            near = nearest(name, [option[2:] for option in self._long_options()])
            raise UserError(
                f"{source.said}: there is no option {name}"
                + (f", the nearest is {near}." if near else ".")
            )


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
    if command is None:
        overview = _overview(name, description, commands)
        if words and not words[0].startswith("-"):
            near = nearest(words[0], commands)
            advice = f"the nearest is {near}; " if near else ""
            overview.error(f"unknown command {words[0]}: {advice}there are {', '.join(commands)}")
        overview.parse_args(words or ["--help"])
        raise SystemExit(_EXIT_BAD_INPUT)
    quieten_libraries()
    try:
        end_with_first_process()
        chosen, parsed = parse_command(name, command, Given(words[1:]), commands, prepare, choose)
        code = chosen.run(parsed)
        sys.stdout.flush()  # what cannot be written is found out here, not at exit
        return code
    except UserError as error:
        line = " ".join(part.strip() for part in str(error).splitlines())
        print(f"{name} {command}: error: {line}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    except BrokenPipeError:
        # Whoever read the output has gone (as of "| head"); flushing at exit would say so again.
        _write_to_nowhere(sys.stdout)
        return _EXIT_UNREAD
    except KeyboardInterrupt:
        print(f"\n{name} {command}: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            # Every command asks for files by the names it was given, each in a place of its own.
            line = f"{_cut(str(error.filename))}: too long"
            print(f"{name} {command}: error: {line}", file=sys.stderr)
            return _EXIT_BAD_INPUT
        found = storage_error(error)
        if found is None:
            raise
        return _storage_failed(f"{name} {command}", found)


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
    parsed.given = frozenset(option for option in given.options() if "." in option)
    return chosen, parsed


def _command_first(words: list[str], commands: Commands) -> list[str]:
    """Put a command that stands after ``--task`` and its value before them."""
    before = 1 if words and words[0].startswith("--task=") else 2
    if words and words[0].partition("=")[0] == "--task" and words[before:]:
        command, *rest = words[before:]
        return [command, *words[:before], *rest] if command in commands else words
    return words


def _plain(line: str) -> str:
    """Say in words what jsonargparse says of a value in Python's types."""
    message, got, value = line.rpartition("Got value: ")
    if "Does not validate against any of the Union subtypes" in line:
        message, got, value = line.rpartition("Given value: ")
    where, _, _ = message.partition(": Expected a ")
    where, _, _ = where.partition(": Does not validate")
    kinds = re.findall(r"Expected a (?:<class '(\w+)'>|(?:typing\.)?Literal\[([^]]*)\])", message)
    if not got or not kinds or any(kind and kind not in _KINDS for kind, _ in kinds):
        return line
    words = [_KINDS.get(kind) or f"one of {names}".replace("'", "") for kind, names in kinds]
    if found := re.fullmatch(r"Namespace\((.*)\)", value):
        value = f"{{{found[1].replace('=', ': ')}}}"
    return f"{where}: expected {', or '.join(dict.fromkeys(words))}; found {value}"


def _cut(line: str) -> str:
    """Shorten a line in its middle, where it is long."""
    half = _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]} ... {line[-half:]}"


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


def _overview(name: str, description: str, commands: Commands) -> Parser:
    summaries = "\n".join(
        f"  {name:10}{command.description.splitlines()[0]}" for name, command in commands.items()
    )
    parser = Parser(
        prog=name,
        description=f"{description}\n\ncommands:\n{summaries}\n\n"
        f"{name} COMMAND --help explains the options of a command.",
        formatter_class=type("_Raw", (argparse.RawDescriptionHelpFormatter, Formatter), {}),
        usage=f"{name} {{{','.join(commands)}}} ...",
    )
    parser.add_argument(
        "--version",
        action=VersionAction,
        help="Print the versions of this program, Python, torch and the decoders, and exit.",
    )
    return parser


def add_experiment(parser: Parser, experiment: type[ExperimentBase]) -> None:
    """Add the options of a configuration: its file, its task and its four sections."""
    parser.experiment = experiment
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with the task and the sections data, model, optimizer and trainer. Options "
        "override its values wherever they stand; of several files the later override the earlier.",
    )
    tasks = tasks_of(experiment)
    kinds: Any = Literal[tasks]
    parser.add_argument(
        "--task",
        type=kinds,
        default=tasks[0],
        help="Kind of task. Left out, it is that of the backbone, or else of the dataset.",
    )
    parser.add_class_arguments(experiment, None)


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
