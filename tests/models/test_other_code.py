"""Blocks of other code: the same outputs from their state dicts.

pytorchvideo's block is the real one. The others are written here from their projects' descriptions:
names of layers, and what is done with them.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from tests.released_states import block_state
from video_snl import load_block
from video_snl.blocks import BlockConfig, Polynomial, make_block
from video_snl.blocks.kernels import pair_kernel
from video_snl.blocks.zoo import NAMES, dimensions
from video_snl.models.released.other_code import Source

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def features(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()


def shaken(module: nn.Module) -> nn.Module:
    """Give every tensor of a module values of its own, in float64 and evaluation mode."""
    torch.manual_seed(0)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor.data, 0.2, 1.0)
            tensor.data.mul_(torch.where(torch.rand_like(tensor) < 0.5, -1.0, 1.0))
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return module.double().eval()


class Layer(nn.Module):
    """A convolution called conv, and a norm called bn, as OpenMMLab's ConvModule."""

    def __init__(self, into: int, out: int, ndim: int, norm: bool = False, bias: bool = True):
        super().__init__()
        self.conv = CONV[ndim](into, out, 1, bias=bias and not norm)
        if norm:
            self.bn = NORM[ndim](out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.bn(x) if hasattr(self, "bn") else x


class OpenMMLab(nn.Module):
    """Nonlocal block of mmcv: pooled after the projection, scaled where use_scale says so."""

    def __init__(self, ndim: int, mode: str, norm: bool, sub_sample: bool, use_scale: bool):
        super().__init__()
        self.ndim, self.mode, self.use_scale = ndim, mode, use_scale
        self.pools = sub_sample
        g = Layer(8, 4, ndim)
        self.conv_out = Layer(4, 8, ndim, norm)
        if mode != "gaussian":
            self.theta, phi = Layer(8, 4, ndim), Layer(8, 4, ndim)
        if mode == "concatenation":
            self.concat_project = Layer(8, 1, 2, bias=False)
        self.g = nn.Sequential(g, nn.Identity()) if sub_sample else g
        if mode != "gaussian":
            self.phi = nn.Sequential(phi, nn.Identity()) if sub_sample else phi

    def pooled(self, x: Tensor) -> Tensor:
        window = {1: [2], 2: [2, 2], 3: [1, 2, 2]}[self.ndim]
        return POOL[self.ndim](x, window) if self.pools else x

    def forward(self, x: Tensor) -> Tensor:
        g = self.pooled(self.g(x)).flatten(2).mT
        theta = x if self.mode == "gaussian" else self.theta(x)
        phi = self.pooled(x if self.mode == "gaussian" else self.phi(x))
        theta, phi = theta.flatten(2).mT, phi.flatten(2)
        if self.mode == "concatenation":
            n, m = theta.shape[1], phi.shape[2]
            both = torch.cat(
                [theta.mT[..., None].expand(-1, -1, n, m), phi[:, :, None].expand(-1, -1, n, m)], 1
            )
            pairs = F.relu(self.concat_project(both))[:, 0] / m
        else:
            pairs = theta @ phi
            if self.mode == "dot_product":
                pairs = pairs / pairs.shape[-1]
            else:
                scale = self.use_scale and self.mode == "embedded_gaussian"
                pairs = (pairs / theta.shape[-1] ** 0.5 if scale else pairs).softmax(-1)
        y = (pairs @ g).mT.reshape(x.shape[0], 4, *x.shape[2:])
        return x + self.conv_out(y)


KERNELS = {
    "embedded_gaussian": "embedded_gaussian",
    "gaussian": "gaussian",
    "dot_product": "dot",
    "concatenation": "concatenation",
}


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("mode", list(KERNELS))
@pytest.mark.parametrize(("norm", "sub_sample"), [(True, False), (False, True)])
def test_openmmlab(ndim: int, mode: str, norm: bool, sub_sample: bool) -> None:
    for use_scale in (True, False) if mode == "embedded_gaussian" else (True,):
        theirs = shaken(OpenMMLab(ndim, mode, norm, sub_sample, use_scale))
        options: dict[str, Any] = {} if use_scale else {"scaled": False}
        if mode == "concatenation" and sub_sample:
            with pytest.raises(ValueError, match="takes the maxima of phi before it is joined"):
                load_block(theirs.state_dict(), "mmaction2", kernel="concatenation")
            return
        ours = load_block(theirs.state_dict(), "mmaction2", kernel=KERNELS[mode], **options)
        x = features(2, 8, *{1: (7,), 2: (5, 4), 3: (2, 5, 4)}[ndim])
        assert not ours.training
        assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("instantiation", ["softmax", "dot_product"])
@pytest.mark.parametrize("norm", [True, False])
def test_pytorchvideo(pool: int, instantiation: str, norm: bool) -> None:
    from pytorchvideo.layers.nonlocal_net import create_nonlocal

    theirs = shaken(
        create_nonlocal(
            dim_in=8,
            dim_inner=4,
            pool_size=(1, pool, pool),
            instantiation=instantiation,
            norm=nn.BatchNorm3d if norm else None,
        )
    )
    kernel = "dot" if instantiation == "dot_product" else None
    x = features(2, 8, 2, 4, 4)
    ours = load_block(theirs.state_dict(), "pytorchvideo", kernel=kernel, pool=pool)
    assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)
    renamed = {n.replace("norm.", "bn."): t for n, t in theirs.state_dict().items()}
    again = load_block(renamed, "slowfast", kernel=kernel, pool=pool)
    assert torch.equal(again(x), ours(x))
    wrapped = {f"module.{name}": tensor for name, tensor in renamed.items()}
    assert torch.equal(load_block(wrapped, "slowfast", kernel=kernel, pool=pool)(x), ours(x))


