"""Every value of every option of every block compiles in one graph, and computes the same."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.blocks.cases import features
from video_snl.blocks import BLOCKS, NAMES, make_block
from video_snl.blocks.gates import GATES
from video_snl.blocks.zoo import BlockOptions

# Values of the options that are numbers or texts; those of choices and switches are in their types.
NUMBERS: dict[str, tuple[Any, ...]] = {
    "bias": ("theta", "phi", "g", "out", "all"),
    "norm_groups": (1, 2),
    "pool": (1, 2),
    "descriptors": (None, 3),
    "order": (0, 1, 2, 3),
    "groups": (1, 2),
    "gamma": (None, 0.0, 0.5),
    "temperature": (0.5,),
    "recurrence": (1, 2),
    "reduction": (None, 2),
    "extent": (0, 2, 4),
    "inter_channels": (None, 3),
    "num_units": (1, 2),
}
# What an option needs beside it.
BESIDE: dict[tuple[str, str], dict[str, Any]] = {
    ("nl", "pool_first"): {"pool": 2},
    ("nl", "ceil_mode"): {"pool": 2},
    ("dnl", "pool_first"): {"pool": 2},
    ("dnl", "ceil_mode"): {"pool": 2},
    ("cgnl", "scaled"): {"series": False},
    ("snl", "scaled"): {"kernel": "embedded_gaussian"},
    ("gsnl", "scaled"): {"kernel": "embedded_gaussian"},
    ("ge", "theta"): {"extent": 2},
    ("ge", "reduction"): {"theta": "plus", "extent": 2},
}
# Choices of others that a block refuses, as its tests of options say.
REFUSED = {
    ("snl", "kernel", "dot"),
    ("snl", "kernel", "concatenation"),
    ("gsnl", "kernel", "dot"),
    ("gsnl", "kernel", "concatenation"),
    ("nl", "normalization", None),
    ("ns", "normalization", None),
    ("cayley", "order", 0),
    ("cc", "bias", "g"),
    ("se", "reduction", None),
    ("ge", "reduction", None),
    ("cgnl", "gamma", None),
    ("cgnl", "gamma", 0.0),
}


def values_of(hint: Any) -> Iterator[Any]:
    """Yield the values of a type that has few."""
    if hint is bool:
        yield from (False, True)
    elif hint is type(None):
        yield None
    elif get_origin(hint) is Literal:
        yield from (value for value in get_args(hint) if value != "default")
    else:
        for part in get_args(hint):
            yield from values_of(part)


def hints_of(name: str) -> dict[str, Any]:
    """Return the options of a block with their types."""
    if name in GATES:
        own = get_type_hints(GATES[name].__init__)
        left_out: tuple[str, ...] = ("self", "in_channels", "ndim", "return")
        return {key: hint for key, hint in own.items() if key not in left_out}
    row = BLOCKS[name][0].row
    own = {key: get_type_hints(row)[key] for key in inspect.signature(row).parameters}
    of_all = {key: get_type_hints(BlockOptions)[key] for key in ("bias", "norm", "norm_groups")}
    made = get_type_hints(make_block)
    arguments = {
        key: made[key] for key in ("inter_channels", "num_units", "zero_init", "activation")
    }
    return {**own, **of_all, **arguments}


def every_value() -> Iterator[Any]:
    """Yield all of them."""
    for name in NAMES:
        for option, hint in hints_of(name).items():
            values = NUMBERS[option] if option in NUMBERS else tuple(values_of(hint))
            assert len(values) > 0, f"values of {option}={hint} belong into NUMBERS"
            for value in values:
                if (name, option, value) not in REFUSED:
                    yield pytest.param(name, option, value, id=f"{name} {option}={value}")


def block_of(name: str, option: str, value: Any) -> nn.Module:
    options = {"zero_init": False, **BESIDE.get((name, option), {}), option: value}
    if value == "group" or option == "norm_groups":
        options = {**options, "norm": "group"}
    torch.manual_seed(0)
    return make_block(name, 8, ndim=2, **options).double()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option", "value"), every_value())
def test_every_value_of_every_option(name: str, option: str, value: Any) -> None:
    """In training with gradients: with the backend that records both passes and compiles none."""
    torch.compiler.reset()
    block, x = block_of(name, option, value), features(2, 8, 4, 5).requires_grad_()
    other = copy.deepcopy(block)
    expected = block(x)
    found = torch.compile(other, fullgraph=True, backend="aot_eager")(x)
    assert_close(found, expected, rtol=1e-9, atol=1e-10)
    leaves = [[x, *module.parameters()] for module in (block, other)]
    for first, second in zip(
        torch.autograd.grad(expected.square().sum(), leaves[0]),
        torch.autograd.grad(found.square().sum(), leaves[1]),
        strict=True,
    ):
        assert_close(second, first, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("nl", "pool", 2), ("dnl", "gamma", 0.5), ("cc", "recurrence", 2), ("gc", "fusion", "both")],
)
def test_options_with_inductor(name: str, option: str, value: Any) -> None:
    torch.compiler.reset()
    block, x = block_of(name, option, value).float().eval(), features(2, 8, 4, 5).float()
    assert_close(torch.compile(block, fullgraph=True)(x), block(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "option", "value"), sorted(REFUSED, key=str))
def test_what_is_left_out_is_refused(name: str, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        block_of(name, option, value)
