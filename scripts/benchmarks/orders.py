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
from functools import partial

import torch
from benchmark_arguments import new_parser
from torch import Tensor
from torch.nn import functional as F
from turns import in_turns, ratio

from video_snl.blocks import SymmetricLowRank, normalize
from video_snl.blocks import operators as orders

RELATIVE = (0.25, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 4.0)  # N over that of equal multiply-adds


def main() -> None:
    parser = new_parser(__doc__)
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
    steps = {name: partial(step, embedded, z, name == "matrix") for name in ("matrix", "factors")}
    times = {name: mine.seconds for name, mine in in_turns(steps, options.turns, warm=3).items()}
    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    share = ratio(times["matrix"], times["factors"])
    loss = max(1.0, share if chosen == "matrix" else 1 / share)
    cells = [f"{width}", f"{positions}", *(f"{value:.3f}" for value in medians.values())]
    return "| " + " | ".join([*cells, f"{share:.2f}", chosen, f"{loss:.2f}"]) + " |"


def step(embedded: Tensor, z: Tensor, dense: bool) -> None:
    embedded.grad = z.grad = None
    product = SymmetricLowRank(F.relu(embedded))
    affinity = normalize(orders.Dense(product.to_dense()) if dense else product, "sym")
    if dense:
        affinity.matmul(z).sum().backward()
    else:
        assert isinstance(affinity, SymmetricLowRank)
        affinity._by_factors(z).sum().backward()
    if z.device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
