"""Masks in networks: which positions of a smaller grid exist."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from video_snl.blocks.insertion import insert_blocks, mask_blocks
from video_snl.blocks.layouts import resized_mask


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    shares=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    seed=st.integers(0, 99),
)
def test_a_position_exists_where_any_does_in_its_share_of_the_grid(
    sizes: list[int], shares: list[float], seed: int
) -> None:
    grid = [max(1, round(n * share)) for n, share in zip(sizes, shares, strict=False)]
    mask = torch.rand(2, *sizes, generator=torch.Generator().manual_seed(seed)) < 0.4
    expected = torch.zeros(2, *grid, dtype=torch.bool)
    for place in itertools.product(*map(range, grid)):
        share = [
            slice(math.floor(i * n / m), math.ceil((i + 1) * n / m))
            for i, n, m in zip(place, sizes, grid, strict=True)
        ]
        expected[(slice(None), *place)] = mask[(slice(None), *share)].flatten(1).any(1)
    assert torch.equal(resized_mask(mask, grid), expected)


def made_of(mask: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Return where a convolution looks at any position that exists."""
    weight = torch.ones(1, 1, kernel)
    return nn.functional.conv1d(mask[:, None].float(), weight, None, stride, padding)[:, 0] > 0


@pytest.mark.parametrize(
    ("frames", "kept", "kernel", "stride", "padding", "made", "share"),
    [
        (8, 4, 2, 2, 0, [1, 1, 0, 0], [1, 1, 0, 0]),
        (8, 4, 3, 2, 1, [1, 1, 1, 0], [1, 1, 0, 0]),  # wider than the stride
        (5, 2, 1, 2, 0, [1, 0, 0], [1, 1, 0]),  # a stride that does not divide the grid
    ],
)
def test_what_differs_from_what_a_network_made_a_position_of(
    frames: int,
    kept: int,
    kernel: int,
    stride: int,
    padding: int,
    made: list[int],
    share: list[int],
) -> None:
    mask = (torch.arange(frames) < kept)[None]
    assert made_of(mask, kernel, stride, padding).int().tolist() == [made]
    assert resized_mask(mask, (len(share),)).int().tolist() == [share]


def test_one_mask_for_each_size_of_the_grids() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 4, 3, stride=2, padding=1), nn.Conv3d(4, 4, 3, 2, 1)).eval()
    blocks = insert_blocks(model, positions=["after:0", "after:1"], zero_init=False)
    got: list[Tensor] = []
    for block in blocks:
        block.register_forward_hook(
            lambda _, __, options, ___: got.append(options["mask"]), with_kwargs=True
        )
    x = torch.randn(2, 3, 8, 6, 6)
    frames = torch.tensor([[True, True, True, False], [True] * 4])
    places = torch.rand(2, 2, 2, 2) < 0.7
    for masks in ([frames, places], (places, frames)):
        got.clear()
        with mask_blocks(model, masks):
            model(x)
        assert torch.equal(got[0], frames) and torch.equal(got[1], places)
    message = r"none of the masks \(2, 4\) has the grid \(2, 2, 2\) of a block: give one mask for"
    with pytest.raises(ValueError, match=message), mask_blocks(model, [frames]):
        model(x)
    with (
        pytest.raises(ValueError, match="mask has the shape"),
        mask_blocks(model, [frames, frames[0]]),
    ):
        pass
    with pytest.raises(ValueError, match="list of masks is empty"), mask_blocks(model, []):
        pass
