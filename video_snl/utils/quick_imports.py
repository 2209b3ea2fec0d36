"""A shorter start of commands: imports without collections of garbage. Without torch."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quick_imports"]


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import without collections of garbage in the body, and never collect what it has made.

    Imports make hundreds of thousands of objects that stay. Collections look at all of them again
    and again, and find next to nothing. This is for a process that runs one command, not for a
    session in Python.
    """
    if not gc.isenabled():  # the choice of whoever calls the command
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # else the next collection looks at all of it
        gc.enable()
        atexit.register(gc.unfreeze)  # else extension modules complain of leaks at the end
