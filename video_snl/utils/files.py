"""Files that are either whole or absent, and what is wrong where one cannot be written."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from video_snl.errors import UserError
from video_snl.utils.json_text import to_json

__all__ = [
    "FULL",
    "UNLOCKABLE",
    "check_file",
    "check_folder",
    "check_new_folder",
    "digest_of",
    "fresh_folder",
    "is_left_over",
    "make_folder",
    "make_output_folder",
    "remove_left_overs",
    "replace_file",
    "replacing",
    "storage_error",
    "write_json",
    "write_text",
    "writing",
]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, a quota or a limit on a file's size that is used up."""
UNLOCKABLE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of file systems without locks."""
_BROKEN = (*FULL, errno.EROFS, errno.EIO)
_FORBIDDEN = (errno.EACCES, errno.EPERM)

_PARTIAL = ".partial"  # in the names of files that are not whole yet
# A dot, the stem, what makes it unique, the suffix. The second form is that of earlier versions.
_TEMPORARY = re.compile(r"\.(.+)(?:\.[0-9a-f]{8}\.partial|-[a-z0-9_]{8})(\.\w+)?", re.DOTALL)
_STEM = 40  # characters of it in such a name: one of 255 bytes leaves no room for more
# A write that failed below Python says so in its message alone: safetensors in Rust's words.
_NUMBER = re.compile(r"\(os error (\d+)\)")


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file in the folder of ``path``, then put it in place."""
    with replacing(path) as temporary:
        write(temporary)


