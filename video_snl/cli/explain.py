"""The command ``explain``. Without torch."""

from __future__ import annotations

from jsonargparse import Namespace

from video_snl.config.options import (
    Accelerator,
    Checkpoint,
    ClipReading,
    option,
    option_group,
    options_of,
    positional,
)

__all__ = ["EXPLAIN", "Explain", "ExplainAny", "ExplainImage", "explain", "explain_image"]

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


def explain(arguments: Namespace) -> int:
    options = options_of(Explain, arguments)
    from video_snl.analysis.explain.run import explain

    return explain(
        options.source,
        checkpoint=options.checkpoint,
        compare=options.compare,
        output=options.output,
        at=options.at,
        short_videos=options.short_videos,
        deadline=options.deadline,
        accelerator=options.accelerator,
    )


def explain_image(arguments: Namespace) -> int:
    options = options_of(ExplainImage, arguments)
    from video_snl.analysis.explain.run_images import explain

    return explain(
        options.source,
        checkpoint=options.checkpoint,
        compare=options.compare,
        output=options.output,
        at=options.at,
        accelerator=options.accelerator,
    )
