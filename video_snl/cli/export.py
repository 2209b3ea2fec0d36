"""The command ``export``. Without torch."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from video_snl.config.options import (
    Checkpoint,
    Pretrained,
    check_one_network,
    option,
    option_group,
    options_of,
)
from video_snl.errors import UserError
from video_snl.runs.pretrained import find_pretrained, load_pretrained

if TYPE_CHECKING:
    from collections.abc import Callable

    from jsonargparse import Namespace

    from video_snl.config.task_spec import AnyExperiment
    from video_snl.runs.trained import TrainedNetwork

__all__ = ["EXPORT", "Export", "ExportAny", "export", "is_of_images", "run_export"]

EXPORT = """Write a trained network as a .pt2 (torch.export) or ONNX file that needs nothing else.
The file is compared with the network before it is there, and is what predict --model takes."""


@option_group
class ExportAny(Checkpoint):
    """Options of ``export`` for every kind of network.

    Args:
        format: torch (.pt2) or onnx (.onnx); default by the name of the file, else onnx.
        output: File to write; default model.onnx or model.pt2.
        input: Compare the results for this file, too; default none.
        runs: Runs that latencies are the median of; 0: no table.
        compiled: Compile the network by torch.compile, too, for the table.
        json: Write the report beside the file, as FILE.json.
    """

    format: Literal["torch", "onnx"] | None = None
    output: str | None = option(short="-o", metavar="FILE")
    input: str | None = option(metavar="VIDEO|IMAGE")
    runs: int = 10
    compiled: bool = True
    json: bool = False


@option_group
class Export(ExportAny, Pretrained):
    """Options of ``export``.

    Args:
        dynamic: Axes of the input that may have any size: all, none, or some of
            batch,frames,height,width. The others have that of the training, the batch 1.
        with_preprocessing: The file takes decoded frames, uint8 with the channels last, and crops
            the centre and normalises them itself.
    """

    dynamic: str = option("all", metavar="AXES")
    with_preprocessing: bool = False


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
    check_one_network(None, options.checkpoint, options.pretrained, options.weights)
    if options.pretrained is not None:
        find_pretrained(options.pretrained)

    return run_export(
        options,
        partial(_find_network, options),
        dynamic=options.dynamic,
        preprocessing=options.with_preprocessing,
    )


def _find_network(options: Export) -> TrainedNetwork[AnyExperiment]:
    """Load the published network, or that of the checkpoint."""
    from video_snl.runs.trained import find_trained

    if options.pretrained is not None:
        return load_pretrained(options.pretrained, options.weights)
    return find_trained(options.checkpoint)


def run_export(
    options: ExportAny,
    find: Callable[[], TrainedNetwork[AnyExperiment]],
    *,
    dynamic: str,
    preprocessing: bool,
) -> int:
    """Export the network that ``find`` loads, of any kind of task."""
    from video_snl.export.command import Timing
    from video_snl.export.command import export as export_network

    return export_network(
        find,
        preprocessing=preprocessing,
        format=options.format,
        output=options.output,
        sample=options.input,
        dynamic=dynamic,
        timing=Timing(options.runs, options.compiled),
        as_json=options.json,
    )
