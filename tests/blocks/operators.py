"""The affinity operators, what they are made of, and the equations they must equal.

A new operator adds a line to ``OPERATORS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from tests import naive, naive_blocks
from video_snl.blocks import (
    Affinity,
    CrissCross,
    Dense,
    GraphAffinity,
    LowRank,
    Scaled,
    Softmax,
    Sum,
    SymmetricLowRank,
    operators,
)

EXACT = {"rtol": 1e-12, "atol": 1e-12}


@dataclass(frozen=True)
class Inputs:
    """Factors (B, N, R), weights (B, N) and a signal (B, N, C) in float64."""

    left: Tensor
    right: Tensor
    row: Tensor
    col: Tensor
    z: Tensor

    def leaves(self) -> tuple[Tensor, ...]:
        return self.left, self.right, self.row, self.col, self.z


Build = Callable[[Inputs], Affinity]
Equation = Callable[[Inputs], Tensor]


def _product(x: Inputs) -> Tensor:
    return naive.pairwise(x.left, x.right)


def _symmetric(x: Inputs) -> Tensor:
    return naive.symmetrized(_product(x))


def both(x: Inputs) -> SymmetricLowRank:
    return SymmetricLowRank(torch.cat([x.left, x.right], -1))


def _softmax(x: Inputs) -> Tensor:
    return naive.normalized(naive_blocks.exponentials(x.left, x.right, 0.5), "rw")


def _line(x: Inputs) -> Tensor:
    """Make a criss-cross on a grid of one axis, where it is everything."""
    return naive.normalized(naive_blocks.exponentials(x.left, x.right), "rw")


def _graph(x: Inputs) -> GraphAffinity:
    """Make a graph of all pairs, each twice, with weights of its own for each sample."""
    positions = torch.arange(x.left.shape[1])
    edges = torch.cartesian_prod(positions, positions).T
    halves = (x.left @ x.right.mT).flatten(1) / 2
    return GraphAffinity(
        torch.cat([edges, edges], 1), len(positions), torch.cat([halves, halves], 1)
    )


OPERATORS: dict[str, tuple[Build, Equation]] = {
    "dense": (lambda x: Dense(x.left @ x.right.mT), _product),
    "low rank": (lambda x: LowRank(x.left, x.right), _product),
    "symmetric": (both, _symmetric),
    "scaled dense": (
        lambda x: Dense(x.left @ x.right.mT).scale(x.row, x.col),
        lambda x: naive.scaled(_product(x), x.row, x.col),
    ),
    "scaled low rank": (
        lambda x: LowRank(x.left, x.right).scale(x.row, x.col),
        lambda x: naive.scaled(_product(x), x.row, x.col),
    ),
    "symmetric scaled alike": (
        lambda x: both(x).scale(x.row, x.row),
        lambda x: naive.scaled(_symmetric(x), x.row, x.row),
    ),
    "symmetric scaled apart": (
        lambda x: both(x).scale(x.row, x.col),
        lambda x: naive.scaled(_symmetric(x), x.row, x.col),
    ),
    "softmax": (lambda x: Softmax(x.left, x.right, 0.5), _softmax),
    "criss-cross": (lambda x: CrissCross.softmax(x.left, x.right, x.left.shape[1:2]), _line),
    "scaled softmax": (
        lambda x: Scaled(x.row, Softmax(x.left, x.right, 0.5), x.col),
        lambda x: naive.scaled(_softmax(x), x.row, x.col),
    ),
    "given graph": (_graph, _product),
    "sum": (
        lambda x: Sum([Softmax(x.left, x.right, 0.5), LowRank(x.left, x.right)]),
        lambda x: _softmax(x) + _product(x),
    ),
}


def make_inputs(
    batch: int, positions: int, rank: int, channels: int, seed: int = 0, strided: bool = False
) -> Inputs:
    """Factors in [0.1, 1] except at some positions of degree zero; signs elsewhere."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        values = torch.rand(*shape, generator=generator, dtype=torch.float64)
        return values.mT.contiguous().mT if strided and len(shape) == 3 else values

    connected = (torch.rand(batch, positions, generator=generator) > 0.2)[..., None]
    left, right = (connected * (0.1 + 0.9 * uniform(batch, positions, rank)) for _ in range(2))
    row, col = (0.5 + uniform(batch, positions) for _ in range(2))
    inputs = Inputs(left, right, row, col, 2 * uniform(batch, positions, channels) - 1)
    for leaf in inputs.leaves():
        leaf.requires_grad_()
    return inputs


def inputs(largest: int) -> st.SearchStrategy[Inputs]:
    return st.builds(
        make_inputs,
        batch=st.integers(0, 2),
        positions=st.integers(1, largest),
        rank=st.integers(1, 5),
        channels=st.integers(1, 4),
        seed=st.integers(0, 2**32 - 1),
        strided=st.booleans(),
    )


few = settings(max_examples=8, deadline=None)
every_operator = pytest.mark.parametrize(
    ("build", "equation"), OPERATORS.values(), ids=list(OPERATORS)
)
both_orders = pytest.mark.parametrize("dense_order", [False, True], ids=["low rank", "dense"])


def choose_order(monkeypatch: pytest.MonkeyPatch, dense: bool) -> None:
    """Compute with A as a matrix, or by its factors and in fused kernels."""
    monkeypatch.setattr(operators, "prefers_dense", lambda *costs: dense)
    monkeypatch.setattr(operators, "_prefers_small_matrix", lambda *sizes: dense)


def assert_same(x: Inputs, actual: Tensor, expected: Tensor) -> None:
    """Equal values, and equal gradients of a sum with unequal weights."""
    assert_close(actual, expected, **EXACT)
    if actual.numel() == 0:
        return
    if not actual.requires_grad:  # a constant, such as the degree of a softmax
        actual = actual + 0 * x.z.sum()
    weights = torch.linspace(-1, 2, actual.numel(), dtype=torch.float64).view(actual.shape)
    gradients = [
        torch.autograd.grad(
            (result * weights).sum(), x.leaves(), retain_graph=True, materialize_grads=True
        )
        for result in (actual, expected)
    ]
    assert_close(*gradients, **EXACT)
