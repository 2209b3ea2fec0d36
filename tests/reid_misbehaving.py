"""A look at images that goes wrong; a module of its own, which worker processes load quickly."""

from __future__ import annotations

import os
import signal
import time

from reid.data.check import inspect
from reid.data.datasets.base import Fault


def misbehave(paths: tuple[str, ...], max_pixels: int) -> list[Fault]:
    """The image 3.jpg of the gallery hangs, and 39.jpg ends the process."""
    if any(path.endswith("gallery/2/2/a/3.jpg") for path in paths):
        time.sleep(600)
    if any(path.endswith("gallery/2/2/a/39.jpg") for path in paths):
        os.kill(os.getpid(), signal.SIGKILL)
    return inspect(paths, max_pixels)