class Context(nn.Module):
    """ContextBlock of GCNet with attention pooling."""

    def __init__(self, fusions: tuple[str, ...]) -> None:
        super().__init__()
        self.conv_mask = nn.Conv2d(8, 1, 1)
        for fusion in fusions:
            layers = nn.Conv2d(8, 2, 1), nn.LayerNorm([2, 1, 1]), nn.ReLU(), nn.Conv2d(2, 8, 1)
            setattr(self, f"channel_{fusion}_conv", nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.conv_mask(x).flatten(2).softmax(2)
        context = (x.flatten(2) * weights).sum(-1)[..., None, None]
        if hasattr(self, "channel_mul_conv"):
            x = x * self.channel_mul_conv(context).sigmoid()
        return x + self.channel_add_conv(context) if hasattr(self, "channel_add_conv") else x


@pytest.mark.parametrize("fusions", [("add",), ("mul",), ("add", "mul")])
def test_gcnet(fusions: tuple[str, ...]) -> None:
    theirs, x = shaken(Context(fusions)), features(2, 8, 3, 4)
    assert_close(load_block(theirs.state_dict(), "gcnet")(x), theirs(x), rtol=1e-9, atol=1e-9)


class Generalized(nn.Module):
    """SpatialCGNL: the dot product over the channels of all positions, in groups."""

    def __init__(self, use_scale: bool, groups: int) -> None:
        super().__init__()
        self.t, self.p, self.g = (nn.Conv2d(8, 4, 1, bias=False) for _ in range(3))
        self.z = nn.Conv2d(4, 8, 1, bias=False, groups=groups)
        self.gn = nn.GroupNorm(groups, 8)
        self.use_scale, self.groups = use_scale, groups

    def forward(self, x: Tensor) -> Tensor:
        found = []
        parts = (f(x).chunk(self.groups, 1) for f in (self.t, self.p, self.g))
        for t, p, g in zip(*parts, strict=True):
            amount = (p * g).sum((1, 2, 3), keepdim=True)
            amount = amount / p[0].numel() ** 0.5 if self.use_scale else amount
            found.append(amount * t)
        return x + self.gn(self.z(torch.cat(found, 1)))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("use_scale", [False, True])
def test_cgnl(groups: int, use_scale: bool) -> None:
    theirs, x = shaken(Generalized(use_scale, groups)), features(2, 8, 3, 4)
    ours = load_block(theirs.state_dict(), "cgnl", scaled=use_scale)
    assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)
    series = load_block(theirs.state_dict(), "cgnl", kernel="taylor", order=3, gamma=1e-2)
    assert series.config.kernel.order == 3


