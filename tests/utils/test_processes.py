"""Processes that end with the one that started them, and signals that are handled or ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.tiny import environment
from video_snl.utils.processes import handling

# The first process, as Lightning starts another: by the same words, with a rank.
FIRST = """
import os, subprocess, sys, time
from video_snl.utils.processes import leading_others
with leading_others():
    words = [sys.executable, "-c", sys.argv[1]]
    other = subprocess.Popen(words, env={**os.environ, "LOCAL_RANK": "1"})
    print(other.pid, flush=True)
    time.sleep(100)
"""
# Waits in native code that keeps Python's lock.
OTHER = """
import ctypes
from video_snl.utils.processes import end_with_first_process
end_with_first_process()
print("waiting", flush=True)
ctypes.PyDLL(None).sleep(100)
"""


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
@pytest.mark.parametrize("early", [True, False])
def test_processes_end_with_a_first_one_that_is_killed(early: bool) -> None:
    """However early: also one that has not come to ask for it yet."""
    words = [sys.executable, "-c", FIRST, OTHER]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment()) as first:
        other = int(first.stdout.readline())
        if not early:
            assert first.stdout.readline() == "waiting\n"
        first.kill()
        first.wait(10)
        end = time.monotonic() + 5
        while alive(other) and time.monotonic() < end:
            time.sleep(0.02)
        assert not alive(other)


def test_a_signal_that_is_ignored_stays_so() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handling(signal.SIGHUP, lambda number, frame: got.append(number)):
            os.kill(os.getpid(), signal.SIGHUP)
        assert got == []
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with handling(signal.SIGHUP, lambda number, frame: got.append(number)):
            os.kill(os.getpid(), signal.SIGHUP)
        assert got == [signal.SIGHUP]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
