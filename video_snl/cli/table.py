"""The command ``video-snl table``. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from video_snl.config.options import option, option_group, positional

if TYPE_CHECKING:
    from jsonargparse import Namespace

__all__ = ["TABLE", "Table", "table"]

TABLE = """Run or resume the cells of a table of the paper, and print it beside the paper's figures.
Every cell and seed is a training of its own; what is done is skipped. Exit code 0: all are done; 1:
some failed; 2: bad input. docs/images-tables.md explains it."""


@option_group
class Cells:
    """Cells to train.

    Args:
        number: Number of the table: 2 to 8; 7 is about videos.
        root: Folder of the dataset; digits and sample need none.
        dataset: Another dataset than the table's (default): digits (needs no --root), cifar10,
            cifar100, imagenet, cub200, or folder (CIFAR-10 as images in class folders); for table 7
            ucf101, ucf5 (five classes in its layout) or sample (needs no --root).
        splits: Splits of the videos of table 7, each a training: 1, 2, 3 or paper (default on
            ucf101); else default 1.
        backbones: Other networks than the table's, such as preresnet56 (the textbook's); default on
            digits and folder preresnet20, on ucf5 and sample i3d_small.
        blocks: Other blocks than the table's (default); the network without a block always is
            there.
        seeds: Seeds of every cell: 0, 1, ...
        epochs: Epochs instead of the configuration's (default); milestones and warm-up keep their
            share.
        weights: What every network starts from: a file, a URL, a name that --model.weights has, or
            null for new weights; default the configuration's.
        clips: Clips of a test video whose scores are averaged by a test after each training of
            table 7, for accuracies of whole videos; default those of the recipe of the network's
            published weights, without such a recipe 0: no such test.
        set: Options of every training, such as trainer.precision=bf16-mixed.
    """

    number: int = positional("number")
    root: str | None = None
    dataset: str | None = None
    splits: list[str] | None = option(nargs="+")
    backbones: list[str] | None = option(nargs="+")
    blocks: list[str] | None = option(nargs="+")
    seeds: int = 3
    epochs: int | None = None
    weights: str | None = None
    clips: int | None = None
    set: list[str] = option([], nargs="+", metavar="SECTION.KEY=VALUE")


@option_group
class Places:
    """Folders of the results.

    Args:
        output: Folder of runs, logs and reports.
        store: File of results, which tables may share; default results.jsonl in the output.
        paper: YAML file with accuracies in per cent, by cell, to stand in the place of the paper's;
            default none.
        configs: The folder configs of the repository, if elsewhere than the default.
        jobs: Trainings side by side; default as many as there are GPUs, or one; on a cluster 16.
        dry_run: Only print the cells, their sizes and the commands that would train them.
    """

    output: str = option("tables", short="-o")
    store: str | None = None
    paper: str | None = None
    configs: str | None = None
    jobs: int | None = None
    dry_run: bool = False


@option_group
class Cluster:
    """Use of a cluster.

    Args:
        cluster: Train as jobs of SLURM, or of Submitit on this machine (to try it); default in
            processes of this command.
        partition: Partition of SLURM; default its own.
        gpus: GPUs of a job of the cluster.
        cpus: CPU cores of a job of the cluster.
        minutes: Minutes that a job may take; one that needs more is queued again, and goes on.
    """

    cluster: Literal["slurm", "local"] | None = None
    partition: str | None = None
    gpus: int = 1
    cpus: int = 4
    minutes: int = 1440


@option_group
class Table(Cluster, Places, Cells):
    """Options of ``table``."""


def table(arguments: Namespace) -> int:
    from video_snl.tables.command import run_table

    return run_table(arguments)