@pytest.mark.parametrize("name", NAMES)
def test_ours_say_what_they_are(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    block = shaken(make_block(name, 8, ndim=2, zero_init=False)).float()
    torch.save(block.state_dict(), tmp_path / "block.pth")
    again, x = load_block(tmp_path / "block.pth"), features(2, 8, 3, 4).float()
    assert type(again) is type(block) and torch.equal(again(x), block(x))
    into = make_block(name, 8, ndim=2)
    assert load_block(tmp_path / "block.pth", into=into) is into
    assert torch.equal(into.eval()(x), block(x))
    plain = torch.load(tmp_path / "block.pth", weights_only=True)
    make_block(name, 8, ndim=2).load_state_dict(plain)  # as ever
    assert list(plain) == list(block.state_dict())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"in_channels": 10**9}, "does not fit a GSNL2d"),
        ({"order": 20_000}, "order=20000 must be 0 to 100"),
        ({"device": "cuda"}, "device is no part of the description"),
    ],
)
def test_a_description_of_another_size_takes_no_memory(
    changed: dict[str, Any], message: str
) -> None:
    state = make_block("gsnl", 8, ndim=2).state_dict()
    state._metadata[""]["block"] |= changed
    with pytest.raises(ValueError, match=message):
        load_block(state)


def test_a_context_block_wider_than_its_input_is_refused() -> None:
    state = {
        "conv_mask.weight": torch.randn(1, 8, 1, 1),
        "conv_mask.bias": torch.randn(1),
        "channel_add_conv.0.weight": torch.randn(32, 8, 1, 1),
    }
    with pytest.raises(ValueError, match="32 of 8 channels are no whole reduction"):
        load_block(state, "gcnet")


def test_another_block_is_refused_with_both_descriptions() -> None:
    state = make_block("snl", 8, ndim=2).state_dict()
    with pytest.raises(ValueError) as caught:
        load_block(state, into=make_block("nl", 8, ndim=2, pool=2))
    said = str(caught.value)
    assert "are of snl(in_channels=8" in said and "is nl(in_channels=8" in said and "pool=2" in said
    bare = OrderedDict((name, tensor) for name, tensor in state.items())
    with pytest.raises(ValueError, match="no description of a block"):
        load_block(bare)
    network = nn.Sequential(make_block("snl", 8, ndim=2))
    assert copy.deepcopy(network)[0].description == network[0].description


@pytest.mark.parametrize(
    ("source", "change", "options", "message"),
    [
        ("mmaction", None, {}, "did you mean 'mmaction2'"),
        ("mmaction2", None, {"kernel": "cosine"}, "has embedded_gaussian, dot, gaussian, conc"),
        ("mmaction2", None, {"pool": 2}, "pool: a block of 'mmaction2' has no such option"),
        ("mmaction2", None, {"kernel": "dot", "scaled": True}, "scaled: a block of"),
        ("mmaction2", "drop", {}, "theta.conv.weight is missing in a block of mmaction2; there"),
        ("mmaction2", "more", {}, "extra.weight are not of a block of mmaction2"),
        ("mmaction2", "shape", {}, "in the state dict, .* in a block of these widths|no 1x1"),
        ("slowfast", None, {}, "conv_g.weight is missing in a block of slowfast"),
        ("cgnl", None, {"kernel": "gaussian"}, "a block of cgnl has dot and taylor"),
        ("gcnet", None, {"order": 2}, "order: a block of 'gcnet' has no such option"),
    ],
)
def test_what_does_not_fit(
    source: Any, change: str | None, options: dict[str, Any], message: str
) -> None:
    state = OpenMMLab(2, "embedded_gaussian", True, False, True).state_dict()
    if change == "drop":
        del state["theta.conv.weight"]
    if change == "more":
        state["extra.weight"] = torch.zeros(1)
    if change == "shape":
        state["theta.conv.weight"] = torch.zeros(4, 8, 3, 3)
    with pytest.raises(ValueError, match=message):
        load_block(state, source, **options)


