"""The command ``explain``. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from video_snl.config.options import (
    Accelerator,
    Checkpoint,
    ClipReading,
    option,
    option_group,
    options_of,
    positional,
)
from video_snl.config.task_spec import TaskSpec

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from video_snl.tasks.operations import Reading

__all__ = ["EXPLAIN", "Explain", "ExplainAny", "ExplainImage", "explain", "run_explain"]

EXPLAIN = """Show what the blocks of a trained network look at in a video or image.
Writes a folder with a page (index.html) on which any position can be picked, images in the layout
of the paper's Figure 3, and all maps as numbers."""


@option_group
class ExplainAny(Accelerator, Checkpoint):
    """Options of ``explain`` for every kind of task.

    Args:
        compare: A second network, named as --checkpoint is, to be shown on the same page; default
            none.
        output: Folder for the page and the rest; default 'explain-NAME', NAME being the source's.
        at: Position that the images are of, counted from 0 in the feature map of the first block.
            Default: the one whose output depends most on the block's input.
    """

    compare: str | None = option(metavar="FILE|DIR")
    output: str | None = option(short="-o", metavar="FOLDER")
    at: str | None = option(metavar="T,ROW,COL")


@option_group
class Explain(ClipReading, ExplainAny):
    """Options of ``explain`` for videos.

    Args:
        source: A video; of a network of images, an image.
    """

    source: str = positional("VIDEO")


@option_group
class ExplainImage(ExplainAny):
    """Options of ``explain`` for images.

    Args:
        source: An image.
    """

    source: str = positional("IMAGE")


def explain(arguments: Namespace, spec: TaskSpec) -> int:
    """Run ``explain``."""
    from video_snl.tasks.operations import Reading

    if spec.inputs == "videos":
        videos = options_of(Explain, arguments)
        reading = Reading(videos.short_videos, videos.deadline)
        return run_explain(videos, videos.source, spec, reading)
    images = options_of(ExplainImage, arguments)
    return run_explain(images, images.source, spec, Reading())


def run_explain(options: ExplainAny, source: str, spec: TaskSpec, reading: Reading) -> int:
    """Run ``explain`` of any kind of task."""
    from video_snl.analysis.explain.run import explain

    return explain(
        source,
        spec,
        checkpoint=options.checkpoint,
        compare=options.compare,
        output=options.output,
        at=options.at,
        reading=reading,
        accelerator=options.accelerator,
    )
