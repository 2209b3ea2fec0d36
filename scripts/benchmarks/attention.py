#!/usr/bin/env python
"""Compare SpectralAttention with softmax attention: time and memory, and accuracy on digits.

Time: both and each order of the filter take turns in one process, forward and forward + backward,
on random tokens; the ratio is the median of the ratios of neighbouring turns. Memory is the largest
sum of the bytes of tensors that live at once in forward + backward, beyond parameters and input (on
CUDA, what the allocator counts). Softmax attention is nn.MultiheadAttention, whose fused kernel
keeps no N x N matrix.

Accuracy: a small vision transformer on scikit-learn's digits, 8 x 8 pixels in patches, with every
fifth image of a class for testing. All attentions have the same seeds, order of images and
schedule, and the accuracy is that of the last epoch.

    python scripts/benchmarks/attention.py
    python scripts/benchmarks/attention.py --only speed --positions 256 1024 --json attention.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_arguments import new_parser, positive
from blocks import SECONDS, LiveTensors, interleaved, step
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional as F

from video_snl.blocks import SpectralAttention
from video_snl.data.image.small import digits_that_test
from video_snl.utils.files import write_json

POSITIONS = [256, 512, 1024, 2048, 4096, 8192, 16384]
SIDE, LARGEST, CLASSES = 8, 16, 10  # of the digits

Build = Callable[[], nn.Module]


def main() -> int:
    options = parse()
    report: dict[str, Any] = {}
    if options.only != "accuracy":
        report["speed"] = speed(options)
    if options.only is None:
        print()
    if options.only != "speed":
        report["accuracy"] = accuracy(options)
    if options.json:
        write_json(options.json, report)
    return 0


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--only", choices=["speed", "accuracy"], help="one of the two parts")
    add("--orders", nargs="+", type=positive, default=[1, 2], help="orders of the filter")
    add("--dim", type=positive, default=64, help="channels of the tokens (default: 64)")
    add("--heads", type=positive, default=4, help="heads (default: 4)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--positions", nargs="+", type=positive, default=POSITIONS, metavar="N")
    add("--bfloat16", action="store_true", help="autocast, for time and memory")
    add("--repeats", type=positive, default=3, help="turns at least (default: 3)")
    add("--seconds", type=float, default=SECONDS, help=f"of the turns (default: {SECONDS})")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the trainings")
    add("--epochs", type=positive, default=60, help="of a training (default: 60)")
    add("--depth", type=positive, default=3, help="layers of the transformer (default: 3)")
    add("--patch", type=int, choices=[1, 2, 4], default=2, help="side of a patch (default: 2)")
    add("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.dim % options.heads:
        parser.error(f"--heads {options.heads} must divide --dim {options.dim}")
    return options


def attentions(options: argparse.Namespace) -> dict[str, Build]:
    """Return functions that make each attention, by its name in the tables."""
    dim, heads = options.dim, options.heads
    builds: dict[str, Build] = {
        "softmax": partial(nn.MultiheadAttention, dim, heads, batch_first=True)
    }
    for order in options.orders:
        builds[f"spectral {order}"] = partial(SpectralAttention, dim, heads, order)
    return builds


# Time and memory.


class Alone(nn.Module):
    """An attention as a module of one input."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def speed(options: argparse.Namespace) -> list[dict[str, Any]]:
    names = list(attentions(options))
    titles = ["N"]
    for label in ("forward", "f+b"):
        titles += [f"{names[0]}, {label}, ms"]
        titles += [f"{name}, {label}, ms (times faster)" for name in names[1:]]
    titles += [f"{name}, MiB" for name in names]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    rows = []
    for positions in options.positions:
        row = measure(options, positions)
        rows.append(row)
        cells = [str(positions)]
        for label in ("forward", "both"):
            times, ratios = row[label], row[f"{label} ratio"]
            cells.append(f"{1e3 * times[names[0]]:.2f}")
            cells += [f"{1e3 * times[n]:.2f} ({ratios[n]:.1f})" for n in names[1:]]
        cells += [f"{row['memory'][name]:.1f}" for name in names]
        print(f"| {' | '.join(cells)} |", flush=True)
    return rows


def measure(options: argparse.Namespace, positions: int) -> dict[str, Any]:
    torch.manual_seed(0)
    builds = attentions(options)
    modules: dict[str, nn.Module] = {
        name: Alone(build()).to(options.device).train() for name, build in builds.items()
    }
    x = torch.randn(1, positions, options.dim, device=options.device).requires_grad_()
    row: dict[str, Any] = {"positions": positions}
    for label, backward in (("forward", False), ("both", True)):
        times = interleaved(options, modules, x, backward)
        row[label] = {name: statistics.median(values) for name, values in times.items()}
        softmax = times["softmax"]
        row[f"{label} ratio"] = {
            name: statistics.median(s / own for s, own in zip(softmax, values, strict=True))
            for name, values in times.items()
        }
    row["memory"] = {name: memory(options, module, x) for name, module in modules.items()}
    return row


