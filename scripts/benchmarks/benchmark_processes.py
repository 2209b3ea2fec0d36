"""Processor time and memory of processes, which benchmarks share. Linux, standard library alone."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["process_tree", "processor_seconds", "proportional_megabytes"]


def process_tree(root: int) -> list[int]:
    """Return the numbers of a process and of all below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # it has ended
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def processor_seconds(pid: int, *, ended: bool = False) -> float:
    """Return the processor time of a process.

    Args:
        ended: Add that of the processes that it has started and waited for.
    """
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11 : 15 if ended else 13])) / os.sysconf("SC_CLK_TCK")


def proportional_megabytes(pid: int) -> float:
    """Return the memory of a process, what it shares with others divided among them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"the kernel tells no PSS of process {pid}")
