"""The command ``export``. Without torch."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from video_snl.cli.trained import add_checkpoint_option
from video_snl.errors import UserError

__all__ = ["EXPORT", "add_export_options", "export", "is_of_pictures"]

EXPORT = """Write a trained network as a .pt2 (torch.export) or ONNX file that needs nothing else.
The file is compared with the network before it is there, and is what predict --model takes."""


def add_export_options(parser: ArgumentParser) -> None:
    add_checkpoint_option(parser)
    parser.add_argument(
        "--format",
        type=Literal["torch", "onnx"] | None,
        help="torch (.pt2) or onnx (.onnx); default by the name of the file, else onnx.",
    )
    parser.add_argument(
        "-o", "--output", type=str, metavar="FILE", help="Default: model.onnx or model.pt2."
    )
    parser.add_argument(
        "--input",
        type=str,
        metavar="VIDEO|PICTURE",
        help="Compare the results for this file, too.",
    )
    parser.add_argument(
        "--dynamic",
        type=str,
        default="all",
        metavar="AXES",
        help="Axes of the input that may have any size: all, none, or some of "
        "batch,frames,height,width. The others have that of the training, the batch 1.",
    )
    parser.add_argument(
        "--runs", type=int, default=10, help="Runs that latencies are the median of; 0: no table."
    )
    parser.add_argument(
        "--compiled",
        type=bool,
        default=True,
        help="Compile the network by torch.compile, too, for the table.",
    )
    parser.add_argument(
        "--json", action="store_true", help="Write the report beside the file, as FILE.json."
    )


def is_of_pictures(model: str) -> bool:
    """Whether an exported file holds a network of pictures, and can be read."""
    from pathlib import Path

    from video_snl.config.task_spec import IMAGE
    from video_snl.export.networks import exported_spec

    try:
        return exported_spec(Path(model)) is IMAGE
    except UserError:
        return False  # the command reads it again, and says what is wrong with it


def export(arguments: Namespace) -> int:
    from video_snl.export.command import Timing
    from video_snl.export.command import export as export_network

    return export_network(
        checkpoint=arguments.checkpoint,
        format=arguments.format,
        output=arguments.output,
        sample=arguments.input,
        dynamic=arguments.dynamic,
        timing=Timing(arguments.runs, arguments.compiled),
        as_json=arguments.json,
    )
