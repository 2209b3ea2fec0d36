#!/usr/bin/env python
"""Time and memory of our blocks against the same blocks written plainly.

For every number of positions N and width Cs (C = 2 Cs) our block, the plain one and for ``nl``
pytorchvideo's NonLocal take turns in one process; of the ratios of neighbouring turns stand the
median and, in brackets, the least and the largest. Peak memory is measured in a process of its own
for each: live tensor bytes, and the growth of the resident set.

    python scripts/benchmarks/blocks.py
    python scripts/benchmarks/blocks.py --blocks snl --positions 6272 --widths 64 --json b.json
    python scripts/benchmarks/blocks.py --blocks cgnl "a2 factored" --no-memory --threads 1
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import torch
from benchmark_arguments import new_parser, positive
from plain_blocks import PEERS
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from video_snl.blocks import make_block
from video_snl.utils.files import write_json
from video_snl.utils.json_text import to_json

POSITIONS, WIDTHS = [98, 196, 784, 1568, 6272, 25088], [32, 64, 128, 256, 512]
SECONDS = 2.5  # turns are repeated for about this long, at least ``--repeats`` times


# By default glibc gives large blocks of memory back to the system and faults them in anew at every
# step. At small sizes that costs as much as the products do.
KEPT = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}


def main() -> int:
    options = parse()
    if options.keep_memory and not KEPT.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEPT})
    if options.memory_of:
        print(to_json(measure_memory(options, options.memory_of)))
        return 0
    rows = []
    for name in options.blocks:
        print(heading(name, options.no_memory))
        for positions in options.positions:
            for width in options.widths:
                row = measure(options, name, positions, width)
                rows.append(row)
                print(line(row), flush=True)
        print()
    if options.json:
        write_json(options.json, rows)
    if options.plot:
        plot(rows, options.plot)
    return 0


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--blocks", nargs="+", choices=list(PEERS), default=["snl", "nl"])
    add("--positions", nargs="+", type=int, default=POSITIONS, metavar="N")
    add("--widths", nargs="+", type=int, default=WIDTHS, metavar="Cs")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--batch", type=positive, default=1, help="feature maps (default: 1)")
    add("--threads", type=positive, help="threads on a CPU (default: torch's choice)")
    add("--bfloat16", action="store_true", help="autocast")
    add("--compile", action="store_true", help="torch.compile both")
    add("--repeats", type=int, default=3, help="turns at least (default: 3)")
    add("--seconds", type=float, default=SECONDS, help=f"of the turns (default: {SECONDS})")
    add("--keep-memory", action="store_true", help="glibc keeps freed memory for the next step")
    add("--no-memory", action="store_true", help="time only")
    add("--json", type=Path, help="write the figures to this file")
    add("--plot", type=Path, help="draw the ratios into this PNG file")
    add("--memory-of", choices=["ours", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def networks(options: argparse.Namespace, name: str, width: int) -> dict[str, nn.Module]:
    block, settings, peer = PEERS[name]
    torch.manual_seed(0)
    built: dict[str, nn.Module] = {
        "ours": make_block(
            block, 2 * width, ndim=1, inter_channels=width, zero_init=False, **settings
        ),
        "plain": peer(2 * width, width),
    }
    if name == "nl":
        built["pytorchvideo"] = pytorchvideo_nonlocal(width)
    built = {key: module.to(options.device).train() for key, module in built.items()}
    if options.compile:
        for module in built.values():
            module.compile()
    return built


class pytorchvideo_nonlocal(nn.Module):  # noqa: N801 - a peer, named after its library
    """pytorchvideo's block on a (B, C, N) map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        from pytorchvideo.layers.nonlocal_net import create_nonlocal

        self.block = create_nonlocal(dim_in=2 * width, dim_inner=width)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x[:, :, None, None])[:, :, 0, 0]


