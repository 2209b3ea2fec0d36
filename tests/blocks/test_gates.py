"""Channel attention against timm's modules in 2d, and against its equations."""

from __future__ import annotations

from typing import Any

import pytest
import timm.layers
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.blocks.cases import EXACT, GRIDS, features
from video_snl.blocks import make_block
from video_snl.blocks.gates import CGD, GC, GE, SE


def loaded(block: nn.Module, values: dict[str, Tensor]) -> nn.Module:
    """The block with another module's weights by our names, whatever axes they have."""
    own = block.state_dict()
    assert set(values) == {name for name in own if "num_batches" not in name}
    block.load_state_dict({k: v.reshape(own[k].shape) for k, v in values.items()}, strict=False)
    return block.double().eval()


def random_like(module: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.1, 0.8)
    return module.double().eval()


def test_squeeze_and_excitation_is_timms() -> None:
    theirs = random_like(timm.layers.SEModule(32, rd_channels=4))
    state = theirs.state_dict()
    ours = loaded(
        SE(32, ndim=2, reduction=8),
        {
            f"excite.{i}.{name}": state[f"{layer}.{name}"]
            for i, layer in ((0, "fc1"), (2, "fc2"))
            for name in ("weight", "bias")
        },
    )
    x = features(2, 32, 5, 4)
    assert_close(ours(x), theirs(x), **EXACT)


def test_global_context_is_timms() -> None:
    theirs = random_like(
        timm.layers.GlobalContext(32, fuse_add=True, fuse_scale=False, rd_channels=4)
    )
    theirs.mlp_add.norm.eps = 1e-5  # that of GCNet's own code
    state = theirs.state_dict()
    layers = {
        "transform.0": "mlp_add.fc1",
        "transform.1": "mlp_add.norm",
        "transform.3": "mlp_add.fc2",
    }
    values = {
        f"{ours}.{name}": state[f"{theirs_}.{name}"]
        for ours, theirs_ in layers.items()
        for name in ("weight", "bias")
    }
    # A bias before the softmax over the positions changes nothing; we have none.
    values["mask.weight"] = state["conv_attn.weight"]
    ours = loaded(GC(32, ndim=2, reduction=8), values)
    x = features(2, 32, 5, 4)
    assert_close(ours(x), theirs(x), **EXACT)


@pytest.mark.parametrize("extent", [0, 2, 4])
def test_gather_excite_without_parameters_is_timms(extent: int) -> None:
    theirs = timm.layers.GatherExcite(8, extent=extent, use_mlp=False).double().eval()
    x = features(2, 8, 9, 7)
    assert_close(GE(8, ndim=2, extent=extent).double()(x), theirs(x), **EXACT)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("extent", [2, 4])
@pytest.mark.parametrize("theta", ["theta", "plus"])
def test_gather_excite_with_parameters_is_its_equation(theta: Any, extent: int, ndim: int) -> None:
    """Depthwise convolutions of stride 2, ReLU between them, two pointwise layers, a sigmoid."""
    block = random_like(GE(8, ndim=ndim, theta=theta, extent=extent, reduction=4))
    assert isinstance(block, GE)
    x = features(2, 8, *(9, 7, 6)[:ndim])
    gathered = x
    layers = list(block.gather)
    for number, (conv, norm) in enumerate(zip(layers[0::3], layers[1::3], strict=True)):
        gathered = conv(gathered if number == 0 else gathered.clamp(min=0))
        assert (conv.groups, conv.stride) == (8, (2,) * ndim)
        shape = [-1] + [1] * ndim
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        gathered = (gathered - norm.running_mean.view(shape)) * scale.view(shape)
        gathered = gathered + norm.bias.view(shape)
    if theta == "plus":
        down, up = block.excite[0], block.excite[2]
        rows = gathered.flatten(2).mT @ down.weight.flatten(1).mT + down.bias
        rows = rows.clamp(min=0) @ up.weight.flatten(1).mT + up.bias
        gathered = rows.mT.reshape(gathered.shape)
    for axis in range(2, 2 + ndim):  # nearest neighbours
        length, small = x.shape[axis], gathered.shape[axis]
        gathered = gathered.index_select(axis, torch.arange(length) * small // length)
    assert_close(block(x), x / (1 + (-gathered).exp()), **EXACT)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_simplified_nonlocal_is_its_equation(ndim: int) -> None:
    block, x = (
        GC(4, ndim=ndim, reduction=None, zero_init=False).double(),
        features(2, 4, *GRIDS[ndim]),
    )
    flat, mask, weight = (
        x.flatten(2),
        block.mask.weight.flatten(),
        block.transform.weight.flatten(1),
    )
    for b in range(2):
        scores = [float((mask * flat[b, :, j]).sum()) for j in range(flat.shape[2])]
        total = sum(torch.tensor(s).exp() for s in scores)
        context = sum(torch.tensor(s).exp() / total * flat[b, :, j] for j, s in enumerate(scores))
        expected = flat[b] + (weight @ context)[:, None]
        assert_close(block(x)[b].flatten(1), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_compact_global_descriptor_is_its_equation(ndim: int) -> None:
    block, x = CGD(4, ndim=ndim, zero_init=False).double(), features(2, 4, *GRIDS[ndim])
    nn.init.uniform_(block.bias, -1, 1)
    (w0, w1, w2), (b0, b1, b2) = block.weight, block.bias
    for b in range(2):
        channels = x[b].flatten(1)
        mean, largest = channels.mean(1), channels.max(1).values
        share = mean.exp() / mean.exp().sum()
        y0 = (share * (mean @ w0) + b0).tanh()
        y1 = (share * (largest @ w1) + b1).tanh()
        y2 = (y0 * (y1 @ w2) + b2).tanh()
        assert_close(block(x)[b].flatten(1), channels * (1 + y2[:, None]), **EXACT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "se", "order": 3}, "order=3 with block='se': its options are: reduction"),
        ({"name": "gc", "inter_channels": 4}, "inter_channels=4 with block='gc'"),
        ({"name": "cgd", "num_units": 3}, "num_units=3 with block='cgd': it has none of its own"),
        ({"name": "ge", "theta": "plus"}, "theta='plus' with extent=0"),
        ({"name": "ge", "theta": "x"}, "theta='x' is unknown; choose 'minus', 'theta' or 'plus'"),
        ({"name": "ge", "extent": 3}, r"extent=3 must be 0 \(all positions\) or 2, 4, 8"),
        ({"name": "se", "reduction": 0}, "reduction=0 must be at least 1"),
    ],
)
def test_bad_options(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_block(in_channels=8, **arguments)
