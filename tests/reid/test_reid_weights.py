"""Weights from elsewhere in files of their true formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reid.config import ReidModelConfig
from reid.models import TrackletNet, build_network
from tests.reid.networks import PEOPLE, SIZE, clips, network
from tests.test_checkpoints import save, snapshot
from tests.test_published_weights import hub_cache, imagenet_state
from video_snl.checkpoints import LoadReport
from video_snl.errors import UserError

__all__ = ["hub_cache"]

SMALL = "osnet_x0_25"


def loaded(source: str, **options: object) -> tuple[TrackletNet, LoadReport]:
    config = ReidModelConfig(**{"backbone": SMALL, "block": "none", "weights": source, **options})
    net, report = build_network(config, PEOPLE, seed=7, size=SIZE, progress=False)
    assert report is not None
    return net.eval(), report


def torchreid_model(name: str = SMALL, people: int = 9) -> nn.Module:
    """torchreid's own network with random statistics, as of one that was trained."""
    from torchreid.reid.models import build_model

    torch.manual_seed(3)
    model = build_model(name, people, pretrained=False, use_gpu=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    return torchreid_model()


def torchreid_checkpoint(model: nn.Module, prefix: str) -> dict[str, object]:
    """What torchreid's ``save_checkpoint`` writes."""
    return {
        "state_dict": {f"{prefix}{name}": t for name, t in model.state_dict().items()},
        "epoch": 60,
        "rank1": np.float32(0.943),
        "optimizer": torch.optim.Adam(model.parameters()).state_dict(),
        "scheduler": None,
    }


@pytest.mark.parametrize("prefix", ["", "module.", "features.backbone."])
@pytest.mark.parametrize("block", ["none", "snl"])
def test_torchreids_checkpoint_gives_torchreids_feature_maps(
    tmp_path: Path, theirs: nn.Module, prefix: str, block: str
) -> None:
    path = save(torchreid_checkpoint(theirs, prefix), tmp_path, "model.pth.tar-60")
    net, report = loaded(path, block=block)
    frames = clips(frames=1)
    with torch.no_grad():
        found, expected = net.feature_maps(frames)[:, :, 0], theirs.featuremaps(frames[:, :, 0])
    assert torch.equal(found, expected)
    assert (report.matched_fraction, report.used_fraction) == (1, 1)
    assert report.new == report.dropped == report.shape_mismatches == ()
    assert report.head == "new; the file's is dropped (5 people)"
    assert {name.partition(".")[0] for name in report.head_dropped} == {"fc", "classifier"}
    assert report.statistics == "imagenet"
    assert "100.0% of the backbone's parameters" in report.summary()


@pytest.mark.parametrize("source", ["imagenet", "file"])
def test_torchvisions_resnet50(hub_cache: Path, source: str) -> None:
    state = imagenet_state()
    path = save(state, hub_cache, "resnet50-0676ba61.pth")
    net, report = loaded("imagenet" if source == "imagenet" else path, backbone="resnet50")
    assert (report.matched_fraction, report.used_fraction) == (1, 1)
    assert report.head_dropped == ("fc.weight", "fc.bias")
    for name, parameter in net.trunk.named_parameters():
        assert torch.equal(parameter, state[name]), name
    assert torch.equal(net.trunk.layer4[2].bn3.running_var, state["layer4.2.bn3.running_var"])


def test_a_repeated_frame_is_answered_by_the_inflated_stem_as_the_frame(hub_cache: Path) -> None:
    state = imagenet_state()
    save(state, hub_cache, "resnet50-0676ba61.pth")
    net, report = loaded("imagenet", backbone="resnet50_3d")
    assert (report.matched_fraction, report.used_fraction) == (1, 1)
    assert report.format == "torchvision ResNet (2D, inflated)"
    assert report.head == "new; the file's is dropped (5 people)"
    frame = clips(1, 1)
    stem = net.trunk.blocks[0].conv
    expected = nn.functional.conv2d(frame[:, :, 0], state["conv1.weight"], stride=2, padding=3)
    found = stem(frame.expand(-1, -1, 5, -1, -1))[:, :, 2]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    kernel = net.trunk.blocks[3].res_blocks[5].branch2.conv_b.weight
    torch.testing.assert_close(kernel.detach().sum(2), state["layer3.5.conv2.weight"])


def own_checkpoint(net: TrackletNet) -> dict[str, object]:
    """As Lightning writes it: the network is ``model`` of the module that trains."""
    state = {f"model.{name}": tensor for name, tensor in net.state_dict().items()}
    return {"state_dict": {**state, "loss.center.centers": torch.zeros(3, 2)}, "epoch": 2}


@pytest.mark.parametrize("backbone", [SMALL, "i3d_small"])
def test_our_own_checkpoint_gives_its_trunk_without_its_blocks(
    tmp_path: Path, backbone: str
) -> None:
    trained = network(seed=1, backbone=backbone, head="attention", block="snl", zero_init=False)
    net, report = loaded(save(own_checkpoint(trained), tmp_path), backbone=backbone, block="none")
    bare = network(seed=1, backbone=backbone)
    with torch.no_grad():
        assert torch.equal(net.feature_maps(clips()), bare.feature_maps(clips()))
    assert (report.matched_fraction, report.used_fraction) == (1, 1)
    for part in ("head.embed.weight", "neck.weight", "classifier.weight", "project"):
        assert any(part in name for name in report.dropped), part
    assert "loss.center.centers" in report.dropped


def test_a_checkpoint_of_the_video_command_gives_its_backbone(tmp_path: Path) -> None:
    from video_snl.models.i3d import i3d_small

    torch.manual_seed(4)
    video = i3d_small(11)
    state = {f"model.{name}": tensor for name, tensor in video.state_dict().items()}
    path = save({"state_dict": state, "video_snl": {}}, tmp_path)
    net, report = loaded(path, backbone="i3d_small")
    assert report.format == "video-snl checkpoint"
    assert report.head == "new; the file's is dropped (5 people)"
    wanted = video.state_dict()
    for name, tensor in net.trunk.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


# ---- torchreid's own download --------------------------------------------------------------------


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torchreid's cache, and no way to fill it."""
    import gdown

    def unreachable(url: str, *_: object, **__: object) -> None:
        raise OSError(f"no route to {url}")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(gdown, "download", unreachable)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_imagenet_of_torchreid(torch_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = torchreid_model(people=1000)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    del state["module.conv5.conv.weight"]
    save(state, torch_home, f"{SMALL}_imagenet.pth")
    net, report = loaded("imagenet", allow_partial_weights=True)
    assert report.new == ("conv5.conv.weight",)
    assert report.source == "imagenet"
    for name, parameter in net.trunk.named_parameters():
        if name not in report.new:
            assert torch.equal(parameter, state[f"module.{name}"]), name
    assert capsys.readouterr().out == ""


def test_imagenet_of_torchreid_that_cannot_be_fetched(torch_home: Path) -> None:
    with pytest.raises(UserError, match=r"cannot fetch .*osnet_x0_25 \(no route.*--model.weights"):
        loaded("imagenet")


def test_imagenet_that_torchreid_has_not() -> None:
    with pytest.raises(UserError, match="torchreid downloads none for mobilenetv2_x1_0"):
        loaded("imagenet", backbone="mobilenetv2_x1_0")


@pytest.mark.parametrize("source", ["imagenet", "kinetics"])
def test_no_published_weights_for_the_small_network(source: str) -> None:
    with pytest.raises(UserError, match=rf"'{source}'.*'i3d_small'.*i3d_r50"):
        loaded(source, backbone="i3d_small")


# ---- what does not fit ---------------------------------------------------------------------------


def narrower(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t[: max(1, len(t) // 2)] if t.ndim else t for name, t in state.items()}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("narrower", r"do not fit backbone osnet_x0_25.* is \(8, 3, 7, 7\) in the file"),
        ("half", r"do not fit backbone osnet_x0_25.*conv4.* is not in the file.*allow_partial"),
        ("other", "hold no network that fits: none of their tensors is called conv1.conv.weight"),
        ("nothing", "hold no network that fits.*start with nothing"),
    ],
)
def test_refuses(tmp_path: Path, theirs: nn.Module, kind: str, message: str) -> None:
    state = theirs.state_dict()
    files = {
        "narrower": narrower(state),
        "half": {name: t for name, t in state.items() if not name.startswith(("conv4", "conv5"))},
        "other": {"layer.weight": torch.zeros(2, 2)},
        "nothing": {},
    }
    with pytest.raises(UserError, match=message):
        loaded(save(files[kind], tmp_path))


def test_partial_weights_on_request(tmp_path: Path, theirs: nn.Module) -> None:
    state = {n: t for n, t in theirs.state_dict().items() if not n.startswith(("conv4", "conv5"))}
    net, report = loaded(save(state, tmp_path), allow_partial_weights=True)
    assert 0.3 < report.matched_fraction < 0.7
    assert {name.partition(".")[0] for name in report.new} == {"conv4", "conv5"}
    new = snapshot(network(seed=7))
    for name, tensor in net.trunk.state_dict().items():
        expected = state.get(name, new[f"trunk.{name}"])
        assert torch.equal(tensor, expected), name


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        loaded(str(tmp_path / "weights.pth"))
