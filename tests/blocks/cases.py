"""The zoo as test cases. A new block adds a line to ``CASES`` and inherits the whole suite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import naive_blocks
from video_snl.blocks import NonlocalBlock, make_block

EXACT = {"rtol": 1e-10, "atol": 1e-11}
GRIDS = {1: (7,), 2: (3, 2), 3: (2, 3, 2)}

# What a case is called: the block and its options.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "nl": ("nl", {}),
    "nl relu": ("nl", {"kernel": "relu_dot"}),
    "nl dot": ("nl", {"kernel": "dot"}),
    "nl gaussian": ("nl", {"kernel": "gaussian"}),
    "nl scaled": ("nl", {"scaled": True}),
    "nl sym": ("nl", {"normalization": "sym"}),
    "nl concatenation": ("nl", {"kernel": "concatenation"}),
    "nl bias": ("nl", {"bias": "theta"}),
    "nl no norm": ("nl", {"norm": "none", "bias": "theta,g,out"}),
    "ns": ("ns", {}),
    "ns dot": ("ns", {"kernel": "dot"}),
    "ns relu": ("ns", {"kernel": "relu_dot"}),
    "a2": ("a2", {}),
    "a2 wide": ("a2", {"descriptors": 3, "bias": "theta"}),
    "cgnl": ("cgnl", {}),
    "cgnl grouped": ("cgnl", {"groups": 2, "order": 3, "gamma": 0.1}),
    "cgnl rw": ("cgnl", {"gamma": 0.1, "normalization": "rw"}),
    "cgnl dot": ("cgnl", {"series": False, "scaled": True, "groups": 2}),
    "cgnl bias": ("cgnl", {"bias": "all", "gamma": 0.1}),
    "cc": ("cc", {}),
    "cc bias": ("cc", {"bias": "theta"}),
    "dnl": ("dnl", {}),
    "dnl bias": ("dnl", {"norm": "none", "bias": "g,out"}),
    "dnl scaled": ("dnl", {"scaled": True}),
    "dnl gamma": ("dnl", {"gamma": 0.5, "temperature": 0.6}),
    "snl": ("snl", {}),
    "snl bias": ("snl", {"bias": "all", "norm": "group", "norm_groups": 2}),
    "snl exponential": ("snl", {"kernel": "embedded_gaussian", "scaled": True}),
    "snl gaussian": ("snl", {"kernel": "gaussian", "scaled": True}),
    "gsnl gaussian rw": ("gsnl", {"kernel": "gaussian", "normalization": "rw"}),
    "nl gaussian sym": ("nl", {"kernel": "gaussian", "normalization": "sym"}),
    "snl_a1": ("snl_a1", {}),
    "snl_a2": ("snl_a2", {}),
    "gsnl 0": ("gsnl", {"order": 0}),
    "gsnl": ("gsnl", {}),
    "gsnl 8": ("gsnl", {"order": 8}),
    "gsnl dot": ("gsnl", {"kernel": "dot", "normalization": None}),
    "gsnl concatenation": (
        "gsnl",
        {"kernel": "concatenation", "normalization": None, "order": 2, "bias": "theta,phi,g"},
    ),
    "gsnl rw": ("gsnl", {"order": 3, "normalization": "rw"}),
    "cayley": ("cayley", {}),
    "cayley 3": ("cayley", {"order": 3}),
}
GATES: dict[str, tuple[str, dict[str, Any]]] = {
    "se": ("se", {"reduction": 2}),
    "gc": ("gc", {"reduction": 2}),
    "gc simple": ("gc", {"reduction": None}),
    "ge": ("ge", {}),
    "ge 2": ("ge", {"extent": 2}),
    "ge theta": ("ge", {"theta": "theta", "extent": 4}),
    "ge plus": ("ge", {"theta": "plus", "extent": 2, "reduction": 2}),
    "cgd": ("cgd", {}),
}

nonlocal_cases = pytest.mark.parametrize("case", list(CASES))
gate_cases = pytest.mark.parametrize("case", list(GATES))
all_cases = pytest.mark.parametrize("case", [*CASES, *GATES])


def new(case: str, ndim: int = 3, channels: int = 8, width: int = 4, **more: Any) -> nn.Module:
    """A block as a user gets it, from the seed 0; ``width`` for the nonlocal ones."""
    name, options = {**CASES, **GATES}[case]
    if case in CASES:
        more = {"inter_channels": width, **more}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_block(name, channels, ndim=ndim, **options, **more)


def made(case: str, ndim: int = 3, channels: int = 8, width: int = 4, **more: Any) -> nn.Module:
    """A block in float64 and evaluation mode whose norms are anything but the identity."""
    block = new(case, ndim, channels, width, zero_init=False, **more).double().eval()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for module in block.modules():
            if getattr(module, "running_mean", None) is not None:
                nn.init.uniform_(module.running_mean, -1, 1)
                nn.init.uniform_(module.running_var, 0.5, 2)
            if isinstance(module, nn.GroupNorm | nn.modules.batchnorm._BatchNorm):
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.uniform_(module.bias, -1, 1)
    return block


def features(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def by_the_equation(case: str, block: nn.Module, x: Tensor) -> Tensor:
    """X + norm(F(A, Z)) by plain loops over the positions, with the block's weights."""
    name, options = CASES[case]
    assert isinstance(block, NonlocalBlock) and len(block.units) == 1
    options = {n: value for n, value in options.items() if n not in ("bias", "norm", "norm_groups")}
    terms = naive_blocks.EQUATIONS[name](_weights(block), x.flatten(2).mT, x.shape[2:], **options)
    bias = block.units[0].combine.bias
    terms = terms if bias is None else terms + bias
    return x + _normed(block.units[0].norm, terms).mT.reshape(x.shape)


