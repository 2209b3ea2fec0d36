"""Blocks at named places of any network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from video_snl.blocks import SNL1d, SNL2d, SNL3d
from video_snl.blocks.insertion import WithBlock, block_places, insert_blocks, inserted_blocks
from video_snl.models.i3d import i3d_r50, i3d_small, pytorchvideo_i3d_r50


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    return i3d_small(5).eval()


def clip() -> Tensor:
    return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


def units(model: nn.Module, stage: str) -> list[str]:
    return [place for place in block_places(model) if place.startswith(f"{stage}.")]


def on_meta(build: Any, *arguments: Any) -> nn.Module:
    with torch.device("meta"):
        return build(*arguments)


class Unit(nn.Module):
    """A residual unit that changes the number of channels."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(into)
        self.conv = nn.Conv1d(into, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x))


@pytest.fixture
def plain() -> nn.Module:
    """A network of no known make: 4, 4, 6 and 8 channels."""
    return nn.Sequential(Unit(4, 4), nn.Sequential(Unit(4, 6), Unit(6, 8)), nn.ReLU()).eval()


def test_the_default_is_before_the_last_unit_of_res4(small: nn.Module) -> None:
    last = units(small, "res4")[-1]
    unit = small.get_submodule(block_places(small)[last])
    (block,) = insert_blocks(small)
    assert isinstance(block, SNL3d)
    assert inserted_blocks(small) == {f"before:{last}": block}
    wrapped = small.get_submodule(block_places(small)[last])
    assert isinstance(wrapped, WithBlock)
    assert (wrapped.module, wrapped.block, wrapped.where) == (unit, block, "before")


