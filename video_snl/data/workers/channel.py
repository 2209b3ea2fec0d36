"""Messages between a process and one of its workers, and the memory that results travel in.

Nothing here can make a process wait for another one that was killed or stopped half-way: messages
are sequenced packets, which arrive whole or not at all, there is no lock, and each worker has a
channel and a shared buffer of its own.
"""

from __future__ import annotations

import array
import mmap
import os
import pickle
import socket
from collections.abc import Sequence
from typing import Any

__all__ = ["Channel", "SharedBuffer", "channel_pair"]

# Longer messages travel as a file in memory, since a packet must fit the socket's buffer.
_INLINE = 32 << 10
_MOST_FILES = 2
_INT = array.array("i").itemsize


class Channel:
    """One end of a connection that carries whole Python objects, and open files beside them.

    Sending never blocks while a few short messages are on their way.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def fileno(self) -> int:
        return self._end.fileno()

    def set_timeout(self, seconds: float | None) -> None:
        """Let :meth:`receive` raise TimeoutError after so many seconds."""
        self._end.settimeout(seconds)

    def send(self, message: Any, files: Sequence[int] = ()) -> None:
        """Send an object that can be pickled, and duplicates of open files.

        Raises:
            OSError: The other end is closed (BrokenPipeError, ConnectionResetError).
        """
        data = pickle.dumps(message, protocol=5)
        if len(data) <= _INLINE:
            socket.send_fds(self._end, [data], list(files))
            return
        with os.fdopen(os.memfd_create("video-snl-message"), "w+b") as long:
            long.write(data)
            long.flush()
            socket.send_fds(self._end, [pickle.dumps(None)], [*files, long.fileno()])

    def receive(self) -> tuple[Any, list[int]]:
        """Return the next object and the files that came with it.

        Raises:
            EOFError: The other end is closed, and all that it sent was received.
        """
        try:
            data, extra, _, _ = self._end.recvmsg(
                2 * _INLINE, socket.CMSG_LEN(_MOST_FILES * _INT), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            raise EOFError from None
        if not data:
            raise EOFError
        files = array.array("i")
        for _, _, content in extra:
            files.frombytes(content[: len(content) - len(content) % _INT])
        message = pickle.loads(data)
        if message is not None:
            return message, list(files)
        with os.fdopen(files.pop(), "rb") as long:
            long.seek(0)
            return pickle.load(long), list(files)

    def close(self) -> None:
        self._end.close()


def channel_pair() -> tuple[Channel, Channel]:
    """Return the two ends of a new connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), Channel(theirs)


class SharedBuffer:
    """Memory shared by a process and one worker: slots for results, and the current task.

    It is a file without a name that the process opens and hands to the worker: whichever of them
    is killed, the kernel frees it with the last of the two, and nothing is left in /dev/shm (whose
    size does not matter either). It is as large as an address space allows and takes the memory
    that was written to. So a slot grows by itself.

    Args:
        file: Open file, of which the buffer keeps a duplicate.
        slots: Number of slots.
    """

    _ROOM = 4 << 30  # bytes of a slot, where limits on address space and file size allow it
    _LEAST_ROOM = 64 << 20
    _KEPT = 64 << 20  # a slot that held more is emptied, lest one long video keep memory for ever
    _ALIGNMENT = 64

    def __init__(self, file: int, slots: int) -> None:
        self._memory = mmap.mmap(file, os.fstat(file).st_size)
        self._room = (len(self._memory) - mmap.PAGESIZE) // slots

    @classmethod
    def create(cls, slots: int) -> tuple[SharedBuffer, int]:
        """Return a new buffer, and its file, which the caller closes."""
        file, room = os.memfd_create("video-snl-results"), cls._ROOM
        while True:
            try:
                os.ftruncate(file, mmap.PAGESIZE + slots * room)
                return cls(file, slots), file
            except OSError:
                room //= 2
                if room < cls._LEAST_ROOM:
                    os.close(file)
                    raise

    @property
    def current_ticket(self) -> int:
        """The ticket of the task that the worker began last; 0 before the first."""
        return int.from_bytes(self._memory[:8], "little")

    @current_ticket.setter
    def current_ticket(self, ticket: int) -> None:
        self._memory[:8] = ticket.to_bytes(8, "little")

    def put(self, slot: int, parts: Sequence[Any]) -> list[int]:
        """Copy buffers one after the other into a slot and return their lengths in bytes.

        Raises:
            ValueError: They do not fit.
        """
        lengths = [memoryview(part).nbytes for part in parts]
        spans = self._spans(slot, lengths)
        if spans and spans[-1].stop > self._start(slot) + self._room:
            raise ValueError(
                f"a result of {sum(lengths):,} bytes does not fit the {self._room:,} of its slot"
            )
        for span, part in zip(spans, parts, strict=True):
            self._memory[span] = memoryview(part).cast("B") if part else b""
        return lengths

    def views(self, slot: int, lengths: Sequence[int]) -> list[memoryview]:
        """Return the buffers of a slot, not copied."""
        memory = memoryview(self._memory)
        return [memory[span] for span in self._spans(slot, lengths)]

    def clear(self, slot: int, lengths: Sequence[int]) -> None:
        """Give the memory of a slot back where it is much."""
        if sum(lengths) > self._KEPT:
            self._memory.madvise(mmap.MADV_REMOVE, self._start(slot), self._room)

    def _start(self, slot: int) -> int:
        return mmap.PAGESIZE + slot * self._room

    def _spans(self, slot: int, lengths: Sequence[int]) -> list[slice]:
        spans, position = [], self._start(slot)
        for length in lengths:
            spans.append(slice(position, position + length))
            position += -(-length // self._ALIGNMENT) * self._ALIGNMENT
        return spans
