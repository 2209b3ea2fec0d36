"""Configurations and options as a user gives them: the words of a command, taken apart once.

Without torch; :mod:`~video_snl.config.yaml_text` reads the text of files and values.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_type_hints

from video_snl.config.validation import with_readers_of_today
from video_snl.config.yaml_text import check_text, load_text, read_text
from video_snl.errors import UserError
from video_snl.utils.json_text import to_json

__all__ = [
    "CONFIGS",
    "Given",
    "GivenValues",
    "Source",
    "entry",
    "list_options",
    "named_configs",
    "nearest",
    "option_names",
    "read_source",
    "sectioned",
    "with_lists",
    "with_underscores",
]

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
"""The configurations that come with the package: a link to configs/ in the repository, and a folder
of the wheel."""
_SECTIONS = ("data", "model", "optimizer", "trainer")
_MISSING: Any = object()


@dataclass(frozen=True)
class Source:
    """Options from a file, or from YAML text on the command line.

    Attributes:
        name: The file; None for text.
        said: Name in messages.
        values: Options of the source.
    """

    name: str | None
    said: str
    values: dict[str, Any]

    def names(self) -> list[str]:
        """Return the names of the options, those of sections with the section's."""
        return list(_flat(self.values))


@dataclass(frozen=True)
class _Item:
    """An option with its value, or a word that belongs to none (``name`` is then None)."""

    words: tuple[str, ...]
    name: str | None = None
    value: str | None = None


