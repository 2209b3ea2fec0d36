"""The options of ``reid evaluate``. Without torch."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from reid.config import ReidExperiment
from video_snl.config.parsing import config_name
from video_snl.errors import UserError

__all__ = ["EVALUATE", "add_evaluate_options", "evaluate", "test_frames"]

EVALUATE = """Measure a trained network: CMC at ranks 1, 5, 10, 20, mAP and mINP.
Every query is searched for in the gallery. Data options not given are those of the checkpoint. Of
several checkpoints, one for each split of a data set, each is measured on its own split, and mean
and standard deviation are printed, too. For the sample data set a network is trained first where
there is none."""


def add_evaluate_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=str,
        action="append",
        metavar="FILE|DIR",
        help="Checkpoint file, the folder of a run (its best epoch), a published folder, or a "
        "folder of runs (the newest finished one of every split). May be given several times. "
        "Default: the newest run with a checkpoint below --trainer.output, with --dataset of that "
        "data set. Where there is none, the sample experiment is trained first; other data sets "
        "are refused.",
    )
    parser.add_argument(
        "--test_frames",
        type=str,
        default="all",
        metavar="all|N",
        help="all: whole tracklets, in chunks of data.frames frames, the mean of their features. "
        "N: N evenly spaced frames.",
    )
    parser.add_argument(
        "--metric",
        type=Literal["cosine", "euclidean"],
        default="cosine",
        help="Distance between features.",
    )
    parser.add_argument(
        "--rerank", action="store_true", help="Rank by k-reciprocal re-ranking, too (common)."
    )
    parser.add_argument(
        "--rerank_memory",
        type=float,
        default=2.0,
        metavar="GIB",
        help="Memory that re-ranking may take, in GiB: distances are computed in blocks.",
    )
    parser.add_argument(
        "--protocol",
        type=Literal["all", "both", "common", "official", "queries-kept"] | None,
        help="common (papers' usual one), official (of MARS's own evaluation code), queries-kept "
        "(plain average precision with the queries in the gallery, as much code for MARS has it), "
        "both (the first two) or all; default all for mars and sample, common for the others.",
    )
    parser.add_argument(
        "--max_rank",
        type=int,
        default=20,
        help="Last rank that the report's picture of the CMC curve shows.",
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    parser.add_argument(
        "--report",
        type=str,
        metavar="DIR",
        help="Folder for the report; default 'report' beside the checkpoint.",
    )


def evaluate(experiment: ReidExperiment, arguments: Namespace) -> int:
    """Run the command."""
    frames = test_frames(arguments.test_frames)
    if arguments.max_rank < 1:
        raise UserError(f"--max_rank {arguments.max_rank}: give 1 or more.")
    if not 0 < arguments.rerank_memory < float("inf"):
        raise UserError(f"--rerank_memory {arguments.rerank_memory:g}: give GiB, more than 0.")
    from reid.evaluate import Options, evaluate

    options = Options(
        test_frames=frames,
        metric=arguments.metric,
        rerank=arguments.rerank,
        rerank_memory=int(arguments.rerank_memory * 2**30),
        protocol=arguments.protocol,
        max_rank=arguments.max_rank,
    )
    return evaluate(
        experiment,
        arguments.checkpoint,
        options,
        config_name=config_name(arguments),
        as_json=arguments.json,
        report=arguments.report,
    )


def test_frames(text: str) -> int | None:
    """Frames of a tracklet that are looked at; None for all."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--test_frames {text}: give all, or a number of frames from 1.")
    return int(text)
