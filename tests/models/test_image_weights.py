"""Weights from elsewhere in networks of images, those of the released code with their blocks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.released_states import block_state, features, preresnet_state, resnet_state
from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.backbones import IMAGE_BACKBONES
from video_snl.config.image import ImageModelConfig
from video_snl.errors import UserError
from video_snl.models.image import build_image_model
from video_snl.models.released.blocks import load_reference_block
from video_snl.models.released.networks import load_reference_network, released_config
from video_snl.models.released.state_dicts import KINDS
from video_snl.models.weights import image as image_weights
from video_snl.models.weights import sources
from video_snl.models.weights.image import parts_of

AMBIGUOUS = ("nl", "ns", "a2")


def saved(path: Path, state: Any) -> str:
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": t for n, t in state.items()}}, path)
    return str(path)


def preresnet20_with(kind: str, layers: str = "13", units: int = 1, part: int = 2) -> Any:
    blocks = {}
    for layer in layers:
        channels = 8 * 2 ** int(layer)
        blocks[f"layer{layer}"] = block_state(kind, channels, channels // part, units)
    return preresnet_state(3, False, blocks)


def reference(source: str, arch: Any, kind: str | None) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*left out.*")
        return load_reference_network(source, arch, kind=kind)  # type: ignore[arg-type]


def answers(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(x)


# ---- Released networks ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_released_preresnet_with_every_block(kind: str, tmp_path: Path) -> None:
    units = 1 if kind == "cgnl" else 2
    source = saved(tmp_path / "best.pth.tar", preresnet20_with(kind, units=units, part=4))
    told = kind if kind in AMBIGUOUS else None
    config = released_config(source, "preresnet20_snl", kind=told)  # type: ignore[arg-type]
    assert config.num_classes == 10 and config.num_units == units and config.reduction == 4
    model, report = build_image_model(config, 10)
    x = features(2, 3, 32, 32)
    expected = answers(reference(source, "preresnet20", told), x)
    torch.testing.assert_close(answers(model, x), expected)
    assert report.format == "released code (SNL_ICCV2021)"
    assert report.matched_fraction == report.used_fraction == 1
    assert report.new == report.shape_mismatches == ()
    assert report.dropped == ("conv1.weight", "fc.weight", "fc.bias")
    assert report.head == "taken over, 10 classes"
    # What training stores: the configuration without the file, and the weights.
    config.weights = None
    rebuilt, _ = build_image_model(config, 10, seed=5)
    rebuilt.load_state_dict(model.state_dict())
    torch.testing.assert_close(answers(rebuilt, x), expected)


def test_the_84_layers_without_a_block(tmp_path: Path) -> None:
    source = saved(tmp_path / "best.pth.tar", preresnet_state(9, True, {}, classes=100))
    config = released_config(source, "preresnet56_snl")
    assert (config.block, config.num_classes) == ("none", 100)
    x = features(1, 3, 32, 32)
    expected = answers(reference(source, "preresnet56", None), x)
    torch.testing.assert_close(answers(build_image_model(config, 100)[0], x), expected)


def test_a_released_resnet_of_cifar(tmp_path: Path) -> None:
    source = saved(
        tmp_path / "r50.pth", resnet_state((3, 4, 6, 3), block_state("dnl", 1024, 256), stem=3)
    )
    config = released_config(source, "resnet50_cifar")
    assert config.positions == ["before:layer3.5"]
    assert config.block_options == {"kind": "dnl"}
    model, report = build_image_model(config, 10)
    x = features(1, 3, 32, 32)
    torch.testing.assert_close(answers(model, x), answers(reference(source, "resnet50", None), x))
    assert report.matched_fraction == 1


def test_a_new_block_in_the_released_form_trains() -> None:
    for kind in KINDS:
        config = ImageModelConfig(
            "preresnet20",
            "released",
            block_options={"kind": kind},
            zero_init=False,
            activation=None if kind in ("cgnl", "cc") else "relu",
        )
        model = build_image_model(config, 4)[0].train()
        model(features(4, 3, 8, 8)).square().mean().backward()
        (block,) = inserted_blocks(model).values()
        gradients = [p.grad for p in block.parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients), kind
        assert any(g is not None and g.any() for g in gradients), kind


def test_blocks_of_a_file_may_be_left_out(tmp_path: Path) -> None:
    source = saved(tmp_path / "best.pth.tar", preresnet20_with("snl", "1"))
    config = ImageModelConfig("preresnet20_snl", "nl", weights=source)
    model, report = build_image_model(config, 7)
    assert report.matched_fraction == 1
    assert "layer1.2.t.weight" in report.dropped and "Its blocks are left out" in report.summary()
    assert report.head == "new, 7 classes; the file's, 10 classes, is dropped"
    state = torch.load(source)["state_dict"]
    unit = model.get_submodule("layer1.2")
    assert torch.equal(unit.conv1.weight, state["module.layer1.3.conv1.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": [2]}, "have blocks at after:layer1.1; the network has them at after:layer2.1"),
        (
            {"stages": [1], "reduction": 4},
            r"after:layer1.1 has project.weight \(24, 16\), .*12, 16",
        ),
        ({"stages": [1], "block_options": {"kind": "nl"}}, "unknown keys: .*w_1.weight"),
        ({"backbone": "preresnet20"}, "have fc2.weight, .* choose backbone preresnet20_snl"),
        ({"backbone": "preresnet56_snl"}, "do not fit backbone preresnet56_snl"),
        ({"backbone": "fcn_r50_d8"}, "do not fit backbone fcn_r50_d8"),
    ],
)
def test_what_does_not_fit_is_said(options: Any, message: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "best.pth.tar", preresnet20_with("snl", "1"))
    config = ImageModelConfig(
        **{
            "backbone": "preresnet20_snl",
            "block": "released",
            "zero_init": False,
            "activation": "relu",
            "weights": source,
            **options,
        }
    )
    with pytest.raises(UserError, match=message):
        build_image_model(config, 10)


def test_the_textbooks_weights_are_no_released_ones(tmp_path: Path) -> None:
    textbook, _ = build_image_model(ImageModelConfig("preresnet20", "none"), 10)
    source = saved(tmp_path / "textbook.pth", textbook.state_dict())
    with pytest.raises(UserError, match="lack fc2.weight, which backbone preresnet20_snl has"):
        build_image_model(ImageModelConfig("preresnet20_snl", "none", weights=source), 10)
    config = ImageModelConfig("preresnet20", "none", weights=source)
    again, report = build_image_model(config, 10, seed=3)
    assert report.matched_fraction == 1
    x = features(1, 3, 8, 8)
    assert torch.equal(answers(again, x), answers(textbook, x))


def test_our_own_checkpoint_starts_another_training(tmp_path: Path) -> None:
    trained, _ = build_image_model(ImageModelConfig("preresnet20", "snl"), 10, seed=1)
    state = {f"model.{name}": value for name, value in trained.state_dict().items()}
    torch.save({"state_dict": state, "video_snl": {}}, tmp_path / "last.ckpt")
    config = ImageModelConfig("preresnet20", "nl", weights=str(tmp_path / "last.ckpt"))
    model, report = build_image_model(config, 10)
    assert report.format == "video-snl checkpoint"
    assert report.matched_fraction == 1
    unit = model.get_submodule("layer3.0")
    assert torch.equal(unit.conv1.weight, trained.layer3[0].conv1.weight)  # type: ignore[index]


# ---- ImageNet and mmsegmentation -----------------------------------------------------------------


def test_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's ResNet-50: all of its own, all but the stem of the others, no head."""
    import torchvision

    plain = torchvision.models.resnet50()
    torch.save(plain.state_dict(), tmp_path / "resnet50.pth")
    monkeypatch.setattr(sources, "fetch", lambda url, progress: tmp_path / "resnet50.pth")
    kernel = plain.layer3[0].conv2.weight
    inserted = {"resnet50": "layer3", "resnet50_cifar": "layer3", "fcn_r50_d8": "backbone.layer3"}
    for backbone, layer in inserted.items():
        config = ImageModelConfig(backbone, "none", weights="imagenet")  # type: ignore[arg-type]
        model, report = build_image_model(config, 19)
        assert report.statistics == "imagenet"
        assert torch.equal(model.get_submodule(f"{layer}.0").conv2.weight, kernel)
        new = 9 if backbone == "fcn_r50_d8" else 0  # three weights of convolutions, six of norms
        assert sum(n.endswith((".weight", ".bias")) for n in report.new) == new
        mismatches = [mismatch.name for mismatch in report.shape_mismatches]
        assert mismatches == (["conv1.weight"] if backbone == "resnet50_cifar" else [])
        assert report.matched_fraction > 0.99 and report.head.startswith("new")