def _state_of(source: Source) -> dict[str, Tensor]:
    """A state dict of the code, with every kind of layer that it has."""
    torch.manual_seed(0)
    if source == "snl-released":
        return block_state("snl")
    if source == "video_snl":
        return make_block("snl", 8, ndim=2, bias="all").state_dict()
    if source == "gcnet":
        return Context(("add",)).state_dict()
    if source == "cgnl":
        return Generalized(False, 2).state_dict()
    theirs = OpenMMLab(2, "embedded_gaussian", True, False, True).state_dict()
    if source == "mmaction2":
        return theirs
    names = {"conv_out.conv": "conv_out", "conv_out.bn": "bn" if source == "slowfast" else "norm"}
    names |= {f"{name}.conv": f"conv_{name}" for name in ("theta", "phi", "g")}
    parts = [(name.rpartition("."), tensor) for name, tensor in theirs.items()]
    return {f"{names[layer]}.{kind}": tensor for (layer, _, kind), tensor in parts}


def quantised(tensor: Tensor) -> Tensor:
    return torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8)


SPOILT: dict[str, Any] = {
    "sparse": lambda tensor: tensor.to_sparse(),
    "quantised": quantised,
    "complex": lambda tensor: tensor + 0j,
    "whole numbers": lambda tensor: tensor.long(),
    "truths": lambda tensor: tensor > 0,
    "eight bits": lambda tensor: tensor.to(torch.float8_e4m3fn),
    "NaN": lambda tensor: torch.full_like(tensor, torch.nan),
    "infinite": lambda tensor: torch.full_like(tensor, torch.inf),
    "without values": lambda tensor: tensor.to("meta"),
    "a list": lambda tensor: tensor.tolist(),
    "nothing": lambda tensor: None,
}


@pytest.mark.parametrize("source", get_args(Source))
def test_every_tensor_has_to_be_a_weight(source: Source, tmp_path: Path) -> None:
    whole = _state_of(source)
    load_block(whole, source)
    for name, tensor in whole.items():
        if not tensor.is_floating_point():
            continue
        for what, spoil in SPOILT.items():
            state = copy.copy(whole)  # with its _metadata
            state[name] = spoil(tensor)
            with pytest.raises(ValueError) as caught:
                load_block(state, source)
            assert name in str(caught.value) and "\n" not in str(caught.value), (name, what)


@pytest.mark.parametrize("source", get_args(Source))
def test_tensors_of_other_shapes(source: Source) -> None:
    """Each gives one line, whatever torch would say about it."""
    whole = _state_of(source)
    for name, tensor in whole.items():
        if not tensor.is_floating_point():
            continue
        for shape in ((), (0,), (3,), (5, 3), (0, 8, 1, 1), (4, 8, 3, 3), (5, 7, 1, 1)):
            if shape == tensor.shape or torch.Size(shape).numel() == tensor.numel():
                continue
            state = copy.copy(whole)
            state[name] = torch.ones(shape)
            with pytest.raises(ValueError) as caught:
                load_block(state, source)
            assert "\n" not in str(caught.value), (name, shape)


def test_files_that_hold_no_block(tmp_path: Path) -> None:
    files = {
        "page.pth": b"<!DOCTYPE html><html><body>Not found</body></html>",
        "empty.pth": b"",
        "cut.pth": b"PK\x03\x04 and no more",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}.*(damaged, cut short|cut short)") as caught:
            load_block(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"missing.pth cannot be read: No such file"):
        load_block(str(tmp_path / "missing.pth"))
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        load_block(tmp_path)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="hold a list; a dictionary of tensors"):
        load_block(tmp_path / "list.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "code.pth")
    with pytest.raises(ValueError, match="would have to run code to be read"):
        load_block(tmp_path / "code.pth")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("text", "description of a block in _metadata is damaged"),
        ({"": "text"}, "damaged"),
        ({"": {"block": 3}}, "damaged"),
        ({"": {"block": {"in_channels": 8}}}, "damaged"),
        ({"": {"block": {1: 2, "name": "snl", "in_channels": 8}}}, "damaged"),
        ({"": {"block": {"name": "snl", "in_channels": "8"}}}, "no block can be made"),
        ({"": {"block": {"name": "snl", "in_channels": 8, "colour": 1}}}, "no block can be made"),
        ({"": {"block": {"name": "xnl", "in_channels": 8}}}, "block='xnl' is unknown"),
        ({"": {"block": {"name": "snl", "in_channels": 6}}}, "does not fit a SNL3d: .* not "),
        ({"": {"block": {"name": "gc", "in_channels": 8}}}, "does not fit a GC: .* is missing"),
        (None, "no description of a block"),
        ({}, "no description of a block"),
    ],
)
def test_descriptions_that_are_damaged(metadata: Any, message: str) -> None:
    state = make_block("snl", 8).state_dict()
    state._metadata = metadata  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=message) as caught:
        load_block(state)
    assert "\n" not in str(caught.value)


