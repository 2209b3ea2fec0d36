"""Options of the papers and of other code: biases, norms, pooling, fusion."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from tests.blocks.cases import CASES, GATES, all_cases, features, nonlocal_cases
from video_snl.blocks import BLOCKS, NAMES, NonlocalBlock, make_block
from video_snl.blocks.gates import GATES as GATE_CLASSES
from video_snl.blocks.operators import RectifiedSum


def made(name: str, channels: int = 8, ndim: int = 2, **options: Any) -> NonlocalBlock:
    torch.manual_seed(0)
    block = make_block(name, channels, ndim=ndim, zero_init=False, **options).double().eval()
    assert isinstance(block, NonlocalBlock)
    return block


@pytest.mark.parametrize(
    ("name", "of", "changes"),
    [
        ("nl", "theta", True),  # <b, phi_j> differs from key to key
        ("nl", "phi", False),  # <theta_i, b> is the same for all keys, and the softmax drops it
        ("a2", "theta", True),
        ("a2", "phi", False),
        ("dnl", "theta", False),  # whitening subtracts it
        ("dnl", "phi", False),
        ("snl", "theta", True),
        ("snl", "phi", True),
        ("cc", "theta", True),
        ("cc", "phi", False),
        ("cgnl", "theta", True),
        ("cgnl", "phi", True),
    ],
)
def test_which_biases_change_an_affinity(name: str, of: str, changes: bool) -> None:
    options = {"gamma": 0.1} if name == "cgnl" else {}
    block, x = made(name, inter_channels=4, bias=of, **options), features(2, 8, 3, 4)
    assert block.project.bias is not None
    nn.init.zeros_(block.project.bias)
    without = block.affinity(x).to_dense()
    nn.init.normal_(block.project.bias)
    change = (block.affinity(x).to_dense() - without).norm() / without.norm()
    assert change > 0.05 if changes else change < 1e-12


def test_biases_that_are_named() -> None:
    for bias, count in (("", 0), ("theta", 4), ("theta, g", 8), ("all", 12), ("out,phi", 4)):
        block = made("nl", bias=bias)
        assert (0 if block.project.bias is None else len(block.project.bias)) == count
        assert (block.sub_blocks[0].combine.bias is not None) == (bias in ("all", "out,phi"))
    with pytest.raises(ValueError, match="bias of gamma is unknown; choose from: theta, phi, g"):
        made("nl", bias="gamma")
    two = made("snl", bias="g", num_units=2)
    transfer = two.sub_blocks[1].transfer
    assert transfer is not None and transfer.bias is not None


@nonlocal_cases
def test_projections_are_layers_with_names(case: str) -> None:
    name, options = CASES[case]
    block, x = made(name, **options), features(2, 8, 3, 4)
    rows = x.flatten(2).mT
    parts = block.projections()
    assert all(isinstance(layer, nn.Linear) for layer in (*parts.values(), block.project))
    if not parts:
        return
    assert_close(torch.cat([layer(rows) for layer in parts.values()], -1), block.project(rows))
    for own in ("theta", "phi", "g"):
        assert hasattr(block, own) == (own in parts)
    torch.autograd.grad(sum(layer.weight.sum() for layer in parts.values()), block.project.weight)
    keys, y = list(block.state_dict()), block(x)
    with torch.no_grad():
        for layer in parts.values():
            layer.weight.mul_(0.5)
    assert list(block.state_dict()) == keys == list(made(name, **options).state_dict())
    assert not torch.equal(block(x), y)
    assert block.sub_blocks[0].combine.weight.shape[0] == 8


def test_projections_have_the_values_of_their_layers() -> None:
    block = made("dnl", bias="phi,g", inter_channels=3)
    theta, phi, unary, g = block.projections().values()
    weight, bias = block.project.weight, block.project.bias
    assert torch.equal(torch.cat([theta.weight, phi.weight, unary.weight, g.weight]), weight)
    assert torch.equal(torch.cat([phi.bias, g.bias]), bias) and theta.bias is unary.bias is None
    assert torch.equal(block.g.weight, weight[7:]) and block.phi.out_features == 3
    with pytest.raises(AttributeError, match="no attribute 'g'|no projection g, but theta, phi"):
        made("cc").g  # noqa: B018
    state = torch.random.get_rng_state()
    assert block.theta.in_features == 8 and torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
@pytest.mark.parametrize("name", ["nl", "snl", "cgnl", "cayley"])
def test_norms_start_as_the_identity_and_train(name: str, norm: str) -> None:
    torch.manual_seed(0)
    groups = {"norm_groups": 2} if norm == "group" else {}
    block = make_block(name, 8, ndim=2, norm=norm, bias="out", **groups).double()
    x = features(3, 8, 3, 4)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    trained = [n for n, p in block.named_parameters() if p.grad is not None and p.grad.any()]
    assert trained  # the norm's weight, or without one that of the terms
    y = made(name, norm=norm, **groups).train()(x)
    assert y.isfinite().all() and not torch.equal(y, x)


def test_a_layer_norm_is_of_each_position() -> None:
    block, x = made("nl", norm="layer"), features(2, 8, 3, 4)
    affinity = block.affinity(x).to_dense()
    rows = x.flatten(2).mT
    z = rows @ block.project.weight[8:].mT
    [sub_block] = block.sub_blocks
    added = F.layer_norm(affinity @ z @ sub_block.combine.weight.mT, (8,))
    assert_close(block(x), x + added.mT.reshape(x.shape))
    with pytest.raises(ValueError, match="its LayerNorm depends on each position"):
        block.as_graph_filter(x)


@pytest.mark.parametrize("name", ["nl", "dnl"])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("ceil", [False, True])
def test_keys_are_pooled_before_or_after_the_projection(name: str, first: bool, ceil: bool) -> None:
    block = made(name, pool=2, pool_first=first, ceil_mode=ceil, bias="theta")
    x = features(1, 8, 4, 5)

    def pooled(rows: Tensor) -> Tensor:
        maps = rows.mT.unflatten(2, (4, 5))
        return F.max_pool2d(maps, 2, ceil_mode=ceil).flatten(2).mT

    rows = x.flatten(2).mT
    bias = block.project.whole_bias()
    theta = F.linear(rows, block.project.weight, bias)[..., :4]
    if first:
        heard = F.linear(pooled(rows), block.project.weight, bias)[..., 4:]
    else:
        heard = pooled(F.linear(rows, block.project.weight, bias)[..., 4:])
    assert heard.shape[1] == (6 if ceil else 4)
    phi, z = heard[..., :4], heard[..., -4:]
    if name == "nl":
        affinity = (theta @ phi.mT).softmax(-1)
    else:
        whitened = (theta - theta.mean(1)) @ (phi - phi.mean(1)).mT
        affinity = whitened.softmax(-1) + heard[..., 4:5].softmax(1).mT
    [sub_block] = block.sub_blocks
    added = (affinity @ z @ sub_block.combine.weight.mT).mT.reshape(x.shape)
    assert_close(block(x), x + sub_block.norm(added))


def test_gamma_of_disentangled_attention_starts_where_it_is_told() -> None:
    """From 0, as in its authors' code, a new block listens to the unary softmax alone."""
    block, x = made("dnl", gamma=0.0), features(2, 8, 3, 4)
    unary = F.linear(x.flatten(2).mT, block.project.weight[8:9]).softmax(1)
    assert_close(block.affinity(x).to_dense(), unary.mT.expand(-1, 12, -1))
    nn.init.constant_(block.gamma, 2.0)
    rows = block.affinity(x).to_dense().sum(-1)
    assert_close(rows, torch.full_like(rows, 3.0))
    block.reset_parameters()
    assert block.gamma.item() == 0 and block.gamma.requires_grad
    assert "gamma" in dict(block.named_parameters()) and "gamma" not in made("dnl").state_dict()
    cool, warm = made("dnl", temperature=0.05), made("dnl")
    with torch.no_grad():
        warm.project.weight[:4] /= 0.05
    assert_close(cool(x), warm(x))
    for options, message in (
        ({"temperature": 0.0}, "temperature=0.0 must be above 0 and finite"),
        ({"gamma": float("inf")}, "gamma=inf, where the learned weight starts, is not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            make_block("dnl", 8, **options)  # type: ignore[arg-type]


def test_a_rectified_sum_of_many_keys_needs_no_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 300, generator=generator).double() for _ in range(2))
    a[0, :5] = -b[0, :5]  # exactly at the kink
    z = torch.randn(2, 300, 7, generator=generator).double()
    leaves = [x.requires_grad_() for x in (a, b, z)]
    fast, plain = RectifiedSum(a, b).matmul(z), F.relu(a[..., None] + b[:, None]) @ z
    assert_close(fast, plain, rtol=1e-9, atol=1e-9)
    weight = torch.randn(fast.shape, generator=generator).double()
    for first, second in zip(
        torch.autograd.grad(fast, leaves, weight),
        torch.autograd.grad(plain, leaves, weight),
        strict=True,
    ):
        assert_close(first, second, rtol=1e-8, atol=1e-8)
    large = RectifiedSum(torch.randn(1, 300_000), torch.randn(1, 300_000))
    assert large.matmul(torch.randn(1, 300_000, 2)).isfinite().all()  # 360 GB as a matrix


