"""Every block in bfloat16 and float16: finite, also for large and constant inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.blocks.cases import CASES, GATES, features, made

# In float16 they leave its range, as they may: nothing divides them by a degree.
UNNORMALISED = (
    *("nl dot", "nl concatenation", "ns dot", "gsnl dot", "gsnl concatenation"),
    *("cgnl", "cgnl grouped", "cgnl dot", "cgnl bias"),
)
# A cubic kernel with a thousand times the usual gamma leaves even bfloat16's range at 1e4.
CUBIC = ("cgnl grouped", "cgnl bias")


# An exponential that is not symmetric, divided on both sides, has no bound.
UNBOUNDED = "nl sym"


def _sizes() -> Iterator[Any]:
    """Each case, and sizes of its features: what is finite of large ones is so of small ones."""
    for case in (*CASES, *GATES):
        slow = [] if case in (*CUBIC, UNBOUNDED) else [pytest.mark.slow]
        yield pytest.param(case, 1.0, marks=slow)
        yield pytest.param(case, 1e4)


@pytest.mark.parametrize("grid", [(2, 2, 3), (4, 16, 16)], ids=["dense", "factored"])
@pytest.mark.parametrize(("case", "size"), _sizes())
@pytest.mark.parametrize(
    ("mode", "dtype"),
    [("autocast", torch.bfloat16), ("pure", torch.bfloat16), ("autocast", torch.float16)],
    ids=["bfloat16 autocast", "bfloat16", "float16 autocast"],
)
def test_half_precision_is_finite(
    case: str, mode: str, dtype: torch.dtype, size: float, grid: tuple[int, ...]
) -> None:
    if dtype == torch.float16 and case in UNNORMALISED:
        pytest.skip("leaves float16's range, as it may")
    if case in CUBIC and size > 1:
        pytest.skip("of the order of size^7")
    if case == UNBOUNDED and size > 1:
        pytest.skip("leaves every range")
    block = made(case, channels=16, width=8).float().train()
    x = features(2, 16, *grid).float()
    # Constant feature maps are the worst case of the sums over positions.
    x = size * torch.cat([x.clamp(-1, 1), torch.ones_like(x)])
    block, x = (block, x) if mode == "autocast" else (block.to(dtype), x.to(dtype))
    x.requires_grad_()
    with torch.autocast("cpu", dtype=dtype, enabled=mode == "autocast"):
        y = block(x)
    assert y.dtype == x.dtype
    assert y.isfinite().all()
    # As a gradient scaler would, stay within float16's range on the way back.
    ((y.float() / size).square().mean() / size).backward()
    for gradient in [x.grad, *(parameter.grad for parameter in block.parameters())]:
        assert gradient.isfinite().all()
