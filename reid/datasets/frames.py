"""Folders of pictures, listed in the same order everywhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["FRAME_SUFFIXES", "list_folders", "list_frames", "natural"]

FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})

_DIGITS = re.compile(r"(\d+)")


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key to sort names by in which digits compare as the numbers they are: 9 before 10."""
    parts = _DIGITS.split(name)
    key = [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]
    return key, name


def list_frames(folder: str | Path) -> tuple[str, ...]:
    """Paths of the pictures in a folder, in the order of the numbers in their names.

    Other files and hidden ones are left out.

    Raises:
        FileNotFoundError, NotADirectoryError: There is no such folder.
    """
    names = [
        name
        for name in os.listdir(folder)
        if os.path.splitext(name)[1].lower() in FRAME_SUFFIXES and not name.startswith(".")
    ]
    return tuple([f"{folder}/{name}" for name in sorted(names, key=natural)])


def list_folders(folder: str | Path) -> list[str]:
    """Names of the folders in a folder, without hidden ones, in natural order."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    return sorted(names, key=natural)
