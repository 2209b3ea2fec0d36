"""The command ``serve``. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from video_snl.config.options import (
    Accelerator,
    Checkpoint,
    ClipReading,
    MaxPixels,
    Views,
    option,
    option_group,
    options_of,
)
from video_snl.config.task_spec import TaskSpec

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from video_snl.serve.service import Limits

__all__ = ["SERVE", "Serve", "ServeAny", "VideoLength", "limits_of", "serve"]

SERVE = """Try a trained network on a local web page.
Upload or record a video (of a network of images, upload an image): the page names the classes
and shows what the blocks look at. It needs no network, and is seen on this machine alone unless
--host says otherwise. Needs the extra packages of video-snl[serve]."""


@option_group
class ServeAny(MaxPixels, Accelerator, Checkpoint):
    """Options of ``serve`` for every kind of task.

    Args:
        host: Address to be reached at. The default is this machine alone; 0.0.0.0 lets everybody in
            the network use the page, without a password.
        port: Port of the page; 0 takes any that is free.
        max_size: Largest upload, in megabytes.
        max_upload_seconds: Seconds that an upload may take to come; one that stalls is given up
            sooner.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    max_size: float = option(200.0, metavar="MB")
    max_upload_seconds: float = option(600.0, metavar="S")


@option_group
class VideoLength:
    """Limit of the length of videos.

    Args:
        max_seconds: Longest video, in seconds.
    """

    max_seconds: float = option(300.0, metavar="S")


@option_group
class Serve(ClipReading, Views, VideoLength, ServeAny):
    """Options of ``serve`` for videos."""


def serve(arguments: Namespace, spec: TaskSpec) -> int:
    """Run ``serve``."""
    videos = options_of(Serve, arguments) if spec.inputs == "videos" else None
    options: ServeAny = videos or options_of(ServeAny, arguments)
    from video_snl.serve.models import serve_classes
    from video_snl.tasks.operations import Reading

    seconds, views = float("inf"), {}
    reading = Reading(max_pixels=options.max_pixels)
    if videos is not None:
        seconds, views = videos.max_seconds, {"clips": videos.clips, "crops": videos.crops}
        reading = Reading(videos.short_videos, videos.deadline, videos.max_pixels)
    serve_classes(
        spec,
        checkpoint=options.checkpoint,
        host=options.host,
        port=options.port,
        limits=limits_of(options, seconds),
        reading=reading,
        accelerator=options.accelerator,
        **views,
    )


def limits_of(options: ServeAny, seconds: float) -> Limits:
    """Return what an upload may be.

    Args:
        options: Options of the page.
        seconds: Length of the longest video.
    """
    from video_snl.serve.service import Limits

    return Limits(options.max_size, seconds, options.max_pixels, options.max_upload_seconds)
