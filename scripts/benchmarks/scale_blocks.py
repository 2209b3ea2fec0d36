#!/usr/bin/env python
"""Growth of a block's time and memory with the number of positions N.

Forward and backward of one feature map with C = 16 channels and Cs = 8, of N = 10^2 to 10^6
positions; a block stops where its next step would exceed the limit of time or memory, estimated
from its last two. 3-d blocks: the grid of criss-cross attention is as near to a cube as it can be.
Memory is the largest sum of bytes of the tensors alive at once. The exponent is the slope of the
logarithms over the last decade measured.

    python scripts/benchmarks/scale_blocks.py --plot docs/pictures/scale_blocks.png
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from benchmark_arguments import new_parser, positive
from blocks import LiveTensors
from torch import nn

from video_snl.blocks import make_block

BLOCKS = ("snl", "gsnl", "cgnl", "a2", "cayley", "cc", "nl", "ns", "dnl")
CHANNELS = 16
SIDES = (5, 7, 10, 15, 22, 32, 46, 68, 100)  # N = side^3, about two steps a factor of ten

Row = tuple[int, float, float]  # N, seconds, MiB


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    found: dict[str, list[Row]] = {}
    for name in options.blocks:
        found[name] = series(options, name)
        print(name, found[name], flush=True)
    print(table(found))
    if options.plot:
        plot(found, options.plot)


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--blocks", nargs="+", default=list(BLOCKS), metavar="NAME")
    add("--threads", type=positive, default=1, help="threads (default: 1)")
    add("--repeats", type=positive, default=3, help="steps, of which the least counts; long: one")
    add("--seconds", type=float, default=10.0, help="limit of a step (default: 10)")
    add("--mebibytes", type=float, default=6000.0, help="limit of memory (default: 6000)")
    add("--plot", type=Path, help="draw time and memory into this PNG file")
    return parser.parse_args()


def series(options: argparse.Namespace, name: str) -> list[Row]:
    """Measure one block over all numbers of positions within the limits."""
    torch.manual_seed(0)
    block = make_block(name, CHANNELS, ndim=3, inter_channels=CHANNELS // 2, zero_init=False)
    rows: list[Row] = []
    for side in SIDES:
        if len(rows) > 1:
            growth = side**3 / rows[-1][0]
            steps = [growth ** max(exponent(rows[-2:], column), 1) for column in (1, 2)]
            within = (options.seconds, options.mebibytes)
            if any(rows[-1][c + 1] * steps[c] > within[c] for c in (0, 1)):
                break
        rows.append(measure(block, side, options.repeats))
    return rows


def measure(block: nn.Module, side: int, repeats: int) -> Row:
    x = torch.randn(1, CHANNELS, side, side, side, requires_grad=True)
    gradient = torch.randn_like(x)
    seconds: list[float] = []
    for _ in range(repeats + 1):
        if sum(seconds) > 1:
            break
        block.zero_grad()
        x.grad = None
        began = time.process_time()
        block(x).backward(gradient)
        seconds.append(time.process_time() - began)
    x.grad = None
    with LiveTensors() as tensors:
        block(x).backward(gradient)
    return side**3, min(seconds), tensors.peak / 2**20


def exponent(rows: list[Row], column: int) -> float:
    """Return the slope of the logarithms, by least squares."""
    logs = [(math.log(row[0]), math.log(row[column])) for row in rows]
    x, y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    above = sum((a - x) * (b - y) for a, b in logs)
    return above / sum((a - x) ** 2 for a, _ in logs)


def table(found: dict[str, list[Row]]) -> str:
    lines = [
        "| block | largest N | time there, s | memory there, MiB | exponent, time | memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in found.items():
        n, seconds, memory = rows[-1]
        last = [row for row in rows if row[0] * 11 >= n]
        slopes = " | ".join(f"{exponent(last, column):.2f}" for column in (1, 2))
        lines.append(f"| {name} | {n:,} | {seconds:.2f} | {memory:,.0f} | {slopes} |")
    return "\n".join(lines)


def plot(found: dict[str, list[Row]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    titles = ("forward and backward, s", "live tensors, MiB")
    for axes, column, title in zip(figure.subplots(1, 2), (1, 2), titles, strict=True):
        for name, rows in found.items():
            axes.loglog(
                [row[0] for row in rows], [row[column] for row in rows], marker=".", label=name
            )
        axes.set(xlabel="positions N", ylabel=title)
        axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
