"""Blocks in the networks of several libraries: measured, trained a step, exported, removed."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.networks import NETWORKS, Network, output_of
from video_snl.blocks.insertion import insert_blocks, inserted_blocks, remove_blocks

CASES = [
    pytest.param(each, id=name, marks=[pytest.mark.slow] if each.slow else [])
    for name, each in NETWORKS.items()
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries
        yield


def arguments(network: Network) -> tuple[tuple[Any, ...], dict[str, Any]]:
    example = network.example()
    if isinstance(example, dict):
        return (), example
    return (example if isinstance(example, tuple) else (example,)), {}


def run(model: nn.Module, network: Network) -> Tensor:
    args, options = arguments(network)
    return output_of(model(*args, **options))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("network", CASES)
def test_a_block_in_a_network(network: Network) -> None:
    torch.manual_seed(0)
    model = network.build().eval()
    for parameter in model.parameters():  # classifiers that start at zero would hide all else
        if parameter.ndim == 2 and not parameter.any():
            nn.init.normal_(parameter)
    modules = dict(model.named_modules())
    before = state(model)
    with torch.no_grad():
        bare = run(model, network)
    assert same(state(model), before)

    model.train()
    [block] = insert_blocks(
        model, "snl", [network.position], example=network.example(), **network.words
    )
    assert (block.in_channels, block.ndim) == (network.width, network.ndim)
    assert inserted_blocks(model) == {network.position.replace(".-1", ".10"): block}
    assert model.training and block.training
    model.eval()
    with torch.no_grad():
        assert torch.equal(run(model, network), bare)  # the block starts as the identity

    copied = copy.deepcopy(model)
    with torch.no_grad():
        assert torch.equal(run(copied, network), bare)
    assert list(inserted_blocks(copied)) == list(inserted_blocks(model))

    optimizer = torch.optim.SGD(block.parameters(), lr=1.0)
    model.train()
    for _ in range(2):
        optimizer.zero_grad()
        run(model, network).logsumexp(1).sum().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())
    model.eval()
    with torch.no_grad():
        assert not torch.equal(run(model, network), bare)

    assert remove_blocks(model) and not inserted_blocks(model)
    assert dict(model.named_modules()) == modules
    assert list(model.state_dict()) == list(before)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("network", [pytest.param(e, id=n) for n, e in NETWORKS.items()])
def test_a_network_with_a_block_is_exported(network: Network) -> None:
    torch.manual_seed(0)
    model = network.build().eval()
    insert_blocks(
        model,
        "snl",
        [network.position],
        example=network.example(),
        zero_init=False,
        **network.words,
    )
    args, options = arguments(network)
    if not network.exports:
        pytest.skip("torch.export does not take the network without a block either")
    program = torch.export.export(model, args, options)
    with torch.no_grad():
        found = output_of(program.module()(*arguments(network)[0], **arguments(network)[1]))
        torch.testing.assert_close(found, run(model, network), rtol=1e-4, atol=1e-5)


class Pair(nn.Module):
    """Takes a map with a keyword beside it, and returns two maps and a number in a dict."""

    kind = "pair"

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1)

    def forward(self, x: Tensor, *, scale: float = 1.0) -> dict[str, Any]:
        return {"small": self.small(x) * scale, "large": self.large(x), "scale": scale}


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair, self.shared = Pair(), nn.Conv2d(4, 4, 1)
        self.heads = nn.ModuleList([self.shared, self.shared])
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        self.calls += 1
        assert self.pair.kind == "pair"  # as libraries look at the type of a layer
        pair = self.pair(x=x, scale=scale)
        return sum(head(pair["small"]) for head in self.heads) + pair["large"].mean()


def test_arguments_by_name_and_elements_of_what_a_module_returns() -> None:
    torch.manual_seed(0)
    model = Around()
    x = torch.randn(2, 3, 5, 5)
    bare = model.eval()(x, scale=3.0)
    model.calls.zero_()
    blocks = insert_blocks(model, positions=["before:pair"], example=x)
    for name in ("small", "large"):
        one = copy.deepcopy(model)
        [block] = insert_blocks(one, positions=["after:pair"], example=(x, 4.0), pathway=name)
        assert block.in_channels == {"small": 4, "large": 6}[name]
        assert torch.equal(one(x, scale=3.0), bare)
    assert blocks[0].in_channels == 3 and model.calls == 0
    with pytest.raises(ValueError, match=r"maps 'small': \(2, 4, 5, 5\), 'large': .*give pathway="):
        insert_blocks(model, positions=["after:pair"], example=x)
    with pytest.raises(ValueError, match="pathway='scale' is none of them"):
        insert_blocks(model, positions=["after:pair"], example=x, pathway="scale")
    assert list(inserted_blocks(model)) == ["before:pair"]
    assert isinstance(model.pair.large, nn.Conv2d)  # the example showed that no block is passed by
    remove_blocks(model)
    insert_blocks(model, positions=["before:pair"])
    with pytest.raises(AttributeError, match="would pass the block by if it used large"):
        _ = model.pair.large


def test_a_module_in_two_places_has_its_block_in_both() -> None:
    torch.manual_seed(0)
    model, x = Around().eval(), torch.randn(2, 3, 5, 5)
    with pytest.warns(UserWarning, match="stands in 3 places"):
        [block] = insert_blocks(model, positions=["after:heads.0"], zero_init=False)
    calls: list[Tensor] = []
    block.register_forward_hook(lambda *_: calls.append(x))
    model(x)
    assert len(calls) == 2 and model.heads[0] is model.heads[1] is model.shared
    remove_blocks(model)
    assert isinstance(model.shared, nn.Conv2d) and model.heads[1] is model.shared


class Levels(nn.Module):
    """One head on two levels of a pyramid."""

    def __init__(self, shrink: bool) -> None:
        super().__init__()
        self.head, self.shrink = nn.Conv2d(3, 4, 1), shrink

    def forward(self, x: Tensor) -> Tensor:
        other = x[..., ::2, ::2] if self.shrink else x
        return self.head(x).mean() + self.head(other).mean()


def test_a_module_that_is_called_twice() -> None:
    x = torch.randn(2, 3, 4, 4)
    with pytest.warns(UserWarning, match="head is called 2 times in one forward"):
        insert_blocks(Levels(False), positions=["before:head"], example=x)
    with pytest.raises(ValueError, match=r"maps of different shapes, \(3, 4, 4\), \(3, 2, 2\)"):
        insert_blocks(Levels(True), positions=["before:head"], example=x)


def test_what_layers_do_not_tell_is_asked_for() -> None:
    import torchvision

    with torch.device("meta"):
        dense, vit = torchvision.models.densenet121(), torchvision.models.vit_b_16()
        shuffle = torchvision.models.shufflenet_v2_x1_0()
    place = ["after:features.denseblock4"]
    with pytest.raises(ValueError, match="do not tell how many channels leave it: give example="):
        insert_blocks(shuffle, positions=["after:stage2.1"])
    with pytest.raises(ValueError, match="do not tell the order of the axes: give example=INPUT"):
        insert_blocks(vit, positions=["after:encoder.layers.encoder_layer_0"])
    with pytest.raises(ValueError, match="in_channels=7, but the example has 1024"):
        image = torch.empty(2, 3, 64, 64, device="meta")
        insert_blocks(dense, positions=place, in_channels=7, example=image)
    [block] = insert_blocks(dense, positions=place, in_channels=1024)
    assert block.in_channels == 1024


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"prefix_tokens": 17, "grid": (4, 4)}, "prefix_tokens=17 of 17 tokens leave none"),
        ({"prefix_tokens": 1, "grid": (5, 4)}, "has 20 positions, and there are 16 tokens"),
        (
            {"prefix_tokens": 1, "grid": {"X": 16}},
            "give 1 to 3 sizes .* a mapping of T, H",
        ),
        (
            {"layout": "channels_first", "in_channels": 32},
            "makes 17 of .* and the layers .* have 32",
        ),
    ],
)
def test_tokens_that_do_not_fit(words: dict[str, Any], message: str) -> None:
    vit = NETWORKS["torchvision vit"]
    with pytest.raises(ValueError, match=message):
        insert_blocks(
            vit.build(),
            positions=["before:encoder.layers.encoder_layer_1"],
            example=vit.example(),
            **words,
        )


@pytest.mark.parametrize("with_example", [True, False])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"layout": "channel_first"}, "layout='channel_first' is unknown; choose from: channels_f"),
        ({"layout": None}, "layout=None is unknown"),
        ({"prefix_tokens": -1}, "prefix_tokens=-1 is no number of tokens"),
        ({"prefix_tokens": 1.0}, "prefix_tokens=1.0 is no number of tokens"),
        ({"prefix_tokens": True}, "prefix_tokens=True is no number of tokens"),
        ({"grid": (-4, -4)}, r"grid=\(-4, -4\): give 1 to 3 sizes of at least 1"),
        ({"grid": (0,)}, r"grid=\(0,\): give 1 to 3"),
        ({"grid": "4x4"}, "grid='4x4': give 1 to 3"),
        ({"grid": "44"}, "grid='44': give 1 to 3"),
        ({"grid": (4.5, 4)}, "grid=.4.5, 4.: give 1 to 3"),
        ({"grid": 16}, "grid=16: give 1 to 3"),
        ({"grid": (2, 2, 2, 2)}, "give 1 to 3"),
        ({"grid": {"TH": 4, "W": 4}}, "a mapping of T, H and W"),
        ({"layout": "channels_first", "prefix_tokens": 1}, "prefix_tokens=1 with layout='channels"),
        ({"layout": "channels_last", "grid": (4, 4)}, r"grid=\(4, 4\) with layout='channels_last'"),
    ],
)
def test_words_without_a_meaning(words: dict[str, Any], message: str, with_example: bool) -> None:
    vit = NETWORKS["torchvision vit"]
    model = vit.build()
    before = [name for name, _ in model.named_modules()]
    with pytest.raises(ValueError, match=message) as caught:
        insert_blocks(
            model,
            positions=["before:encoder.layers.encoder_layer_1"],
            **({"example": vit.example()} if with_example else {"in_channels": 32}),
            **words,
        )
    assert "\n" not in str(caught.value)
    assert [name for name, _ in model.named_modules()] == before


def test_words_that_the_example_gives_no_meaning() -> None:
    vit, place = NETWORKS["torchvision vit"], "before:encoder.layers.encoder_layer_1"
    tokens = vit.example()
    for words, message in (
        ({"prefix_tokens": 1000}, "prefix_tokens=1000 of .* tokens leave none"),
        ({"pathway": 0}, "pathway=0: EncoderBlock takes or returns one feature map"),
        ({"grid": lambda *_: (-4, -4)}, "give 1 to 3 sizes"),
    ):
        with pytest.raises(ValueError, match=message):
            insert_blocks(vit.build(), positions=[place], example=tokens, **words)
    convolution, image = nn.Sequential(nn.Conv2d(3, 4, 1)), torch.randn(1, 3, 2, 2)
    with pytest.raises(ValueError, match="prefix_tokens=1 with layout='channels_first'"):
        insert_blocks(convolution, positions=["after:0"], example=image, prefix_tokens=1)
    insert_blocks(convolution, positions=["after:0"], pathway=0)
    with pytest.raises(ValueError, match="pathway=0: Conv2d takes or returns one"):
        convolution(image)
    with pytest.raises(ValueError, match=r"is one text: give a list, \['after:0'\]"):
        insert_blocks(convolution, positions="after:0")


def test_the_order_of_the_axes_that_fits_twice_is_asked_for() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(8, 8, 1), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.conv(x))

    model, x = nn.Sequential(Mixed()), torch.randn(1, 8, 3, 8)
    with pytest.raises(ValueError, match='give layout="channels_first" or layout="channels_last"'):
        insert_blocks(model, positions=["before:0"], example=x)
    [block] = insert_blocks(model, positions=["before:0"], example=x, layout="channels_last")
    assert block.ndim == 2
    model(x)


@pytest.mark.parametrize(
    ("grid", "axes"), [({"H": 2, "W": 3, "T": 4}, (2, 3, 4)), ((4, 2, 3), (4, 2, 3))]
)
def test_the_block_sees_time_first_however_tokens_are_laid_out(
    grid: Any, axes: tuple[int, ...]
) -> None:
    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.seen = x
            return 2 * x

    model = nn.Sequential(nn.Linear(5, 5))
    spy = Spy()
    insert_blocks(
        model,
        lambda channels, **_: spy,
        ["before:0"],
        in_channels=5,
        layout="tokens",
        prefix_tokens=2,
        grid=grid,
    )
    tokens = torch.randn(3, 2 + 24, 5)
    doubled = torch.cat([tokens[:, :2], 2 * tokens[:, 2:]], 1)
    torch.testing.assert_close(model(tokens), model[0].module(doubled))
    expected = tokens[:, 2:].mT.unflatten(2, axes)
    if isinstance(grid, dict):
        expected = expected.permute(0, 1, 4, 2, 3)
    assert torch.equal(spy.seen, expected)


def test_networks_that_are_wrapped_already_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    compiled = nn.Sequential(nn.Conv2d(3, 4, 1))
    compiled.compile()
    for wrapped in (torch.compile(model), nn.DataParallel(model), nn.Sequential(compiled)):
        with pytest.raises(ValueError, match="already, which would not see the blocks: insert"):
            insert_blocks(wrapped, positions=["after:0"])


def test_an_unknown_path_names_the_nearest() -> None:
    model = NETWORKS["plain U-Net"].build()
    with pytest.raises(ValueError, match="Nearest are: .*encoder2"):
        insert_blocks(model, positions=["before:encoder3"])


def test_what_an_example_does_not_call() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    model = Unused()
    with pytest.raises(ValueError, match="the example does not call this Conv2d"):
        insert_blocks(model, positions=["before:spare"], example=torch.randn(1, 3, 2, 2))
    with pytest.raises(ValueError, match="no feature map of"):
        insert_blocks(
            nn.Sequential(nn.Linear(3, 4)), positions=["before:0"], example=torch.randn(2, 3)
        )


def test_files_of_before_and_pickles_load() -> None:
    """The names of parameters are those that insertion always gave."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    insert_blocks(model, positions=["before:1"])
    assert {"1.module.weight", "1.block.project.weight"} <= set(model.state_dict())
    again = pickle.loads(pickle.dumps(model))
    assert same(state(again), state(model)) and list(inserted_blocks(again)) == ["before:1"]
