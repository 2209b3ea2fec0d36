"""A backbone of videos that is not laid out as pytorchvideo's: torchvision's R3D-18."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from video_snl.commands.describe import description_text
from video_snl.config.backbones import VIDEO_BACKBONES, VideoBackbone
from video_snl.config.task_spec import VIDEO
from video_snl.config.video import Experiment, ModelConfig
from video_snl.errors import UserError
from video_snl.models.video import build_model, stage_modules

CONFIG = ModelConfig(
    backbone="foreign", block="snl", positions=["before:layer3.-1"], num_classes=3, dropout=0.0
)


def build(num_classes: int, dropout: float) -> nn.Module:
    return torchvision.models.video.r3d_18(num_classes=num_classes)


@pytest.fixture(autouse=True)
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = VideoBackbone(builder=f"{__name__}:build", smallest_clip=(3, 16, 16))
    monkeypatch.setitem(VIDEO_BACKBONES, "foreign", entry)


def test_its_layers_are_described() -> None:
    experiment = Experiment(model=CONFIG)
    rows = description_text(experiment, VIDEO).splitlines()[3:9]
    assert [row.split()[0] for row in rows] == [name for name, _ in build(3, 0).named_children()][
        :6
    ]


def pooled(num_classes: int, dropout: float) -> nn.Module:
    """A network of clips of one size, as X3D with its pooling is."""
    return nn.Sequential(nn.AvgPool3d((16, 7, 7)), nn.Flatten(), nn.Linear(3, num_classes))


def test_a_clip_too_small_for_a_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = VideoBackbone(builder=f"{__name__}:pooled", smallest_clip=(16, 7, 7))
    monkeypatch.setitem(VIDEO_BACKBONES, "pooled", entry)
    experiment = Experiment(model=ModelConfig(backbone="pooled", block="none"))  # 4 frames
    with pytest.raises(UserError, match="give larger inputs"):
        description_text(experiment, VIDEO)


def test_its_stem_can_be_frozen() -> None:
    model = build(3, 0)
    assert set(stage_modules(model, "stem")) < set(model.get_submodule("stem").modules())
    del model.stem
    with pytest.raises(UserError, match=r"this network has: layer1, layer2, layer3, layer4\."):
        stage_modules(model, "stem")


@pytest.mark.parametrize(
    "prefix", ["module.", *(pytest.param(name, marks=pytest.mark.slow) for name in ("", "model."))]
)
def test_files_with_its_own_names_are_loaded(tmp_path: Path, prefix: str) -> None:
    given = build(7, 0).state_dict()
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {prefix + name: tensor for name, tensor in given.items()}}, path)
    model, report = build_model(replace(CONFIG, weights=str(path), block="none"), 3)
    assert report is not None and report.matched_fraction == 1
    assert report.head == "new, 3 classes; the file's, 7 classes, is dropped"
    loaded = model.state_dict()
    assert all(torch.equal(loaded[n], t) for n, t in given.items() if not n.startswith("fc."))


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    with pytest.raises(UserError, match="do not fit backbone foreign"):
        build_model(replace(CONFIG, weights=str(path)), 3)
