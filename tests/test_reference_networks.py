"""Whole networks from checkpoints of the released code."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import released
from tests.released import KINDS, State, assert_equal, double
from tests.released_states import block_state, features, preresnet_state, resnet_state
from video_snl.errors import UserError
from video_snl.models.preresnet import PreActBasic, PreActBottleneck, PreResNet
from video_snl.models.released.networks import load_reference_network

UNUSED = "left out: conv1.weight, fc.bias, fc.weight"


def loaded(state: Any, arch: Any, **options: Any) -> nn.Module:
    """Load without the warning of the unused tensors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*left out.*")
        return load_reference_network(state, arch, **options)


def expected_of(network: Any, kind: str, state: State, x: Tensor, how: str | None, pool: int):
    def inserted(block: State, y: Tensor) -> Tensor:
        return released.block(kind, block, y, how)

    return network(double(state), x.double(), inserted, pool)


def preresnet_with(kind: str, layers: str = "1", wide: int = 1, **options: Any) -> State:
    blocks = {}
    for layer in layers:
        channels = 8 * wide * 2 ** int(layer)
        blocks[f"layer{layer}"] = block_state(kind, channels, channels // 2, **options)
    return preresnet_state(9 if wide == 4 else 3, wide == 4, blocks)


def given(kind: str) -> dict[str, Any]:
    return {"kind": kind} if kind in ("nl", "ns", "a2") else {}


# ---- Outputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_preresnet20_with_every_block(kind) -> None:
    units = 1 if kind == "cgnl" else 2
    state, x = preresnet_with(kind, "13", units=units), features(2, 3, 16, 16)
    network = loaded(state, "preresnet20", pool_size=4, **given(kind))
    with torch.no_grad():
        y = network(x)
    assert not network.training and y.shape == (2, 10)
    assert_equal(y, expected_of(released.preresnet, kind, state, x, "relu_sym", 4))


def test_preresnet20_of_the_images_it_was_trained_on() -> None:
    state, x = preresnet_with("snl"), features(1, 3, 32, 32)
    with torch.no_grad():
        y = loaded(state, "preresnet20")(x)
    assert_equal(y, expected_of(released.preresnet, "snl", state, x, "relu_sym", 8))


def test_preresnet_with_another_affinity() -> None:
    state, x = preresnet_with("nl"), features(1, 3, 16, 16)
    network = loaded(state, "preresnet20", kind="nl", affinity="softmax", pool_size=4)
    with torch.no_grad():
        y = network(x)
    assert_equal(y, expected_of(released.preresnet, "nl", state, x, "softmax", 4))


@pytest.mark.parametrize("layers", ["", "1", "123"])
def test_preresnet56_with_blocks_in_some_layers(layers) -> None:
    state, x = preresnet_with("snl", layers, wide=4), features(1, 3, 16, 16)
    with torch.no_grad():
        y = loaded(state, "preresnet56", pool_size=4)(x)
    assert_equal(y, expected_of(released.preresnet, "snl", state, x, "relu_sym", 4))


def test_the_released_preresnets_have_the_released_sizes() -> None:
    def parameters(network: nn.Module) -> int:
        return sum(p.numel() for p in network.parameters())

    assert parameters(PreResNet(PreActBottleneck, 9, 100)) == 958_708
    assert PreResNet(PreActBasic, 3).layer2[0].downsample is not None


@pytest.mark.parametrize(
    "kind", ["snl", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("a2", "cgnl", "cc"))]
)
def test_resnet50(kind) -> None:
    state = resnet_state((3, 4, 6, 3), block_state(kind, 1024, 512))
    x = features(1, 3, 64, 64)
    network = loaded(state, "resnet50", pool_size=2, **given(kind))
    with torch.no_grad():
        y = network(x)
    assert_equal(y, expected_of(released.resnet, kind, state, x, None, 2))


def test_resnet50_for_cifar_has_a_small_stem() -> None:
    state, x = resnet_state((3, 4, 6, 3), None, stem=3), features(1, 3, 32, 32)
    with torch.no_grad():
        y = loaded(state, "resnet50")(x)
    assert_equal(y, expected_of(released.resnet, "snl", state, x, None, 4))


def test_networks_train() -> None:
    network = loaded(preresnet_with("snl"), "preresnet20").train()
    network(features(2, 3, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert network.layer1[2].project.weight.grad.any()


# ---- Files and errors ----------------------------------------------------------------------------


def test_a_checkpoint_file_of_several_gpus(tmp_path) -> None:
    state, x = preresnet_with("dnl"), features(1, 3, 32, 32)
    wrapped = {f"module.{name}": value for name, value in state.items()}
    content = {"epoch": 5, "state_dict": wrapped, "best_prec1": torch.tensor(70.0)}
    content["optimizer"] = {"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    torch.save(content, tmp_path / "model_best.pth.tar")
    with pytest.warns(UserWarning, match=f"no part of preresnet20, {UNUSED}"):
        network = load_reference_network(tmp_path / "model_best.pth.tar", "preresnet20")
    with torch.no_grad():
        y = network(x)
    assert_equal(y, expected_of(released.preresnet, "dnl", state, x, "relu_sym", 8))


def test_files_that_cannot_be_read(tmp_path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_reference_network(tmp_path / "nothing.pth", "resnet50")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match="cannot be read"):
        load_reference_network(tmp_path / "text.pth", "resnet50")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"bn1.weight": None}, "missing keys: bn1.weight"),
        ({"fc2.weight": None}, "missing key fc2.weight"),
        ({"fc2.weight": torch.zeros(3)}, r"fc2.weight is \(3,\), not \(classes, channels\)"),
        ({"layer3.0.conv1.weight": None}, "missing keys: layer3.0.conv1.weight"),
        ({"layer1.2.t.weight": None}, "missing key layer1.2.t.weight"),
        ({"layer1.2.stages.0.bn.bias": None}, "missing keys: layer1.2.stages.0.bn.bias"),
        ({"fc3.weight": torch.zeros(1)}, "unknown keys: fc3.weight"),
        ({"layer1.2.q.weight": torch.zeros(1)}, "unknown keys: layer1.2.q.weight"),
        ({"bn1.weight": torch.zeros(3)}, r"bn1.weight is \(3,\), not \(64,\)"),
        (
            {"layer1.2.p.weight": torch.zeros(3)},
            r"layer1.2.p.weight is \(3,\), not \(8, 16, 1, 1\)",
        ),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_named_in_full(change, message) -> None:
    state = preresnet_with("snl") | change
    state = {name: value for name, value in state.items() if value is not None}
    with pytest.raises(UserError, match=message):
        loaded(state, "preresnet20")


def test_a_checkpoint_of_another_network_is_refused() -> None:
    with pytest.raises(UserError, match=r"not those of a released preresnet20.*layer1\.\d.*more"):
        loaded(preresnet_with("snl", wide=4), "preresnet20")
    with pytest.raises(UserError, match="missing key fc2.weight"):
        loaded(resnet_state((3, 4, 6, 3), None), "preresnet20")


def test_bad_options_are_refused() -> None:
    state = preresnet_with("nl")
    with pytest.raises(ValueError, match="arch='vgg' is unknown; choose from: preresnet20"):
        loaded(state, "vgg")
    with pytest.raises(ValueError, match="nl, ns and a2 have the same keys"):
        loaded(state, "preresnet20")
    with pytest.raises(ValueError, match=re.escape("kind='snl', affinity=None, but the file has")):
        loaded(preresnet_with("snl", ""), "preresnet20", kind="snl")
