"""Whether plain values, as JSON and YAML have them, are of the types that a dataclass declares."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["check_fields", "check_value", "described", "fits"]

_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "null",
}
_LONGEST = 60  # of a value that is shown
_LARGEST = sys.float_info.max


def check_fields(kind: type, values: object, where: str) -> None:
    """Whether values are those of a dataclass; fields that are not there have their defaults.

    Args:
        kind: A dataclass.
        values: By the names of its fields.
        where: What messages call them, such as ``model``.

    Raises:
        TypeError: It names the entry, what was expected and what was found.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{where}: expected an object, found {_shown(values)}")
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            raise TypeError(
                f"{where}: unexpected keyword {name!r}, expected some of {', '.join(hints)}"
            )
        check_value(value, hints[name], f"{where}.{name}")


def check_value(value: object, hint: Any, where: str) -> None:
    """Whether a value is of a type, as :func:`fits` says.

    Raises:
        TypeError: It names the value, what was expected and what was found.
    """
    if not fits(value, hint):
        raise TypeError(f"{where}: expected {described(hint)}, found {_shown(value)}")


def fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type: Any, None, bool, int, float, str, and literals, unions, lists
    and dictionaries of those. A whole number is a float, too, a bool is neither; a tuple is a list.
    """
    if hint is Any:
        return True
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list | tuple) and all(fits(each, parts[0]) for each in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(
            fits(key, parts[0]) and fits(each, parts[1]) for key, each in value.items()
        )
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, float) or (isinstance(value, int) and abs(value) <= _LARGEST)
    return isinstance(value, hint)


def described(hint: Any) -> str:
    """A type as a person would say it."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin in (Union, types.UnionType):
        return " or ".join(map(described, parts))
    if origin is list:
        return f"a list, each entry {described(parts[0])}"
    if origin is dict:
        return f"an object, each value {described(parts[1])}"
    return _NAMES.get(hint, str(hint))


def _shown(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
