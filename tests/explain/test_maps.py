"""Maps of blocks against the dense affinity and a Jacobian taken entry by entry."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.blocks.cases import CASES, GATES, GRIDS, all_cases, features, made
from video_snl.analysis.explain import maps, rows
from video_snl.analysis.explain.maps import block_maps, map_count, sensitivity_rows
from video_snl.analysis.explain.rows import affinity_rows, has_affinity, key_shares
from video_snl.analysis.explain.structure import SENSITIVITY
from video_snl.blocks import NonlocalBlock
from video_snl.blocks import operators as affinity_module

WITH_AFFINITY = [name for name in CASES if name != "gsnl 0"]
HEAVY_NORM = {"rtol": 1e-8, "atol": 1e-10}


def dense_powers(case: str, block: NonlocalBlock, x: Tensor) -> list[Tensor]:
    """A, A^2, A^3 between positions, from the matrix between all vertices."""
    matrix = block.affinity(x).to_dense()
    powers = [torch.linalg.matrix_power(matrix, k) for k in (1, 2, 3)]
    if not case.startswith("cgnl"):
        return [power[0] for power in powers]
    positions = math.prod(x.shape[2:])
    per_group = matrix.shape[1] // positions
    shape = (len(matrix), positions, per_group, positions, per_group)
    return [p.view(shape).sum((0, 2, 4)) / (len(matrix) * per_group) for p in powers]


@pytest.mark.parametrize("case", WITH_AFFINITY)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_what_is_shown_is_the_dense_affinity(case: str, ndim: int) -> None:
    block, x = made(case, ndim).float(), features(1, 8, *GRIDS[ndim]).float()
    assert isinstance(block, NonlocalBlock)
    [shown] = block_maps("before:res4.0", case, block, x, limit=600)
    kinds = ["affinity", "affinity^2", "affinity^3"]
    assert list(shown.maps) == [*kinds, SENSITIVITY]
    for kind, expected in zip(kinds, dense_powers(case, block, x), strict=True):
        assert shown.maps[kind].dtype == np.float32
        largest = float(expected.detach().abs().max())
        np.testing.assert_allclose(
            shown.maps[kind], expected.detach().numpy(), rtol=1e-5, atol=1e-5 * max(1.0, largest)
        )


@pytest.mark.parametrize("case", ["nl", "snl", "cc", "dnl", "cgnl grouped"])
def test_chunks_of_rows_change_nothing(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_CHUNK", 5)
    block, x = made(case), features(1, 8, *GRIDS[3])
    index = torch.tensor([7, 0, 3])
    assert isinstance(block, NonlocalBlock)
    found = affinity_rows(block, x, index, 3)
    for row, expected in zip(found, dense_powers(case, block, x), strict=True):
        assert_close(row, expected[index].detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("case", ["nl", "snl", "a2", "dnl", "cc"])
def test_no_whole_matrix_is_formed_for_chosen_rows(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 positions: more than 4 Cs and 256, below which the operators may form theirs."""
    largest = _Largest()
    block, x = made(case, channels=4, width=2), features(1, 4, 3, 10, 10)
    monkeypatch.setattr(rows, "_CHUNK", 20)
    assert isinstance(block, NonlocalBlock)
    with largest:
        affinity_rows(block, x, torch.arange(0, 300, 30), 3)
        if case != "cc":  # whose rows are products with all of its lines
            list(sensitivity_rows(block, x, torch.arange(0, 300, 150)))
    assert largest.numbers < 300 * 300


class _Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the numbers of the largest tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


