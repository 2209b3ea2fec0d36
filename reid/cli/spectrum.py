"""The command ``spectrum``. Without torch."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from reid.cli.features import NEWEST, add_layout_option
from video_snl.cli.spectrum import SPECTRUM_DESCRIPTION, add_measuring_options, asked_for

__all__ = ["SPECTRUM_DESCRIPTION", "add_spectrum_options", "spectrum"]


def add_spectrum_options(parser: ArgumentParser) -> None:
    add_measuring_options(
        parser, "Tracklets: folders of frames, videos, or folders of those.", NEWEST
    )
    add_layout_option(parser)


def spectrum(arguments: Namespace) -> int:
    from reid.apps.spectrum import spectrum

    return spectrum(
        arguments.paths,
        asked_for(arguments),
        layout=arguments.layout,
        checkpoint=arguments.checkpoint,
        accelerator=arguments.accelerator,
    )
