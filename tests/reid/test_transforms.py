"""Crop, flip and erasing of tracklets, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid.data.transforms import draw_erasing, erase, evaluation_clips, training_clips
from video_snl.config.statistics import STATISTICS
from video_snl.data.transforms.geometry import crop_clips

MEAN, STD = (torch.tensor(values) for values in STATISTICS["imagenet"])


def test_training_clips_are_the_plain_ones() -> None:
    random = torch.Generator().manual_seed(0)
    batch, frames, height, width, pad = 3, 2, 8, 6, 2
    video = torch.randint(0, 256, (batch, frames, height, width, 3), generator=random).byte()
    offset = torch.rand(batch, 2, generator=random)
    flip = torch.tensor([True, False, True])
    rectangles = torch.tensor([[1, 2, 3, 2], [0, 0, 0, 0], [0, 0, 7, 5]])
    given = {"video": video, "offset": offset, "flip": flip, "erase": rectangles}
    result = training_clips(given, pad)
    assert result.shape == (batch, 3, frames, height, width)
    for b in range(batch):
        top, left = (int(x * (2 * pad + 1)) for x in offset[b].tolist())
        rows, columns = range(top - pad, top - pad + height), range(left - pad, left - pad + width)
        a, c, h, w = rectangles[b].tolist()
        for t in range(frames):
            for y, row in enumerate(rows):
                for x in range(width):
                    column = columns[width - 1 - x] if flip[b] else columns[x]
                    inside = 0 <= row < height and 0 <= column < width
                    pixel = video[b, t, row, column].float() if inside else torch.zeros(3)
                    expected = (pixel / 255 - MEAN) / STD
                    if a <= y < a + h and c <= x < c + w:
                        expected = torch.zeros(3)
                    torch.testing.assert_close(
                        result[b, :, t, y, x], expected, rtol=1e-4, atol=1e-5
                    )


def test_rectangular_crops_are_gathered_as_they_are_cut() -> None:
    video = torch.arange(2 * 2 * 9 * 7 * 3).view(2, 2, 9, 7, 3).remainder(251).byte()
    sizes = torch.tensor([[9, 7], [8, 5]])
    offset, flip = torch.tensor([[0.9, 0.1], [0.0, 0.5]]), torch.tensor([False, True])
    cropped = crop_clips(video, sizes, offset, flip, (6, 4))
    assert torch.equal(cropped[0], video[0, :, 3:9, 0:4])
    assert torch.equal(cropped[1], video[1, :, 0:6, 1:5].flip(2))
    with pytest.raises(ValueError, match="a crop of 9 x 6 does not fit a frame of 8 x 5"):
        crop_clips(video, sizes, offset, flip, (9, 6))


def test_evaluation_clips_are_normalised_only() -> None:
    video = torch.randint(0, 256, (2, 3, 5, 4, 3)).byte()
    expected = ((video.float() / 255 - MEAN) / STD).permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(evaluation_clips(video), expected, rtol=1e-4, atol=1e-5)


def test_erased_rectangles_are_those_of_the_paper() -> None:
    height, width = 64, 32
    drawn = [draw_erasing(np.random.default_rng(i), 0.5, height, width) for i in range(400)]
    erased = [rectangle for rectangle in drawn if rectangle[2]]
    assert 150 < len(erased) < 250
    for top, left, h, w in erased:
        assert 0 <= top <= height - h and 0 <= left <= width - w
        assert 0.015 < h * w / (height * width) < 0.42
        assert 0.25 < h / w < 4
    assert not any(draw_erasing(np.random.default_rng(i), 0.0, 64, 32)[2] for i in range(20))
    assert all(draw_erasing(np.random.default_rng(i), 1.0, 64, 32)[2] for i in range(20))


def test_no_rectangle_erases_nothing() -> None:
    clips = torch.rand(2, 3, 2, 5, 4)
    assert torch.equal(erase(clips, torch.zeros(2, 4, dtype=torch.int64)), clips)
