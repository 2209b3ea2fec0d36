"""Positions that do not exist: they change nothing else, and are returned as they are."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from tests.blocks.cases import CASES, GATES, all_cases, features, made, nonlocal_cases
from video_snl.blocks import NonlocalBlock, filters, make_block, operators
from video_snl.blocks.insertion import insert_blocks, mask_blocks
from video_snl.blocks.masks import masked_norm
from video_snl.blocks.operators import Softmax

GRID = (3, 4, 3)
MASKED = [case for case in (*CASES, *GATES) if case not in ("ge 2", "ge theta", "ge plus")]
masked_cases = pytest.mark.parametrize("case", MASKED)
few = settings(max_examples=6, deadline=None)


@pytest.fixture(params=[False, True], ids=["factored", "dense"])
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Either order of the products, whatever they cost."""
    for module in (operators, filters):
        monkeypatch.setattr(module, "prefers_dense", lambda *costs: request.param)
    monkeypatch.setattr(operators, "_prefers_small_matrix", lambda *sizes: request.param)
    return request.param


def boxes(*sizes: tuple[int, int, int]) -> Tensor:
    """Masks of boxes that start at the first position of each axis."""
    mask = torch.zeros(len(sizes), *GRID, dtype=torch.bool)
    for kept, (t, h, w) in zip(mask, sizes, strict=True):
        kept[:t, :h, :w] = True
    return mask