def test_arguments_that_are_no_blocks() -> None:
    state = make_block("snl", 8).state_dict()
    with pytest.raises(ValueError, match="source=None is unknown; known are video_snl"):
        load_block(state, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got a SNL3d; give its state_dict\(\)"):
        load_block(make_block("snl", 8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="into='snl' is a str; a block of ours"):
        load_block(state, into="snl")  # type: ignore[arg-type]
    into = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match="does not fit a Conv2d: weight is missing"):
        load_block(state, into=into)
    other = make_block("snl", 8)
    state["units.0.norm.weight"] = torch.ones(3)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=r"units.0.norm.weight is \(3,\), not \(8,\)"):
        load_block(state, into=other)
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())
    options: dict[str, Any] = {"kernel": "taylor", "groups": 2}
    with pytest.raises(ValueError, match="groups: a block of 'cgnl' has no such option"):
        load_block(_state_of("cgnl"), "cgnl", **options)
    with pytest.raises(ValueError, match="colour: a block of 'snl-released' has no such option"):
        load_block(_state_of("snl-released"), "snl-released", colour=1)
    with pytest.raises(ValueError, match="pool=0 must be at least 1"):
        load_block(_state_of("slowfast"), "slowfast", pool=0)


EQUAL: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("nl", {}, {"kernel": "embedded_gaussian", "pool": 1, "normalization": "rw", "norm": "batch"}),
    ("nl", {"bias": "theta,phi"}, {"bias": "phi, theta"}),
    ("nl", {"bias": "all"}, {"bias": "theta,phi,g,out"}),
    ("cc", {"bias": "all"}, {"bias": "out,theta,phi"}),
    ("snl", {}, {"inter_channels": 4, "num_units": 1, "bias": ""}),
    ("a2", {}, {"descriptors": 4}),
    ("cgnl", {"groups": 2}, {"groups": 2, "norm": "group", "norm_groups": 2, "gamma": 1e-4}),
    ("gc", {}, {"reduction": 16, "fusion": "add"}),
    ("ge", {}, {"theta": "minus", "extent": 0}),
]


@pytest.mark.parametrize(("name", "short", "long"), EQUAL)
def test_equal_blocks_have_equal_descriptions(
    name: str, short: dict[str, Any], long: dict[str, Any]
) -> None:
    one, other = (make_block(name, 8, ndim=2, **options) for options in (short, long))
    assert one.description == other.description
    assert load_block(one.state_dict(), into=other) is other
    earlier = one.state_dict()  # with the options alone that were given
    told = {"name": name, "in_channels": 8, "ndim": 2, **short}
    earlier._metadata[""]["block"] = told  # type: ignore[attr-defined]
    assert load_block(earlier, into=other) is other
    other.description = told
    assert load_block(one.state_dict(), into=other) is other


def test_blocks_of_a_row_that_is_not_in_the_zoo() -> None:
    def two_hop(*, pool: int = 1) -> BlockConfig:
        return BlockConfig(pair_kernel("dot"), partial(Polynomial.powers, 2), pool=pool)

    own, _, _ = dimensions("TwoHop", two_hop)
    into = own(8, pool=1)
    assert load_block(own(8).state_dict(), into=into) is into
    with pytest.raises(ValueError, match=r"of snl\(in.* is two_hop\(in.*differ in name"):
        load_block(make_block("snl", 8, ndim=1).state_dict(), into=into)


def test_a_bias_that_did_nothing_is_no_difference() -> None:
    state = make_block("nl", 8, ndim=2, kernel="gaussian", bias="g").state_dict()
    told = {"name": "nl", "in_channels": 8, "ndim": 2, "kernel": "gaussian", "bias": "theta,phi,g"}
    state._metadata[""]["block"] = told  # type: ignore[attr-defined]
    assert load_block(state).description["bias"] == "g"
    assert load_block(state, into=make_block("nl", 8, ndim=2, kernel="gaussian", bias="g"))


