"""JSON text: written so that every reader takes it, read from files that others may have made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["parse_json", "to_json"]


def to_json(
    value: Any,
    *,
    finite: bool = False,
    indent: int | None = None,
    sort_keys: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """Return ``value`` as JSON text; numbers that are not finite become ``null``.

    ``null`` stands for a number that does not exist, such as the accuracy of a class without
    samples, or the loss of an epoch that has diverged. All JSON that the two programs write, to
    files, to the standard output and into pages, comes from here.

    Args:
        finite: Refuse such numbers instead, where one would be an error.
        indent, sort_keys, default: Arguments of :func:`json.dumps`.

    Raises:
        ValueError: A number is not finite, and ``finite`` is asked for; or a value contains itself.
    """
    options: dict[str, Any] = {"indent": indent, "sort_keys": sort_keys, "default": default}
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:  # a number that is not finite, or a value that contains itself
        if finite:
            raise
        json.dumps(value, **options)  # raises for the latter
        return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def parse_json(text: str | bytes) -> Any:
    """Return what JSON text describes.

    Raises:
        ValueError: The text is not JSON, or is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
