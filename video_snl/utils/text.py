"""Text that users wrote: lists in files, labels, and names that go into messages."""

from __future__ import annotations

import codecs
import difflib
import functools
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from video_snl.errors import UserError

__all__ = [
    "clean_label",
    "common_folder",
    "cut_line",
    "decode_text",
    "escaped",
    "examples",
    "meant",
    "printable",
    "read_text",
    "same_labels",
    "say_merged",
    "say_once",
    "shown_path",
    "spellings",
    "without_password",
]

_SHOWN = 200
_LONGEST = 600  # characters of a message
_LONGEST_PATH = 16384  # four times the bytes of Linux' longest path: an escape has four letters
# Scheme, after what was pasted with it and with one slash where a Path has left out the other; user
# and password; path; query.
_ADDRESS = re.compile(
    r"(\W*[a-z][a-z0-9+.-]*:/+)(.*@)?([^?#]*)([?#].*)?", re.IGNORECASE | re.DOTALL
)
# The marks of UTF-32 begin with those of UTF-16: they come first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(file: Path) -> str:
    """Return the text of a list: UTF-8, or UTF-16 or UTF-32 with a byte-order mark.

    Line ends stay as they are.

    Raises:
        UserError: The file cannot be read, or is in another encoding, such as Latin-1: which one
            cannot be told from the bytes, and a wrong guess would change names in silence.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): give a text file") from error
    return decode_text(content, str(file))


def decode_text(content: bytes, source: str) -> str:
    """Decode the bytes of a list as :func:`read_text` does; ``source`` names it in messages.

    Raises:
        UserError: As for :func:`read_text`.
    """
    mark, encoding = next(
        (known for known in _MARKS if content.startswith(known[0])), (b"", "utf-8")
    )
    try:
        return content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: len(mark) + error.start]
        line = before.count(b"\n") + 1
        found = content[len(mark) + error.start : len(mark) + error.start + 1].hex()
        raise UserError(
            f"{source}, line {line}: expected text in UTF-8 (or UTF-16 with a byte-order mark), "
            f"found the byte 0x{found}: save it as UTF-8, for example with iconv -f LATIN1 -t UTF-8"
        ) from error


# The files of a dataset name the same few classes again and again.
@functools.lru_cache(maxsize=65536)
def clean_label(name: str) -> str:
    """Return the label that a name stands for: without spaces around it, in Unicode's form NFC.

    Bytes that are not UTF-8 become escapes such as ``\\udce9``, so that every label is text.

    Raises:
        UserError: The label is empty, or holds a line break or another control character.
    """
    text = name.encode("utf-8", "backslashreplace").decode()
    label = unicodedata.normalize("NFC", text.strip())
    if not label:
        raise UserError(f"the class name {name!r} is empty: give every class a name")
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in label):
        raise UserError(
            f"the class name {printable(label)} holds a line break or another control character: "
            "give every class a name of one line"
        )
    return label


def same_labels(first: Sequence[str], second: Sequence[str]) -> bool:
    """Tell whether two lists name the same classes, for all that :func:`clean_label` settles.

    Checkpoints that were written before labels were cleaned hold the names as they were.
    """
    if list(first) == list(second):
        return True
    try:
        return list(map(clean_label, first)) == list(map(clean_label, second))
    except UserError:
        return False


def say_merged(labels: Iterable[str], source: str) -> None:
    """Say in a line on stderr which spellings are taken for one label, if any are.

    Raises:
        UserError: As for :func:`clean_label`.
    """
    found = set(labels)
    for label in found:
        clean_label(label)
    merged = spellings(found)
    if merged:
        named = [f"{' and '.join(map(ascii, names))} are one" for names in merged]
        say_once(f"{source}: labels that differ only in spaces or Unicode form: {examples(named)}")


def spellings(names: Iterable[str]) -> list[list[str]]:
    """Return the names that differ only in spaces around them or in Unicode form, in groups."""
    found: dict[str, set[str]] = {}
    for name in set(names):
        found.setdefault(unicodedata.normalize("NFC", name.strip()), set()).add(name)
    return [sorted(found[name]) for name in sorted(found) if len(found[name]) > 1]


def escaped(name: str) -> str:
    """Return a name of a file as text of UTF-8: its bytes that are not become ``\\xe9``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def printable(text: str, limit: int = _SHOWN) -> str:
    """Return text for a message: control characters and stray bytes escaped, the middle cut out."""
    shown = "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )
    if len(shown) <= limit:
        return shown
    half = limit // 2
    return f"{shown[:half]}...{shown[-half:]}"


def without_password(address: str) -> str:
    """Return an address without user, password and query, which may be secrets.

    All up to its last ``@`` is cut out: unescaped, a password may hold any character. So may a
    query: where that ``@`` may be in one, all that follows is cut out, too.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return address
    scheme, credentials, path, query = found.groups()
    if credentials and ("?" in credentials or "#" in credentials):
        return f"{scheme}***"
    return f"{scheme}{'***@' if credentials else ''}{path}{f'{query[0]}...' if query else ''}"


def shown_path(path: str | Path) -> str:
    """Return a path for people, whole and on one line: line breaks and stray bytes are escaped."""
    return printable(escaped(str(path)), _LONGEST_PATH)


_said: list[tuple[Any, str]] = []


def say_once(line: str) -> None:
    """Print a line on stderr, in the first process of several; the same line again is left out."""
    if (sys.stderr, line) in _said or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    _said.append((sys.stderr, line))
    print(line, file=sys.stderr, flush=True)


def common_folder(names: Sequence[str]) -> str:
    """Return the folder that all names lie in, with its slash; empty without one."""
    start = os.path.commonprefix(list(names))
    return start[: start.rfind("/") + 1]


def examples(names: Iterable[str], shown: int = 3) -> str:
    """Return the first names for a message: ``a, b, c, ...``."""
    listed = list(names)
    return ", ".join(map(printable, listed[:shown])) + (", ..." if len(listed) > shown else "")


def meant(name: str, names: Iterable[str]) -> str:
    """Return the known names nearest to one that is unknown, or all of them, for its message."""
    known = list(names)
    near = difflib.get_close_matches(name, known, 3, 0.4)
    return f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}."


def cut_line(line: str) -> str:
    """Shorten a line in its middle, where it is long: what it quotes may be of any length."""
    half = _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]} ... {line[-half:]}"
