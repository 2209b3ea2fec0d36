"""Memory that a process keeps: its pages are not asked for again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.tiny import environment

_CODE = """
import resource
import numpy as np
from video_snl.utils.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
def use():
    np.ones(64 << 20, np.uint8)  # which is freed at once
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no mallopt")
def test_pages_are_asked_for_once() -> None:
    faults = {}
    for keep in (True, False):
        done = subprocess.run(
            [sys.executable, "-c", _CODE.format(keep=keep)],
            capture_output=True,
            text=True,
            check=True,
            env=environment(),
        )
        faults[keep] = int(done.stdout)
    # Pages may be of 2 MiB: then there are 32 of each array.
    assert faults[True] < 32 <= 4 * 32 <= faults[False]
