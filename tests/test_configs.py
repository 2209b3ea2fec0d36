"""Every configuration in configs/ is whole, valid, and the sample one equals the defaults."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from reid.config import ReidExperiment
from video_snl.cli.main import IMAGE_COMMANDS
from video_snl.config.image import ImageExperiment
from video_snl.config.parsing import experiment_of
from video_snl.config.task import task_of_values
from video_snl.config.video import Experiment

cli = importlib.import_module("video_snl.cli.main")  # main is a function there

reid_cli = importlib.import_module("reid.cli.main")  # main is a function there

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))


def load(path: Path) -> Any:
    words = ["--config", str(path)]
    program, commands = {
        "reid": ("reid", reid_cli._COMMANDS),
        "video": ("video-snl", cli._COMMANDS),
        "image": ("video-snl", IMAGE_COMMANDS),
        "segmentation": ("video-snl", IMAGE_COMMANDS),
    }[yaml.safe_load(path.read_text(encoding="utf-8"))["task"]]
    parser = commands["train"].parser(f"{program} train")
    assert parser.experiment is not None
    return experiment_of(parser.experiment, parser.parse_args(words))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_config_is_valid_and_names_every_field(path: Path) -> None:
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert load(path).to_dict() | {"task": written["task"]} == written


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_the_task_is_recognised_in_old_files_that_do_not_say_it(path: Path) -> None:
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    task = written.pop("task")
    assert task_of_values(written, "reid" if task == "reid" else "video-snl") == task


def test_sample_config_is_what_the_commands_do_without_one() -> None:
    assert asdict(load(CONFIGS / "ucf101" / "sample.yaml")) == asdict(Experiment())


def test_sample_config_of_reid_is_what_its_commands_do_without_one() -> None:
    assert asdict(load(CONFIGS / "reid" / "sample.yaml")) == asdict(ReidExperiment())


def test_digits_are_what_networks_of_pictures_do_without_a_config() -> None:
    digits = load(CONFIGS / "digits" / "preresnet20_snl.yaml")
    assert asdict(digits) == asdict(ImageExperiment())


@pytest.mark.parametrize(
    "name",
    [
        "ucf101/i3d_r50",
        "ucf5/i3d_small",
        "reid/mars_r50",
        "digits/preresnet20",
        "cifar10/jpg_preresnet20",
    ],
)
def test_baseline_differs_from_snl_in_the_block_alone(name: str) -> None:
    snl, bare = load(CONFIGS / f"{name}_snl.yaml"), load(CONFIGS / f"{name}.yaml")
    assert (snl.model.block, bare.model.block) == ("snl", "none")
    snl.model.block = "none"
    assert snl == bare


def test_paper_protocol() -> None:
    experiment = load(CONFIGS / "ucf101" / "i3d_r50_snl.yaml")
    data, model, optimizer = experiment.data, experiment.model, experiment.optimizer
    assert (data.clip_frames, data.crop, data.short_side) == (16, 112, 128)
    assert model.positions == ["before:res4.-1"]
    assert (optimizer.epochs, optimizer.step_epochs, optimizer.learning_rate) == (100, 40, 0.01)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)
