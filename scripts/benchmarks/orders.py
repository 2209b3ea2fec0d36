#!/usr/bin/env python
"""Speed of two orders of products: A as a matrix, and factor by factor.

SNL's affinity and one product with it, forward and backward, in both orders in turn, for numbers of
positions N around the one at which their multiply-adds are equal. ``prefers_dense`` decides by the
multiply-adds; the last column says how much longer its choice takes than the better one.

    python scripts/benchmarks/orders.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from video_snl.blocks import SymmetricLowRank, normalize
from video_snl.blocks import operators as orders

RELATIVE = (0.25, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 4.0)  # N over that of equal multiply-adds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--widths", nargs="+", type=int, default=[32, 64, 128, 256, 512])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--turns", type=int, default=30)
    options = parser.parse_args()
    torch.manual_seed(0)
    print("| Cs | N | matrix, ms | factors, ms | matrix / factors | chosen | choice / best |")
    print("|---|---|---|---|---|---|---|")
    for width in options.widths:
        for share in RELATIVE:
            print(line(options, width, max(2, round(share * 2 * width))), flush=True)


def line(options: argparse.Namespace, width: int, positions: int) -> str:
    shape = (options.batch, positions, 2 * width)
    embedded = torch.randn(shape, device=options.device, requires_grad=True)
    z = torch.randn(*shape[:2], width, device=options.device, requires_grad=True)
    costs = SymmetricLowRank(embedded)._costs(width, 1)
    chosen = "matrix" if orders.prefers_dense(*costs) else "factors"
    times = in_turn(options, embedded, z)
    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    ratio = statistics.median(a / b for a, b in zip(*times.values(), strict=True))
    loss = max(1.0, ratio if chosen == "matrix" else 1 / ratio)
    cells = [f"{width}", f"{positions}", *(f"{value:.3f}" for value in medians.values())]
    return "| " + " | ".join([*cells, f"{ratio:.2f}", chosen, f"{loss:.2f}"]) + " |"


def in_turn(options: argparse.Namespace, embedded: Tensor, z: Tensor) -> dict[str, list[float]]:
    """Return the seconds of each turn: with the matrix, and factor by factor."""
    times: dict[str, list[float]] = {"matrix": [], "factors": []}
    steps = {name: partial(step, embedded, z, name == "matrix") for name in times}
    for turn in range(options.turns + 3):
        for name in list(steps) if turn % 2 else list(steps)[::-1]:
            embedded.grad = z.grad = None
            began = time.perf_counter()
            steps[name]()
            if options.device == "cuda":
                torch.cuda.synchronize()
            if turn >= 3:
                times[name].append(time.perf_counter() - began)
    return times


def step(embedded: Tensor, z: Tensor, dense: bool) -> None:
    product = SymmetricLowRank(F.relu(embedded))
    affinity = normalize(orders.Dense(product.to_dense()) if dense else product, "sym")
    if not dense:
        assert isinstance(affinity, SymmetricLowRank)
        affinity._by_factors(z).sum().backward()
        return
    affinity.matmul(z).sum().backward()


if __name__ == "__main__":
    main()
