"""The experiment of a cell: a configuration file and what the cell changes of it. Without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.config.files import CONFIGS
from video_snl.config.image import ImageExperiment
from video_snl.config.parser import Parser, add_experiment
from video_snl.config.parsing import sections_of
from video_snl.config.video import Experiment
from video_snl.errors import UserError
from video_snl.runs.run import weights_digest
from video_snl.tables.cells import VIDEO_LISTS, Cell
from video_snl.utils.json_text import to_json

__all__ = ["BASES", "Choices", "Planned", "find_configs", "plan", "plans", "settings_of"]

BASES = {
    "digits": "digits/preresnet20_snl.yaml",
    "cifar10": "cifar10/preresnet56_snl.yaml",
    "cifar100": "cifar100/preresnet56_snl.yaml",
    "imagenet": "imagenet/resnet50_snl.yaml",
    "cub200": "cub200/resnet50_snl.yaml",
    "cityscapes": "cityscapes/fcn_r50d8_snl.yaml",
    "folder": "cifar10/jpg_preresnet20_snl.yaml",
    "ucf101": "ucf101/i3d_r50_snl.yaml",
    "ucf5": "ucf5/i3d_small_snl.yaml",
    "sample": "ucf101/sample.yaml",
}
"""The configuration that cells on a dataset start from, below ``configs/``.

