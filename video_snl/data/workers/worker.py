"""A worker process: calls one function again and again."""

from __future__ import annotations

import os
import pickle
import time
import traceback
from collections.abc import Callable
from multiprocessing import spawn
from typing import Any

from video_snl.data.workers.channel import Channel, SharedBuffer
from video_snl.errors import UserError

__all__ = ["attempt", "main_module", "work"]

# Longer parts of a result travel in the shared buffer.
_INLINE = 8 << 10


def work(channel: Channel) -> None:
    """Serve a channel until it is closed.

    The first message is (function, slots, folder, main): the pickled function, the number of slots
    of the shared buffer whose file comes with it, the working folder, and where to find
    ``__main__``. The answer is ("ready",) or ("broken", why). Then every (ticket, slot, item) is
    answered with (ticket, kind, seconds, message or pickled value, lengths in the shared buffer).
    """
    (pickled, slots, folder, main), [file] = channel.receive()
    buffer = SharedBuffer(file, slots)
    os.close(file)
    try:
        os.chdir(folder)
        if main is not None:
            spawn.prepare(main)
        function = pickle.loads(pickled)
    except Exception:  # of any kind, as importing and unpickling run what others wrote
        channel.send(("broken", traceback.format_exc()))
        return
    channel.send(("ready",))
    while True:
        (ticket, slot, item), _ = channel.receive()
        buffer.current_ticket = ticket
        began = time.perf_counter()
        kind, answer, lengths = _answer(function, item, buffer, slot)
        channel.send((ticket, kind, time.perf_counter() - began, answer, lengths))


def _answer(
    function: Callable[[Any], Any], item: Any, buffer: SharedBuffer, slot: int
) -> tuple[str, Any, list[int]]:
    kind, value = attempt(function, item)
    if kind == "error":
        return kind, value, []
    try:
        buffers: list[pickle.PickleBuffer] = []
        body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        parts: list[Any] = [part.raw() for part in buffers]
        short = len(body) <= _INLINE
        lengths = buffer.put(slot, parts if short else [body, *parts])
        return kind, body if short else None, lengths
    except Exception as error:  # as of a value that cannot be pickled, or of a full /dev/shm
        return "error", _describe(error), []


def attempt(function: Callable[[Any], Any], item: Any) -> tuple[str, Any]:
    """Return ("ok", the value) or ("error", what went wrong in one line)."""
    try:
        return "ok", function(item)
    except Exception as error:  # of any kind: a decoder may raise anything
        return "error", _describe(error)


def main_module(pickled: bytes) -> dict[str, Any] | None:
    """Return what a worker needs to load ``__main__``, if a pickled function lives there."""
    if b"__main__" not in pickled:
        return None
    data = spawn.get_preparation_data("video-snl worker")
    kept = ("sys_path", "sys_argv", "init_main_from_name", "init_main_from_path")
    return {name: data[name] for name in kept if name in data}


def _describe(error: Exception) -> str:
    """Return a UserError's message; of another exception its type, message and place."""
    if isinstance(error, UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
