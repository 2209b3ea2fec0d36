"""Processes that another one has started, and how they end with it. Without torch."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = [
    "end_with_first_process",
    "ending_in_order",
    "handling",
    "is_signalled",
    "leading_others",
    "leave_lost_terminal",
]

_ENDINGS = {signal.SIGTERM: 143, signal.SIGHUP: 129}
_FIRST = "VIDEO_SNL_FIRST_PROCESS"
_PR_SET_PDEATHSIG = 1
_LOOK_EVERY = 1.0  # seconds, where the kernel does not tell


@contextmanager
def handling(
    number: signal.Signals, handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle a signal for the body, unless it is ignored (``nohup``); only the main thread can."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(number) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """End the body by SystemExit at SIGTERM (143) and SIGHUP (129), so that it can tidy up."""

    codes = list[int]()

    def terminate(number: int, frame: FrameType | None) -> None:
        leave_lost_terminal()
        codes.append(_ENDINGS[signal.Signals(number)])
        raise SystemExit(codes[-1])

    try:
        with handling(signal.SIGTERM, terminate), handling(signal.SIGHUP, terminate):
            yield
    except SystemExit as error:
        if codes and error.code != codes[-1]:  # Ray, where it waits, raises one of its own
            raise SystemExit(codes[-1]) from error
        raise


def is_signalled(error: BaseException) -> bool:
    """Tell whether an error is the end by a signal, as :func:`ending_in_order` makes one."""
    return isinstance(error, SystemExit) and error.code in _ENDINGS.values()


def leave_lost_terminal() -> None:
    """Write to nowhere what would be written to a terminal that is gone, which is an error."""
    for file in (sys.__stdout__, sys.__stderr__):
        try:
            number = -1 if file is None else file.fileno()
            if number >= 0 and stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
        except (OSError, ValueError):
            continue  # closed: nothing is written to it


@contextmanager
def leading_others() -> Iterator[None]:
    """Let the processes that this one starts know it: those of a training on several devices."""
    before = os.environ.get(_FIRST)
    os.environ[_FIRST] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[_FIRST]
        if before is not None:
            os.environ[_FIRST] = before


def end_with_first_process() -> None:
    """Let this process be killed when the one that it was started for ends, whatever it waits for.

    Lightning's first process starts the others of a machine by the same command line. One that was
    killed cannot end them, and they would wait for it for half an hour. In a process that was not
    started so, nothing happens.
    """
    first = os.environ.get(_FIRST, "")
    if not first.isdecimal() or os.environ.get("LOCAL_RANK", "0") == "0":
        return
    parent = int(first)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before that
        os._exit(128 + signal.SIGKILL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGKILL)