def memory(options: argparse.Namespace, module: nn.Module, x: Tensor) -> float:
    """Measure the MiB of forward + backward beyond the parameters and the input."""
    module.zero_grad()
    x.grad = None
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(options, module, x, True)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with LiveTensors() as tensors:
        step(options, module, x, True)
    return tensors.peak / 2**20


# Accuracy.


class DigitTransformer(nn.Module):
    """A vision transformer with a mean over the tokens. Shapes: (B, N, patch^2) -> (B, classes)."""

    def __init__(self, options: argparse.Namespace, build: Build) -> None:
        super().__init__()
        dim, patch = options.dim, options.patch
        self.embed = nn.Linear(patch**2, dim)
        self.places = nn.Parameter(0.02 * torch.randn((SIDE // patch) ** 2, dim))
        self.layers = nn.ModuleList()
        for _ in range(options.depth):
            layer = nn.TransformerEncoderLayer(
                dim, options.heads, 2 * dim, 0.0, "gelu", batch_first=True, norm_first=True
            )
            layer.self_attn = build()  # type: ignore[assignment]
            self.layers.append(layer)
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, CLASSES)

    def forward(self, patches: Tensor) -> Tensor:
        tokens = self.embed(patches) + self.places
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(self.norm(tokens).mean(1))


def load_digits(patch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return patches (n, N, patch^2) in [-1, 1], labels (n,) and which of them test (n,)."""
    images, labels = datasets.load_digits(return_X_y=True)
    pixels = torch.from_numpy(images).float().view(-1, 1, SIDE, SIDE) * (2 / LARGEST) - 1
    tests = torch.from_numpy(np.asarray(digits_that_test(labels)))
    patches = F.unfold(pixels, patch, stride=patch).mT.contiguous()
    return patches, torch.from_numpy(labels).long(), tests


def accuracy(options: argparse.Namespace) -> list[dict[str, Any]]:
    seeds = len(options.seeds)
    print(
        f"| attention | parameters | test accuracy, % ({seeds} seeds) | by seed | difference from "
        "softmax by seed | s a training |\n|---|---|---|---|---|---|"
    )
    rows: list[dict[str, Any]] = []
    for name, build in attentions(options).items():
        results = [train(options, build, seed) for seed in options.seeds]
        scores, seconds, parameters = zip(*results, strict=True)
        row = {"attention": name, "accuracies": scores, "seconds": seconds}
        rows.append({**row, "parameters": parameters[0]})
        reference = rows[0]["accuracies"]
        cells = [name, f"{parameters[0]:,}", spread(scores)]
        cells.append(", ".join(f"{score:.1f}" for score in scores))
        differences = [own - other for own, other in zip(scores, reference, strict=True)]
        cells.append(", ".join(f"{d:+.1f}" for d in differences) if len(rows) > 1 else "-")
        cells.append(f"{statistics.median(seconds):.0f}")
        print(f"| {' | '.join(cells)} |", flush=True)
    return rows


def spread(values: tuple[float, ...]) -> str:
    """Write mean and standard deviation (n - 1)."""
    mean = f"{statistics.mean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def train(options: argparse.Namespace, build: Build, seed: int) -> tuple[float, float, int]:
    """Return the accuracy (%) of the last epoch, the seconds of the training and the parameters."""
    patches, labels, tests = (x.to(options.device) for x in load_digits(options.patch))
    torch.manual_seed(seed)
    network = DigitTransformer(options, build).to(options.device)
    order = torch.Generator().manual_seed(seed)
    chosen, batch = (~tests).nonzero()[:, 0], 64
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    steps = -(-len(chosen) // batch) * options.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    start = time.perf_counter()
    for _ in range(options.epochs):
        shuffled = chosen[torch.randperm(len(chosen), generator=order).to(options.device)]
        for part in shuffled.split(batch):
            optimizer.zero_grad()
            F.cross_entropy(network(patches[part]), labels[part]).backward()
            optimizer.step()
            schedule.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        found = network.eval()(patches[tests]).argmax(1)
    share = (found == labels[tests]).double().mean().item()
    return 100 * share, seconds, sum(p.numel() for p in network.parameters())


if __name__ == "__main__":
    sys.exit(main())
