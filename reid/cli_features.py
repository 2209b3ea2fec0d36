"""The commands on features and files: ``extract``, ``search``, ``check``. Without torch."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from reid.cli_evaluate import test_frames
from reid.config import DatasetName, ReidDataConfig
from video_snl import cli_trained
from video_snl.errors import UserError

__all__ = [
    "CHECK",
    "EXTRACT",
    "NEWEST",
    "SEARCH",
    "add_check_options",
    "add_checkpoint_option",
    "add_extract_options",
    "add_search_options",
    "check",
    "extract",
    "search",
]

NEWEST = "newest run with a checkpoint"
"""Which run stands for a checkpoint that is not named."""

EXTRACT = """Write the features of tracklets to a file.
A tracklet is a folder of cropped pictures of one person, or a video of such. Of any other folder,
all folders of pictures and videos below it are taken."""
SEARCH = "Find the gallery tracklets that are nearest to some people."
CHECK = """Open every picture of a data set and list what is missing or wrong.
Exit code 0: all sound; 1: something was found; 2: bad input."""


def add_extract_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", metavar="FOLDER|VIDEO", help="Tracklets, or folders of them."
    )
    add_checkpoint_option(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=str,
        required=True,
        metavar="FILE",
        help="The feature file (parquet) to write.",
    )
    parser.add_argument(
        "--layout",
        type=Literal["none", "folder"],
        default="none",
        help="folder: tracklets lie in <person>/<camera>/<tracklet>, and their numbers are stored. "
        "none: people and cameras are unknown (-1).",
    )
    parser.add_argument(
        "--test_frames",
        type=str,
        default="all",
        metavar="all|N",
        help="all: whole tracklets, in chunks, the mean of their features. N: N evenly spaced "
        "frames.",
    )
    parser.add_argument(
        "--num_workers", type=int | None, help="Processes that read; default as in training."
    )
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu or gpu.")


def add_search_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "queries",
        nargs="+",
        metavar="FOLDER|VIDEO",
        help="Tracklets to search for, or folders of them.",
    )
    add_checkpoint_option(parser)
    parser.add_argument(
        "--gallery",
        type=str,
        required=True,
        metavar="FILE",
        help="Feature file of reid extract; "
        "of the queries, as many frames are looked at (its --test_frames).",
    )
    parser.add_argument(
        "--index",
        type=Literal["exact", "ivf", "hnsw"],
        default="exact",
        help="exact, or an approximate index whose recall is then printed.",
    )
    parser.add_argument(
        "--metric",
        type=Literal["cosine", "euclidean"],
        default="cosine",
        help="Distance between features.",
    )
    parser.add_argument("--top", type=int, default=10, help="How many tracklets to list.")
    parser.add_argument(
        "--page", type=str, metavar="FILE", help="Write an HTML page with film strips, too."
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")


def add_checkpoint_option(parser: ArgumentParser) -> None:
    cli_trained.add_checkpoint_option(parser, NEWEST)


def extract(arguments: Namespace) -> int:
    from reid.extract import extract

    return extract(
        arguments.paths,
        checkpoint=arguments.checkpoint,
        output=arguments.output,
        layout=arguments.layout,
        test_frames=test_frames(arguments.test_frames),
        num_workers=arguments.num_workers,
        accelerator=arguments.accelerator,
    )


def search(arguments: Namespace) -> int:
    from reid.runs import find_checkpoint
    from reid.searching import run_search

    return run_search(
        str(find_checkpoint(arguments.checkpoint)),
        arguments.gallery,
        arguments.queries,
        index=arguments.index,
        metric=arguments.metric,
        top=arguments.top,
        page=arguments.page,
        as_json=arguments.json,
    )


def add_check_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--dataset",
        type=DatasetName,
        default="sample",
        help="sample, mars, ilids-vid, prid2011 or folder.",
    )
    parser.add_argument("--root", type=str | None, help="Folder of the data set.")
    parser.add_argument("--split", type=int, default=0, help="Number of the split, from 0.")
    parser.add_argument(
        "--num_workers",
        type=int | None,
        help="Processes side by side; default: as many as there are cores.",
    )
    parser.add_argument(
        "--deadline",
        type=float,
        default=20.0,
        help="Seconds after which pictures are given up.",
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")


def check(arguments: Namespace) -> int:
    if arguments.num_workers is not None and arguments.num_workers < 1:
        raise UserError("--num_workers must be at least 1.")
    if not arguments.deadline > 0:  # which nan is not either
        raise UserError("--deadline must be more than 0 seconds.")
    from reid.check import check

    config = ReidDataConfig(
        dataset=arguments.dataset,
        root=arguments.root,
        split=arguments.split,
        deadline=arguments.deadline,
    )
    return check(config, as_json=arguments.json, num_workers=arguments.num_workers)
