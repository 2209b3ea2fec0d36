"""Blocks that would mix samples, would never run, or would be lost, and networks left unchanged."""

from __future__ import annotations

import copy
import functools
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from video_snl import make_block
from video_snl.blocks import NL2d, SNL2d, SNL3d
from video_snl.blocks.insertion import (
    WithBlock,
    block_places,
    insert_blocks,
    inserted_blocks,
    mask_blocks,
    remove_blocks,
)

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True", "ignore:FSDP is sw")


def encoder(batch_first: bool, layers: int = 2) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
    model = nn.TransformerEncoder(layer, layers).eval()
    for parameter in model.parameters():  # the layers are copies of one
        nn.init.normal_(parameter, std=0.2)
    return model


def structure(model: nn.Module) -> list[tuple[str, int]]:
    return [(name, id(module)) for name, module in model.named_modules()]


# ---- samples in the second axis ------------------------------------------------------------------


class Recurrent(nn.Module):
    """A convolution over time, and a recurrent layer in torch's own order of the axes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lstm = nn.Conv1d(5, 16, 1), nn.LSTM(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(self.conv(x).permute(2, 0, 1))[0]


class Inside(nn.Module):
    """A unit of (batch, tokens, channels) whose attention has the tokens first."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(16), nn.MultiheadAttention(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x).transpose(0, 1)
        return x + self.attn(y, y, y, need_weights=False)[0].transpose(0, 1)


@pytest.mark.parametrize("shape", [(7, 3, 16), (4, 4, 16), (3, 7, 16), (7, 1, 16)])
@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize(
    ("build", "place", "layout"),
    [
        (lambda: encoder(False), "layers.1", "tokens_first"),
        (lambda: encoder(False), "layers.0", "tokens_first"),
        (lambda: encoder(False), "layers.0.self_attn", "tokens_first"),
        (lambda: nn.Sequential(encoder(False), nn.Linear(16, 16)), "0", "tokens_first"),
        (lambda: encoder(True), "layers.1", "tokens"),
        (lambda: nn.Sequential(Inside(), Inside()), "1", "tokens"),
    ],
)
def test_samples_are_not_mixed(
    build: Callable[[], nn.Module], place: str, layout: str, where: str, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    model = build().eval()
    axis = 1 if layout == "tokens_first" else 0
    x = torch.randn(shape if axis or shape[1] > 1 else (1, 7, 16))
    [block] = insert_blocks(model, positions=[f"{where}:{place}"], example=x, zero_init=False)
    [wrapped] = [module for module in model.modules() if isinstance(module, WithBlock)]
    assert (wrapped.layout, block.ndim, block.in_channels) == (layout, 1, 16)
    bare = copy.deepcopy(model)
    remove_blocks(bare)
    with torch.no_grad():
        y = model(x)
        assert not torch.equal(y, bare(x))
        for sample in range(x.shape[axis]):
            alone = x.narrow(axis, sample, 1)
            torch.testing.assert_close(model(alone), y.narrow(axis, sample, 1))


def test_a_recurrent_network_has_the_samples_second() -> None:
    torch.manual_seed(0)
    model, x = Recurrent().eval(), torch.randn(3, 5, 7)
    insert_blocks(model, positions=["after:lstm"], example=x, zero_init=False)
    assert model.lstm.layout == "tokens_first"
    other = x.clone()
    other[1] = 0
    assert torch.equal(model(other)[:, 0], model(x)[:, 0])


def test_tokens_first_with_a_prefix_and_a_grid() -> None:
    torch.manual_seed(0)
    words: dict[str, Any] = {"prefix_tokens": 1, "grid": {"W": 2, "H": 3}, "zero_init": False}
    outputs = []
    x = torch.randn(4, 7, 16)
    for layout in ("tokens", "tokens_first"):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(16, 16)).eval()
        [block] = insert_blocks(
            model, positions=["after:0"], in_channels=16, layout=layout, **words
        )
        assert block.ndim == 2
        outputs.append(model(x) if layout == "tokens" else model(x.transpose(0, 1)).transpose(0, 1))
    torch.testing.assert_close(outputs[1], outputs[0])


@pytest.mark.parametrize("place", ["0.layers.0.norm1", "1"])
def test_what_a_module_does_not_tell_of_the_samples_is_asked_for(place: str) -> None:
    model, x = nn.Sequential(encoder(False), nn.Linear(16, 16)), torch.randn(5, 3, 16)
    before = structure(model)
    with pytest.raises(ValueError, match='give layout="tokens" for the first, "tokens_first" for'):
        insert_blocks(model, positions=[f"after:{place}"], example=x)
    with pytest.raises(ValueError, match='give layout="tokens" for the first, "tokens_first" for'):
        insert_blocks(model, positions=["after:0.layers.0"], prefix_tokens=1)
    assert structure(model) == before
    for layout in ("tokens", "tokens_first"):
        insert_blocks(model, positions=[f"after:{place}"], example=x, layout=layout)
        remove_blocks(model)


