"""Weights from elsewhere in files of their true formats."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reid.config import ReidModelConfig
from reid.models.network import TrackletNet, build_network
from reid.pretrained import STARTING_WEIGHTS
from tests.reid.networks import IDENTITIES, SIZE, clips, network
from tests.test_checkpoints import save, snapshot
from tests.test_published_weights import hub_cache, imagenet_state
from video_snl.errors import UserError
from video_snl.models.weights import fetching
from video_snl.models.weights.loading import LoadReport

__all__ = ["hub_cache"]

SMALL = "osnet_x0_25"


def loaded(source: str, **options: object) -> tuple[TrackletNet, LoadReport]:
    config = ReidModelConfig(**{"backbone": SMALL, "block": "none", "weights": source, **options})
    net, report = build_network(config, IDENTITIES, seed=7, size=SIZE, progress=False)
    return net.eval(), report


def torchreid_model(name: str = SMALL, identities: int = 9) -> nn.Module:
    """torchreid's own network with random statistics, as of one that was trained."""
    from torchreid.reid.models import build_model

    torch.manual_seed(3)
    model = build_model(name, identities, pretrained=False, use_gpu=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    return torchreid_model()


def torchreid_checkpoint(model: nn.Module, prefix: str) -> dict[str, object]:
    """Content of a file by torchreid's ``save_checkpoint``."""
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
    assert report.head == "new; the file's is dropped (5 identities)"
    assert {name.partition(".")[0] for name in report.head_dropped} == {"fc", "classifier"}
    assert report.statistics == "imagenet"
    assert "100.0% of the backbone's parameters" in report.summary()


@pytest.fixture
def any_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a file of the tests stand for the one that its publisher names."""
    monkeypatch.setattr(fetching, "_DIGITS", re.compile("(?!)"))


@pytest.mark.parametrize("source", ["imagenet", "file"])
@pytest.mark.usefixtures("any_digits")
def test_torchvisions_resnet50(hub_cache: Path, source: str) -> None:
    state = imagenet_state()
    path = save(state, hub_cache, "resnet50-0676ba61.pth")
    net, report = loaded("imagenet" if source == "imagenet" else path, backbone="resnet50")
    assert (report.matched_fraction, report.used_fraction) == (1, 1)
    assert report.head_dropped == ("fc.weight", "fc.bias")
    for name, parameter in net.trunk.named_parameters():
        assert torch.equal(parameter, state[name]), name
    assert torch.equal(net.trunk.layer4[2].bn3.running_var, state["layer4.2.bn3.running_var"])


@pytest.mark.usefixtures("any_digits")
def test_a_repeated_frame_is_answered_by_the_inflated_stem_as_the_frame(hub_cache: Path) -> None:
    state = imagenet_state()
    save(state, hub_cache, "resnet50-0676ba61.pth")
    net, report = loaded("imagenet", backbone="resnet50_3d")
    assert (report.matched_fraction, report.used_fraction) == (1, 1)
    assert report.format == "torchvision ResNet (2D, inflated)"
    assert report.head == "new; the file's is dropped (5 identities)"
    frame = clips(1, 1)
    stem = net.trunk.blocks[0].conv
    expected = nn.functional.conv2d(frame[:, :, 0], state["conv1.weight"], stride=2, padding=3)
    found = stem(frame.expand(-1, -1, 5, -1, -1))[:, :, 2]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    kernel = net.trunk.blocks[3].res_blocks[5].branch2.conv_b.weight
    torch.testing.assert_close(kernel.detach().sum(2), state["layer3.5.conv2.weight"])


def own_checkpoint(net: TrackletNet) -> dict[str, object]:
    """Make the content of a checkpoint: the network is ``model`` of the module that trains."""
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
    assert report.head == "new; the file's is dropped (5 identities)"
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
    model = torchreid_model(identities=1000)
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


# ---- fast-reid and reid-strong-baseline ----------------------------------------------------------


def resnet50_state(prefix: str) -> dict[str, Tensor]:
    """ResNet-50 without a classifier, under the names that both projects give it."""
    state = imagenet_state()
    return {f"{prefix}{name}": t for name, t in state.items() if not name.startswith("fc.")}


def fastreid_checkpoint(**more: Tensor) -> dict[str, object]:
    """Content of a file by fast-reid's ``Checkpointer.save``, of its bag of tricks."""
    norm = {"weight": 1.0, "bias": 0.0, "running_mean": 0.1, "running_var": 0.9}
    model = {
        "pixel_mean": torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1),
        "pixel_std": torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1),
        **resnet50_state("backbone."),
        "heads.weight": torch.zeros(751, 4),
        **{f"heads.bottleneck.0.{name}": torch.full((4,), value) for name, value in norm.items()},
        "heads.bottleneck.0.num_batches_tracked": torch.tensor(7),
        **more,
    }
    weight = nn.Parameter(torch.zeros(2))
    return {
        "model": model,
        "optimizer": torch.optim.Adam([weight]).state_dict(),
        "epoch": 59,
        "metric": np.float32(94.4),
    }


