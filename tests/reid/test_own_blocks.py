"""Blocks of a user's own in a Re-ID network, with a mask and without: which rule they train by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from reid.config import ReidDataConfig, ReidExperiment, ReidModelConfig
from reid.options import check_short_tracklets, with_rule
from tests.reid.little import options, run
from tests.reid.networks import SIZE, network
from tests.tiny import only_run
from tests.user_package import is_imported
from video_snl.blocks.masks import takes_mask
from video_snl.blocks.zoo import NAMES, make_block
from video_snl.errors import UserError

MEAN, MASKED = "own_parts.blocks.MeanBlock", "own_parts.blocks.MaskedBlock"


pytestmark = pytest.mark.usefixtures("own_parts")


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (ReidModelConfig(block=MEAN), "repeat"),
        (ReidModelConfig(block=MASKED), "mask"),
        (ReidModelConfig(block="own_parts.parts.TwoHop3d"), "mask"),
        (ReidModelConfig(block="video_snl.blocks.gates.GE"), "mask"),
        (ReidModelConfig(block="video_snl.blocks.gates.GE", block_options={"extent": 2}), "repeat"),
        (ReidModelConfig(block=MASKED, backbone="i3d_small"), "repeat"),
        (ReidModelConfig(block="snl"), "mask"),
    ],
)
def test_the_default_is_what_the_block_can(model: ReidModelConfig, rule: str) -> None:
    experiment = ReidExperiment(model=model)
    assert not is_imported(), "to describe a configuration runs no code"
    assert with_rule(experiment).data.short_tracklets == rule
    asked = ReidExperiment(model=model, data=ReidDataConfig(short_tracklets="mask"))
    if rule == "mask":
        check_short_tracklets(asked)
    else:
        with pytest.raises(UserError, match=r"mask is not possible.*--data\.short_tracklets rep"):
            check_short_tracklets(asked)
    asked.data.short_tracklets = "repeat"
    check_short_tracklets(asked)
    assert with_rule(asked).data.short_tracklets == "repeat"


def test_a_class_that_is_not_there_is_said() -> None:
    experiment = ReidExperiment(model=ReidModelConfig(block="own_parts.blocks.MeenBlock"))
    with pytest.raises(UserError, match=r"^model: block=.*the nearest is MeanBlock"):
        with_rule(experiment)


@pytest.mark.parametrize("name", NAMES)
def test_all_blocks_of_the_zoo_take_a_mask(name: str) -> None:
    block = make_block(name, 8, ndim=3)
    before = set(vars(block))
    assert takes_mask(block) and set(vars(block)) == before
    assert not takes_mask(nn.ReLU())


@pytest.mark.parametrize("head", ["mean", "nonlocal3d"])
def test_a_network_refuses_a_mask_that_its_block_does_not_take(head: str) -> None:
    net = network(block=MEAN, head=head)
    clips = torch.zeros(2, 3, 4, *SIZE)
    mask = torch.ones(2, 4, dtype=torch.bool)
    net(clips, mask)
    mask[1, 2:] = False
    with pytest.raises(UserError, match=r"MeanBlock\.forward takes no mask"):
        net(clips, mask)
    network(block=MASKED, head=head)(clips, mask)


def test_training_and_evaluation_by_the_commands(dataset: Path, tmp_path: Path) -> None:
    """Its tracklets have three frames, its clips four."""
    more = {"data__frames": 4, "optimizer__epochs": 1, "model__block": MEAN}
    words = options(dataset, tmp_path / "runs", **more)
    refused = f"data.short_tracklets=mask is not possible: {MEAN}.forward takes no mask="
    done = run("train", *words, "--data.short_tracklets", "mask")
    assert done.returncode == 2 and refused in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "runs").exists()
    done = run("train", *words)
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path / "runs")
    stored = json.loads((folder / "run.json").read_text())["config"]["data"]
    assert stored["short_tracklets"] == "repeat"
    measured = ["evaluate", "--checkpoint", str(folder), "--allow_code", "--json"]
    measured += ["--trainer.accelerator", "cpu", "--report", str(tmp_path / "report")]
    done = run(*measured)
    assert json.loads(done.stdout)["settings"]["short_tracklets"] == "repeat", done.stderr
    done = run(*measured, "--data.short_tracklets", "mask")
    assert done.returncode == 2 and refused in done.stderr
