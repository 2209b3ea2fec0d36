"""The command ``spectrum``. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from video_snl.config.options import (
    Accelerator,
    Checkpoint,
    ClipReading,
    Json,
    option,
    option_group,
    options_of,
    positional,
)
from video_snl.config.task_spec import TaskSpec

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from video_snl.tasks.operations import Reading

__all__ = [
    "SPECTRUM",
    "Spectrum",
    "SpectrumAny",
    "SpectrumOfImages",
    "run_spectrum",
    "spectrum",
]

SPECTRUM = """Measure the blocks of a trained network on their graphs' spectra.
Eigenvalues, symmetry error and effective rank of every affinity, with their spread over the inputs,
and how much the learned filters amplify each graph frequency."""


@option_group
class SpectrumAny(Json, Accelerator, Checkpoint):
    """Options of ``spectrum`` for every kind of task.

    Args:
        output: Folder for spectrum.json, eigenvalues.csv, responses.csv and images; default none is
            written.
        inputs: Number of inputs from the test list, evenly spaced over it, where none are named.
        groups: Groups of output channels, by the mean frequency of their gain; a block with groups
            of its own keeps those.
        max_size: Rows of the largest matrix whose eigenvalues are computed: of an affinity of low
            rank a small one, of others as many as there are positions.
    """

    output: str | None = option(short="-o", metavar="FOLDER")
    inputs: int = 4
    groups: int = 4
    max_size: int = 4096


@option_group
class Spectrum(ClipReading, SpectrumAny):
    """Options of ``spectrum`` for videos.

    Args:
        paths: Videos, or folders of them. Default: some of the test list of the run.
    """

    paths: list[str] = positional("FILE|DIR", nargs="*")


@option_group
class SpectrumOfImages(SpectrumAny):
    """Options of ``spectrum`` for images.

    Args:
        paths: Images, or folders of them. Default: some of the test list of the run.
    """

    paths: list[str] = positional("FILE|DIR", nargs="*")


def spectrum(arguments: Namespace, spec: TaskSpec) -> int:
    """Run ``spectrum``."""
    from video_snl.tasks.operations import Reading

    if spec.inputs == "videos":
        videos = options_of(Spectrum, arguments)
        reading = Reading(videos.short_videos, videos.deadline)
        return run_spectrum(videos, videos.paths, spec, reading)
    images = options_of(SpectrumOfImages, arguments)
    return run_spectrum(images, images.paths, spec, Reading())


def run_spectrum(options: SpectrumAny, paths: list[str], spec: TaskSpec, reading: Reading) -> int:
    """Run ``spectrum`` of any kind of task."""
    from video_snl.analysis.spectrum.run import SpectrumOptions, spectrum

    return spectrum(
        paths,
        spec,
        SpectrumOptions(
            inputs=options.inputs,
            groups=options.groups,
            largest=options.max_size,
            output=options.output,
            as_json=options.json,
        ),
        checkpoint=options.checkpoint,
        reading=reading,
        accelerator=options.accelerator,
    )