def assert_has_backbone(net: TrackletNet, prefix: str) -> None:
    state = resnet50_state(prefix)
    for name, tensor in net.trunk.state_dict().items():
        if tensor.is_floating_point():
            assert torch.equal(tensor, state[f"{prefix}{name}"]), name


def test_fast_reids_checkpoint_gives_its_backbone(tmp_path: Path) -> None:
    gem = {"heads.pool_layer.p": torch.tensor([2.9])}
    path = save(fastreid_checkpoint(**gem), tmp_path, "market_sbs_R50.pth")
    net, report = loaded(path, backbone="resnet50")
    assert_has_backbone(net, "backbone.")
    assert (report.matched_fraction, report.used_fraction) == (1, 1)
    assert (report.format, report.statistics) == ("fast-reid", "imagenet")
    assert report.note is not None and "GeM (p = 2.90)" in report.note
    assert "pixel_mean" not in report.note and "last stride" in report.note


@pytest.mark.parametrize("name", STARTING_WEIGHTS)
def test_weights_of_other_projects_by_name(hub_cache: Path, name: str) -> None:
    start = STARTING_WEIGHTS[name]
    if start.by_hand:
        with pytest.raises(UserError, match=r"drive\.google\.com.*--model\.weights FILE"):
            loaded(name, backbone=start.backbone)
        state = {**resnet50_state("base."), "bottleneck.weight": torch.ones(4)}
        save(state, hub_cache, f"{name}.pth")
    else:
        save(fastreid_checkpoint(), hub_cache, Path(start.url).name)
    net, report = loaded(name, backbone=start.backbone)
    assert_has_backbone(net, "backbone.")
    assert (report.source, report.matched_fraction, report.used_fraction) == (name, 1, 1)


def test_fast_reids_checkpoint_with_other_statistics_says_so(tmp_path: Path) -> None:
    other = {"pixel_std": torch.ones(1, 3, 1, 1)}
    _, report = loaded(save(fastreid_checkpoint(**other), tmp_path), backbone="resnet50")
    assert report.note is not None and "pixel_std is 1, 1, 1" in report.note


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_reid_strong_baselines_checkpoint_gives_its_backbone(
    tmp_path: Path, zipped: bool, wrapped: bool
) -> None:
    """ignite's ``ModelCheckpoint`` writes the state dict alone; others keep it in ``model``."""
    state = {
        **resnet50_state("base."),
        "bottleneck.weight": torch.ones(4),
        "bottleneck.bias": torch.zeros(4),
        "classifier.weight": torch.zeros(751, 4),
    }
    path = tmp_path / "resnet50_model_120.pth"
    content = {"model": state} if wrapped else state
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    net, report = loaded(str(path), backbone="resnet50")
    assert_has_backbone(net, "base.")
    assert report.format == "reid-strong-baseline"
    assert report.note is not None and "no ReLU" in report.note
    assert (report.matched_fraction, report.used_fraction) == (1, 1)