@pytest.mark.parametrize("fusion", ["add", "mul", "both"])
@pytest.mark.parametrize("reduction", [None, 2])
def test_global_context_is_added_or_multiplied(fusion: Any, reduction: int | None) -> None:
    torch.manual_seed(0)
    block = make_block("gc", 8, ndim=2, fusion=fusion, reduction=reduction, zero_init=False)
    block, x = block.double().eval(), features(2, 8, 3, 4)
    weights = block.mask(x).flatten(2).softmax(-1)
    context = (x.flatten(2) * weights).sum(-1)[..., None, None]
    expected = x * block.gate(context).sigmoid() if fusion != "add" else x
    expected = expected + block.transform(context) if fusion != "mul" else expected
    assert_close(block(x), expected)
    with pytest.raises(ValueError, match="fusion='sum' is unknown"):
        make_block("gc", 8, fusion="sum")  # type: ignore[arg-type]


@all_cases
@pytest.mark.parametrize("zero_init", [True, False])
def test_weights_drawn_anew_are_those_of_a_new_block(case: str, zero_init: bool) -> None:
    name, options = {**CASES, **GATES}[case]

    def build() -> nn.Module:
        return make_block(name, 8, ndim=2, zero_init=zero_init, **options)

    block = build()
    for tensor in (*block.parameters(), *block.buffers()):
        tensor.data.fill_(7)
    block.reset_parameters()  # type: ignore[operator]
    _assert_as_new(block, build)


