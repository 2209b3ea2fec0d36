"""The command ``explain``. Without torch."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from reid.cli.features import NEWEST, add_layout_option
from reid.task_spec import REID
from video_snl.cli.explain import add_output_options

__all__ = ["EXPLAIN_DESCRIPTION", "add_explain_options", "explain"]

EXPLAIN_DESCRIPTION = """Show what the blocks of a trained network look at in a tracklet.
Writes a folder with a page (index.html) on which any position can be picked, pictures in the layout
of the paper's Figure 3, and all maps as numbers."""


def add_explain_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="FOLDER|VIDEO", help="A tracklet: a folder of frames, or a video."
    )
    add_layout_option(parser)
    add_output_options(parser, NEWEST)


def explain(arguments: Namespace) -> int:
    from video_snl.analysis.explain.run import explain
    from video_snl.tasks.operations import Reading

    return explain(
        arguments.source,
        REID,
        checkpoint=arguments.checkpoint,
        compare=arguments.compare,
        output=arguments.output,
        at=arguments.at,
        reading=Reading(layout=arguments.layout),
        accelerator=arguments.accelerator,
    )
