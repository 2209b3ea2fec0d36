"""The parser of a command: its options, and what it says of wrong ones. Without torch."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Iterable
from typing import Any, Literal, NoReturn

from jsonargparse import ArgumentParser
from jsonargparse.typing import register_type

from video_snl.config.base import ExperimentBase
from video_snl.config.files import Given, Source, list_options, nearest, with_lists
from video_snl.config.help import Formatter, HelpAction
from video_snl.config.task import check_program, tasks_of
from video_snl.config.user_code import DottedPath
from video_snl.config.validation import described, fits
from video_snl.config.yaml_text import dumped
from video_snl.errors import UserError
from video_snl.utils.text import cut_line

__all__ = ["Parser", "add_experiment", "refuse_options"]

_EXIT_BAD_INPUT = 2

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


def _dotted(value: object) -> str:
    if not fits(value, DottedPath):
        raise ValueError(f"expected {described(DottedPath)}, found {value!r}")
    return str(value)


register_type(DottedPath, deserializer=_dotted, type_check=lambda value, _: fits(value, DottedPath))


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
        line = cut_line(_plain(self._placed(" ".join(str(message).split()))))
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


def add_experiment(parser: Parser, experiment: type[ExperimentBase]) -> None:
    """Add the options of a configuration: its file, its task and its four sections."""
    parser.experiment = experiment
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with the task and the sections data, model, optimizer and trainer, or the "
        "name of one that comes with the package, such as finetune/x3d_xs_snl. Options override "
        "its values wherever they stand; of several files the later override the earlier.",
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


def refuse_options(program: str, words: Collection[str]) -> NoReturn:
    """Refuse what stands where a command should: options that a program itself has not.

    Raises:
        SystemExit: It names the option, and the nearest one that there is.
    """
    parser = Parser(prog=program)
    parser.add_argument("--version", action="store_true")
    parser.parse_args(list(words))
    raise SystemExit(_EXIT_BAD_INPUT)


def _plain(line: str) -> str:
    """Say in words what jsonargparse says of a value in Python's types."""
    message, got, value = line.rpartition("Got value:")
    if "Does not validate against any of the Union subtypes" in line:
        message, got, value = line.rpartition("Given value:")
    where, _, _ = message.partition(": Expected a ")
    where, _, _ = where.partition(": Does not validate")
    kinds = re.findall(r"Expected a (?:<class '(\w+)'>|(?:typing\.)?Literal\[([^]]*)\])", message)
    if not got or not kinds or any(kind and kind not in _KINDS for kind, _ in kinds):
        return line
    words = [_KINDS.get(kind) or f"one of {names}".replace("'", "") for kind, names in kinds]
    words += [described(DottedPath)] if DottedPath.__name__ in line else []
    value = value.strip() or "an empty text"
    if found := re.fullmatch(r"Namespace\((.*)\)", value):
        value = f"{{{found[1].replace('=', ': ')}}}"
    return f"{where}: expected {', or '.join(dict.fromkeys(words))}; found {value}"