class Given:
    """The words of a command, taken apart once.

    An option on the command line wins over the file of its section (``--data FILE``), that file
    over ``--config``, wherever they stand; of several of a kind the later one wins.

    Args:
        words: Words after the command's name.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = list(words)
        self._items = list(_items(self.words))

    @property
    def asks_for_help(self) -> bool:
        """Tell whether ``-h`` or ``--help`` is among the words, also as ``--help=all``."""
        options = (item.words[0].partition("=")[0] for item in self._items if _is_option(item))
        return any(option in ("-h", "--help") for option in options)

    @cached_property
    def configs(self) -> list[Source]:
        """The configurations of ``--config``, in order.

        Raises:
            UserError: One cannot be read, or breaks a limit.
        """
        return [
            sectioned(read_source(item.value, "--config"))
            for item in self._items
            if item.name == "config" and item.value is not None
        ]

    @cached_property
    def sections(self) -> list[tuple[str, Source]]:
        """The sections given whole, such as by ``--data FILE``, with their names.

        The values of each stand below its section's name, as in a whole configuration.

        Raises:
            UserError: One cannot be read, or breaks a limit.
        """
        found = []
        for item in self._items:
            if item.name in _SECTIONS and item.value is not None:
                source = read_source(item.value, f"--{item.name}")
                found.append((item.name, replace(source, values={item.name: source.values})))
        return found

    def adding(self, *words: str) -> Given:
        """Return these with further words after them."""
        return Given([*self.words, *words])

    def options(self) -> list[str]:
        """Return the names of the options among the words, without their dashes."""
        return [item.name for item in self._items if item.name is not None]

    def option(self, name: str, alone: str | None = None) -> str | None:
        """Return the last value of ``--name`` among the words, None where it is not there.

        Args:
            alone: Stands for the value of an option without one.
        """
        return (self.all_of(name, alone) or [None])[-1]

    def all_of(self, name: str, alone: str | None = None) -> list[str | None]:
        """Return all values of ``--name`` among the words."""
        return [
            alone if item.value is None else item.value for item in self._items if item.name == name
        ]

    def said(self, name: str, alone: str | None = None) -> Any:
        """Return what the words and files say of an option such as ``data.dataset``, or None.

        Raises:
            UserError: A file cannot be read, or breaks a limit.
        """
        if self.all_of(name):
            return self.option(name, alone)
        source = self.source_of(name)
        return None if source is None else entry(source.values, name)

    def source_of(self, name: str) -> Source | None:
        """Return the file whose value of an option counts; None where no file decides.

        The values of the file of a section stand below the section's name.

        Raises:
            UserError: A file cannot be read, or breaks a limit.
        """
        if self.all_of(name):
            return None
        section = name.partition(".")[0]
        own = [source for given, source in self.sections if given == section]
        for source in [*reversed(own), *reversed(self.configs)]:
            if entry(source.values, name, _MISSING) is not _MISSING:
                return source
        return None

    def check_values(self) -> None:
        """Refuse values that a parser would take forever to read, and words that no name has.

        Raises:
            UserError: One breaks a limit.
        """
        if any("\0" in word for word in self.words):
            raise UserError("an argument holds the character of code 0, which no name has.")
        for item in self._items:
            if item.name is not None and item.value is not None:
                check_text(item.value, f"--{item.name}")

    def other_words(
        self, lists: Mapping[str, bool], alone: Callable[[str], str | None]
    ) -> list[str]:
        """Return all words but those of :attr:`configs` and :attr:`sections`.

        Args:
            lists: Names from :func:`list_options`: a single value of one of these becomes a list.
            alone: What an option that may stand alone means then; it is written out, since a word
                that comes to follow it would be taken for its value.
        """
        words: list[str] = []
        for item in self._items:
            if item.value is not None and item.name in ("config", *_SECTIONS):
                continue
            if item.name is not None and item.value is not None and item.name in lists:
                words += _listed(item, text=lists[item.name])
            elif item.name is not None and item.value is None and alone(item.name) is not None:
                words.append(f"--{item.name}={alone(item.name)}")
            else:
                words += item.words
        return words


class GivenValues(Given):
    """Options that are given as values, by a caller in Python.

    Args:
        sources: Configurations; of several values of an option the later counts.
        words: Words of options that no configuration has, such as ``--resume=RUN``.
    """

    def __init__(self, sources: Sequence[Source], words: Iterable[str] = ()) -> None:
        super().__init__(words)
        self.configs = list(sources)

    def adding(self, *words: str) -> GivenValues:
        return GivenValues(self.configs, [*self.words, *words])


def with_underscores(words: Sequence[str]) -> list[str]:
    """Spell the names of options as they are declared: of ``--ray-address``, ``--ray_address``.

    Values, and what follows a word ``--``, stay as they are.
    """
    end = words.index("--") if "--" in words else len(words)
    spelled = []
    for word in words[:end]:
        name, sign, value = word.partition("=")
        if name.startswith("--") and " " not in name:
            name = "--" + name[2:].replace("-", "_")
        spelled.append(f"{name}{sign}{value}")
    return [*spelled, *words[end:]]


def read_source(value: str, option: str) -> Source:
    """Read the options in a file, or in YAML text where there is no such file.

    ``--config`` also takes the name of a configuration of the package, such as
    ``finetune/x3d_xs_snl``, with ``.yaml`` or without. A file that exists wins.

    Args:
        value: Value of the option: a file's name, the name of a configuration, or text.
        option: Name of the option, for messages.

    Raises:
        UserError: It cannot be read, holds no options, or breaks a limit.
    """
    name, path = value, os.path.expanduser(value)
    if os.path.isdir(path):
        raise UserError(f"{option} {value} is a folder: give a YAML file.")
    if not os.path.exists(path):
        loaded = load_text(value, option)
        if isinstance(loaded, Mapping):
            return Source(None, option, dict(loaded))
        if option not in ("--config", "config"):
            raise UserError(f"{option} {value:.200}: there is no such file.")
        name = path = str(_named_config(value, option))
    loaded = load_text(read_text(path, f"{option} {value}"), value)
    if not isinstance(loaded, Mapping):
        found = "nothing" if loaded is None else f"{loaded!r:.60}"
        raise UserError(f"{value}: expected options in YAML, such as 'key: value', found {found}.")
    return Source(name, value, dict(loaded))


def named_configs() -> dict[str, Path]:
    """Return the files of the configurations of the package by their names."""
    files = sorted(CONFIGS.rglob("*.yaml"))
    return {file.relative_to(CONFIGS).with_suffix("").as_posix(): file for file in files}


def _named_config(name: str, option: str) -> Path:
    """Return the file of a configuration of the package.

    Raises:
        UserError: There is none of this name; it says which name is the nearest.
    """
    known = named_configs()
    own = name.removesuffix(".yaml")
    if own in known:
        return known[own]
    near = nearest(own.removeprefix("configs/"), known)
    raise UserError(
        f"{option} {name:.200}: there is no such file, and no configuration of this name"
        + (f": the nearest is {near}." if near else ", as finetune/x3d_xs_snl is one.")
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the name that someone may have meant, if one is near.

    Args:
        name: Name that was given. ``--epochs`` is near ``--optimizer.epochs``.
    """
    names = list(known)
    section, dot, own = name.rpartition(".")
    last = [each for each in names if each.rpartition(".")[2] == name.lstrip("-")]
    if dot and not last:  # such as --optimizer.lr: of the options of its section
        of_section = [each[len(section) + 1 :] for each in names if each.startswith(f"{section}.")]
        near = difflib.get_close_matches(own, of_section, 1, 0.25)
        last = [f"{section}.{each}" for each in near]
    return next(iter(last or difflib.get_close_matches(name, names, 1, 0.5)), None)


