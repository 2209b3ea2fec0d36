"""Text of ``--help``: types in words, and the options that most runs need.

``--help`` shows a few options where a command has many, ``--help all`` shows all of them.
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from video_snl.config.user_code import DottedPath

__all__ = ["Formatter", "HelpAction", "short_help", "type_in_words"]

_WORDS = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    DottedPath: "dotted path such as my_package.MyBlock",
}
_SECTION_FILE = "YAML file with the options of this section."


def type_in_words(hint: Any) -> str | None:
    """Return what values of a type are called, None for one that has no name in words.

    None among the types of a union is left out: an option that is not given has it.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, types.UnionType):
        # The names of two lists are one list.
        names = [name for part in parts if get_origin(part) is Literal for name in get_args(part)]
        others = [part for part in parts if get_origin(part) is not Literal]
        parts = (Literal[tuple(names)], *others) if names else parts
        words = [type_in_words(part) for part in parts if part is not type(None)]
        return ", or ".join(word for word in words if word) or None
    if origin is list:
        inner = type_in_words(parts[0])
        return f"list of {inner}s" if inner in ("number", "whole number") else f"list of {inner}"
    if origin is dict:
        return "options as {name: value}"
    return _WORDS.get(hint)


class Formatter(DefaultHelpFormatter):
    """Formatter that says types and defaults in words, and no word of Python's types."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if text == "Path to a configuration file.":
            return _SECTION_FILE
        if isinstance(action, HelpAction):
            return text
        notes = ["required"] if action.required and action.option_strings else []
        words = type_in_words(getattr(action, "_typehint", None) or action.type)
        takes_value = bool(action.option_strings) and action.nargs != 0
        if words and takes_value and not _choices(action):
            notes.append(words)
        if takes_value and action.default not in (None, argparse.SUPPRESS):
            notes.append(f"default: {_value(action.default)}")
        elif takes_value and not action.required and "default" not in text.lower():
            notes.append("default: none")
        return f"{text} ({'; '.join(notes)})" if notes else text

    def _expand_help(self, action: argparse.Action) -> str:
        return self._get_help_string(action)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return _choices(action) or super()._format_args(action, default_metavar)


def _choices(action: argparse.Action) -> str | None:
    """Return the choices of an option as they stand after its name, None where it has none."""
    hint = getattr(action, "_typehint", None)
    if hint is bool:
        return "{true,false}"
    is_union = get_origin(hint) in (Union, types.UnionType)
    parts = [part for part in (get_args(hint) if is_union else [hint]) if part is not type(None)]
    names: list[str] = []
    for part in parts:
        if get_origin(part) is not Literal and part is not DottedPath:
            return None
        names += ["MODULE.CLASS"] if part is DottedPath else map(str, get_args(part))
    return f"{{{','.join(names)}}}" if names else None


def _value(value: Any) -> str:
    """Write a default as it is given on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)


class HelpAction(argparse._HelpAction):
    """Action of ``--help``, which ``all`` may follow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.metavar = "all"

    def take_all(self) -> None:
        """Show what most runs need; ``all`` shows all options."""
        self.nargs = "?"
        self.help = "Show the options that most runs need, or all of them, and exit."

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(parser, ArgumentParser)
        common = () if values == "all" else getattr(parser, "common", ())
        print(short_help(parser, common), end="")
        parser.exit()


def short_help(parser: ArgumentParser, common: Collection[str]) -> str:
    """Return the help of a command with the options that most runs need.

    Args:
        parser: Parser of the command.
        common: Names of these options, without dashes; empty for all options.
    """
    if not common:
        return parser.format_help()
    with _hidden(parser, common):
        text = parser.format_help()
    last = f"These are the options that most runs need; for all: {parser.prog} --help all"
    return f"{text.rstrip()}\n\n{last}\n"


@contextmanager
def _hidden(parser: ArgumentParser, common: Collection[str]) -> Iterator[None]:
    """Leave all options but some out of the help."""
    hidden = [
        action
        for action in parser._actions
        if action.option_strings and action.dest not in common and action.dest != "help"
    ]
    texts = [action.help for action in hidden]
    try:
        for action in hidden:
            action.help = argparse.SUPPRESS
        yield
    finally:
        for action, text in zip(hidden, texts, strict=True):
            action.help = text
