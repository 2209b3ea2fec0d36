"""Crops, flips and normalisation of batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from video_snl.config.statistics import STATISTICS
from video_snl.data.transforms import geometry as transforms
from video_snl.data.transforms.geometry import (
    crop_clips,
    crop_scaled_clips,
    normalise,
    three_crops,
)

HEIGHT, WIDTH = 12, 17


def positions(batch, frames):
    """Clips whose pixels say where they are: (row, column, 10 * clip + frame)."""
    b, t, h, w = torch.meshgrid(
        *(torch.arange(n) for n in (batch, frames, HEIGHT, WIDTH)), indexing="ij"
    )
    return torch.stack([h, w, 10 * b + t], dim=-1).to(torch.uint8)


@given(st.data())
def test_crop_and_flip_are_the_plain_ones(data):
    batch, frames = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    crop = data.draw(st.integers(1, 8))
    sizes = [
        (data.draw(st.integers(crop, HEIGHT)), data.draw(st.integers(crop, WIDTH)))
        for _ in range(batch)
    ]
    unit = st.floats(0, 1, exclude_max=True, width=32)
    offsets = [(data.draw(unit), data.draw(unit)) for _ in range(batch)]
    flips = [data.draw(st.booleans()) for _ in range(batch)]
    video = positions(batch, frames)
    place = torch.tensor(sizes), torch.tensor(offsets), torch.tensor(flips)
    result = crop_clips(video, *place, crop)
    start = transforms._start(place[1], place[0] - crop)
    assert torch.equal(
        transforms._gather(video, start, place[2], crop, crop), result
    )  # as on a GPU
    assert result.dtype == torch.uint8
    for b, ((height, width), (down, right), flip) in enumerate(
        zip(sizes, offsets, flips, strict=True)
    ):
        top = int(np.float32(down) * np.float32(height - crop + 1))
        left = int(np.float32(right) * np.float32(width - crop + 1))
        assert top + crop <= height and left + crop <= width
        expected = video[b, :, top : top + crop, left : left + crop]
        assert torch.equal(result[b], expected.flip(2) if flip else expected)


def test_every_place_is_reached():
    sizes = torch.tensor([[HEIGHT, WIDTH]]).expand(200, 2)
    offset = torch.linspace(0, 1, 201)[:200, None].expand(200, 2)
    flip = torch.zeros(200, dtype=torch.bool)
    corners = crop_clips(positions(1, 1).expand(200, -1, -1, -1, -1), sizes, offset, flip, 5)
    tops, lefts = corners[:, 0, 0, 0, 0], corners[:, 0, 0, 0, 1]
    assert sorted(set(tops.tolist())) == list(range(HEIGHT - 5 + 1))
    assert sorted(set(lefts.tolist())) == list(range(WIDTH - 5 + 1))


def test_offset_of_almost_one():
    """The crop stays inside where rounding takes offset * (size - crop + 1) to the whole number."""
    offset = torch.full((1, 2), float(np.nextafter(np.float32(1), np.float32(0))))
    sizes = torch.tensor([[HEIGHT, WIDTH]])
    cropped = crop_clips(positions(1, 1), sizes, offset, torch.tensor([False]), 5)
    assert cropped[0, 0, -1, -1, :2].tolist() == [HEIGHT - 1, WIDTH - 1]


@pytest.mark.parametrize("size", [(4, 9), (9, 4)])
def test_crop_that_does_not_fit(size):
    sizes = torch.tensor([(9, 9), size])
    zeros = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=rf"a crop of 5 .* {size[0]} x {size[1]}: lower"):
        crop_clips(positions(2, 1), sizes, zeros, torch.zeros(2, dtype=torch.bool), 5)
    with pytest.raises(ValueError, match="a crop of 5"):
        three_crops(sizes, 5)


@pytest.mark.parametrize(
    ("size", "crop", "corners"),
    [
        ((12, 17), 5, [(4, 0), (4, 6), (4, 12)]),
        ((12, 6), 5, [(0, 1), (4, 1), (7, 1)]),
        ((12, 12), 5, [(4, 0), (4, 4), (4, 7)]),
        ((12, 12), 12, [(0, 0)] * 3),
        ((12, 17), 12, [(0, 0), (0, 3), (0, 5)]),
    ],
)
def test_three_crops(size, crop, corners):
    sizes, flip = torch.tensor([size]), torch.tensor([False])
    offsets = three_crops(sizes, crop)
    found = [
        tuple(crop_clips(positions(1, 1), sizes, offset, flip, crop)[0, 0, 0, 0, :2].tolist())
        for offset in offsets
    ]
    assert found == corners
    middle = crop_clips(positions(1, 1), sizes, torch.full((1, 2), 0.5), flip, crop)
    assert tuple(middle[0, 0, 0, 0, :2].tolist()) == corners[1]


@given(st.integers(1, 2000), st.integers(0, 5000))
def test_three_crops_of_any_size(crop, room):
    sizes = torch.tensor([[crop, crop + room]])
    starts = [
        int((offset * (sizes - crop + 1)).floor()[0, 1]) for offset in three_crops(sizes, crop)
    ]
    assert starts == [0, (room + 1) // 2, room]


@given(st.data())
def test_scaled_crop_is_the_plain_one(data):
    """Cut, resize and mirror every frame by itself."""
    batch, frames, crop = 2, 2, data.draw(st.integers(1, 20))
    sizes = [(data.draw(st.integers(5, HEIGHT)), data.draw(st.integers(5, WIDTH))) for _ in "ab"]
    unit = st.floats(0, 1, exclude_max=True, width=32)
    offsets = [(data.draw(unit), data.draw(unit)) for _ in range(batch)]
    scales = [
        (data.draw(st.sampled_from([1, 0.875, 0.66, 0.3])), data.draw(st.sampled_from([1, 0.5])))
        for _ in range(batch)
    ]
    flips = [data.draw(st.booleans()) for _ in range(batch)]
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    video = torch.randint(
        256, (batch, frames, HEIGHT, WIDTH, 3), generator=random, dtype=torch.uint8
    )
    place = torch.tensor(sizes), torch.tensor(offsets), torch.tensor(flips), torch.tensor(scales)
    result = crop_scaled_clips(video, *place, crop)
    extent = (place[3] * place[0].amin(1, keepdim=True)).round().long()
    start = transforms._start(place[1], place[0] - extent)
    with torch.autocast("cpu", torch.bfloat16):  # it must not matter
        products = transforms._resize_by_products(video, start, extent, place[2], crop)
    assert (products.dtype, products.shape) == (result.dtype, result.shape)
    assert (result.dtype, result.shape) == (torch.uint8, (batch, frames, crop, crop, 3))
    for b, (size, offset, scale, flip) in enumerate(
        zip(sizes, offsets, scales, flips, strict=True)
    ):
        sides = [round(float(np.float32(share) * np.float32(min(size)))) for share in scale]
        top, left = (
            int(np.float32(o) * np.float32(n - side + 1))
            for o, n, side in zip(offset, size, sides, strict=True)
        )
        for t in range(frames):
            cut = video[b, t, top : top + sides[0], left : left + sides[1]].permute(2, 0, 1)
            expected = functional.resize(cut.float(), [crop, crop], antialias=True)
            expected = expected.flip(-1) if flip else expected
            for found, tolerance in ((products, 0.501), (result, 1.501)):  # integers, as on a CPU
                pixels = found[b, t].permute(2, 0, 1).float()
                torch.testing.assert_close(pixels, expected, atol=tolerance, rtol=0)


def test_scaled_crop_of_its_own_size_moves_no_pixel():
    sizes, offset = torch.tensor([[10, 14], [12, 17]]), torch.tensor([[0.3, 0.9], [0.0, 0.5]])
    flip, whole = torch.tensor([True, False]), torch.tensor([[0.8, 0.8], [8 / 12, 8 / 12]])
    video = positions(2, 3)
    scaled = crop_scaled_clips(video, sizes, offset, flip, whole, 8)
    assert torch.equal(scaled, crop_clips(video, sizes, offset, flip, 8))


@pytest.mark.parametrize("name", STATISTICS)
def test_normalise(name):
    mean, std = STATISTICS[name]
    video = torch.randint(0, 256, (2, 3, 4, 5, 3), dtype=torch.uint8)
    expected = (video.double() / 255 - torch.tensor(mean)) / torch.tensor(std)
    result = normalise(video, mean, std)
    assert result.dtype == torch.float32
    torch.testing.assert_close(
        result.double(), expected.permute(0, 4, 1, 2, 3), atol=1e-5, rtol=1e-5
    )
    assert result.is_contiguous(memory_format=torch.channels_last_3d)


def test_normalise_to_bfloat16():
    mean, std = STATISTICS["kinetics"]
    video = torch.randint(0, 256, (1, 2, 4, 4, 3), dtype=torch.uint8)
    result = normalise(video, mean, std, dtype=torch.bfloat16)
    assert torch.equal(result, normalise(video, mean, std).to(torch.bfloat16))


def test_statistics_lie_in_the_unit_interval():
    for mean, std in STATISTICS.values():
        assert all(0 < value < 1 for value in (*mean, *std))


def test_normalise_is_one_multiply_add_laid_out_channels_last() -> None:
    """Equal to the bit to the formula over the whole batch, in memory aligned as torch's own."""
    video = torch.randint(0, 256, (3, 8, 96, 80, 3), dtype=torch.uint8)  # more than 4 MiB
    mean, std = STATISTICS["kinetics"]
    scale = torch.tensor([1 / (255 * s) for s in std])
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)])
    found = normalise(video, mean, std)
    assert torch.equal(found, torch.addcmul(shift, video.float(), scale).permute(0, 4, 1, 2, 3))
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    assert found.data_ptr() % 64 == 0
