"""The entries of backbones: their builders, their published weights, and a new one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch
from pytorchvideo.models.hub import x3d_m as pytorchvideo_x3d_m
from pytorchvideo.models.hub.resnet import checkpoint_paths
from torch import nn
from torchvision.models import ResNet50_Weights

from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.backbones import IMAGE_BACKBONES, VIDEO_BACKBONES, VideoBackbone
from video_snl.config.statistics import STATISTICS
from video_snl.config.video import Experiment, ModelConfig
from video_snl.errors import UserError
from video_snl.models.video import build_model, head_parameters, stage_modules

ENTRIES = {**VIDEO_BACKBONES, **IMAGE_BACKBONES}


def test_no_name_is_of_two_backbones() -> None:
    assert len(ENTRIES) == len(VIDEO_BACKBONES) + len(IMAGE_BACKBONES)


@pytest.mark.parametrize("name", ENTRIES)
def test_builders_are_functions(name: str) -> None:
    assert callable(resolve_name(ENTRIES[name].builder))


@pytest.mark.parametrize("name", VIDEO_BACKBONES)
def test_statistics_are_known(name: str) -> None:
    assert VIDEO_BACKBONES[name].statistics in STATISTICS


def test_addresses_are_those_of_the_libraries() -> None:
    known = {ResNet50_Weights.IMAGENET1K_V1.url, *checkpoint_paths.values()}
    assert {url for entry in ENTRIES.values() for url in entry.weights.values()} <= known
    assert VIDEO_BACKBONES["slow_r50"].weights["kinetics"] == checkpoint_paths["slow_r50"]
    assert (
        VIDEO_BACKBONES["pytorchvideo_i3d_r50"].weights["kinetics"] == checkpoint_paths["i3d_r50"]
    )


def x3d_m(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build pytorchvideo's X3D-M for clips of any size."""
    network = pytorchvideo_x3d_m(
        model_num_class=num_classes, dropout_rate=dropout, head_activation=None
    )
    network.blocks[-1].pool.pool = nn.AdaptiveAvgPool3d(1)
    return network


def test_a_new_backbone_is_a_function_and_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = VideoBackbone(builder=f"{__name__}:x3d_m", smallest_clip=(1, 32, 32))
    monkeypatch.setitem(VIDEO_BACKBONES, "x3d_m", entry)
    published = tmp_path / "X3D_M.pyth"
    torch.save({"model_state": x3d_m(5).state_dict()}, published)
    model, report = build_model(ModelConfig("x3d_m", weights=str(published)), 3)
    assert report is not None and (report.format, report.statistics) == ("pytorchvideo", "kinetics")
    assert report.matched_fraction == report.used_fraction == 1
    assert len(inserted_blocks(model)) == 1
    assert {tuple(p.shape) for p in head_parameters(model)} == {(3, 2048), (3,)}
    assert stage_modules(model, "stem") and stage_modules(model, "res5")
    with torch.no_grad():
        assert model.eval()(torch.zeros(2, 3, *entry.smallest_clip)).shape == (2, 3)
    # What a training stores is read again under its own name.
    own = {"state_dict": {f"model.{name}": t for name, t in model.state_dict().items()}}
    torch.save(own, tmp_path / "own.ckpt")
    _, report = build_model(ModelConfig("x3d_m", weights=str(tmp_path / "own.ckpt")), 3)
    assert report is not None and report.format == "video-snl checkpoint"
    assert report.matched_fraction == 1 and report.head.startswith("taken over")


def test_an_entry_says_where_blocks_stand_where_none_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def positions(named: list[str] | None = None) -> list[str]:
        model, _ = build_model(ModelConfig("i3d_small", positions=named), 3)
        return list(inserted_blocks(model))

    entry = VIDEO_BACKBONES["i3d_small"]
    assert positions() == positions(["before:res4.-1"])
    monkeypatch.setitem(
        VIDEO_BACKBONES, "i3d_small", replace(entry, positions=("after:res3.0", "before:res4.-1"))
    )
    assert positions() == positions(["after:res3.0", "before:res4.-1"]) and len(positions()) == 2
    assert positions(["after:res3.0"]) == positions()[:1]
    # A configuration says them, as do the records of its runs.
    assert Experiment().model.positions == ["after:res3.0", "before:res4.-1"]
    monkeypatch.setitem(VIDEO_BACKBONES, "i3d_small", replace(entry, positions=("after:layer3.0",)))
    with pytest.raises(UserError, match="layer3"):
        positions()