def features(options: argparse.Namespace, positions: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(options.batch, 2 * width, positions, generator=generator)
    return x.to(options.device).requires_grad_()


def step(options: argparse.Namespace, module: nn.Module, x: Tensor, backward: bool) -> None:
    with torch.autocast(options.device, torch.bfloat16, enabled=options.bfloat16):
        if backward:
            y = module(x)
            y.backward(torch.ones_like(y))
        else:
            with torch.no_grad():
                module(x)
    if options.device == "cuda":
        torch.cuda.synchronize()


def measure(options: argparse.Namespace, name: str, n: int, width: int) -> dict[str, Any]:
    row: dict[str, Any] = {"block": name, "positions": n, "width": width}
    modules, x = networks(options, name, width), features(options, n, width)
    for label, backward in (("forward", False), ("both", True)):
        times = interleaved(options, modules, x, backward)
        row[label] = {key: statistics.median(values) for key, values in times.items()}
        for peer in list(times)[1:]:
            pairs = zip(times["ours"], times[peer], strict=True)
            ratios = [theirs / ours for ours, theirs in pairs]
            spread = [min(ratios), statistics.median(ratios), max(ratios)]
            row[label][f"{peer} / ours"] = spread
    if not options.no_memory:
        row["memory"] = {which: memory(options, name, n, width, which) for which in TURNS}
    return row


TURNS = ("ours", "plain")


def interleaved(
    options: argparse.Namespace, modules: dict[str, nn.Module], x: Tensor, backward: bool
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {key: [] for key in modules}
    # With one thread the time of the processor: what else runs changes it little.
    alone = x.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    began = 0.0
    turn = -1  # the first one warms up
    while turn < options.repeats or (turn < 200 and time.perf_counter() - began < options.seconds):
        if turn == 0:
            began = time.perf_counter()
        for key in list(modules) if turn % 2 else list(modules)[::-1]:
            modules[key].zero_grad()  # as before every step of a training
            x.grad = None
            start = clock()
            step(options, modules[key], x, backward)
            if turn >= 0:
                times[key].append(clock() - start)
        turn += 1
    return times


def memory(
    options: argparse.Namespace, name: str, n: int, width: int, which: str
) -> dict[str, float]:
    words = [
        sys.executable,
        __file__,
        *(f"--memory-of={which}", f"--device={options.device}"),
        *("--blocks", name, "--positions", str(n), "--widths", str(width)),
        *(["--bfloat16"] if options.bfloat16 else []),
    ]
    plain_environment = {key: v for key, v in os.environ.items() if key not in KEPT}
    done = subprocess.run(
        words, stdout=subprocess.PIPE, text=True, check=True, env=plain_environment
    )
    return json.loads(done.stdout.splitlines()[-1])


class LiveTensors(TorchDispatchMode):
    """The largest sum of bytes of the tensors alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor)
        self.peak = max(self.peak, sum(self.live.values()))
        return out

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.live:
            self.live[key] = storage.nbytes()
            weakref.finalize(storage, self.live.pop, key, None)


def measure_memory(options: argparse.Namespace, which: str) -> dict[str, float]:
    """Measure the MiB of forward and backward beyond the parameters and the input."""
    [name], [n], [width] = options.blocks, options.positions, options.widths
    module, small = networks(options, name, width)[which], features(options, 64, width)
    step(options, module, small, True)  # libraries and gradients are not part of the growth
    module.zero_grad()
    x = features(options, n, width)
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(options, module, x, True)
        return {"peak": (torch.cuda.max_memory_allocated() - before) / 2**20}
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before_resident = resident("VmRSS")
    step(options, module, x, True)
    grown = resident("VmHWM") - before_resident
    x.grad = None
    with LiveTensors() as tensors:
        step(options, module, x, True)
    return {"tensors": tensors.peak / 2**20, "resident": grown}


def resident(field: str) -> float:
    for text in Path("/proc/self/status").read_text().splitlines():
        if text.startswith(f"{field}:"):
            return int(text.split()[1]) / 1024
    raise SystemExit(f"error: /proc/self/status has no {field}; measure memory on Linux.")


def heading(name: str, no_memory: bool) -> str:
    memory = "" if no_memory else " | live tensors | resident set | MiB, plain -> ours"
    peer = " | pytorchvideo / ours, f+b" if name == "nl" else ""
    return (
        f"{name}: the plain block over ours (more than 1: ours is better)\n\n"
        f"| N | Cs | ours, f+b, ms | time, forward | time, f+b{memory}{peer} |\n|"
        + "---|"
        * (5 + 3 * bool(memory) + bool(peer))
    )


def line(row: dict[str, Any]) -> str:
    cells = [f"{row['positions']}", f"{row['width']}", f"{1e3 * row['both']['ours']:.2f}"]
    cells += [spread_of(row[label]["plain / ours"]) for label in ("forward", "both")]
    if "memory" in row:
        plain, ours = row["memory"]["plain"], row["memory"]["ours"]
        for kind in ours:
            cells.append(f"{plain[kind] / max(ours[kind], 0.01):.1f}")
        last = list(ours)[0]
        cells.append(f"{plain[last]:.0f} -> {ours[last]:.0f}")
    if "pytorchvideo / ours" in row["both"]:
        cells.append(spread_of(row["both"]["pytorchvideo / ours"]))
    return "| " + " | ".join(cells) + " |"


def spread_of(ratios: list[float]) -> str:
    """Format the median of ratios, with the least and the largest in brackets."""
    least, median, largest = ratios
    return f"{median:.2f} ({least:.2f}-{largest:.2f})"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["block"] for row in rows))
    figure = Figure(figsize=(4.6 * len(names), 3.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        widths = sorted({row["width"] for row in rows if row["block"] == name})
        for number, width in enumerate(widths):
            chosen = [r for r in rows if (r["block"], r["width"]) == (name, width)]
            axes.loglog(
                [r["positions"] for r in chosen],
                [r["both"]["plain / ours"][1] for r in chosen],
                marker="o",
                color=f"C{number}",
                label=f"Cs = {width}",
            )
        axes.axhline(1, color="0.5", linewidth=1)
        axes.set(title=name, xlabel="positions N", ylabel="plain / ours, forward + backward")
        axes.grid(alpha=0.3, which="both")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    sys.exit(main())
