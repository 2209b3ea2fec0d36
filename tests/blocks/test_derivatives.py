"""Derivatives beyond the first: second ones and forward mode, in both regimes of attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close

from tests.blocks.cases import CASES, features, made
from video_snl.blocks import operators

FUSED = [case for case in CASES if case in ("nl", "nl gaussian", "nl scaled", "ns", "dnl")]
LARGE = (2, 12, 12)  # 288 positions: more than max(4 C, 256)


def second(case: str, x: Tensor) -> Tensor:
    """The gradient of the squared norm of a gradient."""
    block = made(case)
    [first] = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    [found] = torch.autograd.grad(first.square().sum(), x)
    return found


@pytest.mark.parametrize("case", FUSED)
def test_second_derivatives_of_many_positions(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = features(1, 8, *LARGE).requires_grad_()
    with pytest.raises(RuntimeError, match=r"no second derivative: .*SDPBackend\.MATH"):
        second(case, x)
    with sdpa_kernel(SDPBackend.MATH):
        found = second(case, x)
    monkeypatch.setattr(operators, "_prefers_small_matrix", lambda *sizes: True)
    assert_close(found, second(case, x), rtol=1e-8, atol=1e-9)


def test_first_derivatives_with_a_graph_of_their_own() -> None:
    """A gradient that is kept differentiable and is not differentiated needs nothing."""
    block, x = made("nl"), features(1, 8, *LARGE).requires_grad_()
    [plain] = torch.autograd.grad(block(x).square().sum(), x)
    [kept] = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    assert torch.equal(plain, kept)


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("grid", [(2, 3, 2), LARGE], ids=["few", "many"])
def test_forward_mode_is_the_derivative(case: str, grid: tuple[int, ...]) -> None:
    block, x = made(case), features(1, 8, *grid)
    tangent = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(7))
    _, found = torch.func.jvp(block, (x,), (tangent,))
    # <w, J t> = <J^T w, t>, by reverse mode.
    weight = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(8))
    x.requires_grad_()
    [back] = torch.autograd.grad(block(x), x, weight)
    assert_close((weight * found).sum(), (back * tangent).sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", ["snl exponential", "snl gaussian", "gsnl gaussian rw"])
@pytest.mark.parametrize("size", [1.0, 20.0, 400.0])
def test_derivatives_of_large_exponents_are_finite(case: str, size: float) -> None:
    x = (size * features(1, 8, 2, 3, 2)).requires_grad_()
    assert second(case, x).isfinite().all()


@pytest.mark.parametrize("case", list(CASES))
def test_second_derivatives_of_few_positions(case: str) -> None:
    block = made(case, 1)
    x = features(1, 8, 3).requires_grad_()
    assert torch.autograd.gradgradcheck(block, x, fast_mode=True, atol=1e-6)
