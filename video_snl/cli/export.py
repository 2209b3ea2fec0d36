"""The command ``export``. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from video_snl.config.options import Checkpoint, option, option_group, options_of
from video_snl.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import Namespace

__all__ = ["EXPORT", "Export", "export", "is_of_images"]

EXPORT = """Write a trained network as a .pt2 (torch.export) or ONNX file that needs nothing else.
The file is compared with the network before it is there, and is what predict --model takes."""


@option_group
class Export(Checkpoint):
    """Options of ``export``.

    Args:
        format: torch (.pt2) or onnx (.onnx); default by the name of the file, else onnx.
        output: File to write; default model.onnx or model.pt2.
        input: Compare the results for this file, too; default none.
        dynamic: Axes of the input that may have any size: all, none, or some of
            batch,frames,height,width. The others have that of the training, the batch 1.
        runs: Runs that latencies are the median of; 0: no table.
        compiled: Compile the network by torch.compile, too, for the table.
        json: Write the report beside the file, as FILE.json.
    """

    format: Literal["torch", "onnx"] | None = None
    output: str | None = option(short="-o", metavar="FILE")
    input: str | None = option(metavar="VIDEO|IMAGE")
    dynamic: str = option("all", metavar="AXES")
    runs: int = 10
    compiled: bool = True
    json: bool = False


def is_of_images(model: str) -> bool:
    """Tell whether an exported file holds a network of images, and can be read."""
    from pathlib import Path

    from video_snl.config.task_spec import IMAGE
    from video_snl.export.networks import exported_spec

    try:
        return exported_spec(Path(model)) is IMAGE
    except UserError:
        return False  # the command reads it again, and says what is wrong with it


def export(arguments: Namespace) -> int:
    options = options_of(Export, arguments)
    from video_snl.export.command import Timing
    from video_snl.export.command import export as export_network

    return export_network(
        checkpoint=options.checkpoint,
        format=options.format,
        output=options.output,
        sample=options.input,
        dynamic=options.dynamic,
        timing=Timing(options.runs, options.compiled),
        as_json=options.json,
    )