@all_cases
@pytest.mark.parametrize("zero_init", [True, False])
def test_modules_drawn_anew_one_by_one_are_a_new_block(case: str, zero_init: bool) -> None:
    """As FSDP does it with modules on the meta device."""
    name, options = {**CASES, **GATES}[case]

    def build(device: str = "cpu") -> nn.Module:
        return make_block(name, 8, ndim=2, zero_init=zero_init, device=device, **options)

    block, expected = build("meta"), build()
    for module in block.modules():
        module.to_empty(device="cpu", recurse=False)
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            tensor.data.fill_(7)
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    _assert_as_new(block, build)
    x = features(2, 8, 3, 4).float()
    assert torch.equal(block(x), x) == torch.equal(expected(x), x)


def _assert_as_new(block: nn.Module, build: Callable[[], nn.Module]) -> None:
    """Check that what is the same in all new blocks is so here, and that the rest was drawn."""
    torch.manual_seed(11)
    new, other = build().state_dict(), build().state_dict()
    for key, tensor in block.state_dict().items():
        same = new[key] == other[key]
        assert torch.equal(tensor[same], new[key][same]), key
        drawn = tensor[~same]
        assert not (drawn == 7).any() and len(drawn.unique()) == len(drawn), key


@all_cases
def test_device_and_type_of_the_parameters(case: str) -> None:
    name, options = {**CASES, **GATES}[case]
    block = make_block(name, 8, ndim=2, device="meta", dtype=torch.float64, **options)
    for parameter in block.parameters():
        assert parameter.is_meta and parameter.dtype == torch.float64
    assert block(torch.empty(2, 8, 3, 4, device="meta", dtype=torch.float64)).shape[1] == 8


