"""Messages between a process and one of its workers, and the memory their results lie in.

Nothing here can make a process wait for another one that was killed or stopped half-way: messages
are sequenced packets, which arrive whole or not at all, there is no lock, and each worker has a
channel and a shelf of its own.
"""

from __future__ import annotations

import array
import mmap
import os
import pickle
import socket
from collections.abc import Sequence
from typing import Any

__all__ = ["Channel", "Shelf", "channels"]

# Longer messages travel as a file in memory, since a packet must fit the socket's buffer.
_INLINE = 32 << 10
_MOST_FILES = 2
_INT = array.array("i").itemsize


class Channel:
    """One end of a pair: whole Python objects, and open files beside them.

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
        """The next object and the files that came with it.

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


def channels() -> tuple[Channel, Channel]:
    """Two ends of a new pair."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), Channel(theirs)


class Shelf:
    """Memory shared by a process and one worker: places for results, and the task at hand.

    It is a file without a name that the process opens and hands to the worker: whichever of them
    is killed, the kernel frees it with the last of the two, and nothing is left in /dev/shm (whose
    size does not matter either). It is as large as an address space allows and takes the memory
    that was written to. So a place grows by itself.

    Args:
        file: The open file; the shelf keeps a duplicate of it.
        places: Number of places.
    """

    _ROOM = 4 << 30  # bytes of a place, where limits on address space and file size allow it
    _LEAST_ROOM = 64 << 20
    _KEPT = 64 << 20  # a place that held more is emptied, lest one long video keep memory for ever
    _ALIGNMENT = 64

    def __init__(self, file: int, places: int) -> None:
        self._memory = mmap.mmap(file, os.fstat(file).st_size)
        self._places = places
        self._room = (len(self._memory) - mmap.PAGESIZE) // places

    @classmethod
    def create(cls, places: int) -> tuple[Shelf, int]:
        """A new shelf, and its file, which the caller closes."""
        file, room = os.memfd_create("video-snl-shelf"), cls._ROOM
        while True:
            try:
                os.ftruncate(file, mmap.PAGESIZE + places * room)
                return cls(file, places), file
            except OSError:
                room //= 2
                if room < cls._LEAST_ROOM:
                    os.close(file)
                    raise

    @property
    def at_hand(self) -> int:
        """The ticket of the task that the worker began last; 0 before the first."""
        return int.from_bytes(self._memory[:8], "little")

    @at_hand.setter
    def at_hand(self, ticket: int) -> None:
        self._memory[:8] = ticket.to_bytes(8, "little")

    def put(self, place: int, parts: Sequence[Any]) -> list[int]:
        """Copy buffers one after the other into a place and return their lengths in bytes.

        Raises:
            ValueError: They do not fit.
        """
        lengths = [memoryview(part).nbytes for part in parts]
        spans = self._spans(place, lengths)
        if spans and spans[-1].stop > self._start(place) + self._room:
            raise ValueError(
                f"a result of {sum(lengths):,} bytes does not fit the {self._room:,} of its place"
            )
        for span, part in zip(spans, parts, strict=True):
            self._memory[span] = memoryview(part).cast("B") if part else b""
        return lengths

    def views(self, place: int, lengths: Sequence[int]) -> list[memoryview]:
        """The buffers of a place, where they lie."""
        memory = memoryview(self._memory)
        return [memory[span] for span in self._spans(place, lengths)]

    def clear(self, place: int, lengths: Sequence[int]) -> None:
        """Give the memory of a place back where it is much."""
        if sum(lengths) > self._KEPT:
            self._memory.madvise(mmap.MADV_REMOVE, self._start(place), self._room)

    def _start(self, place: int) -> int:
        return mmap.PAGESIZE + place * self._room

    def _spans(self, place: int, lengths: Sequence[int]) -> list[slice]:
        spans, position = [], self._start(place)
        for length in lengths:
            spans.append(slice(position, position + length))
            position += -(-length // self._ALIGNMENT) * self._ALIGNMENT
        return spans
