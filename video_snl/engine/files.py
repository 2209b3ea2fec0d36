"""Files that are either whole or absent: written beside their place, then renamed into it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["replace_file", "replacing", "write_json", "write_text"]


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file in the folder of ``path``, then put it in place."""
    with replacing(path) as temporary:
        write(temporary)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to be filled; it takes the place of ``path`` unless an error is raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    replace_file(path, lambda temporary: _write(temporary, text))


def write_json(path: Path, value: Any, *, finite: bool = False) -> None:
    """Write ``value`` as indented JSON, atomically.

    Args:
        finite: Refuse numbers that are not, for which JSON has no form.

    Raises:
        ValueError: There is one, and ``finite`` is asked for.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=not finite) + "\n")


def _write(path: Path, text: str) -> None:
    # Names of files need not be UTF-8: their other bytes are written as escapes, as in JSON.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
