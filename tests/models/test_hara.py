"""The 3D ResNets of Hara et al. of all depths, against a plain network with the published names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pytorchvideo.models.resnet import create_resnet
from torch import Tensor, nn
from torch.nn import functional as F

from tests.hara import UNITS, HaraResNet3d, randomize
from video_snl.blocks.insertion import inserted_blocks
from video_snl.cli.main import main
from video_snl.config.video import ModelConfig
from video_snl.errors import UserError
from video_snl.models.i3d import hara_bottleneck, hara_resnet
from video_snl.models.video import build_model, head_parameters, recompute_units
from video_snl.models.weights.loading import classifier, load_backbone_weights
from video_snl.models.weights.sources import locate

NAMES = {depth: f"hara_r3d{depth}" for depth in UNITS if depth != 50}
WIDTH = 8


def by_depth(*quick: int) -> list[object]:
    """Mark the depths other than these as slow."""
    return [d if d in quick else pytest.param(d, marks=pytest.mark.slow) for d in NAMES]


def narrow(depth: int, num_classes: int = 7) -> nn.Module:
    """The plain network, an eighth as wide."""
    return randomize(HaraResNet3d.of_depth(depth, num_classes, WIDTH))


def file_of(network: nn.Module, folder: Path) -> str:
    """A file as the authors' training code writes it."""
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 200, "arch": "resnet", "state_dict": state}, folder / "r3d.pth")
    return str(folder / "r3d.pth")


def clips() -> Tensor:
    return torch.randn(2, 3, 16, 32, 32, generator=torch.Generator().manual_seed(1))