def test_parametrised_weights_are_folded() -> None:
    block, x = made("snl", bias="out"), features(2, 8, 3, 4)
    [sub_block] = block.sub_blocks
    nn.utils.parametrizations.weight_norm(sub_block.combine)
    nn.init.uniform_(sub_block.norm.running_mean, -1, 1)  # type: ignore[arg-type, union-attr]
    expected = block(x)
    assert_close(block.fuse()(x), expected)
    assert isinstance(sub_block.combine.weight, nn.Parameter)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "instance"}, "norm='instance' is unknown; choose from: batch, group, layer"),
        ({"norm_groups": 2}, "norm_groups=2 is of norm='group'"),
        ({"norm": "group", "norm_groups": 0}, "norm_groups=0 must be at least 1"),
        ({"pool_first": True}, "pool_first and ceil_mode are of pool=2"),
        ({"kernel": "concatenation", "normalization": "rw"}, "it is divided by N as in its paper"),
        ({"normalization": "x"}, "normalization='x' is unknown; choose 'sym', 'rw' or None"),
        ({"norm": "group", "norm_groups": 3}, "norm_groups=3 must divide in_channels=8"),
        ({"inter_channels": 0}, "inter_channels=0 with in_channels=8 must be at least 1"),
        ({"inter_channels": 4.0}, "inter_channels=4.0 must be a whole number"),
        ({"num_units": "2"}, "num_units='2' must be a whole number"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_block("nl", 8, **options)


def test_options_of_other_blocks_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="scaled=True is of CGNL's dot product"):
        make_block("cgnl", 8, scaled=True)
    with pytest.raises(ValueError, match="descriptors=0 must be at least 1"):
        make_block("a2", 8, descriptors=0)
    for gamma in (0.0, -1.0, 41, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"gamma={gamma} must be above 0 and at most 40"):
            make_block("cgnl", 8, gamma=gamma)
    for order in (-1, 101):
        with pytest.raises(ValueError, match=f"order={order} must be 0 to 100"):
            make_block("cgnl", 8, order=order)


ODD = (math.nan, math.inf, -math.inf, -0.5, -1, 0, 1, 2, 3, 7, 64, 1e6, "x", "", True, None, [1])


def options_of(name: str) -> list[str]:
    """All arguments of a block in a configuration, without its number of axes."""
    own = inspect.signature(BLOCKS[name][0].row if name in BLOCKS else GATE_CLASSES[name].__init__)
    common = ["bias", "norm", "norm_groups", "inter_channels", "num_units", "activation"]
    names = [*own.parameters, *(common if name in BLOCKS else [])]
    others = ("self", "ndim", "zero_init", "device", "dtype")
    return [option for option in names if option not in others]


@pytest.mark.parametrize("name", NAMES)
def test_what_can_be_made_can_be_applied(name: str) -> None:
    """Whatever an option may not be is said where the block is made, in one line."""
    x = features(2, 8, 4, 4).float()
    made_ones = 0
    for option in {"in_channels", *options_of(name)}:
        for value in ODD:
            options: dict[str, Any] = {"in_channels": 8, option: value}
            if option == "norm_groups":
                options["norm"] = "group"
            try:
                block = make_block(name, ndim=2, zero_init=False, **options)
            except ValueError as error:
                assert option in str(error) and "\n" not in str(error), (option, value)
                continue
            made_ones += 1
            if option != "in_channels":
                assert block(x).isfinite().all(), (option, value)
    assert made_ones > 4


@pytest.mark.parametrize(
    ("name", "options", "bias", "has"),
    [
        ("nl", {"kernel": "gaussian"}, "theta,phi", "g, out"),
        ("cc", {}, "g", "theta, phi, out"),
        ("gsnl", {"order": 0}, "theta", "g, out"),
        ("a2", {}, "", ""),
        ("dnl", {}, "", ""),
    ],
)
def test_biases_that_a_block_does_not_have(
    name: str, options: dict[str, Any], bias: str, has: str
) -> None:
    if bias:
        with pytest.raises(ValueError, match=f"bias of {bias[:5]}.* no such projection.*has {has}"):
            make_block(name, 8, bias=bias, **options)
    block = made(name, bias="all", **options)
    assert block.description is not None
    assert block.description["bias"] == (has or "theta, phi, g, out").replace(" ", "")
    parts = {n: layer.bias is not None for n, layer in block.projections().items()}
    assert all(has for n, has in parts.items() if n != "unary")
