"""The command ``serve``. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NoReturn

from jsonargparse import ArgumentParser, Namespace

from video_snl.cli.trained import add_checkpoint_option, add_max_pixels_option
from video_snl.config.task_spec import IMAGE, VIDEO, TaskSpec
from video_snl.config.video import ShortVideos

if TYPE_CHECKING:
    from video_snl.serve.service import Limits

__all__ = [
    "SERVE_DESCRIPTION",
    "add_page_options",
    "add_seconds_option",
    "add_serve_options",
    "add_serve_picture_options",
    "limits_of",
    "serve",
    "serve_pictures",
]

SERVE_DESCRIPTION = """Ask a trained network on a local web page.
Upload or record a video (of a network of pictures, upload a picture): the page names the classes
and shows what the blocks look at. It needs no network, and is seen on this machine alone unless
--host says otherwise. Needs the extra packages of video-snl[serve]."""


def add_serve_options(parser: ArgumentParser) -> None:
    add_checkpoint_option(parser)
    add_page_options(parser)
    add_seconds_option(parser)
    parser.add_argument(
        "--clips", type=int, default=10, help="Clips of a video, evenly spaced over its length."
    )
    parser.add_argument(
        "--crops",
        type=Literal[1, 3],
        default=3,
        help="Crops of a clip: 1 (centre) or 3 along its longer side.",
    )
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
    add_max_pixels_option(parser)


def add_serve_picture_options(parser: ArgumentParser) -> None:
    add_checkpoint_option(parser)
    add_page_options(parser)
    add_max_pixels_option(parser)


def add_page_options(parser: ArgumentParser) -> None:
    """The options of the page itself."""
    parser.add_argument(
        "--host",
        type=str,
        default="127.0.0.1",
        help="Address to be reached at. The default is this machine alone; 0.0.0.0 lets everybody "
        "in the network use the page, without a password.",
    )
    parser.add_argument("--port", type=int, default=7860, help="0 takes any that is free.")
    parser.add_argument(
        "--max_size", type=float, default=200.0, metavar="MB", help="Largest upload."
    )
    parser.add_argument(
        "--max_upload_seconds",
        type=float,
        default=600.0,
        metavar="S",
        help="How long an upload may take to come; one that stalls is given up sooner.",
    )
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu or gpu.")


def add_seconds_option(parser: ArgumentParser) -> None:
    """How long videos may be."""
    parser.add_argument(
        "--max_seconds", type=float, default=300.0, metavar="S", help="Longest video."
    )


def serve(arguments: Namespace) -> int:
    _serve(arguments, VIDEO)


def serve_pictures(arguments: Namespace) -> int:
    _serve(arguments, IMAGE)


def _serve(arguments: Namespace, spec: TaskSpec) -> NoReturn:
    from video_snl.serve.models import serve_classes
    from video_snl.tasks.operations import Reading

    said = arguments.get
    serve_classes(
        spec,
        checkpoint=arguments.checkpoint,
        host=arguments.host,
        port=arguments.port,
        limits=limits_of(arguments, said("max_seconds", float("inf")), arguments.max_pixels),
        clips=said("clips", 1),
        crops=said("crops", 1),
        reading=Reading(said("short_videos"), said("deadline"), arguments.max_pixels),
        accelerator=arguments.accelerator,
    )


def limits_of(arguments: Namespace, seconds: float, max_pixels: int | None = None) -> Limits:
    """Return what an upload may be."""
    from video_snl.serve.service import Limits

    return Limits(arguments.max_size, seconds, max_pixels, arguments.max_upload_seconds)
