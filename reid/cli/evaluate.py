"""The options of ``reid evaluate``. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from reid.config import ReidExperiment
from reid.pretrained import check_pretrained
from video_snl.config.options import (
    AllowCode,
    Json,
    Pretrained,
    check_one_network,
    option,
    option_group,
    options_of,
)
from video_snl.config.parsing import config_name
from video_snl.errors import UserError
from video_snl.utils.quick_imports import quick_imports

if TYPE_CHECKING:
    from jsonargparse import Namespace

__all__ = [
    "EVALUATE",
    "Evaluate",
    "Metric",
    "PretrainedReid",
    "TestFrames",
    "check_network",
    "evaluate",
    "test_frames",
]

EVALUATE = """Measure a trained network: CMC at ranks 1, 5, 10, 20, mAP and mINP.
Every query is searched for in the gallery. Data options not given are those of the checkpoint, or
of a published network (--pretrained), which needs no training. Of several checkpoints, one for each
split of a dataset, each is measured on its own split, and mean and standard deviation are printed,
too. For the sample dataset a network is trained first where there is none."""


@option_group
class TestFrames:
    """Frames of a tracklet that are used.

    Args:
        test_frames: all: whole tracklets, in chunks of data.frames frames, the mean of their
            features. N: N evenly spaced frames.
    """

    __test__ = False  # no test, whatever its name says to pytest

    test_frames: str = option("all", metavar="all|N")


@option_group
class Metric:
    """Comparison of features.

    Args:
        metric: Distance between features.
    """

    metric: Literal["cosine", "euclidean"] = "cosine"


@option_group
class PretrainedReid(Pretrained):
    """Network with published weights.

    Args:
        pretrained: Network with published weights by its name, such as osnet_x0_25_msmt17
            (docs/reid/models.md lists them), in the place of a --checkpoint: no training is needed.
            Default none.
        weights: File of these weights; default that in torch hub's cache. Names and shapes of its
            tensors must be the network's.
    """


@option_group
class Evaluate(Json, Metric, TestFrames, PretrainedReid, AllowCode):
    """Options of ``evaluate``.

    Args:
        checkpoint: Checkpoint file, the folder of a run (its best epoch), a published folder, or a
            folder of runs (the newest finished one of every split). May be given several times.
            Default: the newest run with a checkpoint below --trainer.output, with --dataset of that
            dataset. Where there is none, the sample experiment is trained first; other datasets
            are refused.
        rerank: Rank by k-reciprocal re-ranking, too (common).
        rerank_memory: Memory that re-ranking may take, in GiB: distances are computed in blocks.
        protocol: common (papers' usual one), official (of MARS's own evaluation code), queries-kept
            (plain average precision with the queries in the gallery, as much code for MARS has it),
            both (the first two) or all; default all for mars and sample, common for the others.
        max_rank: Last rank that the report's plot of the CMC curve shows.
        report: Folder for the report; default 'report' beside the checkpoint, of a published
            network in a folder of its name in --trainer.output.
    """

    checkpoint: list[str] | None = option(action="append", metavar="FILE|DIR")
    rerank: bool = False
    rerank_memory: float = option(2.0, metavar="GIB")
    protocol: Literal["all", "both", "common", "official", "queries-kept"] | None = None
    max_rank: int = 20
    report: str | None = option(metavar="DIR")


def evaluate(experiment: ReidExperiment, arguments: Namespace) -> int:
    """Run the command."""
    options = options_of(Evaluate, arguments)
    check_network(options.checkpoint, options.pretrained, options.weights)
    frames = test_frames(options.test_frames)
    if options.max_rank < 1:
        raise UserError(f"--max_rank {options.max_rank}: give 1 or more.")
    if not 0 < options.rerank_memory < float("inf"):
        raise UserError(f"--rerank_memory {options.rerank_memory:g}: give GiB, more than 0.")
    with quick_imports():
        from reid.evaluate import Options, evaluate

    return evaluate(
        experiment,
        options.checkpoint,
        Options(
            test_frames=frames,
            metric=options.metric,
            rerank=options.rerank,
            rerank_memory=int(options.rerank_memory * 2**30),
            protocol=options.protocol,
            max_rank=options.max_rank,
        ),
        config_name=config_name(arguments),
        as_json=options.json,
        report=options.report,
        published=options.pretrained,
        weights=options.weights,
    )


def check_network(
    checkpoint: list[str] | str | None, pretrained: str | None, weights: str | None
) -> None:
    """Check that one network is named, before torch is loaded.

    Raises:
        UserError: Two are named, weights without a published network, or one that is not known.
    """
    named = " ".join(checkpoint) if isinstance(checkpoint, list) else checkpoint
    check_one_network(None, named or None, pretrained, weights)
    if pretrained is not None:
        check_pretrained(pretrained)


def test_frames(text: str) -> int | None:
    """Return the number of frames of a tracklet that are looked at; None for all.

    Raises:
        UserError: The text is neither ``all`` nor a number.
    """
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--test_frames {text}: give all, or a number of frames from 1.")
    return int(text)
