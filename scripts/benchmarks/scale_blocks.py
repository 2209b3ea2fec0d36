#!/usr/bin/env python
"""Growth of a block's time and memory with the number of positions N.

Forward and backward of one feature map with C = 16 channels and Cs = 8, of N = 10^2 to 10^6
positions in a grid as near to a cube as can be, the blocks in turns. A block stops where its next
step would exceed the limit of time or memory, estimated from its last two. Time is that of the
processor; memory the largest sum of bytes of the tensors alive at once. The C library keeps freed
memory, as in the commands that predict; ``--free-memory`` leaves it as it is by default.

    python scripts/benchmarks/scale_blocks.py --plot docs/pictures/scale_blocks.png
    python scripts/benchmarks/scale_blocks.py --blocks snl cgnl --free-memory
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from benchmark_arguments import new_parser, positive
from blocks import LiveTensors
from scaling import Growth, Panel, fit_growth, plot_growth, rounded, spread, table
from torch import Tensor, nn
from turns import in_turns

from video_snl.blocks import make_block
from video_snl.utils.memory import keep_freed_memory

BLOCKS = ("snl", "gsnl", "cgnl", "a2", "cayley", "cc", "nl", "ns", "dnl")
CHANNELS = 16
SIDES = (5, 7, 10, 15, 22, 32, 46, 68, 100)  # N = side^3, about two steps a factor of ten
SECONDS, MEBIBYTES = 20.0, {"cc": 10_000.0}  # limits of a step
LONG = 1.0  # seconds from which a step is taken once, not ``--turns`` times

Rows = dict[int, tuple[list[float], float]]  # N: seconds of each turn, MiB


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    if not options.free_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    inner = CHANNELS // 2
    blocks = {
        name: make_block(name, CHANNELS, ndim=3, inter_channels=inner, zero_init=False)
        for name in options.blocks
    }
    found: dict[str, Rows] = {name: {} for name in blocks}
    for side in SIDES:
        estimates = {name: estimate(found[name], side**3) for name in blocks}
        names = [name for name in blocks if within(options, name, *estimates[name])]
        blocks = {name: blocks[name] for name in names}
        measure(options, blocks, side, {name: estimates[name][0] for name in names}, found)
    print(summary(found))
    if options.plot:
        plot(found, options.plot)


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--blocks", nargs="+", default=list(BLOCKS), metavar="NAME")
    add("--threads", type=positive, default=1, help="threads (default: 1)")
    add("--turns", type=positive, default=5, help="steps of each block (default: 5)")
    add("--seconds", type=float, default=SECONDS, help=f"limit of a step (default: {SECONDS:g})")
    add(
        "--mebibytes", type=float, default=6000.0, help="limit of memory (default: 6000; cc: 10000)"
    )
    add("--free-memory", action="store_true", help="freed memory goes back to the system")
    add("--plot", type=Path, help="draw time and memory into this PNG file")
    return parser.parse_args()


def estimate(rows: Rows, size: int) -> tuple[float, float]:
    """Return the seconds and MiB of a step of ``size`` positions, from the last two sizes."""
    if len(rows) < 2:
        return 0.0, 0.0
    sizes = list(rows)[-2:]
    grown = size / sizes[-1]

    def next_of(costs: list[float]) -> float:
        return costs[-1] * grown ** max(1.0, fit_growth(sizes, costs).last)

    return next_of([min(rows[n][0]) for n in sizes]), next_of([rows[n][1] for n in sizes])


def within(options: argparse.Namespace, name: str, seconds: float, mebibytes: float) -> bool:
    return seconds <= options.seconds and mebibytes <= MEBIBYTES.get(name, options.mebibytes)


def measure(
    options: argparse.Namespace,
    blocks: dict[str, nn.Module],
    side: int,
    seconds: dict[str, float],
    found: dict[str, Rows],
) -> None:
    """Add a row to each block's, those of long steps one after the other."""
    x = torch.randn(1, CHANNELS, side, side, side, requires_grad=True)
    gradient = torch.randn_like(x)
    steps = {name: partial(step, block, x, gradient) for name, block in blocks.items()}
    short = {name: work for name, work in steps.items() if seconds[name] < LONG}
    long = {name: work for name, work in steps.items() if name not in short}
    memory: dict[str, float] = {}
    for name, work in steps.items():
        with LiveTensors() as tensors:  # the step that warms up, too: memory for the next is there
            work()
        memory[name] = tensors.peak / 2**20
    times = {**in_turns(short, options.turns), **in_turns(long, 1)}
    for name in steps:
        found[name][side**3] = times[name].cpu, memory[name]
        print(name, f"{side**3:,}", spread(times[name].cpu), rounded(memory[name]), flush=True)


def step(block: nn.Module, x: Tensor, gradient: Tensor) -> None:
    block.zero_grad()
    x.grad = None
    block(x).backward(gradient)


def summary(found: dict[str, Rows]) -> str:
    """Write the last size of each block, and the exponents over the last decade."""
    lines = []
    for name, rows in found.items():
        sizes = list(rows)
        seconds = growth(sizes, [row[0] for row in rows.values()])
        memory = growth(sizes, [[row[1]] for row in rows.values()])
        times, mebibytes = rows[max(rows)]
        lines.append([name, f"{max(rows):,}", spread(times), rounded(mebibytes), seconds, memory])
    titles = [
        "block",
        "largest N",
        "CPU s, min / median / max",
        "MiB",
        "exponent of time",
        "of memory",
    ]
    return table(titles, lines)


def growth(sizes: Sequence[float], costs: Sequence[Sequence[float]]) -> Growth:
    """Fit the least costs over the last decade of N, which constant costs do not flatten."""
    # A cube of 46 is a little less than a tenth of one of 100.
    last = [(n, min(some)) for n, some in zip(sizes, costs, strict=True) if n * 11 >= max(sizes)]
    return fit_growth(*zip(*last, strict=True))


def plot(found: dict[str, Rows], path: Path) -> None:
    def curves(column: int) -> dict[str, tuple[list[float], list[list[float]]]]:
        values = {}
        for name, rows in found.items():
            each = [row[0] if column == 0 else [row[1]] for row in rows.values()]
            values[name] = ([float(n) for n in rows], each)
        return values

    titles = [("forward and backward", "CPU seconds"), ("live tensors", "MiB")]
    plot_growth(path, [Panel(*title, curves(c)) for c, title in enumerate(titles)], growth=growth)


if __name__ == "__main__":
    main()
