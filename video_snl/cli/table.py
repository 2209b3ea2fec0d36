"""The command ``video-snl table``. Without torch."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser, Namespace

__all__ = ["TABLE", "add_table_options", "table"]

TABLE = """Run or resume the cells of a table of the paper, and print it beside the paper's figures.
Every cell and seed is a training of its own; what is done is skipped. Exit code 0: all are done; 1:
some failed; 2: bad input. docs/images-tables.md explains it."""


def add_table_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "number", type=int, help="Of the table: 2, 3, 4, 5, 6 or 8 (7 is about videos)."
    )
    _add_what(parser)
    _add_where(parser)
    _add_cluster(parser)


def _add_what(parser: ArgumentParser) -> None:
    parser.add_argument("--root", type=str | None, help="Folder of the data set.")
    parser.add_argument(
        "--dataset",
        type=str | None,
        help="Another data set than the table's: digits (needs no --root), cifar10, cifar100, "
        "imagenet, cub200, or folder (CIFAR-10 as pictures in class folders).",
    )
    parser.add_argument(
        "--backbones",
        nargs="+",
        type=str,
        help="Other networks than the table's, such as preresnet56 (the textbook's); default on "
        "digits and folder preresnet20.",
    )
    parser.add_argument(
        "--blocks",
        nargs="+",
        type=str,
        help="Other blocks than the table's; the network without a block always is there.",
    )
    parser.add_argument("--seeds", type=int, default=3, help="Seeds of every cell: 0, 1, ...")
    parser.add_argument(
        "--epochs",
        type=int | None,
        help="Epochs instead of the configuration's; milestones and warm-up keep their share.",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        type=str,
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="Options of every training, such as trainer.precision=bf16-mixed.",
    )


def _add_where(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=str, default="tables", help="Folder of runs, logs and reports."
    )
    parser.add_argument(
        "--store",
        type=str | None,
        help="File of results, which tables may share; default results.jsonl in the output.",
    )
    parser.add_argument(
        "--paper",
        type=str | None,
        help="YAML file with the paper's accuracies in per cent, by cell, of who has the paper.",
    )
    parser.add_argument(
        "--configs", type=str | None, help="The folder configs of the repository, if elsewhere."
    )
    parser.add_argument(
        "--jobs",
        type=int | None,
        help="Trainings side by side; default as many as there are GPUs, or one; on a cluster 16.",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="Only print the cells, their sizes and the commands that would train them.",
    )


def _add_cluster(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--cluster",
        type=Literal["slurm", "local"] | None,
        help="Train as jobs of SLURM, or of Submitit on this machine (to try it).",
    )
    parser.add_argument("--partition", type=str | None, help="Of SLURM; default its own.")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs of a job of the cluster.")
    parser.add_argument("--cpus", type=int, default=4, help="CPU cores of a job of the cluster.")
    parser.add_argument(
        "--minutes",
        type=int,
        default=1440,
        help="That a job may take; one that needs more is queued again, and goes on.",
    )


def table(arguments: Namespace) -> int:
    from video_snl.tables.command import run_table

    return run_table(arguments)
