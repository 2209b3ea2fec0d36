"""The entries of backbones: their builders, their published weights, and a new one."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch
from pytorchvideo.models.hub.resnet import checkpoint_paths
from torch import nn
from torchvision.models import ResNet50_Weights

from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.backbones import (
    IMAGE_BACKBONES,
    PRETRAINED,
    VIDEO_BACKBONES,
    VideoBackbone,
)
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
    # (Those of networks that have a recipe: test_published_networks.py.)
    known = {ResNet50_Weights.IMAGENET1K_V1.url, *checkpoint_paths.values()}
    others = [entry for name, entry in ENTRIES.items() if name not in PRETRAINED]
    assert {url for entry in others for url in entry.weights.values()} <= known
    assert VIDEO_BACKBONES["slow_r50"].weights["kinetics"] == checkpoint_paths["slow_r50"]
    assert (
        VIDEO_BACKBONES["pytorchvideo_i3d_r50"].weights["kinetics"] == checkpoint_paths["i3d_r50"]
    )


def two_stages(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build a small network of clips with stages of its own name."""
    return nn.Sequential(
        OrderedDict(
            stem=nn.Conv3d(3, 4, 3, padding=1),
            layer1=nn.Sequential(nn.Conv3d(4, 4, 1), nn.Conv3d(4, 8, 1)),
            pool=nn.AdaptiveAvgPool3d(1),
            flat=nn.Flatten(),
            fc=nn.Linear(8, num_classes),
        )
    )


def test_a_new_backbone_is_a_function_and_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = VideoBackbone(
        builder=f"{__name__}:two_stages",
        smallest_clip=(1, 3, 3),
        statistics="hara",
        positions=("before:layer1.-1",),
    )
    monkeypatch.setitem(VIDEO_BACKBONES, "two_stages", entry)
    published = tmp_path / "two.pth"
    torch.save({"model_state": two_stages(5).state_dict()}, published)
    model, report = build_model(ModelConfig("two_stages", weights=str(published)), 3)
    assert report is not None and report.statistics == "hara"
    assert report.format == "names of the network"
    assert report.matched_fraction == report.used_fraction == 1
    assert report.head == "new, 3 classes; the file's, 5 classes, is dropped"
    assert list(inserted_blocks(model)) == ["before:layer1.1"]
    assert {tuple(p.shape) for p in head_parameters(model)} == {(3, 8), (3,)}
    assert stage_modules(model, "stem") and stage_modules(model, "layer1")
    with torch.no_grad():
        assert model.eval()(torch.zeros(2, 3, *entry.smallest_clip)).shape == (2, 3)
    # What a training stores is read again under its own name.
    own = {"state_dict": {f"model.{name}": t for name, t in model.state_dict().items()}}
    torch.save(own, tmp_path / "own.ckpt")
    _, report = build_model(ModelConfig("two_stages", weights=str(tmp_path / "own.ckpt")), 3)
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
