"""Figures that arXiv:2108.02451 prints in its Tables 2-8: facts to show beside own results.

Each row has the figures of a table's columns in their order; None is a figure that is illegible in
the copy of the paper that they were taken from. Without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["FIGURES", "ILLEGIBLE", "PRINTED", "PaperFigures", "Printed", "printed_of"]

ILLEGIBLE = "illegible"
_GIGA, _MILLION = "gflops", "params_m"

Rows = Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class Printed:
    """Figures of a row as the paper prints them.

    Attributes:
        parameters, multiply_adds: Cost, of blocks as an addition (``+2.62 M``); ``illegible``, or
            None where the table has no such column or row.
        measures: Shares in per cent by the name of the measure here, such as ``val/top1``; None
            where a figure is illegible.
    """

    parameters: str | None = None
    multiply_adds: str | None = None
    measures: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperFigures:
    """A table as it is printed.

    Attributes:
        about: Data and network.
        protocol: The paper's settings.
        columns: Names of the measures here, then of the costs.
        groups: Rows by dataset and backbone; a row is a block of
            :data:`~video_snl.tables.cells.BLOCKS`, and its setting (``snl/x3``).
        notes: Footnotes: slips of the print, and what was read out of it.
    """

    about: str
    protocol: str
    columns: tuple[str, ...]
    groups: Mapping[tuple[str, str], Rows]
    notes: tuple[str, ...] = ()

    @property
    def measures(self) -> tuple[str, ...]:
        return tuple(name for name in self.columns if name.startswith("val/"))

    @property
    def costs(self) -> bool:
        """True where the table prints multiply-adds and parameters."""
        return self.columns != self.measures


def printed_of(number: int, group: tuple[str, str], row: str) -> Printed:
    """Return what the paper prints of a row; nothing where it has no such row.

    Args:
        group: Dataset and backbone.
        row: Block and setting, such as ``snl/Cs=C/2``.
    """
    figures = FIGURES[number]
    values = figures.groups.get(group, {}).get(row)
    if values is None:
        return Printed()
    named = dict(zip(figures.columns, values, strict=True))
    sign = "" if row == "none" else "+"
    return Printed(
        parameters=_cost(named, _MILLION, sign, "M"),
        multiply_adds=_cost(named, _GIGA, sign, "G"),
        measures={name: named[name] for name in figures.measures},
    )


def _cost(named: Mapping[str, float | None], column: str, sign: str, unit: str) -> str | None:
    if column not in named:
        return None
    value = named[column]
    return ILLEGIBLE if value is None else f"{sign}{value:.2f} {unit}"


_CIFAR = (
    "SGD, learning rate 0.1 divided by 10 at 150 and 250 of 300 epochs, weight decay 1e-4, "
    "momentum 0.9"
)
_TOP1_TOP5 = ("val/top1", "val/top5")
_PRERESNET56 = ("cifar100", "preresnet56_snl")
_BARE = (75.33, 93.97)
# One block in stage 1 with Cs = C/2: the same runs in Tables 2, 3, 4 and 5.
_STAGE1_HALF: Rows = {
    "nl": (75.31, 92.84),
    "ns": (75.83, 93.87),
    "a2": (75.58, 94.27),
    "cgnl": (75.75, 93.74),
    "snl": (76.41, 94.38),
}


def _with(setting: str, rows: Rows) -> Rows:
    return {f"{block}/{setting}": values for block, values in rows.items()}


FIGURES: dict[int, PaperFigures] = {
    2: PaperFigures(
        "CIFAR-100, PreResNet56, one block after the second residual block of stage 1",
        _CIFAR,
        _TOP1_TOP5,
        {
            _PRERESNET56: {
                "none": _BARE,
                "nl/Cs=C": (75.29, None),
                "ns/Cs=C": (75.39, None),
                "a2/Cs=C": (75.51, None),
                "cgnl/Cs=C": (74.71, None),
                "snl/Cs=C": (76.34, 94.48),
                **_with("Cs=C/2", _STAGE1_HALF),
                "nl/Cs=C/4": (75.50, 93.75),
                "ns/Cs=C/4": (75.61, 93.66),
                "a2/Cs=C/4": (75.61, None),
                "cgnl/Cs=C/4": (75.27, None),
                "snl/Cs=C/4": (76.02, 94.08),
            }
        },
    ),
    3: PaperFigures(
        "CIFAR-100, PreResNet56, Cs = C/2, one block in the named stage",
        _CIFAR,
        _TOP1_TOP5,
        {
            _PRERESNET56: {
                "none": _BARE,
                **_with("stage1", _STAGE1_HALF),
                "nl/stage2": (75.64, 93.79),
                "ns/stage2": (75.74, 94.02),
                "a2/stage2": (75.60, 93.82),
                "cgnl/stage2": (74.54, 92.65),
                "snl/stage2": (76.29, 94.27),
                "nl/stage3": (75.28, 93.93),
                "ns/stage3": (75.44, 93.86),
                "a2/stage3": (75.21, None),
                "cgnl/stage3": (74.90, None),
                "snl/stage3": (75.68, 93.90),
            }
        },
    ),
    4: PaperFigures(
        "CIFAR-10 with ResNet-50, CIFAR-100 with PreResNet56 and ResNet-50",
        _CIFAR,
        _TOP1_TOP5,
        {
            ("cifar10", "resnet50_cifar"): {
                "none": (94.94, 99.87),
                "nl": (94.01, None),
                "ns": (95.15, 99.88),
                "a2": (94.41, 99.83),
                "cgnl": (94.49, 99.92),
                "snl": (95.32, 99.94),
            },
            _PRERESNET56: {"none": _BARE, **_STAGE1_HALF},
            ("cifar100", "resnet50_cifar"): {
                "none": (76.50, 93.14),
                "nl": (76.77, 93.55),
                "ns": (77.90, 94.34),
                "a2": (77.30, 93.40),
                "cgnl": (74.88, 92.56),
                "snl": (78.17, 94.17),
            },
        },
        (
            "Slip of the print: the difference of NL's top-5 on CIFAR-100 with PreResNet56 is "
            "printed as 1.33; the printed accuracies differ by 1.13.",
            "Slip of the print: the difference of SNL's top-5 there is printed as 0.39; the "
            "printed accuracies differ by 0.41.",
        ),
    ),
    5: PaperFigures(
        "CIFAR-100, PreResNet56; x3 is one block in each of stages 1, 2 and 3",
        _CIFAR,
        _TOP1_TOP5,
        {
            _PRERESNET56: {
                "none": _BARE,
                **_with("x1", _STAGE1_HALF),
                "nl/x3": (74.34, 93.11),
                "ns/x3": (75.00, 93.57),
                "a2/x3": (75.63, 94.12),
                "cgnl/x3": (None, 93.10),
                "snl/x3": (76.70, 93.94),
            }
        },
        (
            "Slip of the print: the difference of A2 x3 is printed as 0.33; the printed "
            "accuracies differ by 0.30.",
        ),
    ),
    6: PaperFigures(
        "ImageNet, ResNet-50",
        "learning rate 0.01, divided by 10 at 31, 61 and 81 of 110 epochs, block before the last "
        "residual block of res4",
        ("val/top1", _GIGA, _MILLION),
        {
            ("imagenet", "resnet50"): {
                "none": (76.15, 4.14, 25.56),
                "cgd": (76.90, 0.01, 0.02),
                "se": (77.72, 0.10, 2.62),
                "ge": (78.00, 0.10, 5.64),
                "nl": (76.70, 0.41, 2.09),
                "a2": (77.00, 0.41, 2.62),
                "simpnl": (77.28, None, 1.05),
                "cgnl": (77.32, 0.41, 2.09),
                "snl": (78.11, 0.51, 2.62),
            }
        },
    ),
    7: PaperFigures(
        "UCF-101 (7912 training and 1625 test videos), I3D, clip level",
        "learning rate 0.01, divided by 10 every 40 of 100 epochs, weights of Kinetics, clips of "
        "16 frames",
        ("val/top1", "val/top5", _GIGA, _MILLION),
        {
            ("ucf101", "i3d_r50"): {
                "none": (81.57, 95.40, 10.10, 47.02),
                "nl": (82.88, 95.74, 0.21, 2.10),
                "ns": (82.50, 95.84, 0.26, 2.10),
                "a2": (82.68, 95.85, 0.21, 2.10),
                "cgnl": (83.38, 95.42, 0.21, 2.10),
                "snl": (84.39, 97.66, 0.26, 2.62),
            }
        },
        (
            "The parameters of no block are those with the 400 classes of Kinetics.",
            "The multiply-adds of NS are those of W applied to Z and to A Z; ours applies it once "
            "(docs/paper-tables.md).",
        ),
    ),
    8: PaperFigures(
        "Cityscapes, ResNet50-D8 with an FCN head",
        "learning rate 0.01, weight decay 5e-4, 40,000 iterations, poly 0.9",
        ("val/mIoU", "val/mAcc", _GIGA, _MILLION),
        {
            ("cityscapes", "fcn_r50_d8"): {
                "none": (69.19, 76.60, 395.76, 47.13),
                "nl": (74.15, 81.83, 4.31, 0.53),
                "ns": (75.44, 83.36, 5.37, 0.53),
                "cc2": (75.34, 82.75, 5.37, 0.33),
                "dnl": (76.19, 84.61, 4.31, 0.53),
                "snl_a1": (75.76, 83.58, 4.31, 0.53),
                "snl_a2": (75.94, 83.85, 5.37, 0.66),
                "snl": (76.87, 84.75, 5.37, 0.66),
            }
        },
        (
            "The mIoU of no block is the one that the printed differences give.",
            "The paper's CC stands beside ours applied twice, which has its printed cost.",
        ),
    ),
}
"""The paper's tables by number."""

PRINTED: dict[int, dict[str, Printed]] = {
    number: {
        row: printed_of(number, group, row)
        for group, rows in FIGURES[number].groups.items()
        for row in rows
    }
    for number in (6, 7, 8)
}
"""Printed figures by table and block, of the tables that print costs."""