Those of videos whose backbone has one of its own, ``DATASET/BACKBONE_snl.yaml`` or
``finetune/BACKBONE_snl.yaml``, start from that.
"""

# These say that the words of a training are about images.
_SAID = ("data.dataset", "model.backbone")
_OF_THE_TABLE = {
    "data.dataset": "use --dataset.",
    "data.root": "use --root.",
    "data.split": "use --splits.",
    "optimizer.epochs": "use --epochs.",
    "trainer.seed": "use --seeds.",
    "trainer.output": "use -o.",
    "trainer.name": "its runs are called after their cells.",
}
# Where data lie and how they are read does not change what a run gives.
_MUTE_DATA = ("root", "download", "num_workers", "max_failures")
_MUTE_VIDEOS = (*_MUTE_DATA, "deadline", "reader", "decode_device", "max_pixels")

_AnyExperiment = ImageExperiment | Experiment


@dataclass(frozen=True)
class Choices:
    """Options common to all cells of a table.

    Attributes:
        configs: The folder ``configs``.
        root: Folder of the dataset.
        epochs: Epochs instead of the configuration's; milestones and warm-up keep their share.
        weights: What all networks start from, as ``model.weights``; None for the configuration's
            and, of networks of videos whose published weights come with their input, these.
        clips: Clips of a test video whose scores are averaged after the training, 0 for no such
            test; None for those of the recipe of the network's published weights.
        options: Further options as words of a command line, such as
            ``{"trainer.precision": "bf16-mixed"}``.
    """

    configs: Path
    root: str | None = None
    epochs: int | None = None
    weights: str | None = None
    clips: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Planned:
    """A cell as an experiment.

    Attributes:
        base: The configuration file.
        changes: Changed options: words of a command line, by option.
        experiment: Experiment that ``video-snl train`` makes of the two.
        settings: Identifies all that matters for the result but the seed.
        views: Clips of a test video, and crops of a clip, whose scores are averaged after the
            training; None where the training's own test is all.
    """

    cell: Cell
    base: Path
    changes: Mapping[str, str]
    experiment: _AnyExperiment
    settings: str
    views: tuple[int, int] | None = None

    @property
    def source(self) -> str:
        """Name of the data where ``data.dataset`` does not tell it."""
        return _source(self.cell)

    def words(self, seed: int, output: Path) -> list[str]:
        """Return the arguments of ``video-snl`` that train a seed below ``output``."""
        words = ["train", *_words(self.base, self.changes)]
        words += ["--trainer.seed", str(seed), "--trainer.output", str(output)]
        return [*words, "--trainer.name", self.name(seed)]

    def name(self, seed: int) -> str:
        """Return the name of the run of a seed."""
        return f"{self.cell.slug}-s{seed}"


def find_configs(named: str | None) -> Path:
    """Find the folder ``configs``: as named, in the working directory, or in the package.

    Raises:
        UserError: where there is none.
    """
    places = [Path("configs"), CONFIGS] if named is None else [Path(named)]
    for place in places:
        if (place / BASES["digits"]).is_file():
            return place
    raise UserError(
        f"found no {BASES['digits']} below {' or '.join(map(str, places))}; name the folder "
        "'configs' of the repository with --configs."
    )


def plan(cell: Cell, choices: Choices) -> Planned:
    """Return the experiment of a cell.

    Raises:
        UserError: As for :func:`plans`.
    """
    return plans([cell], choices)[0]


def plans(cells: Sequence[Cell], choices: Choices) -> list[Planned]:
    """Return the experiments of cells; a configuration that they share is read once.

    Raises:
        UserError: The configuration cannot be read, an option does not exist, its value is not one
            that it takes, or the table sets it itself.
    """
    based = [(cell, _base(cell, choices.configs)) for cell in cells]
    kinds = {base: _kind(cell) for cell, base in based}
    stored = {base: _stored(base, kind, choices) for base, kind in kinds.items()}
    return [_plan(cell, choices, base, stored[base]) for cell, base in based]


def settings_of(
    values: Mapping[str, Mapping[str, Any]], source: str = "", weights: str | None = None
) -> str:
    """Return a short hash of what matters of an experiment, whose plain values are given.

    All of the model (weights of a file by what is in it) and the optimizer, the data but for where
    they lie (of ``folder`` that is what they are), the precision as it is asked for, and the number
    of devices where they are asked to have BatchNorm statistics of their own. Not the seed, nor how
    many images are tested at once, nor how videos are decoded, all ways of which give the same
    frames.

    Args:
        source: Name of the data where ``data.dataset`` does not tell it: of ``ucf5``, which is read
            as ``ucf101``.
        weights: SHA-256 of the file that ``model.weights`` is; None for a name or an address.
    """
    data, trainer = dict(values["data"]), values["trainer"]
    muted = _MUTE_VIDEOS if "clip_frames" in data else _MUTE_DATA
    mute = [key for key in muted if key != "root" or data["dataset"] != "folder"]
    model = dict(values["model"])
    if weights is not None:
        model["weights"] = weights
    matters = {
        "data": {key: value for key, value in data.items() if key not in mute},
        "model": model,
        "optimizer": {k: v for k, v in values["optimizer"].items() if k != "test_batch_size"},
        "precision": trainer["precision"],
    }
    if source:
        matters["source"] = source
    devices = (trainer["devices"], trainer["nodes"])
    if not trainer["sync_batchnorm"] and devices != (1, 1):
        matters["separate statistics"] = devices
    text = to_json(matters, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _source(cell: Cell) -> str:
    if cell.of_videos and VIDEO_LISTS[cell.dataset].dataset != cell.dataset:
        return cell.dataset
    return ""


def _base(cell: Cell, configs: Path) -> Path:
    """Return the file of the configuration that a cell starts from."""
    if cell.of_videos:
        for folder in (cell.dataset, "finetune"):
            own = configs / folder / f"{cell.backbone}_snl.yaml"
            if own.is_file():
                return own
    return configs / BASES[cell.dataset]


def _stored(base: Path, kind: type[_AnyExperiment], choices: Choices) -> _AnyExperiment:
    """Return the configuration in a file that cells start from."""
    if not base.is_file():
        raise UserError(f"found no {base}; --configs names another folder 'configs'.")
    stored = _parsed(base, {}, kind)
    if stored.optimizer.epochs < 1:
        raise UserError(f"{base}: optimizer.epochs={stored.optimizer.epochs} must be at least 1.")
    if choices.epochs is not None and choices.epochs < 1:
        raise UserError(f"--epochs {choices.epochs}: at least one is needed.")
    return stored


def _kind(cell: Cell) -> type[_AnyExperiment]:
    return Experiment if cell.of_videos else ImageExperiment


def _plan(cell: Cell, choices: Choices, base: Path, stored: _AnyExperiment) -> Planned:
    asked = _changes(cell, choices, stored)
    experiment = _parsed(base, asked, _kind(cell))
    values, before = experiment.to_dict(), stored.to_dict()
    changes = {
        option: word
        for option, word in asked.items()
        if option in _SAID or _differ(option, values, before)
    }
    weights = weights_digest(values["model"].get("weights"))
    settings = settings_of(values, _source(cell), weights)
    return Planned(cell, base, changes, experiment, settings, _views(cell, choices))


def _views(cell: Cell, choices: Choices) -> tuple[int, int] | None:
    """Return the views of a test video: as asked for, or those of the recipe."""
    if not cell.of_videos:
        if choices.clips:
            raise UserError(f"--clips {choices.clips}: table {cell.table} is about images.")
        return None
    recipe = VIDEO_BACKBONES[cell.backbone].recipe
    clips = choices.clips if choices.clips is not None else 0 if recipe is None else recipe.clips
    if clips < 0:
        raise UserError(f"--clips {clips}: give a number of clips, 0 for no test of whole videos.")
    return (clips, 1 if recipe is None else recipe.crops) if clips else None


def _changes(cell: Cell, choices: Choices, base: _AnyExperiment) -> dict[str, str]:
    changes: dict[str, Any] = {"data.dataset": cell.dataset}
    if cell.of_videos:
        changes |= _of_videos(cell, base)
    if choices.root is not None:
        changes["data.root"] = str(Path(choices.root).expanduser().resolve())
    changes |= {f"model.{key}": value for key, value in cell.model.items()}
    if choices.weights is not None:
        if "model.weights" in choices.options:
            raise UserError(f"--weights {choices.weights}: --set gives model.weights, too.")
        changes["model.weights"] = _weights(choices.weights)
    if choices.epochs is not None:
        changes |= _shortened(base.optimizer, choices.epochs)
    words = {option: _word(value) for option, value in changes.items()}
    values = base.to_dict()
    for option, word in choices.options.items():
        section, key = option.split(".")
        known = list(values[section])
        if key not in known:  # the parser would take "heigh" for "height"
            raise UserError(f"--set {option}={word}: {section} has {', '.join(known)}.")
        if option in _OF_THE_TABLE or (section == "model" and key in cell.model):
            instead = _OF_THE_TABLE.get(option, "it is what its cells differ in.")
            raise UserError(f"--set {option}={word}: the table sets {option} itself; {instead}")
    return words | dict(choices.options)


def _of_videos(cell: Cell, base: _AnyExperiment) -> dict[str, Any]:
    """Return the lists of a cell, and the input and weights that its network is published with."""
    changes = {"data.dataset": VIDEO_LISTS[cell.dataset].dataset, "data.split": cell.split}
    recipe = VIDEO_BACKBONES[cell.backbone].recipe
    if recipe is not None and cell.backbone != base.model.backbone:
        changes |= {f"data.{key}": value for key, value in recipe.data_options().items()}
        changes["model.weights"] = "kinetics"
    return changes


def _weights(named: str) -> str:
    """Return weights as ``model.weights``; files by their whole path, as trainings may move."""
    path = Path(named).expanduser()
    return str(path.resolve()) if path.is_file() else named


def _shortened(optimizer: Any, epochs: int) -> dict[str, Any]:
    """Return the options for so many epochs, with drops and warm-up at the same shares of them.

    Args:
        optimizer: The optimizer of the configuration, of images or of videos.
    """
    changes: dict[str, Any] = {"optimizer.epochs": epochs}
    share = epochs / optimizer.epochs
    if hasattr(optimizer, "step_epochs"):
        changes["optimizer.step_epochs"] = max(1, round(share * optimizer.step_epochs))
    elif optimizer.milestones:
        changes["optimizer.milestones"] = [round(share * at, 3) for at in optimizer.milestones]
    if optimizer.warmup_epochs:
        changes["optimizer.warmup_epochs"] = round(share * optimizer.warmup_epochs, 3)
    return changes


class _Asking(Parser):
    """The parser of ``train``, whose complaints are about the table's options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(" ".join(str(message).split())) from ex


def _parsed(base: Path, changes: Mapping[str, str], kind: type[_AnyExperiment]) -> _AnyExperiment:
    """Parse words as ``video-snl train`` does: the values that it records are of these types.

    Integers for which an option takes real numbers become such, and so on.
    """
    try:
        arguments = _parser(kind is Experiment).parse_args(_words(base, changes))
        return kind.from_dict(sections_of(arguments))
    except (UserError, OSError, TypeError, ValueError) as error:
        raise UserError(f"{base} with the options of the table: {error}") from error


@cache
def _parser(of_videos: bool) -> ArgumentParser:
    parser = _Asking(prog="video-snl table")
    add_experiment(parser, Experiment if of_videos else ImageExperiment)
    return parser


def _words(base: Path, changes: Mapping[str, str]) -> list[str]:
    options = [f"--{option}={word}" for option, word in changes.items()]
    return ["--config", str(base), *options]


def _differ(option: str, values: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    section, key = option.split(".")
    return bool(values[section][key] != before[section][key])


def _word(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)