# ---- blocks that are passed by -------------------------------------------------------------------


class PlainList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.steps = [self.a, self.b]

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Asking(nn.Module):
    """Calls a unit, and asks it for a number by its method."""

    class Unit(nn.Sequential):
        def scale(self) -> float:
            return 2.0

    def __init__(self) -> None:
        super().__init__()
        self.unit = self.Unit(nn.Conv2d(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.unit(x) * self.unit.scale()


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_network_that_calls_its_layers_through_a_plain_list(where: str) -> None:
    model, x = PlainList().train(), torch.randn(1, 8, 6, 6)
    before, bare = structure(model), model(x)
    with pytest.raises(ValueError, match="would be passed by.*0 of these.*steps is a plain list"):
        insert_blocks(model, positions=["after:a", f"{where}:b"], example=x, zero_init=False)
    assert structure(model) == before and model.training
    assert torch.equal(model(x), bare)


def test_a_part_of_a_wrapped_module_that_the_network_needs() -> None:
    model, x = Asking().eval(), torch.randn(1, 8, 6, 6)
    bare = model(x)
    insert_blocks(model, positions=["after:unit"], example=x)
    assert torch.equal(model(x), bare)
    assert not hasattr(model.unit, "nonsense")
    remove_blocks(model)
    insert_blocks(model, positions=["after:unit"])
    with pytest.raises(AttributeError, match="reads scale of a Unit that has a.*example=INPUT"):
        model(x)


def test_a_module_that_its_network_replaces_by_a_part_of_it() -> None:
    class Fallback(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unit = nn.Sequential(nn.Conv2d(8, 8, 1))

        def forward(self, x: Tensor) -> Tensor:
            # As code that asks for the type of a layer and has another way for the rest.
            return self.unit(x) if type(self.unit) is nn.Sequential else self.unit.forward_all(x)

    model, x = Fallback(), torch.randn(1, 8, 6, 6)
    model.unit.forward_all = model.unit.forward
    before = structure(model)
    with pytest.raises(ValueError, match="passed by.*the network uses its forward_all directly"):
        insert_blocks(model, positions=["after:unit"], example=x)
    assert structure(model) == before


def test_a_network_that_does_not_run_with_a_wrapper() -> None:
    class Picky(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            if not isinstance(self[0], nn.Conv2d):
                raise RuntimeError("unknown layer")
            return super().forward(x)

    model, x = Picky(nn.Conv2d(3, 4, 1)), torch.randn(1, 3, 2, 2)
    with pytest.raises(ValueError, match="'after:0'.*does not run with a module wrapped.*unknown"):
        insert_blocks(model, positions=["after:0"], example=x)
    assert not inserted_blocks(model)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    "place",
    [
        "before:layers.0",
        "after:layers.0",
        "after:layers.1",
        "after:layers.0.self_attn",
        "before:layers.1.linear1",
        "after:layers.1.linear2",
        "after:layers.0.norm1",
    ],
)
def test_the_fused_kernels_of_torch_do_not_pass_a_block_by(place: str, batch_first: bool) -> None:
    model, x = encoder(batch_first), torch.randn(3, 7, 16)
    nested = model.use_nested_tensor
    padding = torch.zeros((3, 7) if batch_first else (7, 3), dtype=torch.bool)
    padding[0, -1:] = True
    layout = "tokens" if batch_first else "tokens_first"
    insert_blocks(model, positions=[place], example=x, layout=layout, zero_init=False)
    [block] = inserted_blocks(model).values()
    for options in ({}, {"src_key_padding_mask": padding}):
        called: list[Any] = []
        handle = block.register_forward_hook(lambda *_, called=called: called.append(1))
        with torch.no_grad():
            model(x, **options)
        handle.remove()
        assert called == [1]
        with torch.no_grad():
            kernels = model(x, **options)  # no hook is on the block
        torch.testing.assert_close(kernels, model(x, **options).detach(), rtol=1e-4, atol=1e-5)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))
    remove_blocks(model)
    assert model.use_nested_tensor == nested and "nested_without_blocks" not in vars(model)


def test_a_deep_copy_keeps_the_block_of_a_module_that_copies_itself() -> None:
    class Copies(nn.Conv2d):
        def __deepcopy__(self, memo: dict[int, Any]) -> Copies:
            return Copies(3, 4, 1)

    model = nn.Sequential(Copies(3, 4, 1))
    insert_blocks(model, positions=["after:0"], example=torch.randn(1, 3, 2, 2))
    assert list(inserted_blocks(copy.deepcopy(model))) == ["after:0"]


# ---- shared modules, and errors that change nothing ----------------------------------------------


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(8, 8, 3, padding=1)
        self.heads = nn.ModuleList([self.a, nn.Conv2d(8, 8, 1)])

    def forward(self, x: Tensor) -> Tensor:
        return self.heads[1](self.heads[0](self.a(x)))


def test_two_paths_of_one_module_are_one_position() -> None:
    model = Shared()
    before = structure(model)
    with pytest.raises(ValueError, match=r"two blocks after:heads\.0, which is a; name each"):
        insert_blocks(model, positions=["after:a", "after:heads.0"])
    assert structure(model) == before
    with pytest.warns(UserWarning, match="stands in 2 places"):
        blocks = insert_blocks(model, positions=["after:a", "before:heads.0"])
    assert set(inserted_blocks(model).values()) == set(blocks) and len(blocks) == 2
    assert model.a is model.heads[0]
    with pytest.raises(ValueError, match=r"two blocks after:heads\.0"):
        insert_blocks(model, positions=["after:heads.0"])
    assert set(remove_blocks(model).values()) == set(blocks) and structure(model) == before


def test_warnings_that_are_errors_leave_the_network_unchanged() -> None:
    model = Shared()
    before = structure(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="stands in 2 places"):
            insert_blocks(model, positions=["after:heads.1", "after:a"])
    assert structure(model) == before


def test_a_wrapper_that_fails_leaves_the_network_unchanged() -> None:
    model = Shared()
    before, made = structure(model), []

    def wrapper(module: nn.Module, block: nn.Module, where: Any) -> WithBlock:
        if made:
            raise RuntimeError("no more")
        made.append(WithBlock(module, block, where))
        return made[0]

    with pytest.raises(RuntimeError, match="no more"):
        insert_blocks(model, positions=["after:heads.1", "before:heads.1"], wrapper=wrapper)
    assert structure(model) == before
    with pytest.raises(TypeError, match="wrapper= made a Identity, no WithBlock"):
        insert_blocks(model, positions=["after:heads.1"], wrapper=lambda *_: nn.Identity())  # type: ignore[arg-type,return-value]
    assert structure(model) == before


# ---- arguments of other kinds --------------------------------------------------------------------


def _fails(channels: int, **_: Any) -> nn.Module:
    raise SystemExit(f"no block of {channels}")


@pytest.mark.parametrize("with_example", [False, True])
@pytest.mark.parametrize(
    ("block", "said"),
    [
        (lambda c, **_: nn.Conv2d(c, 1, 1), r"lambda>\(in_channels=8.*output of the input's shape"),
        (lambda c, **_: None, "expected a torch.nn.Module, found a NoneType"),
        (lambda c, **_: nn.Identity, "found a class torch.nn.modules.linear.Identity"),
        (lambda c: nn.Identity(), "cannot be made: TypeError: .*unexpected keyword"),
        (_fails, "the block of _fails.* cannot be made: SystemExit: no block of 8"),
        (functools.partial(lambda c, **_: nn.Conv2d(9, 9, 1)), "the block of partial.*fails on an"),
        (lambda c, **_: SNL2d(4), "is a SNL2d of in_channels=4 and ndim=2"),
        (lambda c, **_: SNL3d(c), "is a SNL3d of in_channels=8 and ndim=3"),
        (None, "block=None: expected the name of a block, a class"),
        (3, "block=3: expected the name"),
        (dict, "expected a class of torch.nn.Module, or a name"),
    ],
)
def test_what_makes_no_block_is_said(block: Any, said: str, with_example: bool) -> None:
    model = Shared()
    before, example = structure(model), torch.randn(1, 8, 6, 6) if with_example else None
    with pytest.raises(ValueError, match=said):
        insert_blocks(model, block, ["after:heads.1"], example=example)
    assert structure(model) == before


def test_a_function_makes_blocks() -> None:
    model, made = Shared(), []

    def factory(channels: int, *, ndim: int, **options: Any) -> nn.Module:
        made.append((channels, ndim, options.pop("gain"), sorted(options)))
        return nn.Conv2d(channels, channels, 1)

    common = ["activation", "inter_channels", "num_units", "zero_init"]
    [block] = insert_blocks(model, factory, ["after:heads.1"], gain=2)  # type: ignore[call-arg]
    assert made == [(8, 2, 2, common)] and inserted_blocks(model) == {"after:heads.1": block}


def test_a_function_makes_blocks_that_pool_wide_windows() -> None:
    model = Shared()
    factory = functools.partial(make_block, "nl", pool=8, ceil_mode=False)
    [block] = insert_blocks(model, factory, ["after:heads.1"])
    assert isinstance(block, NL2d)


def test_with_a_wrapper_of_its_own_a_block_may_have_other_axes() -> None:
    class OfClips(WithBlock):
        def apply_block(self, x: Tensor) -> Tensor:
            return self.block(x[None].movedim(1, 2))[0].movedim(0, 1)

    for block in (SNL3d(8, zero_init=False), nn.Conv3d(8, 8, 1)):
        model = nn.Sequential(nn.Conv2d(3, 8, 1))
        insert_blocks(model, lambda *_, block=block, **__: block, ["after:0"], wrapper=OfClips)
        assert model(torch.randn(4, 3, 5, 6)).shape == (4, 8, 5, 6)


def test_errors_of_a_function_itself_pass() -> None:
    class Own(Exception):
        pass

    def fails(*_: Any, **__: Any) -> nn.Module:
        raise Own("mine")

    model = Shared()
    before = structure(model)
    with pytest.raises(Own, match=r"\Amine\Z"):
        insert_blocks(model, fails, ["after:heads.1"])
    assert structure(model) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"positions": ["after:heads.1", 3]}, r"expected a list of texts, .* got 3 in it"),
        ({"positions": [None]}, "got None in it"),
        ({"positions": 3}, "positions=3: expected a list of texts, .* got a int"),
        ({"positions": None}, "got a NoneType"),
        ({"positions": b"after:a"}, "got 97 in it"),
        ({"in_channels": "8"}, "in_channels='8' must be a whole number"),
        ({"in_channels": 8.0}, "in_channels=8.0 must be a whole number"),
        ({"in_channels": 0}, "in_channels=0 must be at least 1"),
        ({"wrapper": 3}, "wrapper=3: expected a function that makes a WithBlock"),
        ({"example": torch.ones(1, 5, 6, 6)}, "example= is no input .*: RuntimeError: .*channels"),
        ({"example": 3}, "example= is no input of this network, .* any new block: TypeError: conv"),
        ({"example": {"y": 3}}, "example= is no input .*: TypeError: .*unexpected keyword.*'y'"),
        ({"example": ()}, "example= is no input .*: TypeError: .*missing 1 required"),
    ],
)
def test_arguments_of_another_kind(arguments: dict[str, Any], said: str) -> None:
    model = Shared()
    before = structure(model)
    with pytest.raises(ValueError, match=said):
        insert_blocks(model, **{"positions": ["after:heads.1"], **arguments})
    assert structure(model) == before


