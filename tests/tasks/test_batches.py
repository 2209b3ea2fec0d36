"""Batches of one sample, of all kinds of networks, are told before work starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid.data.samplers import IdentitySampler
from reid.data.tracklet import Tracklet
from tests.image_trees import write_folders
from tests.tiny import run_here
from tests.tiny_images import image_options
from video_snl.config.video import Experiment, OptimizerConfig, TrainerConfig
from video_snl.errors import UserError
from video_snl.tasks.datamodule import check_last_batch


def test_images(tmp_path: Path) -> None:
    """Eight images in batches of seven, through a network that ends with one position."""
    words = image_options(
        tmp_path / "runs",
        data__dataset="folder",
        data__root=write_folders(tmp_path / "set"),
        data__height=32,
        data__width=32,
        data__short_side=32,
        data__num_workers=0,
        model__backbone="resnet50",
        model__positions="[before:layer3.5]",
        optimizer__batch_size=7,
    )
    at = words.index("--optimizer.epoch_steps")
    done = run_here("train", *words[:at], *words[at + 2 :])
    assert done.returncode == 2
    assert "optimizer.batch_size=7" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_tracklets() -> None:
    tracklets = [Tracklet((f"{i}.jpg",), 1 + i // 2, i % 2) for i in range(8)]
    with pytest.raises(UserError, match="data.identities=2"):
        IdentitySampler(tracklets, 0, identities=2, per_person=1, rank=0, world_size=2)
    IdentitySampler(tracklets, 0, identities=2, per_person=1)


@pytest.mark.parametrize(
    ("samples", "batch_size", "accumulate", "devices", "alone"),
    [
        (13, 6, 1, 1, True),
        (12, 6, 1, 1, False),
        (13, 1, 1, 1, True),
        (12, 4, 4, 1, True),
        (14, 12, 1, 2, True),
        (13, 12, 1, 2, True),
        (16, 12, 1, 2, False),
    ],
)
def test_which_batches_hold_one_sample(
    samples: int, batch_size: int, accumulate: int, devices: int, alone: bool
) -> None:
    experiment = Experiment(
        optimizer=OptimizerConfig(batch_size=batch_size, accumulate=accumulate),
        trainer=TrainerConfig(devices=devices),
    )
    built = []

    def build() -> None:
        built.append(True)
        raise ValueError("Expected more than 1 value per channel when training")

    if alone:
        with pytest.raises(UserError, match="batch_size"):
            check_last_batch(experiment, batch_size, samples, (3, 4, 32, 32), build)  # type: ignore[arg-type]
    else:
        check_last_batch(experiment, batch_size, samples, (3, 4, 32, 32), build)  # type: ignore[arg-type]
    assert bool(built) == alone
