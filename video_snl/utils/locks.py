"""A lock that one process at a time holds, and that ends with it, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from video_snl.errors import UserError
from video_snl.utils.files import UNLOCKABLE, fresh_folder
from video_snl.utils.text import say_once

__all__ = ["Held", "is_held", "locked", "waiting_lock", "whole_folder"]

_WAIT_SECONDS = 0.2
_NAME = 40  # characters of a folder's name in that of its unfinished one
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Held(Exception):
    """Another process has the lock; the message says which, where that is known."""


_files: set[int] = set()
"""Locks that this process holds."""


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock on the file ``path``, which is made, and removed in the end.

    The kernel frees it when the process ends, also by SIGKILL. (By ``flock``: over NFS it holds
    between machines only where the server keeps locks.) Processes forked from this one do not hold
    it with it.

    Yields:
        False where the file system has no locks, so that nothing is held; else True.

    Raises:
        Held: Another process has it, or another place in this one.
        UserError: Something else has its name.
        OSError: The file cannot be made.
    """
    file, holds = _opened(path)
    _files.add(file)
    try:
        if holds:
            _sign(file)
        yield holds
    finally:
        _files.discard(file)
        with suppress(OSError):  # a disk that cannot be written to any more keeps it
            path.unlink()
        if holds:
            fcntl.flock(file, fcntl.LOCK_UN)  # also of copies that a child got to keep
        os.close(file)


@contextmanager
def waiting_lock(path: Path, what: str) -> Iterator[None]:
    """Hold a lock as :func:`locked` does, and wait for whoever has it.

    Args:
        what: What the other one does, for a line on stderr that says what is waited for.
    """
    while True:
        with suppress(Held), locked(path):
            yield
            return
        say_once(f"waiting for another process, which {what} ({path})")
        time.sleep(_WAIT_SECONDS)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a hidden folder to fill, beside ``target``; it becomes ``target`` in the end.

    If the body is left by an error, the folder is removed. What processes that were killed have
    left for the same target is removed first; that of running ones is locked, and stays.

    Args:
        target: The folder, or a link to it; it is new or empty when the body ends.

    Raises:
        OSError: A folder cannot be made, or ``target`` holds files.
    """
    target = Path(os.path.realpath(target))  # in the place of a link no folder can be put
    target.parent.mkdir(parents=True, exist_ok=True)
    name = target.name[:_NAME]
    _remove_left_folders(target.parent, name)
    folder, held = _own_folder(target.parent, name)
    try:
        yield folder
        os.rename(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _own_folder(parent: Path, name: str) -> tuple[Path, int]:
    """Make a folder and lock it, where the file system can."""
    while True:
        folder = fresh_folder(parent, name)
        with suppress(FileNotFoundError):  # somebody took it for a left one before it was locked
            held = os.open(folder, _FOLDER)
            _lock_folder(held, fcntl.LOCK_EX)
            if folder.exists():
                return folder, held
            os.close(held)


def _remove_left_folders(parent: Path, name: str) -> None:
    left = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}\.partial", re.DOTALL)
    for path in [path for path in parent.iterdir() if left.fullmatch(path.name)]:
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            held = os.open(path, _FOLDER)
            try:
                if _lock_folder(held, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(held)


def _lock_folder(folder: int, how: int) -> bool:
    """Lock an open folder; False where another process has it, or it cannot be locked."""
    try:
        fcntl.flock(folder, how)
    except OSError as error:
        # NFS locks only what is open for writing, as no folder is.
        if not isinstance(error, BlockingIOError) and error.errno not in (*UNLOCKABLE, errno.EBADF):
            raise
        return False
    return True


def is_held(path: Path) -> bool:
    """Tell whether some process holds the lock just now."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two that only ask do not take one another for a holder.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in UNLOCKABLE:
            raise
    finally:
        os.close(file)
    return False


def _opened(path: Path) -> tuple[int, bool]:
    """Return the file of the lock, and whether it is held now: see :func:`locked`."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except (IsADirectoryError, FileNotFoundError) as error:  # a folder, or a link to nowhere
            raise UserError(f"{path}: no lock can be held on it ({error.strerror}).") from error
        try:
            holds = _taken(file)
            with suppress(FileNotFoundError):
                # Whoever had it before may have removed it in between.
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    return file, holds
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Held(os.pread(file, 200, 0).decode(errors="replace").strip()) from error
    except OSError as error:
        if error.errno not in UNLOCKABLE:
            raise
        return False
    return True


def _sign(file: int) -> None:
    """Say who holds it. A full disk does not keep anybody from locking."""
    with suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _release_pages() -> None:
    """Close the locks in a forked child, which would hold them also after its parent's end."""
    for file in _files:
        with suppress(OSError):
            os.close(file)
    _files.clear()


os.register_at_fork(after_in_child=_release_pages)
