"""The command ``spectrum``. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from video_snl.cli.trained import add_checkpoint_option
from video_snl.config.task_spec import IMAGE, VIDEO, TaskSpec
from video_snl.config.video import ShortVideos

if TYPE_CHECKING:
    from video_snl.analysis.spectrum.run import Asked

__all__ = [
    "SPECTRUM_DESCRIPTION",
    "add_measuring_options",
    "add_picture_spectrum_options",
    "add_spectrum_options",
    "asked_for",
    "spectrum",
    "spectrum_of_pictures",
]

SPECTRUM_DESCRIPTION = """Measure the blocks of a trained network on their graphs' spectra.
Eigenvalues, symmetry error and effective rank of every affinity, with their spread over the inputs,
and how much the learned filters amplify each graph frequency."""


def add_spectrum_options(parser: ArgumentParser) -> None:
    add_measuring_options(parser, "Videos, or folders of them.")
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


def add_picture_spectrum_options(parser: ArgumentParser) -> None:
    add_measuring_options(parser, "Pictures, or folders of them.")


def add_measuring_options(
    parser: ArgumentParser, what: str, newest: str = "newest run with one"
) -> None:
    """The options that all kinds of networks share."""
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="FILE|DIR",
        help=f"{what} Default: some of the test list of the run.",
    )
    add_checkpoint_option(parser, newest)
    parser.add_argument(
        "-o",
        "--output",
        type=str | None,
        metavar="FOLDER",
        help="Folder for spectrum.json, eigenvalues.csv, responses.csv and pictures.",
    )
    parser.add_argument(
        "--inputs",
        type=int,
        default=4,
        help="How many of the test list, evenly spaced over it, where none are named.",
    )
    parser.add_argument(
        "--groups",
        type=int,
        default=4,
        help="Groups of output channels, by the mean frequency of their gain; a block with groups "
        "of its own keeps those.",
    )
    parser.add_argument(
        "--max_size",
        type=int,
        default=4096,
        help="Rows of the largest matrix whose eigenvalues are computed: of an affinity of low "
        "rank a small one, of others as many as there are positions.",
    )
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu or gpu.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")


def asked_for(arguments: Namespace) -> Asked:
    """The shared options as the measurement takes them."""
    from video_snl.analysis.spectrum.run import Asked

    return Asked(
        inputs=arguments.inputs,
        groups=arguments.groups,
        largest=arguments.max_size,
        output=arguments.output,
        as_json=arguments.json,
    )


def spectrum(arguments: Namespace) -> int:
    return _spectrum(arguments, VIDEO)


def spectrum_of_pictures(arguments: Namespace) -> int:
    return _spectrum(arguments, IMAGE)


def _spectrum(arguments: Namespace, spec: TaskSpec) -> int:
    from video_snl.analysis.spectrum.run import spectrum
    from video_snl.tasks.operations import Reading

    return spectrum(
        arguments.paths,
        spec,
        asked_for(arguments),
        checkpoint=arguments.checkpoint,
        reading=Reading(arguments.get("short_videos"), arguments.get("deadline")),
        accelerator=arguments.accelerator,
    )
