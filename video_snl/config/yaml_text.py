"""YAML text as a user gives it: read and loaded within limits. Without torch.

Text is walked through before it is loaded, so that nothing is built of what is nested too deeply,
is too large, or means two things. The reader of YAML is loaded where text is read, so that this is
there without it, too.
"""

from __future__ import annotations

import os
import re
import select
import stat
from collections.abc import Mapping
from typing import Any

from video_snl.errors import UserError

__all__ = [
    "DEEPEST",
    "LARGEST_FILE",
    "MOST_VALUES",
    "check_text",
    "dumped",
    "load_text",
    "read_text",
]

LARGEST_FILE = 1 << 20
"""Bytes of a configuration file."""
DEEPEST = 32
"""Levels of nesting of a configuration or a value."""
LONGEST_NUMBER = 1000
"""Digits of a whole number."""
SILENCE = 60
"""Seconds that nothing may come from a pipe that a configuration is read from."""
MOST_VALUES = 20_000
"""Values of a configuration, those of its aliases counted wherever they stand."""


def read_text(path: str, said: str) -> str:
    """Read the text of a file, or of a pipe.

    Args:
        path: The file.
        said: Name in messages.

    Raises:
        UserError: It cannot be read, is too large, or is no text.
    """
    try:
        content = _bytes_of(path, said)
    except OSError as error:
        raise UserError(f"{said} cannot be read: {error.strerror}.") from error
    if len(content) > LARGEST_FILE:
        raise UserError(f"{said} is larger than a configuration may be, {LARGEST_FILE:,} bytes.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{said} is not text in UTF-8: a configuration is a YAML file.") from error


def load_text(text: str, where: str) -> Any:
    """Load YAML text as the parser of the command line does.

    Raises:
        UserError: It is not YAML, or breaks a limit.
    """
    import yaml
    from jsonargparse import get_loader

    try:
        _check_events(text, where)
        return get_loader("yaml")(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise UserError(
            f"{where}: is not YAML ({error.problem or error.context}{place})."
        ) from error
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        # ValueError: of dates that do not exist, and numbers of more than 4300 digits. TypeError:
        # jsonargparse takes the only key of a mapping for text.
        raise UserError(f"{where}: cannot be read ({' '.join(str(error).split())}).") from error


def check_text(text: str, where: str) -> None:
    """Refuse YAML text that is nested too deeply, or that aliases make too large.

    Text that is not YAML passes: whoever loads it says so.

    Raises:
        UserError: It breaks a limit.
    """
    if len(text) > DEEPEST:  # shorter text breaks none
        import yaml

        try:
            _check_events(text, where)
        except yaml.YAMLError:
            return


def dumped(values: Mapping[str, Any]) -> str:
    """Write values as YAML that loads as the same values, whichever numbers a loader knows."""
    import yaml

    return yaml.safe_dump(values, default_style='"', sort_keys=False, allow_unicode=True)


def _bytes_of(path: str, said: str) -> bytes:
    """Read a file that may be a pipe, whose size is not known and which may stay silent.

    Raises:
        UserError: Nothing comes from it.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0) as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file.read(LARGEST_FILE + 1)
        os.set_blocking(file.fileno(), True)
        content = b""
        while len(content) <= LARGEST_FILE:
            if not select.select([file], [], [], SILENCE)[0]:
                raise UserError(f"{said} cannot be read: nothing came from it in {SILENCE} s.")
            part = os.read(file.fileno(), LARGEST_FILE + 1 - len(content))
            if not part:
                break
            content += part
        return content


def _check_events(text: str, where: str) -> None:
    """Walk through YAML text without building what it describes."""
    import yaml

    events = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    sizes: dict[str, int] = {}
    opened = [_Open(None, mapping=False)]
    for event in yaml.parse(text, Loader=events):
        mark = event.start_mark
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append(_Open(anchor, isinstance(event, yaml.MappingStartEvent)))
            if len(opened) > DEEPEST + 1:
                raise UserError(f"{where}: nested deeper than {DEEPEST} levels.")
            continue
        key = None
        if isinstance(event, yaml.CollectionEndEvent):
            ended = opened.pop()
            anchor, size = ended.anchor, ended.size
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == each.anchor for each in opened):
                raise UserError(f"{where}: the alias *{anchor} stands in what it is an alias of.")
            size = sizes.get(str(anchor), 1)
            anchor = None
        elif isinstance(event, yaml.ScalarEvent):
            size, key = 1, event.value
            if len(key) > LONGEST_NUMBER and re.fullmatch(r"[-+]?\d\w*", key):
                raise UserError(f"{where}: a number of more than {LONGEST_NUMBER:,} digits.")
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        if opened[-1].add(size, key):
            again = f" (again in line {mark.line + 1})" if mark is not None else ""
            raise UserError(
                f"{where}: {key:.60} stands twice{again}, of which only the later would count: "
                "leave one of them."
            )
        if opened[-1].size > MOST_VALUES:
            raise UserError(
                f"{where}: holds more than {MOST_VALUES:,} values, those of aliases counted "
                "wherever they stand."
            )


class _Open:
    """A collection of YAML text whose end is yet to come.

    Attributes:
        anchor: Anchor of the collection itself.
        size: Number of values it holds, itself included.
    """

    def __init__(self, anchor: str | None, mapping: bool) -> None:
        self.anchor, self.size = anchor, 1
        self._keys: set[str] | None = set() if mapping else None
        self._is_key = True

    def add(self, size: int, text: str | None) -> bool:
        """Add a member; tell whether it is a key that the mapping has already.

        Args:
            size: Number of values it holds.
            text: Text of a single value.
        """
        self.size += size
        if self._keys is None:
            return False
        is_key, self._is_key = self._is_key, not self._is_key
        if not is_key or text is None:
            return False
        known = text in self._keys
        self._keys.add(text)
        return known
