"""Numbers of channels that are read without an example are those that the network has there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from tests.networks import NETWORKS
from video_snl.blocks.insertion import insert_blocks, remove_blocks


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries
        yield


def shapes_of(model: nn.Module, example: Any) -> dict[str, set[tuple[int, ...]]]:
    """Return the shapes of the maps at all positions of a network, seen in a forward pass."""
    found: dict[str, set[tuple[int, ...]]] = {}

    def note(position: str, value: Any) -> None:
        if isinstance(value, Tensor):
            found.setdefault(position, set()).add(tuple(value.shape))

    for path, module in model.named_modules():
        module.register_forward_pre_hook(
            lambda _, args, path=path: note(f"before:{path}", args[0] if args else None)
        )
        module.register_forward_hook(lambda _, args, out, path=path: note(f"after:{path}", out))
    with torch.no_grad():
        model.eval()(example)
    return found


def read(model: nn.Module, position: str) -> tuple[int, int] | None:
    """Return channels and axes that an insertion without an example finds; None where it asks."""

    def record(in_channels: int, *, ndim: int, **_: Any) -> nn.Module:
        block = nn.Identity()
        block.at = (in_channels, ndim)  # type: ignore[assignment]
        return block

    try:
        [block] = insert_blocks(model, record, [position])
    except ValueError as error:
        assert (
            "example=" in str(error)
            or "choose a module" in str(error)
            or "two blocks" in str(error)
        )
        return None
    remove_blocks(model)
    return block.at  # type: ignore[return-value]


def compare(build: Callable[[], nn.Module], example: Tensor) -> dict[str, tuple[int, int]]:
    """Compare what is read with what a network has in the two levels from its top."""
    shapes, model = shapes_of(build(), example), build()
    told: dict[str, tuple[int, int]] = {}
    for path, _ in model.named_modules():
        for position in (f"before:{path}", f"after:{path}"):
            if path and path.count(".") < 2 and position in shapes:
                at = read(model, position)
                expected = {(shape[1], len(shape) - 2) for shape in shapes[position]}
                assert at is None or {at} == expected, (position, at, shapes[position])
                told |= {} if at is None else {position: at}
    return told


def image_network(name: str) -> nn.Module:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    # Widths of RegNet are worked out in tensors, which have no values on "meta".
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        return torchvision.models.get_model(name, weights=None, **options)


def image_for(name: str) -> Tensor:
    fixed = ("vit", "maxvit", "swin", "inception")
    side = (299 if "inception" in name else 224) if name.startswith(fixed) else 64
    return torch.empty(2, 3, side, side, device=None if name.startswith("regnet") else "meta")


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        # Its units split their input in halves, one of which goes through their layers.
        ("shufflenet_v2_x0_5", {"before:stage2": 24, "after:stage2": 48, "after:conv5": 1024}),
        ("squeezenet1_1", {"before:features.3": 64, "after:features.3": 128}),
        ("resnet18", {"before:layer2": 64, "after:layer2.0": 128, "after:layer4": 512}),
    ],
)
def test_widths_that_are_read_are_those_of_the_network(name: str, widths: dict[str, int]) -> None:
    told = compare(lambda: image_network(name), image_for(name))
    assert {position: told[position] for position in widths} == {
        position: (width, 2) for position, width in widths.items()
    }


LARGE = {  # hundreds of units of the same kinds as their smaller ones
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "efficientnet_v2_m",
    "efficientnet_v2_l",
    "regnet_x_16gf",
    "regnet_x_32gf",
    "regnet_y_16gf",
    "regnet_y_32gf",
    "regnet_y_128gf",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(set(torchvision.models.list_models(torchvision.models)) - LARGE)
)
def test_widths_in_all_networks_of_torchvision(name: str) -> None:
    assert compare(lambda: image_network(name), image_for(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["res2net50_26w_4s", "cspresnet50", "ghostnet_100", "fasternet_t0", "hrnet_w18_small", "dla34"],
)
def test_widths_in_networks_of_timm(name: str) -> None:
    import timm

    def build() -> nn.Module:
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False)

    assert compare(build, torch.empty(2, 3, 64, 64, device="meta"))


# ---- modules whose layers do not tell ------------------------------------------------------------


class Unit(nn.Module):
    """Layers in the order of a chain, in a module that does something else with them."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Any], into: int = 4) -> None:
        super().__init__()
        self.conv, self.run = nn.Conv2d(into, 4, 3, padding=1), run

    def forward(self, x: Tensor) -> Any:
        return self.run(self.conv, x)