def test_in_the_paper_s_network_that_is_res4_5_with_512_transferred_channels() -> None:
    model = on_meta(i3d_r50, 400)
    before = sum(parameter.numel() for parameter in model.parameters())
    (block,) = insert_blocks(model)
    assert inserted_blocks(model) == {"before:res4.5": block}
    assert (block.in_channels, block.inter_channels) == (1024, 512)
    assert sum(parameter.numel() for parameter in model.parameters()) == before + 2_623_488


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("stage", ["res2", "res3", "res4", "res5"])
def test_at_every_stage_the_output_stays_and_the_block_trains(
    small: nn.Module, where: str, stage: str
) -> None:
    bare = small(clip())
    (block,) = insert_blocks(small, positions=[f"{where}:{stage}.0"])
    assert torch.equal(small(clip()), bare)
    optimizer = torch.optim.SGD(block.parameters(), lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        small(clip()).logsumexp(1).sum().backward()
        optimizer.step()
    assert all(parameter.grad.abs().max() > 0 for parameter in block.parameters())
    assert not torch.equal(small(clip()), bare)


def test_several_blocks_come_back_in_the_order_asked_for(small: nn.Module) -> None:
    bare = small(clip())
    positions = ["after:res4.0", "before:res3.0", "before:res4.0", "after:res5.-1"]
    blocks = insert_blocks(small, positions=positions)
    found = inserted_blocks(small)
    last = units(small, "res5")[-1]
    names = [*positions[:3], f"after:{last}"]
    assert set(found) == set(names)
    assert [found[name] for name in names] == blocks
    assert torch.equal(small(clip()), bare)


def test_before_and_after_one_unit_that_changes_the_channels(plain: nn.Module) -> None:
    x = torch.randn(2, 4, 9)
    bare = plain(x)
    for order in (["before:1.0", "after:1.0"], ["after:1.1", "before:1.1"]):
        insert_blocks(plain, positions=order)
    widths = {name: block.in_channels for name, block in inserted_blocks(plain).items()}
    assert widths == {"before:1.0": 4, "after:1.0": 6, "before:1.1": 6, "after:1.1": 8}
    assert all(isinstance(block, SNL1d) for block in inserted_blocks(plain).values())
    assert torch.equal(plain(x), bare)


def test_blocks_run_where_they_stand(plain: nn.Module) -> None:
    calls: list[str] = []

    def spy(name: str) -> Any:
        return lambda *_: calls.append(name)

    plain.get_submodule("1.0").register_forward_hook(spy("unit"))
    for block in insert_blocks(plain, positions=["after:1.0", "before:1.0"]):
        where = next(name for name, found in inserted_blocks(plain).items() if found is block)
        block.register_forward_hook(spy(where))
    plain(torch.randn(1, 4, 5))
    assert calls == ["before:1.0", "unit", "after:1.0"]


def test_a_place_inside_another_and_paths_of_the_bare_network(plain: nn.Module) -> None:
    x = torch.randn(2, 4, 9)
    bare = plain(x)
    insert_blocks(plain, positions=["before:1", "before:1.0", "before:1.1.conv"])
    insert_blocks(plain, positions=["after:1.1.conv", "after:1"])
    widths = {name: block.in_channels for name, block in inserted_blocks(plain).items()}
    assert widths == {
        "before:1": 4,
        "before:1.0": 4,
        "before:1.1.conv": 6,
        "after:1.1.conv": 8,
        "after:1": 8,
    }
    assert torch.equal(plain(x), bare)


def test_units_are_still_found_after_their_stage_was_wrapped(small: nn.Module) -> None:
    stage = block_places(small)["res3.0"].rpartition(".")[0].rpartition(".")[0]
    bare_places = list(block_places(small))
    insert_blocks(small, positions=["before:res3.0", f"after:{stage}"])
    assert list(block_places(small)) == bare_places
    assert isinstance(small.get_submodule(block_places(small)["res3.0"]), WithBlock)
    assert set(inserted_blocks(small)) == {"before:res3.0", f"after:{stage}"}


def test_a_2d_network() -> None:
    model = on_meta(torchvision.models.resnet50)
    (block,) = insert_blocks(model, positions=["before:layer3.-1"])
    assert isinstance(block, SNL2d)
    assert block.in_channels == 1024
    assert inserted_blocks(model) == {"before:layer3.5": block}
    image = torch.empty(2, 3, 64, 64, device="meta")
    assert model(image).shape == (2, 1000)


def test_a_3d_network_of_torchvision_by_path() -> None:
    model = on_meta(torchvision.models.video.r3d_18)
    blocks = insert_blocks(model, positions=["after:layer3.1.conv2", "before:layer4.0"])
    assert [(type(block), block.in_channels) for block in blocks] == [(SNL3d, 256)] * 2
    assert set(inserted_blocks(model)) == {"after:layer3.1.conv2", "before:layer4.0"}
    assert model(torch.empty(2, 3, 4, 32, 32, device="meta")).shape == (2, 400)


def test_a_pooling_layer_between_stages_is_not_counted() -> None:
    places = block_places(on_meta(pytorchvideo_i3d_r50, 400))
    assert [place for place in places if place.startswith("res4")] == [
        f"res4.{unit}" for unit in range(6)
    ]
    assert "res6.0" not in places


def test_device_dtype_and_mode_are_those_of_the_network(plain: nn.Module) -> None:
    (block,) = insert_blocks(plain.double(), positions=["before:1.0"])
    assert block.project.weight.dtype == torch.float64
    assert not block.training
    (block,) = insert_blocks(plain.train(), positions=["after:1.0"])
    assert block.training


def test_options_and_a_block_of_one_s_own(plain: nn.Module) -> None:
    (block,) = insert_blocks(
        plain, "snl", ["before:1.1"], inter_channels=2, zero_init=False, activation="relu"
    )
    assert (block.inter_channels, block.sub_blocks[0].activation) == (2, "relu")
    received: dict[str, Any] = {}

    def make(in_channels: int, **options: Any) -> nn.Module:
        received.update(options, in_channels=in_channels)
        return nn.Identity()

    (identity,) = insert_blocks(plain, make, ["after:1.1"], inter_channels=3)
    assert inserted_blocks(plain)["after:1.1"] is identity
    assert received == {
        "in_channels": 8,
        "ndim": 1,
        "num_units": 1,
        "inter_channels": 3,
        "zero_init": True,
        "activation": None,
    }


@pytest.mark.parametrize(
    "position", ["res4.0", "before", "before:", "inside:res4.0", ":res4.0", "Before:res4.0", ""]
)
def test_a_malformed_position(small: nn.Module, position: str) -> None:
    with pytest.raises(ValueError, match="is malformed: write before:PLACE or after:PLACE"):
        insert_blocks(small, positions=[position])


@pytest.mark.parametrize(
    "place", ["res6.0", "res4.99", "res4.-99", "res4.-0", "res4", "layer3.0", "blocks.77", "."]
)
def test_an_unknown_place_lists_the_places_there_are(small: nn.Module, place: str) -> None:
    stages = {place.rpartition(".")[0]: place for place in block_places(small)}
    with pytest.raises(ValueError) as caught:
        insert_blocks(small, positions=[f"before:{place}"])
    message = str(caught.value)
    assert message.startswith(f"positions=['before:{place}'] names no module. This network has: ")
    assert list(stages) == ["res2", "res3", "res4", "res5"]
    for stage, last in stages.items():
        assert f"{stage}.0" in message
        assert last.rpartition(".")[2] in message
    assert inserted_blocks(small) == {}


def test_the_message_for_the_paper_s_network_and_for_an_unknown_one(plain: nn.Module) -> None:
    with pytest.raises(ValueError) as caught:
        insert_blocks(on_meta(i3d_r50, 400), positions=["before:res6.0"])
    assert str(caught.value) == (
        "positions=['before:res6.0'] names no module. "
        "This network has: res2.0-2, res3.0-3, res4.0-5, res5.0-2. "
        "Nearest are: res5.0, res4.0, res3.0."
    )
    with pytest.raises(ValueError, match="no stages that we know; its modules are: 0, 1, 2"):
        insert_blocks(plain)


def test_no_position_at_all(small: nn.Module) -> None:
    with pytest.raises(ValueError, match="no block would be inserted. This network has: res2.0"):
        insert_blocks(small, positions=[])


def test_a_second_block_at_one_position_is_refused(small: nn.Module) -> None:
    path = block_places(small)["res4.0"]
    for again in ("before:res4.0", f"before:{path}"):
        with pytest.raises(ValueError, match=f"two blocks {again}"):
            insert_blocks(small, positions=["before:res4.0", again])
    insert_blocks(small, positions=["before:res4.0"])
    with pytest.raises(ValueError, match="two blocks before:res4.0"):
        insert_blocks(small, positions=["before:res4.0"])
    assert len(inserted_blocks(small)) == 1


def test_after_an_error_the_network_is_as_it_was(plain: nn.Module) -> None:
    for wrong in ("before:2", "before:7"):
        with pytest.raises(ValueError):
            insert_blocks(plain, positions=["before:1.0", wrong])
    with pytest.raises(ValueError, match="'spectral' is unknown"):
        insert_blocks(plain, "spectral", ["before:1.0"])
    assert inserted_blocks(plain) == {}


def test_a_module_without_convolutions(plain: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"\['before:2'\]: ReLU holds no convolution"):
        insert_blocks(plain, positions=["before:2"])
