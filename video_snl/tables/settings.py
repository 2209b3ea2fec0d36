"""The experiment of a cell: a configuration file and what the cell changes of it. Without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from video_snl.config_image_run import ImageExperiment
from video_snl.errors import UserError
from video_snl.tables.cells import Cell

__all__ = ["BASES", "Choices", "Planned", "find_configs", "plan", "settings_of"]

BASES = {
    "digits": "digits/preresnet20_snl.yaml",
    "cifar10": "cifar10/preresnet56_snl.yaml",
    "cifar100": "cifar100/preresnet56_snl.yaml",
    "imagenet": "imagenet/resnet50_snl.yaml",
    "cub200": "cub200/resnet50_snl.yaml",
    "cityscapes": "cityscapes/fcn_r50d8_snl.yaml",
    "folder": "cifar10/jpg_preresnet20_snl.yaml",
}
"""The configuration that cells on a data set start from, below ``configs/``."""

_SECTIONS = ("data", "model", "optimizer", "trainer")
# Where data lie and how they are read does not change what a run gives.
_MUTE_DATA = ("root", "download", "num_workers", "max_failures")


@dataclass(frozen=True)
class Choices:
    """What is said of all cells of a table.

    Attributes:
        configs: The folder ``configs``.
        root: Of the data set.
        epochs: Instead of the configuration's; milestones and warm-up keep their share of them.
        options: Further options, such as ``{"trainer.precision": "bf16-mixed"}``.
    """

    configs: Path
    root: str | None = None
    epochs: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Planned:
    """A cell as an experiment.

    Attributes:
        base: The configuration file.
        changes: What is changed of it, by option.
        settings: Identifies all that matters for the result but the seed.
    """

    cell: Cell
    base: Path
    changes: Mapping[str, Any]
    experiment: ImageExperiment
    settings: str

    def words(self, seed: int, output: Path) -> list[str]:
        """The arguments of ``video-snl`` that train a seed into a folder below ``output``."""
        words = ["train", "--config", str(self.base)]
        for option, value in self.changes.items():
            words += [f"--{option}", _word(value)]
        words += ["--trainer.seed", str(seed), "--trainer.output", str(output)]
        return [*words, "--trainer.name", self.name(seed)]

    def name(self, seed: int) -> str:
        """What the run of a seed is called."""
        return f"{self.cell.slug}-s{seed}"


def find_configs(named: str | None) -> Path:
    """The folder ``configs``: as named, in the working directory, or beside the package.

    Raises:
        UserError: where there is none.
    """
    if named is not None:
        places = [Path(named)]
    else:
        places = [Path("configs"), Path(__file__).resolve().parents[2] / "configs"]
    for place in places:
        if (place / BASES["digits"]).is_file():
            return place
    raise UserError(
        f"found no {BASES['digits']} below {' or '.join(map(str, places))}; name the folder "
        "'configs' of the repository with --configs."
    )


def plan(cell: Cell, choices: Choices) -> Planned:
    """The experiment of a cell.

    Raises:
        UserError: The configuration cannot be read, or an option does not exist.
    """
    base = choices.configs / BASES[cell.dataset]
    values = _read(base)
    stored = _experiment(values, base).to_dict()
    changes = {}
    for option, value in _changes(cell, choices, values).items():
        section, _, key = option.partition(".")
        values[section][key] = value
        if stored[section].get(key, ...) != value:
            changes[option] = value
    experiment = _experiment(values, base)
    if experiment.optimizer.epochs < 1:
        raise UserError(f"--epochs {experiment.optimizer.epochs}: at least one is needed.")
    return Planned(cell, base, changes, experiment, settings_of(experiment.to_dict()))


def settings_of(values: Mapping[str, Mapping[str, Any]]) -> str:
    """A short hash of what matters of an experiment, whose plain values are given.

    All of the model and the optimizer, the data but for where they lie (of ``folder`` that is what
    they are), and the precision. Not the seed.
    """
    data = dict(values["data"])
    mute = [key for key in _MUTE_DATA if key != "root" or data["dataset"] != "folder"]
    matters = {
        "data": {key: value for key, value in data.items() if key not in mute},
        "model": dict(values["model"]),
        "optimizer": dict(values["optimizer"]),
        "precision": values["trainer"]["precision"],
    }
    text = json.dumps(matters, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _changes(cell: Cell, choices: Choices, base: Mapping[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {"data.dataset": cell.dataset}
    if choices.root is not None:
        changes["data.root"] = str(Path(choices.root).expanduser().resolve())
    changes |= {f"model.{key}": value for key, value in cell.model.items()}
    if choices.epochs is not None:
        changes |= _shortened(base["optimizer"], choices.epochs)
    return changes | dict(choices.options)


def _shortened(optimizer: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """As many epochs, with drops and warm-up at the same shares of them."""
    changes: dict[str, Any] = {"optimizer.epochs": epochs}
    share = epochs / int(optimizer.get("epochs") or epochs)
    if milestones := optimizer.get("milestones"):
        changes["optimizer.milestones"] = [round(share * float(at), 3) for at in milestones]
    if warmup := optimizer.get("warmup_epochs"):
        changes["optimizer.warmup_epochs"] = round(share * float(warmup), 3)
    return changes


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {section: dict(values.get(section) or {}) for section in _SECTIONS}
    except FileNotFoundError as error:
        raise UserError(f"found no {path}; --configs names another folder 'configs'.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, ValueError) as error:
        raise UserError(f"{path} cannot be read as an experiment: {error}") from error


def _experiment(values: dict[str, Any], source: Path) -> ImageExperiment:
    try:
        return ImageExperiment.from_dict(values)
    except TypeError as error:
        reason = str(error).split("__init__() ")[-1]
        raise UserError(f"{source} with the options of the table: {reason}") from error


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value)