def test_fast_reids_kernels_are_inflated(tmp_path: Path) -> None:
    net, report = loaded(save(fastreid_checkpoint(), tmp_path), backbone="resnet50_3d")
    assert (report.matched_fraction, report.used_fraction) == (1, 1)
    kernel = net.trunk.blocks[3].res_blocks[5].branch2.conv_b.weight
    wanted = resnet50_state("")["layer3.5.conv2.weight"]
    torch.testing.assert_close(kernel.detach().sum(2), wanted)


def with_ibn(model: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first norm of the units of the first three stages, half of it by instance."""
    found = {}
    for name, tensor in model.items():
        unit, _, part = name.partition(".bn1.")
        if part and unit.startswith(("backbone.layer1", "backbone.layer2", "backbone.layer3")):
            half = tensor[: len(tensor) // 2] if tensor.ndim else tensor
            found[f"{unit}.bn1.BN.{part}"] = half
            if part in ("weight", "bias"):
                found[f"{unit}.bn1.IN.{part}"] = half
        else:
            found[name] = tensor
    return found


def with_nonlocal(model: dict[str, Tensor]) -> dict[str, Tensor]:
    """A block as fast-reid builds it, with a single channel inside."""
    block = {
        "g.weight": (1, 512, 1, 1),
        "theta.weight": (1, 512, 1, 1),
        "phi.weight": (1, 512, 1, 1),
        "W.0.weight": (512, 1, 1, 1),
        "W.1.weight": (512,),
    }
    return {**model, **{f"backbone.NL_2.0.{n}": torch.zeros(s) for n, s in block.items()}}


def with_squeeze(model: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**model, "backbone.layer1.0.se.fc.0.weight": torch.zeros(16, 256)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_ibn, r"instance normalisation.*layer1\.0\.bn1\.IN"),
        (with_nonlocal, r"non-local blocks.*NL_2\.0\."),
        (with_squeeze, r"squeeze-and-excitation.*layer1\.0\.se"),
    ],
)
def test_small_parts_that_make_another_network_are_named(
    tmp_path: Path, change: Any, said: str
) -> None:
    """The share of their parameters alone would not tell these networks apart."""
    content = fastreid_checkpoint()
    path = save({**content, "model": change(content["model"])}, tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        loaded(path, backbone="resnet50")
    assert "another network" in str(caught.value) and "\n" not in str(caught.value)
    _, report = loaded(path, backbone="resnet50", allow_partial_weights=True)
    assert report.matched_fraction > 0.99


def test_a_deeper_network_of_fast_reid_is_refused(tmp_path: Path) -> None:
    content = fastreid_checkpoint()
    model = dict(content["model"])  # type: ignore[call-overload]
    for number in range(6, 23):
        for name in ("conv1", "conv2", "conv3"):
            model[f"backbone.layer3.{number}.{name}.weight"] = torch.zeros(1).expand(256, 256, 9)
    with pytest.raises(UserError, match="do not fit backbone resnet50"):
        loaded(save({"model": model}, tmp_path), backbone="resnet50")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_saved_network_is_refused_and_how_to_save_its_tensors_is_said(
    tmp_path: Path, zipped: bool
) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": nn.Linear(2, 2)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"Linear.*\.state_dict\(\), NEW") as caught:
        loaded(str(path), backbone="resnet50")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, theirs: nn.Module, value: float
) -> None:
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    state["conv3.0.conv1.conv.weight"].view(-1)[5] = value
    with pytest.raises(UserError, match=r"1 of the .* weights of conv3\.0\.conv1\.conv\.weight"):
        loaded(save(state, tmp_path))