def test_checkpoints_of_mmsegmentation() -> None:
    layout = IMAGE_BACKBONES["fcn_r50_d8"].layout
    with torch.device("meta"):
        names = build_image_model(ImageModelConfig("fcn_r50_d8", "none"), 19)[0].state_dict()
    whole, beside, backbone_only = parts_of({"state_dict": names}, layout, "f.pth", "fcn_r50_d8")
    assert whole.keys() == names.keys() and not beside and not backbone_only
    backbone = {
        n.removeprefix("backbone."): t for n, t in names.items() if n.startswith("backbone.")
    }
    found, _, backbone_only = parts_of({"state_dict": backbone}, layout, "f.pth", "fcn_r50_d8")
    assert found.keys() == {f"backbone.{name}" for name in backbone} and backbone_only


def test_the_released_head_of_segmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block has another name in the file, and was trained with the other sign of A Z W2."""
    bare, _ = build_image_model(ImageModelConfig("fcn_r50_d8", "none"), 19, seed=4)
    block = block_state("snl", 512, 256)
    state = bare.state_dict() | {f"decode_head.SNL.{n}": t for n, t in block.items()}
    monkeypatch.setattr(image_weights, "locate", lambda *_, **__: None)
    monkeypatch.setattr(image_weights, "read_checkpoint", lambda _: {"state_dict": state})
    config = ImageModelConfig(
        "fcn_r50_d8", "released", zero_init=False, activation="relu", weights="iter_40000.pth"
    )
    model, report = build_image_model(config, 19)
    assert report.matched_fraction == report.used_fraction == 1
    assert report.head == "taken over, 19 classes"
    (inserted,) = inserted_blocks(model).values()
    x = features(1, 512, 3, 4)
    expected = load_reference_block(block, "snl", affinity="relu_sym", sign="-")
    torch.testing.assert_close(answers(inserted, x), answers(expected, x))
    head = model.get_submodule("decode_head")
    assert torch.equal(head.conv_seg.weight, bare.decode_head.conv_seg.weight)  # type: ignore
