"""The process that workers are forked from.

It is a fresh interpreter that loads the heavy modules once, runs a single thread and has no CUDA
context, so that a fork of it is sound and takes milliseconds. A fork of the training process
(threads, CUDA) would not be sound, and a new interpreter takes seconds to import torch. A process
has one forkserver, which waits for requests on a channel and ends, with all workers, when that is
closed: at the end of the process, however it came.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from video_snl.data.workers.channel import Channel, channel_pair
from video_snl.errors import UserError

__all__ = ["ForkServer", "main", "start_forkserver"]

# Loaded before the first fork.
_HEAVY = "video_snl.data.video.dataset"
# A process may be started from a cold network disk.
_START_TIMEOUT = 600.0  # seconds
_REAP_TIMEOUT = 2.0  # seconds; longer takes only what the kernel itself waits for
# Shells, SLURM and `timeout` send these to the whole group; the process itself answers them.
_NOT_OURS = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
_PR_SET_PDEATHSIG = 1


class ForkServer:
    """The forkserver as the process that uses it sees it: starts workers and reaps them.

    A worker's process number stays its own until it is reaped: killing it by number is safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forgotten = False
        self._channel, theirs = channel_pair()
        self._channel.set_timeout(_START_TIMEOUT)
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from video_snl.data.workers.forkserver import main; main({theirs.fileno()})"
        )
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_OURS)  # all below inherit it
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return not self._forgotten and self._process.poll() is None

    def start_worker(self, end: Channel) -> int:
        """Fork a worker that serves a channel, and return its process number.

        Raises:
            UserError: The system lets no further process begin.
            OSError, EOFError: The forkserver has died.
        """
        answer: int | str = self._ask(("start",), [end.fileno()])
        if isinstance(answer, str):
            raise UserError(
                f"no process to decode can be started ({answer}); lower --data.num_workers, or "
                "raise the limit on processes (ulimit -u)"
            )
        return answer

    def reap(self, pid: int) -> int | None:
        """Kill a worker, if it still runs, and return how it ended: an exit code, or -signal.

        Returns:
            None where the kernel keeps the process, or the forkserver has died and all with it.
        """
        try:
            answer: tuple[int | None] = self._ask(("reap", pid))
        except (OSError, EOFError):
            return None
        return answer[0]

    def kill(self, pid: int) -> None:
        """Kill a worker at once, unless the forkserver, and with it the worker, has ended."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _ask(self, request: tuple[Any, ...], files: Sequence[int] = ()) -> Any:
        with self._lock:
            try:
                self._channel.send(request, files)
                return self._channel.receive()[0]
            except BaseException:  # the answer, if it still came, would be taken for the next one
                self.forget()
                raise

    def forget(self) -> None:
        """Close the channel; the process ends, except where a fork still has it open."""
        self._forgotten = True
        self._channel.close()


_current: ForkServer | None = None
_lock = threading.Lock()


def start_forkserver() -> ForkServer:
    """Return the forkserver of this process; start it, without waiting, where none runs."""
    global _current
    with _lock:
        if _current is None or not _current.alive():
            if _current is not None:
                _current.forget()
            _current = ForkServer()
        return _current


def _forget_in_a_fork() -> None:
    # The forkserver answers the process that started it, and must end with that one alone.
    global _current, _lock
    if _current is not None:
        _current.forget()
    _current, _lock = None, threading.Lock()


def _kill_at_exit() -> None:
    # It would end by itself, but only once it has imported its modules.
    if _current is not None and _current.alive():
        os.kill(_current.pid, signal.SIGKILL)


os.register_at_fork(after_in_child=_forget_in_a_fork)
atexit.register(_kill_at_exit)


def main(file: int) -> None:
    """Run the forkserver: answer the requests on a channel until it is closed."""
    channel = Channel(socket.socket(fileno=file))
    gc.disable()  # until the modules are frozen: collections would look at them again and again
    with suppress(ImportError):  # a worker that needs what is missing says so
        importlib.import_module(_HEAVY)
    import torch

    torch.set_num_threads(1)
    gc.freeze()  # what is shared with the workers stays shared
    gc.enable()
    running: set[int] = set()
    lost: set[int] = set()
    while True:
        try:
            (request, *arguments), files = channel.receive()
        except (EOFError, OSError):
            break
        if request == "start":
            answer: object = _start_worker(channel, files[0], running)
        else:
            [pid] = arguments
            running.discard(pid)
            answer = (_reap(pid, _REAP_TIMEOUT),)
            lost = {other for other in lost if _reap(other, 0) is None}
            if answer == (None,):
                lost.add(pid)
        try:
            channel.send(answer)
        except OSError:
            break
    for pid in running | lost:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _start_worker(channel: Channel, file: int, running: set[int]) -> int | str:
    """Return the process number of a new worker, or why there is none."""
    try:
        running.add(pid := _fork(channel, file))
    except OSError as error:  # EAGAIN, ENOMEM: those that run go on
        return str(error.strerror)
    finally:
        os.close(file)
    return pid


def _fork(channel: Channel, file: int) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        channel.close()
        _die_with(parent)
        from video_snl.data.workers.worker import work

        # Held here to the end: once it closes, this process is killed, whatever it still says.
        served = Channel(socket.socket(fileno=file))
        work(served)
        code = 0
    except (EOFError, BrokenPipeError, ConnectionResetError):
        code = 0  # the process that uses this worker has ended
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, whatever it is stuck in."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before that
        os._exit(0)


def _reap(pid: int, seconds: float) -> int | None:
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + seconds
    while True:
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if reaped:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.001)
