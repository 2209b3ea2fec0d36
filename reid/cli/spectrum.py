"""The command ``spectrum``. Without torch."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from reid.cli.features import NEWEST, add_layout_option
from reid.task_spec import REID
from video_snl.cli.spectrum import SPECTRUM_DESCRIPTION, add_measuring_options, asked_for

__all__ = ["SPECTRUM_DESCRIPTION", "add_spectrum_options", "spectrum"]


def add_spectrum_options(parser: ArgumentParser) -> None:
    add_measuring_options(
        parser, "Tracklets: folders of frames, videos, or folders of those.", NEWEST
    )
    add_layout_option(parser)


def spectrum(arguments: Namespace) -> int:
    from video_snl.analysis.spectrum.run import spectrum
    from video_snl.tasks.operations import Reading

    return spectrum(
        arguments.paths,
        REID,
        asked_for(arguments),
        checkpoint=arguments.checkpoint,
        reading=Reading(layout=arguments.layout),
        accelerator=arguments.accelerator,
    )
