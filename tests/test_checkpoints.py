"""Weights from elsewhere: names, shapes and outputs, and everything that can be wrong with them."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from tests.hara import HaraResNet3d, randomize
from video_snl.blocks.insertion import insert_blocks
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.config.statistics import STATISTICS
from video_snl.errors import UserError
from video_snl.models.i3d import hara_resnet, i3d_small
from video_snl.models.weights.formats import Statistics
from video_snl.models.weights.loading import load_backbone_weights

WIDTH = 8


def narrow_i3d(num_classes: int = 5) -> nn.Module:
    """The real i3d_r50, an eighth as wide: the same code, units and strides."""
    return hara_resnet(50, num_classes, width=WIDTH).eval()


def narrow_hara(num_classes: int = 7, seed: int = 0, **options) -> nn.Module:
    return randomize(HaraResNet3d(num_classes, width=WIDTH, **options), seed)


def uninitialised(backbone: str, num_classes: int) -> nn.Module:
    """A backbone of full size whose memory is not worth initialising."""
    with torch.device("meta"):
        model = VIDEO_BACKBONES[backbone].build(num_classes, 0.0)
    return model.to_empty(device="cpu").eval()


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def save(content: object, folder: Path, name: str = "weights.pth") -> str:
    torch.save(content, folder / name)
    return str(folder / name)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(state: dict[str, Tensor], model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)


# ---- Hara et al. -------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False])
def test_hara_names_give_haras_outputs(tmp_path, prefix: str, wrapped: bool) -> None:
    reference = narrow_hara().double()
    state = OrderedDict((prefix + name, value) for name, value in reference.state_dict().items())
    # What the authors' training code saves next to the weights.
    content = {"epoch": 200, "arch": "resnet-50", "state_dict": state}
    content["scheduler"] = {"milestones": Counter({50: 1}), "gamma": 0.1}
    model = narrow_i3d(7).double()
    source = save(content if wrapped else state, tmp_path)

    report = load_backbone_weights(model, source, backbone="i3d_r50")

    clip = randn(2, 3, 16, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(model(clip), reference(clip), rtol=1e-10, atol=1e-10)
    assert report.matched_fraction == report.used_fraction == 1
    assert report.matched == tuple(model.state_dict())
    assert (report.new, report.dropped, report.shape_mismatches) == ((), (), ())
    assert (report.head_dropped, report.statistics) == ((), "hara")
    assert "taken over, 7 classes" in report.summary()


def test_full_size_network_gives_haras_outputs(tmp_path) -> None:
    with torch.device("meta"):
        reference = HaraResNet3d(101)
    reference = randomize(reference.to_empty(device="cpu"))
    model = uninitialised("i3d_r50", 101)
    source = save(reference.state_dict(), tmp_path)
    report = load_backbone_weights(model, source, backbone="i3d_r50")
    os.unlink(source)  # 188 MB that pytest would keep

    assert report.matched_fraction == 1
    clip = randn(1, 3, 16, 32, 32)
    expected = reference(clip)
    assert expected.std() > 0.1
    torch.testing.assert_close(model(clip), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("classes", "parameters"), [(400, 47_018_576), (101, 46_405_925)])
def test_the_plain_copy_has_the_papers_size(classes: int, parameters: int) -> None:
    with torch.device("meta"):
        model = HaraResNet3d(classes)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("classes", [700, 800, 1039])
def test_a_head_of_other_size_is_dropped_and_reported(tmp_path, classes: int) -> None:
    source = save({"state_dict": narrow_hara(classes).state_dict()}, tmp_path)
    model = narrow_i3d(5)
    head = model.blocks[-1].proj.weight.clone()
    report = load_backbone_weights(model, source, backbone="i3d_r50")
    assert torch.equal(model.blocks[-1].proj.weight, head)
    assert report.head_dropped == ("blocks.5.proj.weight", "blocks.5.proj.bias")
    assert (report.matched_fraction, report.used_fraction, report.note) == (1, 1, None)
    assert f"new, 5 classes; the file's, {classes} classes, is dropped" in report.summary()


def test_files_without_batch_counters_match(tmp_path) -> None:
    state = narrow_hara().state_dict()
    old = {name: value for name, value in state.items() if "num_batches" not in name}
    report = load_backbone_weights(narrow_i3d(), save(old, tmp_path), backbone="i3d_r50")
    assert (report.new, report.dropped, report.matched_fraction) == ((), (), 1)


def test_the_first_release_is_recognised_by_its_400_classes(tmp_path) -> None:
    source = save(narrow_hara(400).state_dict(), tmp_path)
    report = load_backbone_weights(narrow_i3d(), source, backbone="i3d_r50")
    assert "0-255" in report.note and report.note in report.summary()


# ---- 2D ImageNet weights -----------------------------------------------------------------------


def own_checkpoint(model: nn.Module) -> dict:
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    state["train_top1.tp"] = torch.zeros(1)
    mean, std = STATISTICS["imagenet"]
    about = {"format_version": 1, "mean": list(mean), "std": list(std)}
    return {"epoch": 3, "state_dict": state, "video_snl": about}


def test_own_checkpoint_gives_its_backbone(tmp_path) -> None:
    trained = randomize(i3d_small(5))
    bare = snapshot(trained)
    insert_blocks(trained, "snl", ["before:res4.-1", "after:res4.-1", "after:res3.0"])
    model = i3d_small(5).eval()
    source = save(own_checkpoint(trained), tmp_path)
    report = load_backbone_weights(model, source, backbone="i3d_small")
    assert_same(bare, model)
    assert (report.format, report.statistics) == ("video-snl checkpoint", "imagenet")
    assert (report.matched_fraction, report.used_fraction, report.new) == (1, 1, ())
    blocks = [name for name in trained.state_dict() if ".block." in name]
    assert set(report.dropped) == {f"model.{name}" for name in blocks} | {"train_top1.tp"}


def test_weights_come_before_blocks(tmp_path) -> None:
    model = i3d_small(5)
    insert_blocks(model, "snl", ["before:res4.-1"])
    with pytest.raises(ValueError, match="before inserting"):
        load_backbone_weights(model, str(tmp_path / "any.pth"), backbone="i3d_small")


def test_statistics_are_known_to_the_transforms() -> None:
    assert set(get_args(Statistics)) - {"unknown"} == set(STATISTICS)


# ---- what does not fit -------------------------------------------------------------------------


def misfits() -> dict[str, dict[str, Tensor]]:
    state = narrow_hara().state_dict()
    return {
        "without its last layer": {n: v for n, v in state.items() if not n.startswith("layer4")},
        "wider": randomize(HaraResNet3d(7, width=2 * WIDTH)).state_dict(),
        "deeper": narrow_hara(depths=(3, 4, 23, 3)).state_dict(),
    }


@pytest.mark.parametrize("kind", ["without its last layer", "wider", "deeper"])
def test_refuses_another_network_and_leaves_the_model_alone(tmp_path, kind: str) -> None:
    model = narrow_i3d()
    before = snapshot(model)
    source = save(misfits()[kind], tmp_path)
    with pytest.raises(UserError, match=r"do not fit backbone i3d_r50: [\d.]+%.*95%") as caught:
        load_backbone_weights(model, source, backbone="i3d_r50")
    assert "\n" not in str(caught.value)
    assert_same(before, model)


@pytest.mark.parametrize("kind", ["without its last layer", "deeper"])
def test_partial_weights_on_request(tmp_path, kind: str) -> None:
    model, state = narrow_i3d(), misfits()[kind]
    before = snapshot(model)
    source = save(state, tmp_path)
    report = load_backbone_weights(model, source, backbone="i3d_r50", allow_partial=True)
    assert 0 < min(report.matched_fraction, report.used_fraction) < 0.95
    assert torch.equal(model.blocks[0].conv.weight, state["conv1.weight"])
    for name in report.new:
        assert torch.equal(model.state_dict()[name], before[name])
    sizes = {n: p.numel() for n, p in model.named_parameters() if not n.startswith("blocks.5.")}
    missing = sum(size for name, size in sizes.items() if name in report.new)
    assert report.matched_fraction == pytest.approx(1 - missing / sum(sizes.values()))


def test_nothing_in_common_is_refused_even_so(tmp_path) -> None:
    source = save(misfits()["wider"], tmp_path)
    with pytest.raises(UserError, match=r"blocks\.0\.conv\.weight is \(16, 3, 7, 7, 7\)") as caught:
        load_backbone_weights(narrow_i3d(), source, backbone="i3d_r50", allow_partial=True)
    assert "allow_partial" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [{}, {"state_dict": {}}, {"epoch": 1}, {"encoder.weight": torch.zeros(2)}],
    ids=["empty", "empty state_dict", "no tensors", "unknown names"],
)
def test_unknown_networks(tmp_path, content: dict) -> None:
    with pytest.raises(UserError, match="3D-ResNets-PyTorch"):
        load_backbone_weights(i3d_small(5), save(content, tmp_path), backbone="i3d_small")