def holes(batch: int, seed: int, grid: tuple[int, ...] = GRID) -> Tensor:
    mask = torch.rand(batch, *grid, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask.view(batch, -1)[:, seed % mask[0].numel()] = True
    return mask


def spoiled(x: Tensor, mask: Tensor) -> Tensor:
    """Put NaN where no position exists."""
    return torch.where(mask[:, None], x, torch.nan)


def as_sequence(block: nn.Module, case: str, **more: int) -> nn.Module:
    """The same block over a sequence."""
    line = made(case, 1, **more)
    shapes = {name: value.shape for name, value in line.state_dict().items()}
    line.load_state_dict({n: v.reshape(shapes[n]) for n, v in block.state_dict().items()})
    return line


def assert_equal_enough(found: Tensor, expected: Tensor) -> None:
    scale = float(expected.detach().abs().max())
    assert_close(found, expected, rtol=0, atol=1e-12 * max(scale, 1e-30))


FRAMES = torch.ones(2, 3, dtype=torch.bool)
NO_MASKS: list[tuple[Any, str]] = [
    (FRAMES.float(), "torch.float32"),
    (FRAMES.long(), "torch.int64"),
    (FRAMES.byte(), "torch.uint8"),
    (FRAMES.numpy(), "a numpy.ndarray"),
    (FRAMES.tolist(), "a builtins.list"),
    (True, "a builtins.bool"),
    ("frames", "a builtins.str"),
]


@masked_cases
def test_kept_boxes_are_the_block_on_them_alone(case: str, order: bool) -> None:
    block, x = made(case), features(3, 8, *GRID)
    sizes = [(2, 4, 3), (3, 2, 1), (1, 1, 1)]
    mask = boxes(*sizes)
    y = block(spoiled(x, mask), mask)
    for number, (t, h, w) in enumerate(sizes):
        alone = block(x[number : number + 1, :, :t, :h, :w])
        assert_equal_enough(y[number, :, :t, :h, :w], alone[0])
    assert y.masked_select(~mask[:, None]).isnan().all()


@pytest.mark.parametrize("case", [case for case in MASKED if not case.startswith("cc")])
@few
@given(st.integers(0, 10_000))
def test_holes_are_the_block_on_the_kept_positions_as_a_sequence(case: str, seed: int) -> None:
    block, x, mask = made(case), features(2, 8, *GRID), holes(2, seed)
    line, y = as_sequence(block, case), block(spoiled(x, mask), mask)
    for number, kept in enumerate(mask):
        alone = line(x[number : number + 1, :, kept])
        assert_equal_enough(y[number, :, kept], alone[0])


@pytest.mark.parametrize("seed", range(3))
def test_criss_cross_listens_to_what_is_left_of_its_lines(seed: int) -> None:
    block, x, mask = made("cc", 2), features(1, 8, 3, 4), holes(1, seed, (3, 4))
    y = block(spoiled(x, mask), mask)
    embedded, _ = block.project(x.flatten(2).mT).split(block.parts, -1)
    theta, phi = (e[0].unflatten(0, (3, 4)) for e in embedded.split(block.widths, -1))
    for i in range(3):
        for j in range(4):
            if not mask[0, i, j]:
                continue
            others = [(a, b) for a in range(3) for b in range(4) if a == i or b == j]
            others = [at for at in others if mask[0][at]]
            weights = torch.stack([theta[i, j] @ phi[at] for at in others]).softmax(0)
            heard = sum(w * x[0][(slice(None), *at)] for w, at in zip(weights, others, strict=True))
            [sub_block] = block.sub_blocks
            added = sub_block.norm((sub_block.combine.weight @ heard)[None, :, None, None])
            assert_close(y[0, :, i, j], x[0, :, i, j] + added[0, :, 0, 0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kernel", ["embedded_gaussian", "relu_dot", "dot"])
def test_pooled_keys_are_maxima_of_what_exists(kernel: str, seed: int) -> None:
    normalization = None if kernel == "dot" else "rw"
    torch.manual_seed(seed)
    block = make_block(
        "nl", 6, ndim=2, pool=2, kernel=kernel, normalization=normalization, zero_init=False
    )
    block = block.double().eval()
    x, mask = features(1, 6, 4, 5), holes(1, seed, (4, 5))
    mask[0, 2:, 4:] = False  # a whole window is empty
    mask[0, 0, 0] = True
    y = block(spoiled(x, mask), mask)
    rows = block.project(x.flatten(2).mT)[0]
    theta, phi, z = rows.split([3, 3, 3], -1)
    keys, signals = [], []
    for top in range(0, 4, 2):
        for left in range(0, 5, 2):
            members = [
                5 * a + b
                for a in range(top, top + 2)
                for b in range(left, min(left + 2, 5))
                if mask[0, a, b]
            ]
            if members:
                keys.append(phi[members].amax(0))
                signals.append(z[members].amax(0))
    phi, z = torch.stack(keys), torch.stack(signals)
    if kernel == "embedded_gaussian":
        affinity = (theta @ phi.mT).softmax(-1)
    elif kernel == "dot":
        affinity = theta @ phi.mT / len(phi)
    else:
        affinity = theta.relu() @ phi.relu().mT
        degree = affinity.sum(-1, keepdim=True)
        affinity = torch.where(degree > 0, affinity / degree, 0)
    [sub_block] = block.sub_blocks
    added = (affinity @ z @ sub_block.combine.weight.mT).mT.reshape(1, 6, 4, 5)
    expected = x + sub_block.norm(added)
    kept = mask[:, None].expand_as(x)
    assert_close(y[kept], expected[kept], rtol=1e-10, atol=1e-12)


@masked_cases
def test_what_is_not_there_has_no_gradient_and_changes_none(case: str) -> None:
    mask = holes(2, 3)
    found = []
    for fill in (torch.nan, 5.0):
        block, x = made(case), features(2, 8, *GRID)
        x = torch.where(mask[:, None], x, fill).requires_grad_()
        y = block(x, mask)
        y.masked_select(mask[:, None]).square().sum().backward()
        assert x.grad is not None and not x.grad.masked_select(~mask[:, None]).any()
        found.append([x.grad, *(p.grad for p in block.parameters())])
    for first, second in zip(*found, strict=True):
        assert (first is None) == (second is None)
        assert first is None or (torch.equal(first, second) and first.isfinite().all())


@masked_cases
def test_a_mask_of_frames_and_one_of_all_positions(case: str) -> None:
    block, x = made(case), features(2, 8, *GRID)
    frames = torch.tensor([[True, True, False], [True, True, True]])
    whole = frames[:, :, None, None].expand(-1, *GRID)
    assert torch.equal(block(x, frames), block(x, whole))
    everything = torch.ones(2, *GRID, dtype=torch.bool)
    assert_close(block(x, everything), block(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("recurrence", [1, 2])
@pytest.mark.parametrize("bias", ["", "all"])
def test_criss_cross_in_training_takes_the_same_statistics(recurrence: int, bias: str) -> None:
    """By plain loops over the lines, for a batch whose elements have other holes."""
    torch.manual_seed(0)
    block = make_block("cc", 8, ndim=2, zero_init=False, bias=bias, recurrence=recurrence).double()
    assert isinstance(block, NonlocalBlock)
    x, mask = features(3, 8, 3, 4), holes(3, 5, (3, 4))
    [sub_block] = block.sub_blocks
    reference = copy.deepcopy(sub_block.norm).train()
    y = block.train()(spoiled(x, mask), mask)
    places = [(n, i, j) for n in range(3) for i in range(3) for j in range(4) if mask[n, i, j]]
    now = {(n, i, j): x[n, :, i, j] for n, i, j in places}
    width = block.inter_channels
    for _ in range(recurrence):
        embedded = {at: block.project(value) for at, value in now.items()}
        rows = []
        for n, i, j in places:
            others = [(m, a, b) for m, a, b in places if m == n and (a == i or b == j)]
            scores = [embedded[n, i, j][:width] @ embedded[at][width:] for at in others]
            weights = torch.stack(scores).softmax(0)
            heard = sum(w * now[at] for w, at in zip(weights, others, strict=True))
            rows.append(sub_block.combine(heard))
        added = reference(torch.stack(rows)[..., None, None])[..., 0, 0]
        now = {at: now[at] + row for at, row in zip(places, added, strict=True)}
    for (n, i, j), value in now.items():
        assert_close(y[n, :, i, j], value, rtol=1e-9, atol=1e-10)
    for name, value in reference.state_dict().items():
        assert_close(sub_block.norm.state_dict()[name], value, rtol=1e-10, atol=1e-12)


@nonlocal_cases
@pytest.mark.parametrize("momentum", [0.1, None])
def test_training_takes_statistics_over_all_kept_positions_of_the_batch(
    case: str, momentum: float | None
) -> None:
    block, x, mask = made(case), features(3, 8, *GRID), holes(3, 5)
    norm = block.sub_blocks[0].norm
    if case.startswith("cc") or not isinstance(norm, nn.BatchNorm3d):
        pytest.skip("needs a grid, or has another norm")
    norm.momentum = momentum
    bare = as_sequence(block, case)
    bare.sub_blocks[0].norm = nn.Identity()
    added = [
        (bare(x[n : n + 1, :, kept]) - x[n : n + 1, :, kept])[0].mT for n, kept in enumerate(mask)
    ]
    reference = copy.deepcopy(norm).train()
    rows = reference(torch.cat(added)[..., None, None, None])[..., 0, 0, 0]
    y = block.train()(spoiled(x, mask), mask)
    expected = torch.cat([x[n, :, kept].mT for n, kept in enumerate(mask)]) + rows
    found = torch.cat([y[n, :, kept].mT for n, kept in enumerate(mask)])
    assert_close(found, expected, rtol=1e-9, atol=1e-10)
    for name, value in reference.state_dict().items():
        assert_close(norm.state_dict()[name], value, rtol=1e-10, atol=1e-12)


def test_several_sub_blocks_and_recurrence() -> None:
    for name, options in (("snl", {"num_units": 3}), ("ns", {"num_units": 2})):
        torch.manual_seed(0)
        block = make_block(name, 8, ndim=3, zero_init=False, **options).double().eval()
        x, mask = features(1, 8, *GRID), boxes((2, 3, 2))
        alone = block(x[:, :, :2, :3, :2])
        assert_equal_enough(block(spoiled(x, mask), mask)[:, :, :2, :3, :2], alone)
    block = make_block("cc", 8, ndim=3, recurrence=2, zero_init=False).double().eval()
    alone = block(x[:, :, :2, :3, :2])
    assert_equal_enough(block(spoiled(x, mask), mask)[:, :, :2, :3, :2], alone)


@all_cases
def test_masks_that_do_not_fit(case: str) -> None:
    block, x = made(case), features(2, 8, *GRID)
    good = torch.ones(2, *GRID, dtype=torch.bool)
    if case not in MASKED:
        with pytest.raises(ValueError, match="takes no mask: its gates are of boxes"):
            block(x, good)
        return
    for wrong in (good[:1], good[..., :2], good[:, :, 0], good[:, 0]):
        with pytest.raises(ValueError, match=r"a boolean mask \(2, 3, 4, 3\) or \(2, 3\) was exp"):
            block(x, wrong)
    for other, kind in NO_MASKS:
        with pytest.raises(ValueError, match=f"mask is {kind}.*a boolean") as caught:
            block(x, other)
        assert "\n" not in str(caught.value)
    good[1] = False
    with pytest.raises(ValueError, match="False at all positions of element 1 of the batch"):
        block(x, good)


@pytest.mark.parametrize("case", ["nl", "snl", "cgnl", "cc", "dnl", "a2", "gc"])
def test_masks_in_exported_graphs_and_vmap(case: str) -> None:
    block, x, mask = made(case), features(2, 8, *GRID), holes(2, 1)
    program = torch.export.export(block, (x, mask))
    assert_close(program.module()(x, mask), block(x, mask), rtol=1e-10, atol=1e-12)

    def one(x: Tensor, mask: Tensor) -> Tensor:
        return block(x[None], mask[None])[0]

    assert_close(torch.vmap(one)(x, mask), block(x, mask), rtol=1e-10, atol=1e-12)


def test_a_softmax_of_many_positions_keeps_to_its_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, z = (torch.randn(2, 700, 8, generator=generator).double() for _ in range(3))
    mask = torch.rand(2, 700, generator=generator) < 0.5
    softmax = Softmax(query, key, 0.5, mask)
    fused, whole = softmax.matmul(z), softmax.to_dense()
    assert not whole.masked_select(~mask[:, None]).any()
    assert_close(fused, whole @ z)
    assert_close(softmax.rows(torch.tensor([3, 5])), whole[:, [3, 5]])


def test_a_group_norm_of_kept_positions() -> None:
    block = made("cgnl grouped")
    assert isinstance(block, NonlocalBlock)
    x, mask = features(2, 8, *GRID), holes(2, 2)
    norm = block.sub_blocks[0].norm
    found = masked_norm(norm, x, mask)
    for number, kept in enumerate(mask):
        expected = F.group_norm(
            x[number : number + 1, :, kept], 2, norm.weight, norm.bias, norm.eps
        )
        assert_close(found[number : number + 1, :, kept], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["nl", "snl", "cgnl", "cc", "dnl", "cayley", "se"])
def test_masks_in_compiled_graphs(case: str) -> None:
    """Without a break of the graph, in training, too; with the backend that compiles nothing."""
    torch.compiler.reset()
    block, x, mask = made(case), features(2, 8, *GRID), holes(2, 1)
    expected = copy.deepcopy(block)
    for mode in (False, True):
        compiled = torch.compile(block.train(mode), fullgraph=True, backend="aot_eager")
        assert_close(compiled(x, mask), expected.train(mode)(x, mask), rtol=1e-9, atol=1e-10)


class Strided(nn.Module):
    """A network that halves time and space before its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, 8, 1, stride=2)
        self.second = nn.Conv3d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_a_mask_reaches_the_inserted_blocks() -> None:
    torch.manual_seed(0)
    model = Strided().double().eval()
    [block] = insert_blocks(model, positions=["before:second"], zero_init=False)
    x = features(2, 3, 5, 4, 4)
    frames = torch.tensor([[True, True, True, False, False], [True] * 5])
    with mask_blocks(model, frames):
        y = model(x)
    # Frames 0-1, 1-3, 3-4 lie at the three of the smaller map: the last does not exist.
    there = torch.tensor([[True, True, False], [True, True, True]])
    assert_close(y, model.second.module(block(model.first(x), there)))
    assert not torch.equal(y, model(x))
    positions = frames[:, :, None, None].expand(-1, -1, 4, 4)
    with mask_blocks(model, positions):
        assert_close(model(x), y)
    for few in (frames[:, :2], positions[..., :1]):
        message = r"has fewer positions than the feature maps of a grid \(3, 2, 2\) at a block"
        with pytest.raises(ValueError, match=message), mask_blocks(model, few):
            model(x)
    with pytest.raises(ValueError, match="mask has the shape"), mask_blocks(model, frames[:1]):
        model(x)
    assert model.second.mask is None
    of_images = torch.ones(2, 3, 4, dtype=torch.bool)
    message = "does not fit feature maps of a grid .3, 2, 2.: give"
    with pytest.raises(ValueError, match=message), mask_blocks(model, of_images):
        model(x)


def test_what_mask_blocks_takes_is_what_a_block_takes() -> None:
    model = Strided()
    insert_blocks(model, positions=["before:second"])
    for other, kind in NO_MASKS:
        with pytest.raises(ValueError, match=f"mask is {kind}.*a boolean"):  # noqa: SIM117
            with mask_blocks(model, other):
                raise AssertionError("entered")
    for shape in ((3,), (1, 2, 3, 4, 5)):
        with pytest.raises(ValueError, match=r"\(B, T\) of frames or \(B, \*grid\)"):  # noqa: SIM117
            with mask_blocks(model, torch.ones(shape, dtype=torch.bool)):
                raise AssertionError("entered")


def test_masks_of_networks_that_take_none() -> None:
    model, frames = Strided(), torch.ones(1, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match="no block is inserted"), mask_blocks(model, frames):
        pass
    insert_blocks(model, lambda channels, **_: nn.Identity(), ["before:second"])
    message = "Identity.forward takes no mask="
    with pytest.raises(ValueError, match=message), mask_blocks(model, frames):
        pass
