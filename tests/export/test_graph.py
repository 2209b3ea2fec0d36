"""Exported graphs compute what the network does, for every block and free size, in both formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.export.checkpoints import lively, video_network
from video_snl.blocks import make_block
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.config.video import BlockName
from video_snl.errors import UserError
from video_snl.export import command as recording
from video_snl.export.checking import check_equal, random_inputs
from video_snl.export.command import record_graph as recorded
from video_snl.export.formats import FORMATS, FormatName
from video_snl.export.graph import exported_graph, prepared
from video_snl.export.inputs import Input
from video_snl.models.preresnet import preresnet20

ALL = ("batch", "frames", "height", "width")
CPU = torch.device("cpu")
BLOCKS = get_args(BlockName)


def check(network: nn.Module, given: Input, folder: Path, formats: list[FormatName]) -> None:
    graph, given = recorded(network, given)
    assert "batch_norm.default" not in graph.graph_module.code
    for name in formats:
        path = folder / f"model{FORMATS[name].suffix}"
        FORMATS[name].write(graph, {"input": given.facts()}, path)
        run, _ = FORMATS[name].read(path, CPU)
        differences = check_equal(network, run, random_inputs(given.trials()))
        assert len(differences) == len(given.trials()) >= 2


# A chain of affinities, as tests/export/test_export.py has in a whole network, and a linear system.
@pytest.mark.parametrize("block", [pytest.param("snl", marks=pytest.mark.slow), "cayley"])
def test_a_block_between_two_layers(block: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), make_block(block, 8, zero_init=False)
    network = lively(nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 5)))
    given = Input("clips", (6, 10, 7), (1, 1, 1), ALL)
    formats: list[FormatName] = ["torch"] if block == "cayley" else ["torch", "onnx"]
    check(network, given, tmp_path, formats)


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_in_the_small_i3d(block: str, tmp_path: Path) -> None:
    given = Input("clips", (6, 48, 56), (4, 32, 32), ALL)
    formats: list[FormatName] = ["torch"] if block == "cayley" else ["torch", "onnx"]
    check(video_network(block), given, tmp_path, formats)


# i3d_small is above, and deeper networks have more of the same units.
_OTHERS = {"i3d_small", "hara_r3d34", "hara_r3d101", "hara_r3d152", "hara_r3d200"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone", [n for n, e in VIDEO_BACKBONES.items() if e.resnet and n not in _OTHERS]
)
def test_every_backbone(backbone: str, tmp_path: Path) -> None:
    given = Input("clips", (16, 64, 64), VIDEO_BACKBONES[backbone].smallest_clip, ALL)
    check(video_network("snl", backbone), given, tmp_path, ["torch", "onnx"])


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_in_the_papers_i3d(block: str, tmp_path: Path) -> None:
    given = Input("clips", (16, 64, 64), VIDEO_BACKBONES["i3d_r50"].smallest_clip, ALL)
    formats: list[FormatName] = ["torch"] if block == "cayley" else ["torch", "onnx"]
    check(video_network(block, "i3d_r50"), given, tmp_path, formats)


@pytest.mark.parametrize(
    ("sizes", "reason", "refused"),
    [
        ((6, 48, 56), "Constraints violated (width)! More", False),
        ((4, 32, 32), "Constraints violated (width)! More", True),  # there are none to fall back to
        ((6, 48, 56), "something else", True),
    ],
)
def test_sizes_that_torch_does_not_record(
    sizes: tuple[int, ...], reason: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Input("clips", sizes, (4, 32, 32), ALL)

    def record(network: nn.Module, example: torch.Tensor, least: Mapping[int, int]) -> str:
        if refused or least[4] < 56:
            raise RuntimeError(reason)
        return "the graph"

    monkeypatch.setattr(recording, "exported_graph", record)
    if refused:
        with pytest.raises(UserError, match="cannot record this network with these free axes"):
            recorded(nn.Identity(), given)
        return
    graph, taken = recorded(nn.Identity(), given)
    assert graph == "the graph" and taken == replace(given, smallest=sizes)


def test_the_network_stays_as_it_was() -> None:
    network = video_network("snl")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    prepared(network)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class _Shared(nn.Module):
    """A convolution whose output a norm and something else use; one whose weight two norms see."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.used = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.twice(x)
        first = self.norms[0](y) + y
        return self.norms[1](self.used(first)) + self.norms[2](self.used(x))


def test_only_norms_that_alone_follow_a_convolution_are_folded() -> None:
    torch.manual_seed(0)
    network, x = lively(_Shared()), torch.randn(2, 3, 8, 9)
    graph = exported_graph(network, x, {})
    assert graph.graph_module.code.count("batch_norm.default") == 1
    assert_close(graph.module()(x), network(x))


def test_norms_ahead_of_their_convolution_stay() -> None:
    torch.manual_seed(0)
    network, x = lively(preresnet20(4)), torch.randn(2, 3, 16, 16)
    graph = exported_graph(network, x, {})
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    left = graph.graph_module.code.count("batch_norm.default")
    assert 0 < left < norms
    assert_close(graph.module()(x), network(x), rtol=1e-4, atol=1e-5)
    held = sum(value.numel() for value in graph.state_dict.values())
    assert held < sum(value.numel() for value in network.state_dict().values())
