"""The command ``explain``. Without torch."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from video_snl.cli.trained import add_checkpoint_option
from video_snl.config.task_spec import IMAGE, VIDEO, TaskSpec
from video_snl.config.video import ShortVideos

__all__ = [
    "EXPLAIN_DESCRIPTION",
    "add_explain_options",
    "add_output_options",
    "add_picture_options",
    "explain",
    "explain_picture",
]

EXPLAIN_DESCRIPTION = """Show what the blocks of a trained network look at in a video or picture.
Writes a folder with a page (index.html) on which any position can be picked, pictures in the layout
of the paper's Figure 3, and all maps as numbers."""


def add_explain_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="VIDEO", help="A video; of a network of pictures, a picture."
    )
    add_output_options(parser)
    parser.add_argument(
        "--short_videos",
        type=ShortVideos | None,
        help="What to do with a video shorter than a clip; default as in training.",
    )
    parser.add_argument(
        "--deadline",
        type=float | None,
        help="Seconds of decoding after which a video is given up; default as in training.",
    )


def add_picture_options(parser: ArgumentParser) -> None:
    parser.add_argument("source", metavar="PICTURE", help="A picture.")
    add_output_options(parser)


def add_output_options(parser: ArgumentParser, newest: str = "newest run with one") -> None:
    """The options that all kinds of networks share."""
    add_checkpoint_option(parser, newest)
    parser.add_argument(
        "--compare",
        type=str | None,
        metavar="FILE|DIR",
        help="A second network, named as --checkpoint is, to be shown on the same page.",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=str | None,
        metavar="FOLDER",
        help="Folder for the page and the rest; default 'explain-NAME', NAME being the source's.",
    )
    parser.add_argument(
        "--at",
        type=str | None,
        metavar="T,ROW,COL",
        help="The position that the pictures are of, counted from 0 in the feature map of the "
        "first block. Default: the one whose output depends most on the block's input.",
    )
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu or gpu.")


def explain(arguments: Namespace) -> int:
    return _explain(arguments, VIDEO)


def explain_picture(arguments: Namespace) -> int:
    return _explain(arguments, IMAGE)


def _explain(arguments: Namespace, spec: TaskSpec) -> int:
    from video_snl.analysis.explain.run import explain
    from video_snl.tasks.operations import Reading

    return explain(
        arguments.source,
        spec,
        checkpoint=arguments.checkpoint,
        compare=arguments.compare,
        output=arguments.output,
        at=arguments.at,
        reading=Reading(arguments.get("short_videos"), arguments.get("deadline")),
        accelerator=arguments.accelerator,
    )
