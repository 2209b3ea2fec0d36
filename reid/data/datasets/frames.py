"""Images and folders in a folder, listed in the same order everywhere."""

from __future__ import annotations

import os
from pathlib import Path

from video_snl.utils.media import Ignored, Kind, entry_kind, is_system_name, natural_key

__all__ = ["list_folders", "list_frames"]

_OUT_OF_PLACE = {"folder": "folder among images", "image": "image beside folders"}


def list_frames(folder: str | Path, ignored: list[Ignored] | None = None) -> tuple[str, ...]:
    """List the paths of the images in a folder, in the order of the numbers in their names.

    Args:
        folder: Folder, of which nothing below is looked at.
        ignored: Takes the other entries, but for the files of operating systems.

    Raises:
        FileNotFoundError, NotADirectoryError, PermissionError: The folder does not exist or cannot
            be read.
    """
    return tuple([f"{folder}/{name}" for name in _names(folder, "image", ignored)])


def list_folders(folder: str | Path, ignored: list[Ignored] | None = None) -> list[str]:
    """List the names of the folders in a folder, in natural order.

    A link to the folder itself or to one that it is in is left out: what is below it would be
    listed again.

    Args:
        folder: Folder, of which nothing below is looked at.
        ignored: Takes the other entries, but for the files of operating systems.

    Raises:
        FileNotFoundError, NotADirectoryError, PermissionError: The folder does not exist or cannot
            be read.
    """
    return _names(folder, "folder", ignored)


def _names(folder: str | Path, wanted: Kind, ignored: list[Ignored] | None) -> list[str]:
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_system_name(entry.name):
                continue
            kind, reason = entry_kind(entry)
            if kind != wanted:
                reason = _OUT_OF_PLACE.get(kind, reason)
            elif kind == "folder" and entry.is_symlink() and _holds(entry.path, folder):
                reason = "link to a folder that it is in"
            else:
                names.append(entry.name)
                continue
            if ignored is not None:
                ignored.append(Ignored(Path(folder, entry.name), reason))
    return sorted(names, key=natural_key)


def _holds(link: str, folder: str | Path) -> bool:
    """Tell whether a link leads to ``folder`` or to a folder that ``folder`` is in."""
    target, inside = os.path.realpath(link), os.path.realpath(folder)
    return os.path.commonpath([target, inside]) == target
