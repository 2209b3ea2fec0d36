"""The commands that use a trained network: ``evaluate`` and ``predict``. Without torch."""

from __future__ import annotations

from jsonargparse import Namespace

from video_snl.config.options import (
    Accelerator,
    Checkpoint,
    ClipReading,
    Crops,
    Json,
    MaxPixels,
    Model,
    Render,
    Reports,
    Unreadable,
    Views,
    check_one_network,
    option,
    option_group,
    options_of,
    positional,
)

__all__ = ["EVALUATE", "PREDICT", "Evaluate", "Predict", "PredictAny", "predict"]

EVALUATE = """Measure a trained network: clip-level and video-level accuracy.
Clip level is the centre crop of the centre clip (the paper's), video level the mean
score of --clips x --crops views. Data options not given are those of the checkpoint."""
PREDICT = "Name the actions in videos: the classes with the highest scores."


@option_group
class Evaluate(Unreadable, Reports, Views, Checkpoint):
    """Options of ``evaluate`` beside those of the configuration."""


@option_group
class PredictAny(Json, Accelerator, Render, MaxPixels, Model, Checkpoint):
    """Options of ``predict`` for every kind of task.

    Args:
        paths: Images, or folders of them.
        top: How many classes to list.
    """

    paths: list[str] = positional("FILE|DIR", nargs="+")
    top: int = 5


@option_group
class Predict(ClipReading, Crops, PredictAny):
    """Options of ``predict`` for videos.

    Args:
        paths: Videos, or folders of them.
        clips: Clips of a video, evenly spaced over its length; default 10, or 1 of a --window.
        window: Name the actions of windows over each video, with their times: 2.5s or 64f long;
            default none.
        hop: Seconds or frames from the start of a window to that of the next one; default its
            length.
        deadline: Seconds of decoding after which a file is given up; default as in training. (For
            a --window, the seconds of its length and of --hop come on top.)
        render: Write the video with its classes drawn on it, in H.264 and without sound: a .mp4,
            .mov or .mkv file, or for several a folder; default none. With a --window each frame
            shows those that cover it.
    """

    clips: int | None = None
    window: str | None = option(metavar="SECONDS|FRAMES")
    hop: str | None = option(metavar="SECONDS|FRAMES")


def predict(arguments: Namespace) -> int:
    options = options_of(Predict, arguments)
    check_one_network(options.model, options.checkpoint)
    from video_snl.commands.predict import predict

    return predict(
        options.paths,
        checkpoint=options.checkpoint,
        model=options.model,
        clips=options.clips,
        crops=options.crops,
        top=options.top,
        window=options.window,
        hop=options.hop,
        short_videos=options.short_videos,
        deadline=options.deadline,
        accelerator=options.accelerator,
        as_json=options.json,
        render=options.render,
        max_pixels=options.max_pixels,
    )
