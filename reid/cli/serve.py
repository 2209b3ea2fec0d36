"""The command ``serve``. Without torch."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from reid.cli.features import add_checkpoint_option
from video_snl.cli.serve import add_page_options, add_seconds_option, limits_of
from video_snl.cli.trained import add_max_pixels_option

__all__ = ["SERVE_DESCRIPTION", "add_serve_options", "serve"]

SERVE_DESCRIPTION = """Search for people, and see what the blocks look at, on a local web page.
Upload frames of one person, or a video or ZIP file of such. The page needs no network, and is seen
on this machine alone unless --host says otherwise. Needs the extra packages of video-snl[serve]."""


def add_serve_options(parser: ArgumentParser) -> None:
    add_checkpoint_option(parser)
    parser.add_argument(
        "--gallery",
        type=str | None,
        metavar="FILE",
        help="Feature file of reid extract to search in; without it, the page only shows what the "
        "blocks look at.",
    )
    parser.add_argument("--top", type=int, default=10, help="How many tracklets are shown, 1-20.")
    add_page_options(parser)
    add_seconds_option(parser)
    add_max_pixels_option(parser)


def serve(arguments: Namespace) -> int:
    from reid.apps.serve import serve_people

    serve_people(
        checkpoint=arguments.checkpoint,
        gallery=arguments.gallery,
        top=arguments.top,
        host=arguments.host,
        port=arguments.port,
        limits=limits_of(arguments, arguments.max_seconds, arguments.max_pixels),
        accelerator=arguments.accelerator,
    )
