"""scikit-learn's digits: 1797 real handwritten digits of 8 x 8 pixels, installed with the library.

They are the test part of Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI
Machine Learning Repository, 1998), with values 0 to 16.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["SIDE", "digits", "test_mask"]

SIDE = 32
_EVERY = 5
_LARGEST = 16


def digits(training: bool) -> tuple[Tensor, Tensor, list[str]]:
    """One part of the set: uint8 (n, 32, 32, 3), labels int64 (n,), names such as ``digits[17]``.

    Values become round(255 v / 16) after bilinear enlargement; the three channels are equal. 1442
    train and 355 test.
    """
    images, labels = load_digits(return_X_y=True)
    chosen = np.flatnonzero(test_mask(labels) != training)
    small = torch.from_numpy(images[chosen]).float().view(-1, 1, 8, 8)
    large = interpolate(small * (255 / _LARGEST), size=(SIDE, SIDE), mode="bilinear")
    pixels = large.round().clamp(0, 255).to(torch.uint8)
    names = [f"digits[{i}]" for i in chosen]
    return (
        pixels.permute(0, 2, 3, 1).repeat(1, 1, 1, 3),
        torch.from_numpy(labels[chosen]).long(),
        names,
    )


def test_mask(labels: np.ndarray) -> np.ndarray:
    """Which test: of every class, in the order of the file, each fifth (the 5th, 10th, ...).

    A stratified split that is no matter of chance. The 13 writers are in both parts.
    """
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        mask[np.flatnonzero(labels == label)[_EVERY - 1 :: _EVERY]] = True
    return mask