@pytest.mark.parametrize(("grid", "pool"), [((5,), 2), ((3, 4), 2), ((2, 3, 5), 2), ((1, 4, 4), 3)])
def test_positions_share_a_pooled_key(grid: tuple[int, ...], pool: int) -> None:
    shares, keys = key_shares(grid, pool)
    block = made("nl", len(grid), pool=pool)
    assert isinstance(block, NonlocalBlock)
    x = features(1, 8, *grid)
    dense = block.affinity(x).to_dense()[0].detach()
    assert dense.shape[1] == int(keys.max()) + 1
    [spread] = affinity_rows(block, x, torch.arange(math.prod(grid)), 1)
    assert_close(spread.sum(1), torch.ones(math.prod(grid), dtype=x.dtype))
    for j, key in enumerate(keys.tolist()):
        assert_close(spread[:, j], dense[:, key] / int((keys == key).sum()))
    # A key is the largest of the values at the positions that share it.
    values = torch.arange(math.prod(grid), dtype=x.dtype)[None, None]
    pooled = block._pooled(values.mT, grid, None)[0][0, :, 0]
    expected = [float(values[0, 0, keys == key].max()) for key in range(len(pooled))]
    assert pooled.tolist() == expected


def with_units(block: nn.Module, count: int) -> nn.Module:
    """The block without its later units; a gate is one unit, and what has none the identity."""
    if count == 0:
        return nn.Identity()
    if not isinstance(block, NonlocalBlock):
        return block
    first = copy.deepcopy(block)
    first.units = first.units[:count]
    return first


def naive_sensitivity(block: nn.Module, x: Tensor, unit: int) -> Tensor:
    """|v^T dF_i / dX_j|, from whole Jacobians of the block, by loops over the pairs of positions.

    What a unit adds is the difference of the block that ends with it and the one that ends before.
    """
    assert x.dtype == torch.float64
    until, before = with_units(block, unit + 1), with_units(block, unit)

    def added(flat: Tensor) -> Tensor:
        given = flat.view_as(x)
        return (until(given) - before(given)).flatten(2)[0]

    flat = x.flatten(2)[0]
    jacobian = torch.autograd.functional.jacobian(added, flat)  # (C, N, C, N)
    adds, after = added(flat).detach(), until(x).flatten(2)[0].detach()
    positions = adds.shape[1]
    found = torch.zeros(positions, positions, dtype=x.dtype)
    for i in range(positions):
        direction = adds[:, i] if adds[:, i].norm() > 0 else after[:, i]
        direction = direction / direction.norm()
        for j in range(positions):
            product = torch.zeros(x.shape[1], dtype=x.dtype)
            for c in range(x.shape[1]):
                product += direction[c] * jacobian[c, i, :, j]
            found[i, j] = product.norm()
    return found


@all_cases
def test_sensitivity_is_that_of_the_jacobian(case: str) -> None:
    grid = (4, 4, 4) if "theta" in case else (2, 3, 2)
    block, x = made(case), features(1, 8, *grid)
    index = torch.arange(math.prod(grid))
    found = torch.cat(list(sensitivity_rows(block, x, index)))
    assert_close(found, naive_sensitivity(block, x, 0), **HEAVY_NORM)


@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize("case", ["nl", "snl", "cc", "cgnl", "se"])
def test_sensitivity_on_other_axes(case: str, ndim: int) -> None:
    block, x = made(case, ndim), features(1, 8, *GRIDS[ndim])
    found = torch.cat(list(sensitivity_rows(block, x, torch.arange(x[0, 0].numel()))))
    assert_close(found, naive_sensitivity(block, x, 0), **HEAVY_NORM)


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("ns", {"num_units": 3}),
        ("snl", {"num_units": 2}),
        ("nl", {"pool": 2}),
        ("cc", {"recurrence": 2}),
        ("snl", {"activation": "relu"}),
    ],
    ids=str,
)
def test_sensitivity_of_stages_pools_recurrence_and_activations(
    case: str, options: dict[str, object]
) -> None:
    block, x = made(case, **options), features(1, 8, 2, 3, 2)
    for unit in range(len(block.units)):
        found = torch.cat(list(sensitivity_rows(block, x, torch.arange(12), unit)))
        assert_close(found, naive_sensitivity(block, x, unit), **HEAVY_NORM)


