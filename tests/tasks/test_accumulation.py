"""The gradient of a step that is computed in parts, also where an epoch ends within one."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.tiny_images import experiment
from video_snl.config.task_spec import VIDEO
from video_snl.tasks.base import Parts, Task

SAMPLES = 12


class _Regression(Task):
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.weighted(F.mse_loss(self.model(batch["x"]), batch["y"]))

    def about(self) -> dict[str, Any]:
        return {}

    def rate_factor(self, epoch: float) -> float:
        return 1.0


def trained(size: int, accumulate: int, clip: float | None) -> Tensor:
    """The weights after an epoch of batches of so many parts."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    rows = [
        {"index": torch.tensor(i), "x": torch.randn(3), "y": torch.randn(1) + i}
        for i in range(SAMPLES)
    ]
    parts = Parts(lambda model: set(), lambda model, stage: [])
    options = experiment(optimizer={"epochs": 1, "momentum": 0.0, "learning_rate": 0.1})
    task = _Regression(options, model, spec=VIDEO, parts=parts)
    pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(task, DataLoader(rows, batch_size=size // accumulate))
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# Steps of 12, of 8 and 4, of 10 and 2, and of 12 samples in parts of 5, 5 and 2.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("size", "accumulate"), [(12, 3), (8, 4), (10, 2), (15, 3)])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(
    size: int, accumulate: int, clip: float | None
) -> None:
    whole, parts = trained(size, 1, clip), trained(size, accumulate, clip)
    torch.testing.assert_close(parts, whole)
