"""Networks of images: sizes, where blocks stand, what they compute and what trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.image_networks import count, images, network, on_meta
from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.backbones import IMAGE_BACKBONES
from video_snl.config.image import ImageModelConfig
from video_snl.errors import UserError
from video_snl.models.image import block_positions, stage_layers
from video_snl.models.preresnet import TextbookUnit
from video_snl.models.video import head_parameters

# ---- Sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "classes", "parameters"),
    [
        ("preresnet20", 10, 272_282),
        ("preresnet56", 100, 861_428),
        ("preresnet56_snl", 100, 958_708),
        ("resnet50_cifar", 10, 23_520_842),
        ("resnet50_cifar", 100, 23_705_252),
        ("resnet50", 1000, 25_557_032),
        ("resnet50", 200, 25_557_032 - 800 * 2049),
    ],
)
def test_parameters(backbone: str, classes: int, parameters: int) -> None:
    assert count(on_meta(classes, backbone=backbone)) == parameters


def test_parameters_of_the_segmentation_network() -> None:
    fcn = on_meta(19, backbone="fcn_r50_d8")
    auxiliary = count(fcn.auxiliary_head)
    assert count(fcn) - auxiliary == 47_133_043
    assert auxiliary == 1024 * 256 * 9 + 512 + 257 * 19


def test_the_released_variant_has_84_layers_with_weights() -> None:
    def layers(backbone: str) -> int:
        return sum(
            isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in name
            for name, module in on_meta(100, backbone=backbone).named_modules()
        )

    assert layers("preresnet56_snl") == 84
    assert layers("preresnet56") == 56
    assert layers("preresnet20") == 20


def test_the_layout_of_segmentation_is_mmsegmentations() -> None:
    names = on_meta(19, backbone="fcn_r50_d8").state_dict().keys()
    assert {name.split(".")[0] for name in names} == {"backbone", "decode_head", "auxiliary_head"}
    assert {
        "backbone.stem.0.weight",
        "backbone.stem.7.running_mean",
        "backbone.layer1.0.downsample.1.bias",
        "backbone.layer4.2.conv3.weight",
        "decode_head.convs.0.conv.weight",
        "decode_head.convs.1.bn.weight",
        "decode_head.conv_cat.conv.weight",
        "decode_head.conv_seg.bias",
        "auxiliary_head.convs.0.bn.running_var",
        "auxiliary_head.conv_seg.weight",
    } <= names


# ---- Places of blocks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "positions"),
    [
        ({}, ["after:layer1.1"]),
        ({"backbone": "preresnet56_snl", "stages": [1, 2, 3]}, None),
        ({"stages": [2]}, ["after:layer2.1"]),
        ({"backbone": "resnet50"}, ["before:layer3.5"]),
        ({"backbone": "resnet50_cifar", "stages": [2, 3]}, ["before:layer2.3", "before:layer3.5"]),
        ({"positions": ["before:layer3.-1"]}, ["before:layer3.2"]),
        ({"backbone": "fcn_r50_d8"}, ["after:decode_head.convs.0"]),
    ],
)
def test_where_blocks_stand(options: dict[str, Any], positions: list[str] | None) -> None:
    x3 = ["after:layer1.1", "after:layer2.1", "after:layer3.1"]
    model = on_meta(**{"block": "snl", **options})
    assert list(inserted_blocks(model)) == (positions or x3)


@pytest.mark.parametrize("backbone", IMAGE_BACKBONES)
def test_every_place_is_the_papers(backbone: Any) -> None:
    """After the second unit of a PreResNet's stage, before the last of a ResNet's."""
    known = IMAGE_BACKBONES[backbone]
    if known.segments:
        assert block_positions(ImageModelConfig(backbone)) == ["after:decode_head.convs.0"]
        return
    model = on_meta(backbone=backbone)
    for stage, position in known.stages.items():
        last = len(getattr(model, f"layer{stage}")) - 1
        of_resnet = backbone.startswith("resnet")
        assert position == (f"before:layer{stage}.{last}" if of_resnet else f"after:layer{stage}.1")


@pytest.mark.parametrize(("reduction", "share"), [(None, 2), (1, 1), (2, 2), (4, 4)])
def test_reductions(reduction: int | None, share: int) -> None:
    model = on_meta(block="snl", stages=[1, 2, 3], reduction=reduction)
    found = [(b.in_channels, b.inter_channels) for b in inserted_blocks(model).values()]
    assert found == [(channels, channels // share) for channels in (16, 32, 64)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "vgg"}, "backbone='vgg' is unknown; choose from: preresnet20, "),
        ({"stages": [0]}, r"stages=\[0\]: backbone preresnet20 .* once: 1, 2, 3"),
        ({"stages": [1, 1]}, r"stages=\[1, 1\]"),
        ({"stages": [1], "positions": ["after:layer1.1"]}, "give one of them"),
        ({"backbone": "fcn_r50_d8", "stages": [3]}, "leave stages out, or give positions"),
        ({"positions": ["after:layer4.1"]}, "names no module. This network has: layer1.0-2"),
        ({"positions": []}, "positions is empty"),
        ({"reduction": 2, "inter_channels": 8}, "both give Cs"),
        ({"reduction": 0}, "reduction=0 must be at least 1"),
        ({"activation": "relu"}, "zero_init=True with activation='relu'"),
        ({"block_options": {"order": 2}}, "order"),
        ({"block": "released"}, "has zero_init=False and activation='relu'"),
        ({"block": "released", "block_options": {"order": 2}}, "'released' has no option order"),
        ({"block": "released", "block_options": {"kind": "x"}}, "kind='x' is unknown"),
        ({"weights": "imagenet"}, "a ResNet-50's, which do not fit backbone 'preresnet20'"),
        ({"weights": "nowhere.pth"}, "nowhere.pth'?: no such file"),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        on_meta(**{"block": "snl", **options})


# ---- What they compute ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "stride", "first"), [(8, 1, True), (4, 2, True), (8, 1, False)]
)
@torch.no_grad()
def test_a_textbook_unit_is_its_equation(channels: int, stride: int, first: bool) -> None:
    unit = TextbookUnit(channels, 8, stride, first=first).double().eval()
    for norm in (unit.bn1, unit.bn2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.normal_()
        norm.bias.normal_()
    x = images(2, channels, 6, 6).double()

    def relu_norm(y: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        mean, deviation = norm.running_mean, (norm.running_var + 1e-5).sqrt()
        scaled = (y.movedim(1, -1) - mean) / deviation * norm.weight + norm.bias
        return scaled.clamp(min=0).movedim(-1, 1)

    p = relu_norm(x, unit.bn1)
    shortcut = p if first else x
    if channels != 8:
        weight = unit.downsample[0].weight[:, :, 0, 0]
        shortcut = torch.einsum("oc,bchw->bohw", weight, p[:, :, ::stride, ::stride])
    inner = F.conv2d(p, unit.conv1.weight, stride=stride, padding=1)
    branch = F.conv2d(relu_norm(inner, unit.bn2), unit.conv2.weight, padding=1)
    torch.testing.assert_close(unit(x), shortcut + branch)


@pytest.mark.parametrize("backbone", ["preresnet20", "preresnet20_snl", "preresnet56_snl"])
@pytest.mark.parametrize("side", [8, 32])
def test_images_of_other_sizes(backbone: str, side: int) -> None:
    assert network(backbone=backbone)(images(2, 3, side, side)).shape == (2, 10)


def test_a_block_changes_nothing_at_first_and_trains() -> None:
    x = images(4, 3, 16, 16)
    plain, model = network(), network(block="snl", stages=[1, 2, 3])
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), plain.eval()(x))
    optimizer = torch.optim.SGD(model.train().parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(x), torch.arange(4)).backward()
        optimizer.step()
    blocks = inserted_blocks(model)
    assert len(blocks) == 3
    for block in blocks.values():
        assert all(p.grad is not None and p.grad.any() for p in block.parameters())


def test_weights_are_a_function_of_the_seed() -> None:
    torch.manual_seed(9)
    before = torch.get_rng_state()
    first, again, other = network(seed=1), network(seed=1, block="nl"), network(seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.layer1[2].conv1.weight, again.layer1[2].conv1.weight)
    assert torch.equal(first.fc.weight, again.fc.weight)
    assert not torch.equal(first.fc.weight, other.fc.weight)


def test_dropout_is_the_configurations() -> None:
    for backbone in ("preresnet20", "preresnet20_snl", "resnet50_cifar", "fcn_r50_d8"):
        model = on_meta(backbone=backbone, dropout=0.3)
        rates = {m.p for m in model.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)}
        assert rates == {0.3}


@pytest.mark.parametrize("backbone", IMAGE_BACKBONES)
def test_parts_with_rates_of_their_own(backbone: Any) -> None:
    """The head, the stem and the stages have nothing in common with each other or with a block."""
    model = on_meta(7, backbone=backbone, block="snl")
    stages = ["layer1", "layer2", "layer3"] + ["layer4"] * ("preresnet" not in backbone)
    (block,) = inserted_blocks(model).values()
    inside = set(block.modules())
    parts = [
        {p for m in stage_layers(model, s) if m not in inside for p in m.parameters()}
        for s in ("stem", *stages)
    ]
    parts += [head_parameters(model), set(block.parameters())]
    assert all(parts) and sum(map(len, parts)) == len(set().union(*parts))
    rest = {n for n, p in model.named_parameters() if p not in set().union(*parts)}
    after = {"preresnet20": {"bn"}, "preresnet56": {"bn"}}.get(backbone, {"bn1", "fc1", "bn2"})
    assert {name.split(".")[0] for name in rest} == (after if "preresnet" in backbone else set())
    if backbone == "preresnet20":
        assert {p.shape for p in head_parameters(model)} == {(7, 64), (7,)}
        with pytest.raises(UserError, match="names 'res2'; this network has: stem, layer1, layer2"):
            stage_layers(model, "res2")