def _halves(conv: nn.Module, x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return torch.cat([first, conv(second)], 1)


CASES: dict[str, tuple[Callable[[nn.Module, Tensor], Any], int, int | None, int | None]] = {
    "a plain one": (lambda conv, x: conv(x), 3, 3, 4),
    "a DenseNet's": (lambda conv, x: torch.cat([x, conv(x)], 1), 3, 3, 7),
    "a ShuffleNet's": (_halves, 4, None, None),
    "layers on some channels": (
        lambda conv, x: torch.cat([conv(x[:, :4]), x[:, 4:]], 1),
        4,
        None,
        None,
    ),
    "layers on a mean": (lambda conv, x: x * conv(x.mean(1, True))[:, :1], 1, None, None),
    "channels last": (lambda conv, x: conv(x).permute(0, 2, 3, 1), 3, 3, None),
    "no grid": (lambda conv, x: conv(x).mean((2, 3)), 3, 3, None),
    "pixel shuffle": (lambda conv, x: nn.functional.pixel_shuffle(conv(x), 2), 3, 3, 1),
    "pixel unshuffle": (lambda conv, x: conv(nn.functional.pixel_unshuffle(x, 2)), 4, None, None),
}


@pytest.mark.parametrize("name", list(CASES))
def test_what_a_module_does_with_its_layers(name: str) -> None:
    run, into, before, after = CASES[name]
    model = nn.Sequential(Unit(run, into))
    for where, expected in (("before", before), ("after", after)):
        assert read(model, f"{where}:0") == (None if expected is None else (expected, 2))


def test_several_arguments_and_several_results_are_asked_for() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.conv(x) + y

    for where, word in (("before", "enter"), ("after", "leave")):
        with pytest.raises(ValueError, match=f"do not tell how many channels {word} it: give exa"):
            insert_blocks(nn.Sequential(Two()), positions=[f"{where}:0"])
    pair = nn.Sequential(
        Unit(lambda conv, x: {"small": conv(x), "large": torch.cat([conv(x)] * 2, 1)})
    )
    with pytest.raises(ValueError, match="feature maps 'small': .*, 'large': .*: give pathway="):
        insert_blocks(pair, positions=["after:0"])
    [block] = insert_blocks(pair, positions=["after:0"], pathway="large")
    assert block.in_channels == 8


def test_the_width_of_a_transformer_s_layer_that_is_no_unit_is_asked_for() -> None:
    """A layer of Swin that joins four positions has a norm of four times its width."""
    model = NETWORKS["torchvision swin"].build()
    for where in ("before", "after"):
        with pytest.raises(ValueError, match="do not tell how many channels"):
            insert_blocks(model, positions=[f"{where}:features.2"], layout="channels_last")
        [block] = insert_blocks(model, positions=[f"{where}:features.3.1"], layout="channels_last")
        assert (block.in_channels, block.ndim) == (32, 2)


def test_reading_leaves_a_module_alone() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.runs = nn.Conv2d(3, 4, 1), 0
            self.register_buffer("total", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.runs += 1
            self.total += 1
            return self.conv(x)

    model, calls = nn.Sequential(Counts()).train(), []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    weight = model[0].conv.weight
    for where in ("before", "after"):
        insert_blocks(model, positions=[f"{where}:0"])
    unit = model[0].module.module
    assert unit.conv.weight is weight and weight.device.type == "cpu" and weight.requires_grad
    assert (unit.runs, unit.total.item(), calls, unit.training) == (0, 0, [], True)


def test_a_module_with_blocks_inside_is_read_as_without() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1)))
    insert_blocks(model, lambda *_, **__: nn.LazyConv2d(4, 1), ["after:0.0"])
    [block] = insert_blocks(model, positions=["after:0"])
    assert block.in_channels == 6


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm", "parametrizations.weight_norm"])
def test_modules_with_weights_that_are_worked_out(norm: str) -> None:
    wrap = torch.nn.utils
    for name in norm.split("."):
        wrap = getattr(wrap, name)
    model = nn.Sequential(nn.Sequential(wrap(nn.Conv2d(3, 4, 1)), nn.ReLU()))
    model(torch.randn(1, 3, 2, 2))
    assert (read(model, "before:0"), read(model, "after:0")) == ((3, 2), (4, 2))


def test_a_module_that_cannot_be_copied_is_asked_for() -> None:
    import threading

    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)))
    model[0].lock = threading.Lock()  # type: ignore[assignment]
    assert read(model, "after:0") is None and read(model, "after:0.0") == (4, 2)
