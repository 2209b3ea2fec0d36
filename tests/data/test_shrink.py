"""Frames made smaller: sizes, antialiasing, and the same on a GPU."""

from __future__ import annotations

import pytest
import torch

from video_snl.data.decoding import readers
from video_snl.data.decoding.readers import resize, shrink


@pytest.mark.parametrize(
    ("size", "short_side", "resized"),
    [
        ((240, 320), 128, (128, 171)),
        ((320, 240), 128, (171, 128)),
        ((30, 30), 20, (20, 20)),
        ((30, 50), 60, (60, 100)),  # enlarged, too
    ],
)
def test_shrink(size: tuple[int, int], short_side: int, resized: tuple[int, int]) -> None:
    shrunk = shrink(torch.full((2, *size, 3), 77, dtype=torch.uint8), short_side)
    assert (shrunk.dtype, shrunk.shape) == (torch.uint8, (2, *resized, 3))
    assert (shrunk == 77).all()


def test_shrink_averages() -> None:
    """Antialiasing: fine stripes become their mean, not one of their colours."""
    stripes = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 200
    shrunk = shrink(stripes, 8).float()[:, :, 1:-1]
    torch.testing.assert_close(shrunk, torch.full_like(shrunk, 100), atol=12, rtol=0)


def test_shrink_leaves_what_has_the_size() -> None:
    frames = torch.zeros(2, 30, 40, 3, dtype=torch.uint8)
    assert shrink(frames, 30) is frames


def test_what_a_gpu_computes_is_within_one_level() -> None:
    """A GPU resizes in float32, where the CPU resizes bytes."""
    frames = torch.randint(0, 256, (2, 60, 80, 3), dtype=torch.uint8)
    exact = readers._interpolate(frames.permute(0, 3, 1, 2).float(), 32, 43).round()
    difference = (resize(frames, 32, 43).permute(0, 3, 1, 2).float() - exact).abs()
    assert difference.max() <= 1