def _weights(block: NonlocalBlock) -> dict[str, Any]:
    sizes = [*block.widths, block.project.weight.shape[0] - sum(block.widths)]
    parts: list[Any] = list(block.project.weight.split(sizes))
    bias = block.project.whole_bias()
    if bias is not None:
        parts = list(zip(parts, bias.split(sizes), strict=True))
    names = {0: [], 2: ["theta", "phi"], 3: ["theta", "phi", "unary"]}[len(block.widths)]
    weights: dict[str, Any] = dict(zip([*names, "z"], parts, strict=True))
    weights["w"] = block.units[0].combine.matrix().chunk(block.filter.count, 1)
    weights["gamma"] = block.gamma
    if hasattr(block.filter, "zoom"):
        weights["h"] = (1 + block.filter.zoom.exp()).log()
    return weights


def _normed(norm: nn.Module, terms: Tensor) -> Tensor:
    """Shape: (B, N, C)."""
    if isinstance(norm, nn.Identity):
        return terms
    if isinstance(norm, nn.GroupNorm):
        grouped = terms.unflatten(2, (norm.num_groups, -1))
        mean = grouped.mean((1, 3), keepdim=True)
        variance = ((grouped - mean) ** 2).mean((1, 3), keepdim=True)
        terms = ((grouped - mean) / (variance + norm.eps).sqrt()).flatten(2)
        return terms * norm.weight + norm.bias
    normed = (terms - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    return normed * norm.weight + norm.bias


def assert_same_with_gradients(
    actual: Tensor, expected: Tensor, leaves: list[Tensor], **tolerance: float
) -> None:
    """Equal values, and equal gradients of a sum with unequal weights."""
    tolerance = tolerance or EXACT
    torch.testing.assert_close(actual, expected, **tolerance)
    if actual.numel() == 0:
        return
    weights = torch.linspace(-1, 2, actual.numel(), dtype=actual.dtype).view(actual.shape)
    gradients = [
        torch.autograd.grad((y * weights).sum(), leaves, materialize_grads=True)
        for y in (actual, expected)
    ]
    torch.testing.assert_close(*gradients, **tolerance)
