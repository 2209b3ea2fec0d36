"""Processes that are there, and what they hold."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from video_snl.data.workers import forkserver


def gone(pid: int, seconds: float = 10) -> bool:
    """Tell whether a process ends, or is a zombie that its parent has yet to take note of."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if _state(pid)[0] in ("", "Z"):
            return True
        time.sleep(0.02)
    return False


def descendants(pid: int) -> set[int]:
    """All processes that a process, or one of these, has started."""
    parents = {int(p.name): _state(int(p.name))[1] for p in Path("/proc").iterdir() if _number(p)}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


@contextmanager
def fresh_workers(python_path: str) -> Iterator[None]:
    """Workers that begin with this PYTHONPATH, and its sitecustomize; then those of before again.

    The process itself has begun without it, which a test saves the time of.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path)
        _forget_forkserver()
        try:
            yield
        finally:
            _forget_forkserver()
    # At once: one that a later test begins would keep that test's limits for all that come after.
    forkserver.start_forkserver()


def _forget_forkserver() -> None:
    current = forkserver._current
    if current is not None:
        current.forget()
        current._process.wait(30)  # it ends with its channel; until then it is a process more


def open_files() -> int:
    """Files that this process has open."""
    return len(os.listdir("/proc/self/fd"))


def shared_memory() -> set[str]:
    """Shared memory of this machine, but that of the PostgreSQL servers of other tests."""
    return {name for name in os.listdir("/dev/shm") if not name.startswith("PostgreSQL.")}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let this process, and those that it starts, write no larger files, as if a disk were full."""
    forkserver.start_forkserver()  # or it would have the limit ever after
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python keeps the half of a module's bytecode that fits, and fails to read it ever after.
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = written


def _number(path: Path) -> bool:
    return path.name.isdigit()


def _state(pid: int) -> tuple[str, int]:
    """State and parent of a process; an empty state for none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return fields[0], int(fields[1])
