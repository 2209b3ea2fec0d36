"""Published weights: ImageNet, inflated, and pytorchvideo's hub."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.test_checkpoints import randn, save, uninitialised
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.errors import UserError
from video_snl.models.weights import fetching
from video_snl.models.weights.loading import load_backbone_weights
from video_snl.models.weights.sources import locate


def imagenet_state() -> dict[str, Tensor]:
    """torchvision's ResNet-50 with a random stem; the other tensors are constants, stored small."""
    from torchvision.models import resnet50

    with torch.device("meta"):
        shapes = {name: t.shape for name, t in resnet50().state_dict().items()}
    values = (torch.tensor(1 + i / 100) for i in range(len(shapes)))
    state = {n: v.expand(shape) for (n, shape), v in zip(shapes.items(), values, strict=True)}
    state["conv1.weight"] = randn(*shapes["conv1.weight"])
    return state


@pytest.fixture(scope="module")
def imagenet() -> dict[str, Tensor]:
    return imagenet_state()


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch hub."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("backbone", ["i3d_r50", "pytorchvideo_i3d_r50", "slow_r50"])
def test_imagenet_kernels_are_inflated(
    hub_cache, imagenet, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file of the tests stands for the one whose digits are in the name.
    monkeypatch.setattr(fetching, "_DIGITS", re.compile("(?!)"))
    save(imagenet, hub_cache, "resnet50-0676ba61.pth")
    model = uninitialised(backbone, 5)
    report = load_backbone_weights(model, "imagenet", backbone=backbone)
    assert (report.matched_fraction, report.used_fraction) == (1, 1)
    assert report.statistics == "imagenet"
    assert "1000 classes, is dropped" in report.head

    stages = [part for part in model.blocks if hasattr(part, "res_blocks")]
    for stage, layer, unit in [(0, 1, 0), (1, 2, 3), (2, 3, 5), (3, 4, 2)]:
        branch = stages[stage].res_blocks[unit].branch2
        for ours, theirs in [("conv_a", "conv1"), ("conv_b", "conv2"), ("conv_c", "conv3")]:
            summed = branch.get_submodule(ours).weight.detach().sum(2)
            torch.testing.assert_close(summed, imagenet[f"layer{layer}.{unit}.{theirs}.weight"])
        expected = imagenet[f"layer{layer}.{unit}.bn2.running_var"]
        assert torch.equal(branch.norm_b.running_var, expected)
    expected = imagenet["layer3.0.downsample.0.weight"]
    assert torch.equal(stages[2].res_blocks[0].branch1_conv.weight[:, :, 0], expected)

    # A video of one repeated frame: away from its ends the stem answers as to the frame.
    frame = randn(1, 3, 40, 40)
    stem = model.blocks[0].conv
    answer = stem(frame.unsqueeze(2).expand(-1, -1, 11, -1, -1))
    border = stem.kernel_size[0] // 2
    inner = answer[:, :, border : 11 - border]
    expected = F.conv2d(frame, imagenet["conv1.weight"], stride=2, padding=3)
    torch.testing.assert_close(inner, expected.unsqueeze(2).expand_as(inner), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("source", ["imagenet", "kinetics"])
def test_no_published_weights_for_the_small_network(hub_cache, source: str) -> None:
    with pytest.raises(UserError, match=r"i3d_small.*slow_r50"):
        locate(source, "i3d_small")


# ---- pytorchvideo ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "file"),
    [("pytorchvideo_i3d_r50", "I3D_8x8_R50.pyth"), ("slow_r50", "SLOW_8x8_R50.pyth")],
)
def test_hub_weights(hub_cache, backbone: str, file: str) -> None:
    with torch.device("meta"):
        network = VIDEO_BACKBONES[backbone].build(400)
    shapes = {n: t.shape for n, t in network.state_dict().items()}
    state = {n: torch.tensor(float(i)).expand(s) for i, (n, s) in enumerate(shapes.items())}
    save({"model_state": state}, hub_cache, file)
    model = uninitialised(backbone, 400)
    report = load_backbone_weights(model, "kinetics", backbone=backbone)
    assert (report.format, report.statistics) == ("pytorchvideo", "kinetics")
    assert len(report.matched) == len(shapes)
    for i, tensor in enumerate(model.state_dict().values()):
        assert (tensor == i).all()


def test_hub_weights_do_not_fit_the_papers_network(hub_cache) -> None:
    with pytest.raises(UserError, match=r"r3d50_K_200ep\.pth.*kenshohara.*--model\.weights"):
        locate("kinetics", "i3d_r50")


# ---- our own checkpoints -----------------------------------------------------------------------
