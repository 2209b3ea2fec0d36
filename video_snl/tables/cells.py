"""Cells of the paper's tables: networks with and without a block, and their data. Without torch.

A cell is a network with or without a block on a dataset, or on one of its splits; every seed of it
is a run of its own. What the paper prints of it stands in :mod:`video_snl.tables.paper`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from video_snl.config.backbones import IMAGE_BACKBONES, VIDEO_BACKBONES
from video_snl.config.datasets import IMAGE_DATASETS
from video_snl.config.yaml_text import load_text
from video_snl.errors import UserError
from video_snl.tables.paper import PRINTED, Printed

__all__ = [
    "BLOCKS",
    "PRINTED",
    "TABLES",
    "VIDEO_LISTS",
    "Block",
    "Cell",
    "PaperTable",
    "Printed",
    "VideoLists",
    "cells_of",
    "read_figures",
]

DATASETS: tuple[str, ...] = tuple(IMAGE_DATASETS)
BACKBONES: tuple[str, ...] = tuple(IMAGE_BACKBONES)


@dataclass(frozen=True)
class VideoLists:
    """Lists of videos that a table can be about.

    Attributes:
        dataset: The ``data.dataset`` that reads them.
        classes: Number of classes.
        split: Split where none is chosen; for the paper's dataset it is the paper's.
        backbone: Backbone where none is chosen.
    """

    dataset: str
    classes: int
    split: str
    backbone: str


VIDEO_LISTS: dict[str, VideoLists] = {
    "ucf101": VideoLists("ucf101", 101, "paper", "i3d_r50"),
    "ucf5": VideoLists("ucf101", 5, "1", "i3d_small"),
    "sample": VideoLists("sample", 4, "1", "i3d_small"),
}
"""Datasets of a table of videos; ``ucf5`` is five classes of UCF-101 in its layout."""
SPLITS = ("1", "2", "3", "paper")


@dataclass(frozen=True)
class Block:
    """A row's block: how tables call it, and the options of the network that make it.

    Attributes:
        gate: True for a block that weighs channels and transfers none, to which Cs does not apply.
    """

    label: str
    block: str
    options: Mapping[str, Any] = field(default_factory=dict)
    gate: bool = False


NONE = Block("no block", "none")
BLOCKS: dict[str, Block] = {
    "none": NONE,
    "nl": Block("NL", "nl"),
    "ns": Block("NS", "ns"),
    "a2": Block("A2", "a2"),
    "cgnl": Block("CGNL", "cgnl"),
    "cc": Block("CC", "cc"),
    "cc2": Block("CC, twice", "cc", {"recurrence": 2}),
    "dnl": Block("DNL", "dnl"),
    "snl": Block("SNL", "snl"),
    "snl_a1": Block("SNL_a1", "snl_a1"),
    "snl_a2": Block("SNL_a2", "snl_a2"),
    "gsnl": Block("gSNL, order 2", "gsnl", {"order": 2}),
    "cayley": Block("Cayley", "cayley"),
    "se": Block("SE", "se", gate=True),
    "ge": Block("GE", "ge", gate=True),
    "simpnl": Block("simplified NL", "gc", {"reduction": None}, gate=True),
    "cgd": Block("CGD", "cgd", gate=True),
}
"""Blocks that ``--blocks`` may name."""

_SMALL = ("digits", "folder")  # that tables are tried on, with the smallest network

Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class PaperTable:
    """Contents of a table: what varies in it.

    Attributes:
        title: Title, the quantity that it compares.
        datasets, backbones: Names; a table has every pair of them.
        blocks: Names of ``BLOCKS``; the first is what the others are compared with.
        settings: Options of the network with each block, by label.
        segments: True for segmentation, whose measure is the mean intersection over union.
        videos: True for videos; accuracies are those of clips.
    """

    title: str
    datasets: tuple[str, ...]
    backbones: tuple[str, ...]
    blocks: tuple[str, ...]
    settings: Settings
    segments: bool = False
    videos: bool = False

    @property
    def varies_channels(self) -> bool:
        """True where the settings differ in the transferred channels."""
        return len({setting.get("reduction") for setting in self.settings.values()}) > 1

    @property
    def metric(self) -> str:
        """The measure of a table, as ``run.json`` names it."""
        return "val/mIoU" if self.segments else "val/top1"

    @property
    def further(self) -> tuple[str, ...]:
        """Measures that are shown besides, of the last epoch."""
        if self.segments:
            return ("val/mAcc", "val/aAcc")
        # Table 6 has no top-5.
        return () if self.datasets == ("imagenet",) else ("val/top5",)


# Those that the released code trains on CIFAR.
_CIFAR_BLOCKS = ("none", "nl", "ns", "a2", "cgnl", "dnl", "snl")
_RIVALS = ("none", "nl", "ns", "a2", "cgnl", "se", "ge", "cgd", "simpnl", "snl")
_SEGMENTATION = ("none", "nl", "ns", "a2", "cgnl", "cc2", "dnl", "snl_a1", "snl_a2", "snl", "gsnl")
_OF_VIDEOS = ("none", "nl", "ns", "a2", "cgnl", "snl")
_PAPERS_PLACE: Settings = {"": {"stages": None, "reduction": None}}

TABLES: dict[int, PaperTable] = {
    2: PaperTable(
        "Transferred channels",
        ("cifar100",),
        ("preresnet56_snl",),
        _CIFAR_BLOCKS,
        {
            "Cs = C": {"stages": "default", "reduction": 1},
            "Cs = C/2": {"stages": "default", "reduction": 2},
            "Cs = C/4": {"stages": "default", "reduction": 4},
        },
    ),
    3: PaperTable(
        "Stage of the block",
        ("cifar100",),
        ("preresnet56_snl",),
        _CIFAR_BLOCKS,
        {f"stage {stage}": {"stages": [stage], "reduction": 2} for stage in (1, 2, 3)},
    ),
    4: PaperTable(
        "Networks and datasets",
        ("cifar10", "cifar100"),
        ("preresnet20_snl", "preresnet56_snl", "resnet50_cifar"),
        _CIFAR_BLOCKS,
        {"": {"stages": "default", "reduction": 2}},
    ),
    5: PaperTable(
        "Number of blocks",
        ("cifar100",),
        ("preresnet56_snl",),
        _CIFAR_BLOCKS,
        {
            "x1": {"stages": "default", "reduction": 2},
            "x3": {"stages": [1, 2, 3], "reduction": 2},
        },
    ),
    6: PaperTable("ImageNet", ("imagenet",), ("resnet50",), _RIVALS, _PAPERS_PLACE),
    7: PaperTable("UCF-101", ("ucf101",), ("i3d_r50",), _OF_VIDEOS, {"": {}}, videos=True),
    8: PaperTable(
        "Cityscapes", ("cityscapes",), ("fcn_r50_d8",), _SEGMENTATION, _PAPERS_PLACE, True
    ),
}


@dataclass(frozen=True)
class Cell:
    """One experiment of a table.

    Attributes:
        table: Number of the table.
        dataset, backbone, block: Names; ``block`` is a name of ``BLOCKS``.
        setting: Label of the setting of the block; empty where there is only one.
        model: Options of the network, as of ``ImageModelConfig`` or ``ModelConfig``.
        compared_with: ``row`` of the cell without a block; None for that cell.
        split: Split of a dataset of videos; None for images.
    """

    table: int
    dataset: str
    backbone: str
    block: str
    setting: str
    model: Mapping[str, Any]
    compared_with: str | None
    split: str | None = None

    @property
    def row(self) -> str:
        """Name in the store: ``cifar100/preresnet56_snl/snl/x3``, ``ucf5/i3d_small/snl/split1``."""
        split = "" if self.split is None else f"split{self.split}"
        return "/".join(part for part in (self.dataset, self.backbone, self.entry, split) if part)

    @property
    def entry(self) -> str:
        """Name in its group: block and setting, such as ``snl/x3``."""
        return "/".join(part for part in (self.block, self.setting.replace(" ", "")) if part)

    @property
    def of_videos(self) -> bool:
        return TABLES[self.table].videos

    @property
    def over_splits(self) -> Cell:
        """The cell over all splits, a row of the report."""
        if self.split is None:
            return self
        base = self.compared_with and self.compared_with.rpartition("/")[0]
        return replace(self, split=None, compared_with=base)

    @property
    def slug(self) -> str:
        """Start of the names of its runs: ``table5-cifar100-preresnet56_snl-snl-x3``."""
        return f"table{self.table}-" + self.row.replace("/", "-").replace("=", "")


def cells_of(
    number: int,
    *,
    dataset: str | None = None,
    backbones: Sequence[str] | None = None,
    blocks: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
) -> list[Cell]:
    """Return the cells of a table, or those of them that are chosen.

    Args:
        dataset: Dataset instead of the table's own.
        backbones: Backbones instead of the table's own; default on ``digits`` and ``folder`` the
            smallest.
        blocks: Names of ``BLOCKS``, instead of the table's own; the network without a block is
            always there, too.
        splits: Splits of a dataset of videos, each trained and tested by itself; default one.

    Raises:
        UserError: for a table, a block or a combination that does not exist.
    """
    table = _table(number)
    chosen = _blocks(table, blocks)
    cells: list[Cell] = []
    for data in _datasets(number, table, dataset):
        for backbone in _backbones(number, table, data, backbones):
            for split in _splits(number, table, data, splits):
                cells += _group(number, table, data, backbone, chosen, split)
    return cells


def read_figures(path: Path, rows: list[str]) -> dict[str, float]:
    """Read printed accuracies in per cent, by row, from a YAML file made by a reader of the paper.

    Raises:
        UserError: The file cannot be read, or names other rows, or no numbers from 0 to 100.
    """
    try:
        values = load_text(path.read_text(encoding="utf-8"), f"--paper {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--paper {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"--paper {path}: expected lines such as '{rows[-1]}: 75.0'.")
    if unknown := [str(row) for row in values if row not in rows]:
        raise UserError(
            f"--paper {path}: no row {', '.join(unknown)} in this table; --dry_run lists them."
        )
    for row, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= 100:
            raise UserError(f"--paper {path}: {row}: {value} is not a number of per cent.")
    return {str(row): float(value) for row, value in values.items()}


def _group(
    number: int,
    table: PaperTable,
    dataset: str,
    backbone: str,
    blocks: Sequence[str],
    split: str | None,
) -> Iterator[Cell]:
    """Yield the cell without a block, then every block in every setting."""
    make = _video_model if table.videos else _model
    bare = Cell(number, dataset, backbone, "none", "", make(backbone, NONE, {}), None, split)
    yield bare
    for name in blocks:
        for label, setting in table.settings.items():
            model = make(backbone, BLOCKS[name], setting)
            yield Cell(number, dataset, backbone, name, label, model, bare.row, split)


def _video_model(backbone: str, block: Block, setting: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of the network of a cell of videos; blocks stand where the paper's do."""
    return {
        "backbone": backbone,
        "block": block.block,
        "block_options": dict(block.options),
        "positions": None,
        "inter_channels": None,
    }


