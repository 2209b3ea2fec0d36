"""What a caller in Python gives for an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from video_snl.errors import UserError
from video_snl.utils.arrays import as_array


@pytest.mark.parametrize(
    "given",
    [
        [[1, 2], [3, 4]],
        np.array([[1.0, 2], [3, 4]]),
        torch.tensor([[1.0, 2], [3, 4]], requires_grad=True),
        torch.tensor([[1, 2], [3, 4]], dtype=torch.bfloat16),
    ],
    ids=["list", "array", "gradient", "bfloat16"],
)
def test_arrays_of_every_kind(given: Any) -> None:
    assert as_array(given, "features").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("given", [torch.empty(2, device="meta"), [[1], [2, 3]]], ids=str)
def test_what_is_no_array(given: Any) -> None:
    with pytest.raises(UserError, match="features: expected an array, found"):
        as_array(given, "features")
