"""Errors of a loss that is not finite."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.tiny_images import experiment
from video_snl.errors import UserError
from video_snl.tasks.images import ImageClassification


def test_a_loss_that_is_not_finite_tells_where_it_comes_from() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    statistics = (0.5,) * 3, (0.5,) * 3
    task = ImageClassification(experiment(), model, ["a", "b"], statistics, ["x.png", "y.png"])
    fine = torch.tensor(1.0)
    assert task.checked(fine, torch.tensor([0])) is fine
    with pytest.raises(
        UserError, match=r"became nan in epoch 1 \(step 1 .*finite weights\).*y\.png"
    ):
        task.checked(fine * float("nan"), torch.tensor([1]))
    model[0].running_var[0] = float("inf")
    with pytest.raises(UserError, match=r"1 of 7 weights not finite, 0\.running_var the first"):
        task.checked(fine * float("inf"), torch.tensor([0]))