def digest_of(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_of(path: str) -> tuple[int, int] | None:
    """Return a file's bytes and time of change in nanoseconds; None for one that is gone.

    Of a folder: the bytes of the files in it, and the latest of their and its own times.
    """
    try:
        own = os.stat(path)
        if not stat.S_ISDIR(own.st_mode):
            return own.st_size, own.st_mtime_ns
        with os.scandir(path) as entries:
            found = [entry.stat() for entry in entries]
    except OSError:
        return None
    times = [own.st_mtime_ns, *(each.st_mtime_ns for each in found)]
    return sum(each.st_size for each in found), max(times)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file to fill; it takes the place of ``path`` unless an error is raised.

    Its permissions are those of any new file: the umask of the user decides.

    Raises:
        UserError: Something that is not a file stands in its place, such as ``/dev/null``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not (path.is_file() or path.is_dir()):
        # /dev/null would be gone, for everybody.
        raise UserError(f"{path} is a device, a pipe or a socket, no file: name a new file.")
    temporary = _new_file(path)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except Exception as error:
        # What fails in writing to an open file does not name it; the temporary name helps nobody.
        found = storage_error(error)
        if found is not None and found.filename in (None, str(temporary)):
            with suppress(AttributeError):  # FFmpeg's errors cannot be changed
                found.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # of a file system that broke: the first error is the one to tell
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    replace_file(path, lambda temporary: _write(temporary, text))


def write_json(path: Path, value: Any, *, finite: bool = False) -> None:
    """Write ``value`` as indented JSON, atomically.

    Args:
        finite: Refuse numbers that are not, for which JSON has no form. They become ``null`` else.

    Raises:
        ValueError: There is one, and ``finite`` is asked for.
    """
    write_text(path, to_json(value, indent=2, finite=finite) + "\n")


def fresh_folder(parent: Path, name: str) -> Path:
    """Make a folder for files that are not whole yet; its permissions follow the umask.

    Args:
        parent: Folder in which it is made.
        name: Name that the name of the folder contains.
    """
    while True:
        folder = parent / f".{name}.{secrets.token_hex(4)}{_PARTIAL}"
        with suppress(FileExistsError):
            folder.mkdir()
            return folder


def is_left_over(path: Path, names: Collection[str] = ()) -> bool:
    """Tell whether a file has the name of a temporary one, as a kill leaves it.

    Args:
        names: Only those that stood for files of these names; none: for any.
    """
    found = _TEMPORARY.fullmatch(path.name)
    if found is None:
        return False
    stood_for = f"{found[1]}{found[2] or ''}"
    return not names or stood_for in {f"{Path(n).stem[:_STEM]}{Path(n).suffix}" for n in names}


def remove_left_overs(folder: Path, names: Collection[str]) -> list[Path]:
    """Remove the temporary files that a kill has left in the place of files of these names.

    Only the one writer of these files may call this: another's would go, too.

    Args:
        folder: Folder of the files; folders below it are left alone.

    Returns:
        What was removed.
    """
    removed = [p for p in sorted(folder.glob(".*")) if is_left_over(p, names) and p.is_file()]
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def check_file(option: str, named: str, example: str, others: Iterable[str | None] = ()) -> None:
    """Check that a file can be written, in folders that are yet to be made or not.

    Args:
        option: Option that names it, for the message.
        named: The file.
        example: Name of a good one.
        others: Files that the command reads, or writes, too.

    Raises:
        UserError: A folder is there already, or it is one of the others, by whatever name, and
            would take its place, or something on the way is not a folder to write to.
    """
    path = Path(named).absolute()
    if os.path.isdir(path):
        raise UserError(f"{option} {named} is a folder: give a new file, such as {example}")
    if os.path.realpath(named) in {os.path.realpath(other) for other in others if other}:
        raise UserError(
            f"{option} {named} is another file of this command: give a new one, such as {example}"
        )
    _check_place(option, named, path.parent)


def check_folder(option: str, named: str) -> None:
    """Check that files can be written to a folder, which is yet to be made or not.

    Raises:
        UserError: It is a file, or something on the way is not a folder to write to.
    """
    _check_place(option, named, Path(named).absolute())


def check_new_folder(option: str, named: str, advice: str = "") -> None:
    """Check that a folder that is written as a whole can be put in a place.

    Args:
        option: Name of the option, such as ``--output``.
        named: Its value.
        advice: What the message about a folder that holds files adds to "give a new folder".

    Raises:
        UserError: It holds files, or is a file, or cannot be replaced, or something on the way is
            not a folder to write to.
    """
    folder = os.path.realpath(named)  # as whole_folder of locks.py has it
    _check_place(option, named, Path(folder))
    if not os.path.isdir(folder):
        return
    if os.listdir(folder):
        raise UserError(f"{option} {named} is not empty: give a new folder{advice}")
    if os.path.ismount(folder) or os.path.samefile(folder, "."):
        kind = "a mount point" if os.path.ismount(folder) else "the current folder"
        raise UserError(
            f"{option} {named} is {kind}, which cannot be replaced: give a new folder in it, such "
            f"as {os.path.join(named, 'new')}"
        )
    check_folder(option, os.path.dirname(folder))


def make_folder(folder: Path, purpose: str, advice: str) -> None:
    """Make a folder that files are kept in, where it is not there.

    Args:
        folder: The folder.
        purpose: What it is for, for the message.
        advice: What to do where it cannot be made.

    Raises:
        UserError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} for {purpose} cannot be made ({error.strerror}): {advice}"
        ) from error


def make_output_folder(option: str, named: str, folder: Path | None = None) -> Path:
    """Make the folder that an option names before the work, so that a bad one is known at once.

    Args:
        option: Name of the option, such as ``--output``.
        named: Its value.
        folder: The folder, where the option names a file in it.

    Raises:
        UserError: It cannot be made, or written to.
    """
    folder = Path(named) if folder is None else folder
    with writing(option, named):
        folder.mkdir(parents=True, exist_ok=True)
    check_folder(option, str(folder))
    return folder


@contextmanager
def writing(option: str, named: str) -> Iterator[None]:
    """Turn what still fails while writing, such as a full disk, into an error for users.

    Raises:
        UserError: It names the option and the place.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        found = error if isinstance(error, OSError) else storage_error(error)
        if found is None:
            raise
        reason = found.strerror or str(found)
        raise UserError(
            f"{option} {named} cannot be written ({reason}): give another place"
        ) from error


def storage_error(error: BaseException) -> OSError | None:
    """Find the disk's error in an error: full, over quota, read-only, broken, forbidden.

    Libraries raise errors of their own kinds for these, in which it is the cause, the context, or
    a number in the message. (A missing permission counts only where nothing was made of it.)

    Returns:
        It; None where the error is of another kind.
    """
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        return error
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop(0)
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, OSError) and found.errno in _BROKEN:
            return found
        number = _NUMBER.search(str(found))
        if number and int(number[1]) in _BROKEN:
            return OSError(int(number[1]), os.strerror(int(number[1])))
        waiting += [found.__cause__, found.__context__]
    return None


def _check_place(option: str, named: str, folder: Path) -> None:
    try:
        os.lstat(folder)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{option} {named} cannot be written ({error.strerror})") from error
    # It raises nothing where a folder may not be looked into. A link to nowhere stands, too.
    standing = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not standing.is_dir():
        kind = "is a file, no folder" if os.path.exists(standing) else "is a link to nowhere"
        raise UserError(f"{option} {named} cannot be written: {standing} {kind}")
    if not os.access(standing, os.W_OK):
        raise UserError(f"{option} {named} cannot be written: {standing} may not be written to")
    try:
        # What os.access does not know of: a disk or a quota that is used up to the last block.
        probe = _new_file(standing / "probe")
        try:
            probe.write_bytes(b"\0" * 4096)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{option} {named} cannot be written ({reason}): give another place"
        ) from error


def _new_file(path: Path) -> Path:
    """Return an empty file beside ``path``, of a name of its own with the same suffix.

    Unlike those of ``tempfile``, it is made with the permissions that the umask leaves.
    """
    while True:
        name = f".{path.stem[:_STEM]}.{secrets.token_hex(4)}{_PARTIAL}{path.suffix}"
        temporary = path.with_name(name)
        with suppress(FileExistsError):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
            return temporary


def _write(path: Path, text: str) -> None:
    # Names of files need not be UTF-8: their other bytes are written as escapes, as in JSON.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