def assert_same_scores(ours: nn.Module, theirs: nn.Module) -> None:
    ours, theirs, given = ours.double().eval(), theirs.double().eval(), clips().double()
    with torch.inference_mode():
        expected = theirs(given)
        assert expected.std() > 0.01
        torch.testing.assert_close(ours(given), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("depth", by_depth(18))
def test_a_file_of_the_authors_gives_the_same_scores(tmp_path: Path, depth: int) -> None:
    theirs = randomize(HaraResNet3d.of_depth(depth, 11))
    source = file_of(theirs, tmp_path)
    config = ModelConfig(backbone=NAMES[depth], block="none", weights=source)
    ours, report = build_model(config, 11)
    Path(source).unlink()  # up to half a gigabyte that pytest would keep
    assert report is not None and report.format == "3D-ResNets-PyTorch"
    assert report.matched == tuple(ours.state_dict()) and report.statistics == "hara"
    assert report.matched_fraction == report.used_fraction == 1
    assert (report.new, report.dropped, report.note) == ((), (), None)
    assert report.head == "taken over, 11 classes"
    assert_same_scores(ours, theirs)


@pytest.mark.parametrize("depth", NAMES)
def test_every_depth_has_the_units_of_the_paper(tmp_path: Path, depth: int) -> None:
    ours, theirs = hara_resnet(depth, 5, width=WIDTH), narrow(depth, 5)
    source = file_of(theirs, tmp_path)
    report = load_backbone_weights(ours, source, backbone=NAMES[depth])
    assert report.matched == tuple(ours.state_dict()) and report.used_fraction == 1
    assert_same_scores(ours, theirs)


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_bottlenecks_are_those_of_pytorchvideos_function(depth: int) -> None:
    """The same start and the same scores, to the bit; i3d_r50 was built by it at first."""
    torch.manual_seed(4)
    theirs = create_resnet(
        model_depth=depth,
        model_num_class=5,
        dropout_rate=0.0,
        stem_dim_out=WIDTH,
        stem_conv_kernel_size=(7, 7, 7),
        stem_conv_stride=(1, 2, 2),
        stem_pool_kernel_size=(3, 3, 3),
        stem_pool_stride=(2, 2, 2),
        stage_conv_a_kernel_size=((1, 1, 1),) * 4,
        stage_conv_b_kernel_size=((3, 3, 3),) * 4,
        stage_temporal_stride=(1, 2, 2, 2),
        bottleneck=hara_bottleneck,
        head_pool=nn.AdaptiveAvgPool3d,
    )
    torch.manual_seed(4)
    ours = hara_resnet(depth, 5, width=WIDTH)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(ours(clips()), theirs(clips()))


@pytest.mark.parametrize(
    ("depth", "other"), [(18, 34), (34, 18), (34, 50), (101, 152), (152, 200), (200, 152)]
)
def test_a_file_of_another_depth_is_refused(tmp_path: Path, depth: int, other: int) -> None:
    source = file_of(narrow(other), tmp_path)
    ours = hara_resnet(depth, 7, width=WIDTH)
    with pytest.raises(UserError, match=rf"do not fit backbone {NAMES[depth]}: [\d.]+%.*95%"):
        load_backbone_weights(ours, source, backbone=NAMES[depth])


@pytest.mark.parametrize("depth", [18, 34])
def test_the_first_release_has_no_projections(tmp_path: Path, depth: int) -> None:
    """All its tensors are ours by name and shape, and the shortcuts would start untrained."""
    theirs = narrow(depth, 400)
    for unit in theirs.modules():
        if hasattr(unit, "downsample"):
            del unit.downsample
    source, ours = file_of(theirs, tmp_path), hara_resnet(depth, 5, width=WIDTH)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    with pytest.raises(UserError, match=rf"projection shortcuts.*r3d{depth}_K_200ep\.pth") as found:
        load_backbone_weights(ours, source, backbone=NAMES[depth])
    assert "\n" not in str(found.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())
    report = load_backbone_weights(ours, source, backbone=NAMES[depth], allow_partial=True)
    assert {name.split(".")[4] for name in report.new} == {"branch1_conv", "branch1_norm"}


def test_basic_units_of_images_are_inflated(tmp_path: Path) -> None:
    """torchvision's ResNet-18: a video of one repeated frame has its answer, away from the ends."""
    from torchvision.models import resnet18

    theirs = randomize(resnet18(num_classes=3)).double()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    ours = hara_resnet(18, 3).double().eval()
    report = load_backbone_weights(ours, str(tmp_path / "resnet18.pth"), backbone="hara_r3d18")
    assert (report.matched_fraction, report.used_fraction) == (1, 1)
    assert report.statistics == "imagenet"
    unit, expected = ours.blocks[2].res_blocks[0], theirs.layer2[0]
    maps = torch.randn(1, 64, 4, 4, generator=torch.Generator().manual_seed(2)).double()
    with torch.inference_mode():
        found = unit(maps.unsqueeze(2).expand(-1, -1, 16, -1, -1))
        torch.testing.assert_close(found[:, :, 4], expected(maps))


@pytest.mark.parametrize("depth", NAMES)
def test_no_program_can_fetch_them(depth: int) -> None:
    said = rf"r3d{depth}_K_200ep\.pth \(Kinetics-700\).*kenshohara.*--model\.weights r3d{depth}_K"
    for source in ("kinetics", "absent.pth"):
        with pytest.raises(UserError, match=said) as found:
            locate(source, NAMES[depth])
        assert "\n" not in str(found.value)


@pytest.mark.parametrize("depth", by_depth(18))
def test_describe_lists_the_places(depth: int, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model.backbone", NAMES[depth], "--data.clip_frames", "8", "--data.crop", "32"]
    assert main(["describe", *words, "--model.num_classes", "5", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    units = dict(zip(("res2", "res3", "res4", "res5"), UNITS[depth], strict=True))
    assert facts["places"] == [f"{s}.{n}" for s, count in units.items() for n in range(count)]
    [block] = facts["blocks"]
    assert block["position"] == f"before:res4.{units['res4'] - 1}"
    bare = sum(p.numel() for p in HaraResNet3d.of_depth(depth, 5).parameters())
    assert facts["parameters"] == bare + block["parameters"]


@pytest.mark.parametrize("depth", by_depth(18))
def test_a_step_with_a_block(depth: int) -> None:
    bare, _ = build_model(ModelConfig(backbone=NAMES[depth], block="none"), 3, seed=1)
    model, _ = build_model(ModelConfig(backbone=NAMES[depth], block="snl"), 3, seed=1)
    with torch.inference_mode():
        assert torch.equal(bare.eval()(clips()), model.eval()(clips()))  # it starts as the identity
    del bare
    [block] = inserted_blocks(model).values()
    assert head_parameters(model) == set(model.get_submodule(classifier(model)).parameters())
    recompute_units(model)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):  # the block's first gradient is that of its last, zero, layer
        optimizer.zero_grad()
        F.cross_entropy(model(clips()), torch.tensor([0, 1])).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad.abs().sum() > 0 for p in block.parameters())


@pytest.mark.parametrize("depth", [18, 101])
def test_units_start_as_their_shortcuts(depth: int) -> None:
    """pytorchvideo's initialisation: the last normalisation of a unit is zero."""
    model = hara_resnet(depth, 3, width=WIDTH)
    last = "norm_b" if depth < 50 else "norm_c"
    for stage in list(model.blocks)[1:-1]:
        for unit in stage.res_blocks:
            weights = {n: m.weight for n, m in unit.branch2.named_children() if "norm" in n}
            assert {name for name, weight in weights.items() if not weight.any()} == {last}
