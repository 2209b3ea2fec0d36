"""The sizes printed in Tables 6 and 7 of arXiv:2108.02451; see docs/paper-tables.md."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from video_snl.blocks import NonlocalBlock, make_block
from video_snl.blocks.insertion import insert_blocks
from video_snl.commands.describe import _count
from video_snl.models.i3d import i3d_r50


def sizes(block: nn.Module, *grid: int) -> tuple[int, float, float]:
    """Parameters, multiply-adds in G, and those with W applied to every A^k Z."""
    parameters = sum(parameter.numel() for parameter in block.parameters())
    counted = _count(block.eval(), torch.zeros(1, 1024, *grid)).total() / 1e9
    positions = torch.Size(grid).numel()
    extra = block.separate_multiply_adds(positions) if isinstance(block, NonlocalBlock) else 0
    return parameters, counted, counted + extra / 1e9


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds", "printed"),
    [
        ("nl", "2.10", "0.21", "0.21"),
        ("ns", "2.10", "0.21", "0.26"),
        ("snl", "2.62", "0.26", "0.26"),
    ],
)
def test_table_7(name: str, parameters: str, multiply_adds: str, printed: str) -> None:
    count, fused, separate = sizes(make_block(name, 1024), 2, 7, 7)
    assert f"{count / 1e6:.2f}" == parameters
    assert (f"{fused:.2f}", f"{separate:.2f}") == (multiply_adds, printed)


@pytest.mark.parametrize(
    ("name", "options", "parameters", "multiply_adds"),
    [
        ("nl", {}, 2_099_200, "0.41"),
        ("snl", {}, 2_623_488, "0.51"),
        ("a2", {}, 2_099_200, "0.41"),
        ("cgnl", {}, 2_099_200, "0.41"),
        ("cgnl", {"groups": 8}, 1_640_448, "0.32"),
        ("gc", {"reduction": None}, 1_049_600, "0.00"),
        ("se", {}, 132_160, "0.00"),
        ("ge", {}, 0, "0.00"),
        ("cgd", {}, 6_144, "0.00"),
    ],
)
def test_table_6(name: str, options: dict[str, Any], parameters: int, multiply_adds: str) -> None:
    count, fused, _ = sizes(make_block(name, 1024, ndim=2, **options), 14, 14)
    assert count == parameters
    assert f"{fused:.2f}" == multiply_adds
    if name == "nl":  # printed as 2.09 M: the weights alone, cut off
        assert (count - 2048) // 10_000 == 209


def test_the_block_in_the_paper_network() -> None:
    with torch.device("meta"):
        bare, network = i3d_r50(400), i3d_r50(400)
        insert_blocks(network, "nl", ["before:res4.5"])
    count = [sum(p.numel() for p in model.parameters()) for model in (bare, network)]
    assert count[1] - count[0] == 2_099_200


RESNET50 = {256: (3, 56), 512: (4, 28), 1024: (6, 14), 2048: (3, 7)}  # channels: units, side


def in_every_unit(name: str, **options: Any) -> int:
    """Parameters of a block in all residual units of ResNet-50."""
    return sum(
        units * sum(p.numel() for p in make_block(name, channels, ndim=2, **options).parameters())
        for channels, (units, _) in RESNET50.items()
    )


def test_readings_of_the_rows_that_none_reaches() -> None:
    assert in_every_unit("se") == 2_530_992
    assert in_every_unit("ge", theta="theta", extent=8) == 498_432
    assert in_every_unit("ge", theta="plus", extent=8) == 498_432 + 2_530_992
    whole_map = sum(units * c * (side**2 + 2) for c, (units, side) in RESNET50.items())
    assert whole_map == 5_549_568