def test_an_example_is_not_blamed_for_other_errors() -> None:
    with pytest.raises(ValueError, match="in_channels=4, but the example has 8"):
        insert_blocks(
            Shared(), positions=["after:heads.1"], in_channels=4, example=torch.ones(1, 8, 6, 6)
        )


@pytest.mark.parametrize(
    ("model", "found"), [(None, "NoneType"), ("snl", "str"), (Shared, "class Shared")]
)
def test_what_is_no_network(model: Any, found: str) -> None:
    said = f"expected a network, a torch.nn.Module, got a {found}"
    with pytest.raises(ValueError, match=f"insert_blocks: {said}"):
        insert_blocks(model)
    for function in (remove_blocks, inserted_blocks, block_places):
        with pytest.raises(ValueError, match=f"^{function.__name__}: {said}.$"):
            function(model)
    with (
        pytest.raises(ValueError, match=f"mask_blocks: {said}"),
        mask_blocks(model, torch.ones(1, 4, dtype=torch.bool)),
    ):
        pass


# ---- networks that are wrapped already -----------------------------------------------------------


@pytest.fixture(scope="module")
def process_group() -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def _plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1))


def _ddp(model: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


def _fsdp1(model: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel(model, device_id=torch.device("cpu"))


def _fsdp2(model: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    fully_shard(model[1], mesh=init_device_mesh("cpu", (1,)))
    return model


def _replicate(model: nn.Module) -> nn.Module:
    from torch.distributed._composable.replicate import replicate

    replicate(model)
    return model


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("wrap", [_ddp, _fsdp1, _fsdp2, _replicate, torch.compile])
@pytest.mark.parametrize("inside", [False, True])
def test_distributed_and_compiled_networks_are_refused(wrap: Any, inside: bool) -> None:
    model = wrap(_plain())
    model = nn.Sequential(model) if inside else model
    names = [name for name, _ in model.named_modules()]
    place = next(name for name in names if name.endswith("1"))
    with pytest.raises(ValueError, match="wrapped by .* already, .* into the bare network"):
        insert_blocks(model, positions=[f"after:{place}"])
    assert [name for name, _ in model.named_modules()] == names
