"""The commands on features and files: ``extract``, ``search``, ``check``. Without torch."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from reid.cli.evaluate import test_frames
from reid.config import ReidDataConfig
from reid.data.datasets.catalog import DatasetName
from reid.data.tracklet_folders import Layout
from video_snl.cli import trained as cli_trained
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

__all__ = [
    "CHECK",
    "EXTRACT",
    "NEWEST",
    "SEARCH",
    "add_check_options",
    "add_checkpoint_option",
    "add_extract_options",
    "add_layout_option",
    "add_search_options",
    "check",
    "extract",
    "search",
]

NEWEST = "newest run with a checkpoint"
"""Which run stands for a checkpoint that is not named."""

EXTRACT = """Write the features of tracklets to a file.
A tracklet is a folder of cropped images of one person, or a video of such. Of a folder, all folders
of images and all videos below it are taken; --layout decides where that may mean two things."""
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
    add_layout_option(parser)
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
    cli_trained.add_max_pixels_option(parser)
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu or gpu.")


def add_search_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "queries",
        nargs="+",
        metavar="FOLDER|VIDEO|FILE",
        help="Tracklets to search for, folders of them, or feature files (.parquet) of reid "
        "extract.",
    )
    add_layout_option(parser)
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
    cli_trained.add_max_pixels_option(parser)
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")


def add_layout_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--layout",
        type=Layout,
        default="auto",
        help="What a tracklet is. auto: every folder with images in it and every video; what may "
        "mean two things is refused (none is the older name). folder: the same, in "
        "<person>/<camera>/<tracklet>, whose names are kept. tracklets: every folder with images, "
        "also one with tracklets below it. leaves: folders with no tracklets below them, other "
        "images are passed over. images: every image. videos: every video. market: every image, "
        "of the person and camera in its name (0002_c1s1_000451_03.jpg). mars: images by person, "
        "camera and tracklet in their names (0001C1T0001F001.jpg).",
    )


def add_checkpoint_option(parser: ArgumentParser) -> None:
    cli_trained.add_checkpoint_option(parser, NEWEST)


def extract(arguments: Namespace) -> int:
    from reid.retrieval.extract import extract

    return extract(
        arguments.paths,
        checkpoint=arguments.checkpoint,
        output=arguments.output,
        layout=arguments.layout,
        test_frames=test_frames(arguments.test_frames),
        num_workers=arguments.num_workers,
        accelerator=arguments.accelerator,
        max_pixels=arguments.max_pixels,
    )


def search(arguments: Namespace) -> int:
    from reid.retrieval.searching import is_feature_file, run_search

    checkpoint = None
    # Features need no network: then no run need be there.
    if arguments.checkpoint is not None or not all(map(is_feature_file, arguments.queries)):
        from reid.runs import find_checkpoint

        checkpoint = str(find_checkpoint(arguments.checkpoint))
    return run_search(
        checkpoint,
        arguments.gallery,
        arguments.queries,
        layout=arguments.layout,
        index=arguments.index,
        metric=arguments.metric,
        top=arguments.top,
        page=arguments.page,
        as_json=arguments.json,
        max_pixels=arguments.max_pixels,
    )


def add_check_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--dataset",
        type=DatasetName,
        default="sample",
        help="Name of the dataset.",
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
    parser.add_argument(
        "--max_pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="Most pixels of an image, height times width; a larger one counts as unreadable.",
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")


def check(arguments: Namespace) -> int:
    if arguments.num_workers is not None and arguments.num_workers < 1:
        raise UserError("--num_workers must be at least 1.")
    if not arguments.deadline > 0:  # which nan is not either
        raise UserError("--deadline must be more than 0 seconds.")
    if arguments.max_pixels < 1:
        raise UserError(f"--max_pixels {arguments.max_pixels}: give a number of pixels, 1 or more")
    from reid.data.check import check

    config = ReidDataConfig(
        dataset=arguments.dataset,
        root=arguments.root,
        split=arguments.split,
        deadline=arguments.deadline,
        max_pixels=arguments.max_pixels,
    )
    return check(config, as_json=arguments.json, num_workers=arguments.num_workers)