@pytest.mark.parametrize("case", ["nl", "cayley", "cgnl"])
def test_chunks_of_positions_change_nothing(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block, x, index = made(case), features(1, 8, 2, 3, 2), torch.tensor([11, 0, 4, 5])
    [whole] = sensitivity_rows(block, x, index)
    monkeypatch.setattr(maps, "_CHUNK_NUMBERS", 8 * 8 * 12 * 3)
    parts = list(sensitivity_rows(block, x, index))
    assert [len(part) for part in parts] == [3, 1]
    assert_close(torch.cat(parts), whole)


def test_a_block_at_its_start_adds_nothing_and_its_maps_are_finite() -> None:
    from tests.blocks.cases import new

    block = new("snl").eval()
    x = features(1, 8, 2, 3, 2).float()
    [shown] = block_maps("before:res4.0", "snl", block, x, 600)
    assert not shown.maps[SENSITIVITY].any()
    np.testing.assert_array_equal(shown.before, shown.after)
    assert shown.maps["affinity"].any()


@pytest.mark.parametrize("case", list(GATES))
def test_a_gate_has_no_affinity(case: str) -> None:
    block, x = made(case).float(), features(1, 8, 4, 4, 4).float()
    assert not has_affinity(block)
    [shown] = block_maps("after:res4.0", case, block, x, 600)
    assert list(shown.maps) == [SENSITIVITY] and map_count(block) == 1
    expected = block(x)[0].norm(dim=0).detach().numpy()
    np.testing.assert_allclose(shown.after, expected, rtol=1e-5)
    np.testing.assert_allclose(shown.before, x[0].norm(dim=0).numpy(), rtol=1e-5)


def test_units_of_a_stage_follow_each_other() -> None:
    block, x = made("ns", num_units=3).float(), features(1, 8, 2, 3, 2).float()
    shown = block_maps("before:res4.0", "ns", block, x, 600)
    assert [unit.unit for unit in shown] == [0, 1, 2] and map_count(block) == 12
    for before, after in zip(shown, shown[1:], strict=False):
        np.testing.assert_array_equal(before.after, after.before)
        np.testing.assert_array_equal(before.maps["affinity"], after.maps["affinity"])
    np.testing.assert_allclose(shown[-1].after, block(x)[0].norm(dim=0).detach().numpy(), rtol=1e-5)


def test_a_large_map_shows_rows_of_its_own_positions() -> None:
    block, x = made("snl").float(), features(1, 8, 2, 8, 6).float()
    assert isinstance(block, NonlocalBlock)
    [shown] = block_maps("before:res4.0", "snl", block, x, limit=24)
    assert shown.full_grid == (2, 8, 6) and shown.grid == (2, 4, 3)
    dense = block.affinity(x).to_dense()[0].detach().view(2, 8, 6, 2, 8, 6)
    # Boxes of 1 x 2 x 2 positions; rows are those of the first of each.
    expected = dense[:, ::2, ::2].unflatten(5, (3, 2)).unflatten(4, (4, 2)).mean((5, 7))
    np.testing.assert_allclose(
        shown.maps["affinity"], expected.reshape(24, 24).numpy(), rtol=1e-4, atol=1e-6
    )


def test_softmaxes_are_shown_in_the_fused_form_too() -> None:
    """Few channels and many positions: the block itself runs scaled_dot_product_attention."""
    assert not affinity_module._prefers_small_matrix(300, 300, 2)
    block, x = made("nl", channels=4, width=2, num_units=2), features(1, 4, 3, 10, 10)
    index = torch.tensor([0, 299])
    found = torch.cat(list(sensitivity_rows(block, x, index, 1)))
    x.requires_grad_()
    added = with_units(block, 2)(x) - with_units(block, 1)(x)
    v = added.flatten(2)[0, :, 299]
    [gradient] = torch.autograd.grad((v * (v / v.norm()).detach()).sum(), x)
    assert_close(found[1], gradient[0].flatten(1).norm(dim=0), rtol=1e-6, atol=1e-9)