def entry(values: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """Return the value of an option such as ``data.root``.

    Args:
        values: Options as a file has them: sections, or names with dots.
        default: Value where they do not hold the option.
    """
    section, _, key = name.partition(".")
    inner = values.get(section)
    if key and isinstance(inner, Mapping) and key in inner:
        return inner[key]
    return values.get(name, default)


def option_names(experiment: type) -> set[str]:
    """Return the names of an experiment's options, such as ``data.root``."""
    return {
        f"{section}.{key}"
        for section, kind in get_type_hints(experiment).items()
        for key in get_type_hints(kind)
    }


def list_options(experiment: type) -> dict[str, bool]:
    """Return the options of an experiment that are lists, and whether of text."""
    return {
        f"{section}.{key}": not {int, float} & set(get_args(part))
        for section, kind in get_type_hints(experiment).items()
        for key, hint in get_type_hints(kind).items()
        for part in (hint, *get_args(hint))
        if getattr(part, "__origin__", None) is list
    }


def with_lists(
    values: Mapping[str, Any], lists: Collection[str], prefix: str = ""
) -> dict[str, Any]:
    """Return options in which a single value of a list is a list of one."""
    changed: dict[str, Any] = {}
    for key, value in values.items():
        if not prefix and key in _SECTIONS and isinstance(value, Mapping):
            value = with_lists(value, lists, f"{key}.")
        elif f"{prefix}{key}" in lists and isinstance(value, str | int | float):
            value = value if isinstance(value, bool) else [value]
        changed[key] = value
    return changed


def sectioned(source: Source) -> Source:
    """Check that sections hold options, and read those that name a file of their own.

    Raises:
        UserError: One is something else.
    """
    if source.values.get("config") is not None:
        raise UserError(
            f"{source.said}: a configuration names no other one; give --config several times."
        )
    values: dict[str, Any] = {}
    for key, inner in source.values.items():
        section, dot, name = str(key).partition(".")
        if section not in _SECTIONS:
            values |= {key: inner} if key != "config" else {}
            continue
        if dot:  # model.block: snl beside a section model; the parser would lose it
            inner = {name: inner}
        elif isinstance(inner, str):
            folder = os.path.dirname(source.name or "")
            inner = read_source(os.path.join(folder, inner), f"{source.said}: {section}").values
        if inner is None:  # all its options are comments
            continue
        if not isinstance(inner, Mapping):
            raise UserError(
                f"{source.said}: {section} must hold options, such as '{section}: {{key: value}}', "
                f"found {inner!r:.60}."
            )
        values[section] = {**values.get(section, {}), **inner}
    return Source(source.name, source.said, dict(with_readers_of_today(values)))


def _flat(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of options, those of the sections with the section's."""
    for key, value in values.items():
        if key in _SECTIONS and isinstance(value, Mapping):
            yield from (f"{key}.{inner}" for inner in value)
        else:
            yield str(key)


def _items(words: Sequence[str]) -> Iterator[_Item]:
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":  # nothing that follows is an option
            yield from (_Item((each,)) for each in words[at:])
            return
        name, sign, value = word[2:].partition("=")
        if not word.startswith("--") or " " in name:
            yield _Item((word,))
        elif sign:
            yield _Item((word,), name, value)
        elif at + 1 < len(words) and _is_value(words[at + 1]):
            at += 1
            yield _Item((word, words[at]), name, words[at])
        else:
            yield _Item((word,), name)
        at += 1


def _is_value(word: str) -> bool:
    """Tell whether argparse takes a word for a value, and not for an option."""
    number = re.fullmatch(r"-\d+|-\d*\.\d+", word)
    return not word.startswith("-") or word == "-" or " " in word or number is not None


def _is_option(item: _Item) -> bool:
    return item.name is not None or item.words[0].startswith("-")


def _listed(item: _Item, *, text: bool) -> list[str]:
    """Return the words of an option that takes a list; a single value becomes a list of one."""
    assert item.name is not None and item.value is not None
    try:
        loaded = load_text(item.value, f"--{item.name}")
    except UserError:
        return list(item.words)  # the parser says what is wrong with it
    if isinstance(loaded, str) or (text and isinstance(loaded, int | float)):
        loaded = item.value
    elif isinstance(loaded, bool) or not isinstance(loaded, int | float):
        return list(item.words)
    return [f"--{item.name}={to_json([loaded])}"]