def _model(backbone: str, block: Block, setting: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a cell's network.

    None is left to a default, so that equal networks of two tables have the same settings and
    one run counts for both.
    """
    stages = setting.get("stages")
    if stages == "default":
        stages = [1] if backbone.startswith("preresnet") else [3]
    return {
        "backbone": backbone,
        "block": block.block,
        "block_options": dict(block.options),
        "stages": stages,
        "positions": None,
        "reduction": None if block.gate else setting.get("reduction"),
        "inter_channels": None,
    }


def _table(number: int) -> PaperTable:
    if number not in TABLES:
        numbers = ", ".join(map(str, TABLES))
        raise UserError(
            f"the paper has no table {number} of such experiments; choose one of {numbers}."
        )
    return TABLES[number]


def _blocks(table: PaperTable, blocks: Sequence[str] | None) -> list[str]:
    if blocks is not None and (unknown := [name for name in blocks if name not in BLOCKS]):
        raise UserError(
            f"--blocks {' '.join(unknown)}: no such block; choose of {', '.join(BLOCKS)}."
        )
    chosen = table.blocks if blocks is None else tuple(dict.fromkeys(blocks))
    gates = [name for name in chosen if BLOCKS[name].gate]
    if table.varies_channels and gates:
        raise UserError(
            f"--blocks {' '.join(gates)}: these transfer no channels; the rows of "
            f"{table.title.lower()!r} would be one."
        )
    return [name for name in chosen if name != "none"]


def _datasets(number: int, table: PaperTable, dataset: str | None) -> tuple[str, ...]:
    if dataset is None:
        return table.datasets
    if table.videos:
        if dataset not in VIDEO_LISTS:
            raise UserError(
                f"--dataset {dataset}: table {number} is about videos; choose one of "
                f"{', '.join(VIDEO_LISTS)}."
            )
        return (dataset,)
    if dataset not in DATASETS:
        of_videos = " (table 7 is about videos)" if dataset in VIDEO_LISTS else ""
        raise UserError(f"--dataset {dataset}: choose one of {', '.join(DATASETS)}{of_videos}.")
    if IMAGE_DATASETS[dataset].segments != table.segments:
        needs = "cityscapes" if table.segments else "images with a class each"
        raise UserError(f"--dataset {dataset}: table {number} is about {needs}.")
    return (dataset,)


def _backbones(
    number: int, table: PaperTable, dataset: str, backbones: Sequence[str] | None
) -> tuple[str, ...]:
    if backbones is None:
        if table.videos:
            return (VIDEO_LISTS[dataset].backbone,)
        return ("preresnet20",) if dataset in _SMALL else table.backbones
    known = tuple(VIDEO_BACKBONES) if table.videos else BACKBONES
    if unknown := [name for name in backbones if name not in known]:
        raise UserError(
            f"--backbones {' '.join(unknown)}: no such network; choose of {', '.join(known)}."
        )
    if not table.videos and (
        wrong := [n for n in backbones if IMAGE_BACKBONES[n].segments != table.segments]
    ):
        raise UserError(f"--backbones {' '.join(wrong)}: not for table {number} ({table.title}).")
    return tuple(dict.fromkeys(backbones))


def _splits(
    number: int, table: PaperTable, dataset: str, splits: Sequence[str] | None
) -> tuple[str | None, ...]:
    if not table.videos:
        if splits is not None:
            raise UserError(f"--splits {' '.join(splits)}: the data of table {number} has one.")
        return (None,)
    if splits is None:
        return (VIDEO_LISTS[dataset].split,)
    if unknown := [split for split in splits if split not in SPLITS]:
        raise UserError(f"--splits {' '.join(unknown)}: choose of {', '.join(SPLITS)}.")
    return tuple(dict.fromkeys(splits))
