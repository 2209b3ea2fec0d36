"""The sizes of the backbones, against the paper's Table 7 and its counting."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from video_snl.blocks.insertion import insert_blocks, inserted_blocks
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.models.i3d import i3d_small

BLOCK = "blocks.3.res_blocks.5.block"


def on_meta(backbone: str, num_classes: int) -> nn.Module:
    """The network without memory for its weights: enough to count."""
    with torch.device("meta"):
        return VIDEO_BACKBONES[backbone].build(num_classes, 0.0)


def zeros(model: nn.Module) -> nn.Module:
    """The same on the CPU, every weight zero."""
    model.to_empty(device="cpu").eval()
    for tensor in model.state_dict().values():
        tensor.zero_()
    return model


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("backbone", "classes", "expected"),
    [
        ("i3d_r50", 400, 47_018_576),
        ("i3d_r50", 101, 46_405_925),
        ("pytorchvideo_i3d_r50", 400, 28_043_472),
        ("slow_r50", 400, 32_454_096),
        ("hara_r3d18", 700, 33_563_004),
        ("hara_r3d34", 700, 63_872_636),
        ("hara_r3d101", 700, 86_679_420),
        ("hara_r3d152", 700, 118_838_140),
        ("hara_r3d200", 700, 128_037_756),
    ],
)
def test_parameters(backbone: str, classes: int, expected: int) -> None:
    assert parameters(on_meta(backbone, classes)) == expected


def test_snl_adds_2_62_million_parameters() -> None:
    model = on_meta("i3d_r50", 101)
    with torch.device("meta"):
        insert_blocks(model, "snl", ["before:res4.5"])
    # 3 C Cs for theta, phi and Z, 2 Cs C for W1 and W2, 2 C for the norm; C = 1024, Cs = 512.
    assert parameters(model) == 46_405_925 + 5 * 1024 * 512 + 2 * 1024 == 46_405_925 + 2_623_488


@dataclass(frozen=True)
class Counts:
    """Multiply-adds as fvcore counts them, of the whole and, by operator, of the SNL block."""

    total: int
    block: Counter[str]


@pytest.fixture(scope="module")
def counts() -> Counts:
    """Count one pass of I3D with SNL over a 16 x 112 x 112 clip, 400 classes; all weights zero."""
    model = on_meta("i3d_r50", 400)
    with torch.device("meta"):
        insert_blocks(model, "snl", ["before:res4.5"])
    analysis = FlopCountAnalysis(zeros(model), torch.zeros(1, 3, 16, 112, 112))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return Counts(int(analysis.total()), analysis.by_module_and_operator()[BLOCK])


def test_the_backbone_takes_10_1032_billion_multiply_adds(counts: Counts) -> None:
    backbone = counts.total - sum(counts.block.values())
    # 2048 more for each class beyond UCF-101's.
    assert backbone == 10_102_610_944 + 299 * 2048
    assert round(backbone / 1e9, 4) == 10.1032


def test_snl_adds_0_26_billion_without_the_affinity_product(counts: Counts) -> None:
    without = sum(count for operator, count in counts.block.items() if operator != "bmm")
    # N (5 C Cs + 2 C) for the projections and the norm, N = 2 * 7 * 7 = 98 positions.
    assert without == 98 * (5 * 1024 * 512 + 2 * 1024)
    assert round(without / 1e9, 2) == 0.26


def test_the_small_network_keeps_time_where_the_block_stands() -> None:
    model = i3d_small(5).eval()
    insert_blocks(model, "snl", ["before:res4.-1"])
    (block,) = inserted_blocks(model).values()
    seen: list[tuple[int, ...]] = []
    block.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    assert model(torch.zeros(2, 3, 4, 32, 32)).shape == (2, 5)
    assert seen == [(2, 256, 2, 2, 2)]


@pytest.mark.parametrize("backbone", [n for n, e in VIDEO_BACKBONES.items() if e.resnet])
def test_the_smallest_clip_goes_through(backbone: str) -> None:
    model = zeros(on_meta(backbone, 3))
    with torch.no_grad():
        logits = model(torch.zeros(1, 3, *VIDEO_BACKBONES[backbone].smallest_clip))
    assert logits.shape == (1, 3)
    assert logits.isfinite().all()
