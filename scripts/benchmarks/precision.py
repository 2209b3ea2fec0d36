#!/usr/bin/env python
"""Relative error, in half precision against float64, of what every block adds to X.

||F - F64|| / ||F64|| for F = block(x) - x of a block at its start (norm not zero), in training
mode, on random features of size 1 and 1e4; "-" where it is not offered or not finite.

    python scripts/benchmarks/precision.py
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from video_snl.blocks import BLOCKS, NonlocalBlock, make_block

MODES = {
    "bfloat16 autocast": (torch.bfloat16, True),
    "bfloat16": (torch.bfloat16, False),
    "float16 autocast": (torch.float16, True),
}


def main() -> None:
    sizes = (1.0, 1e4)
    titles = [f"{mode}, x of size {size:g}" for mode in MODES for size in sizes]
    print("| block | " + " | ".join(titles) + " |\n|" + "---|" * (len(titles) + 1))
    for name in BLOCKS:
        torch.manual_seed(0)
        block = make_block(name, 64, ndim=3, zero_init=False)
        assert isinstance(block, NonlocalBlock)
        x = torch.randn(2, 64, 4, 14, 14)
        cells = [error(block, size * x, *MODES[mode]) for mode in MODES for size in sizes]
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)


def error(block: NonlocalBlock, x: Tensor, dtype: torch.dtype, autocast: bool) -> str:
    exact = added(copy.deepcopy(block).double(), x.double())
    block = copy.deepcopy(block)
    block, x = (block, x) if autocast else (block.to(dtype), x.to(dtype))
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=autocast):
        half = added(block, x).double()
    if not half.isfinite().all():
        return "-"
    return f"{float((half - exact).norm() / exact.norm()):.1e}"


def added(block: NonlocalBlock, x: Tensor) -> Tensor:
    """Return the output of the norm, before x is added and the sum is rounded."""
    found: list[Tensor] = []
    hook = block.sub_blocks[0].norm.register_forward_hook(
        lambda m, args, out: found.append(out.detach())
    )
    block(x)
    hook.remove()
    return found[0]


if __name__ == "__main__":
    main()