@pytest.mark.parametrize("name", NAMES)
def test_fused_blocks_say_what_they_are_now(name: str) -> None:
    block, x = shaken(make_block(name, 8, ndim=2, zero_init=False)), features(2, 8, 3, 4)
    if not hasattr(block, "fuse"):
        return
    expected = block(x)
    norm = block.fuse().description["norm"]
    options = {"norm": "none", "bias": "out"} if norm == "none" else {}  # a GroupNorm stays
    again = make_block(name, 8, ndim=2, **options).double()
    assert load_block(block.state_dict(), into=again.eval()) is again
    assert_close(again(x), expected)
    assert load_block(block.state_dict()).description == block.description
    assert list(again.state_dict()) == list(block.state_dict())


def test_a_block_in_distributed_training() -> None:
    block = make_block("snl", 8, ndim=2)
    state = nn.DataParallel(block).state_dict()  # named as DistributedDataParallel names it
    assert "module.project.weight" in state
    assert load_block(state).description == block.description
    network = nn.DataParallel(nn.Sequential(nn.Conv2d(3, 8, 1), block)).state_dict()
    for prefix in ("1", "module.1"):
        assert load_block(network, prefix=prefix).description == block.description


def _checkpoint() -> dict[str, Any]:
    torch.manual_seed(0)
    blocks = {
        f"backbone.layer2.{at}.non_local_block.": OpenMMLab(
            3, "embedded_gaussian", False, sub, True
        )
        for at, sub in ((1, False), (3, False), (5, True))
    }
    tensors = {f"{at}{n}": t for at, b in blocks.items() for n, t in b.state_dict().items()}
    return {
        "meta": {"epoch": 1},
        "state_dict": {"backbone.conv1.conv.weight": torch.ones(3), **tensors},
    }


@pytest.mark.parametrize("key", ["state_dict", "model_state", "model"])
def test_one_block_of_a_checkpoint(key: str, tmp_path: Path) -> None:
    whole, at = _checkpoint(), "backbone.layer2.1.non_local_block"
    torch.save({key: whole["state_dict"], "epoch": 3}, tmp_path / "network.pth")
    alone = {
        name.removeprefix(f"{at}."): tensor
        for name, tensor in whole["state_dict"].items()
        if name.startswith(f"{at}.")
    }
    found = load_block(tmp_path / "network.pth", "mmaction2", prefix=at)
    x = features(1, 8, 2, 3, 4).float()
    assert torch.equal(found(x), load_block(alone, "mmaction2")(x))
    into = make_block("nl", 8, scaled=True, norm="none", bias="all", inter_channels=4)
    assert load_block(whole, "mmaction2", prefix=f"{at}.", into=into) is into
    assert torch.equal(into(x), found(x))


def test_prefixes_that_fit_are_named() -> None:
    whole, name = _checkpoint(), "backbone.layer2.{}.non_local_block"
    with pytest.raises(ValueError, match="not of one block alone: give prefix= one of") as caught:
        load_block(whole, "mmaction2")
    assert all(repr(name.format(at)) in str(caught.value) for at in (1, 3, 5))
    with pytest.raises(ValueError, match=r"no names below prefix='backbone.layer2.2.*layer2\.1"):
        load_block(whole, "mmaction2", prefix=name.format(2))
    network = nn.Sequential(nn.Conv2d(3, 8, 1), *(make_block("snl", 8, ndim=2) for _ in range(5)))
    with pytest.raises(ValueError, match=r"prefix= one of '1', '2', '3' \(and 2 more\)"):
        load_block(network.state_dict())
    with pytest.raises(ValueError, match="prefix='head', and no block of that source"):
        load_block(nn.Conv2d(3, 8, 1).state_dict(), prefix="head")
    nested = {f"head.{name}": tensor for name, tensor in block_state("snl").items()}
    with pytest.raises(ValueError, match="give prefix= one of 'head'"):
        load_block(nested, "snl-released")
    x = features(1, nested["head.t.weight"].shape[1], 2, 3).float()
    alone = load_block(block_state("snl"), "snl-released")
    assert torch.equal(load_block(nested, "snl-released", prefix="head")(x), alone(x))
    with pytest.raises(ValueError, match=r"there are .* and 4 more\."):
        load_block({f"x{n}": torch.ones(1) for n in range(16)}, "slowfast")
