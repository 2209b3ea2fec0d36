"""Files and folders that commands are told to write: looked at before the work, not after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from video_snl.errors import UserError

__all__ = ["check_file", "check_folder", "writing"]


def check_file(option: str, named: str, example: str) -> None:
    """Whether a file can be written, in folders that are yet to be made or not.

    Args:
        option: What names it, for the message.
        named: The file.
        example: What a good one is called.

    Raises:
        UserError: A folder is there already, or something on the way is no folder to write to.
    """
    path = Path(named).absolute()
    if os.path.isdir(path):
        raise UserError(f"{option} {named} is a folder: give a new file, such as {example}")
    _check_place(option, named, path.parent)


def check_folder(option: str, named: str) -> None:
    """Whether files can be written to a folder, which is yet to be made or not.

    Raises:
        UserError: It is a file, or something on the way is no folder to write to.
    """
    _check_place(option, named, Path(named).absolute())


@contextmanager
def writing(option: str, named: str) -> Iterator[None]:
    """What still fails while writing, such as a full disk, as an error for people."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{option} {named} cannot be written ({reason}): give another place"
        ) from error


def _check_place(option: str, named: str, folder: Path) -> None:
    # os.path.exists, unlike Path.exists, raises nothing where a folder may not be looked into.
    standing = next(place for place in (folder, *folder.parents) if os.path.exists(place))
    if not standing.is_dir():
        raise UserError(f"{option} {named} cannot be written: {standing} is a file, no folder")
    if not os.access(standing, os.W_OK):
        raise UserError(f"{option} {named} cannot be written: {standing} may not be written to")
