"""The commands ``evaluate`` and ``predict``. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from video_snl.cli.data import cluster_of
from video_snl.config.options import (
    Accelerator,
    Checkpoint,
    ClipReading,
    Json,
    MaxPixels,
    Model,
    NetworkEngine,
    Pretrained,
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
from video_snl.config.parsing import experiment_of
from video_snl.config.task_spec import TaskSpec, asked_spec
from video_snl.data.video.sources import Patience, only_source
from video_snl.errors import UserError
from video_snl.runs.pretrained import find_pretrained
from video_snl.utils.quick_imports import quick_imports

if TYPE_CHECKING:
    from jsonargparse import Namespace

__all__ = [
    "EVALUATE",
    "EVALUATE_IMAGES",
    "PREDICT",
    "Evaluate",
    "EvaluateImages",
    "Predict",
    "PredictImages",
    "evaluate",
    "predict",
]

EVALUATE = """Measure a trained network: clip-level and video-level accuracy.
Clip level is the centre crop of the centre clip (the paper's), video level the mean
score of --clips x --crops views. Data options not given are those of the checkpoint."""
EVALUATE_IMAGES = """Measure a trained network of images: top-1 and top-5, or mIoU, mAcc and aAcc.
Data options not given are those of the checkpoint. A checkpoint of the paper's released code
needs --model.backbone and the data options, or a --config."""
PREDICT = "Name the actions in videos: the classes with the highest scores."


@option_group
class Evaluate(Unreadable, Reports, Views, Checkpoint):
    """Options of ``evaluate`` beside those of the configuration.

    Args:
        cached: Start from what the frozen stages make of the clips, which the training has kept
            (optimizer.cached_versions), and which is computed where it is not there; for --crops 1.
    """

    cached: bool = False


@option_group
class EvaluateImages(Unreadable, Reports, Checkpoint):
    """Options of ``evaluate`` for images beside those of the configuration.

    Args:
        kind: Kind of the blocks in a checkpoint of the released code, which has the same names for
            these three; default what its names say.
    """

    kind: Literal["nl", "ns", "a2"] | None = None


@option_group
class PredictImages(Json, Accelerator, NetworkEngine, Render, MaxPixels, Model, Checkpoint):
    """Options of ``predict`` for images.

    Args:
        paths: Images, or folders of them.
        top: How many classes to list.
        render: Folder for the images with their classes written on them or, of segmentation,
            coloured by class and with a legend; default none.
    """

    paths: list[str] = positional("FILE|DIR", nargs="+")
    top: int = 5


@option_group
class Predict(ClipReading, Pretrained, PredictImages):
    """Options of ``predict`` for videos.

    Args:
        paths: Videos, or folders of them; or one stream: an address (rtsp://, http://, tcp://),
            a camera (/dev/video0) or - for the standard input. With --window, a stream gives a
            line of JSON for every window, as soon as it is over.
        clips: Clips of a video, evenly spaced over its length; default 10 (of a --pretrained
            network, its own number), or 1 of a --window.
        crops: Crops of a clip: 1 (centre) or 3 along its longer side; default 3 (of a --pretrained
            network, its own number).
        window: Name the actions of windows over each video, with their times: 2.5s or 64f long;
            default none.
        hop: Seconds or frames from the start of a window to that of the next one; default its
            length.
        deadline: Seconds of decoding after which a file is given up; default as in training. (For
            a --window, the seconds of its length and of --hop come on top.)
        render: Write the video with its classes drawn on it, in H.264 and without sound: a .mp4,
            .mov or .mkv file, or for several a folder; default none. With a --window each frame
            shows those that cover it.
        plot: Of a --window, draw the scores over time and the actions found, and list these: a .png
            file, or for several videos a folder; default none.
        threshold: Least score of the best class for an action of a --plot.
        timeout: Seconds without a frame after which a stream has stopped, and is connected to
            anew; default 10. Frames that come later than that are left out.
        reconnect: Seconds for which a lost stream is tried again; 0: not at all; default 300.
        behind: What to do where windows of a stream come faster than they are scored: drop those
            that wait, or wait with reading; default drop, of the standard input and of recordings
            by HTTP wait.
    """

    clips: int | None = None
    crops: Literal[1, 3] | None = None
    window: str | None = option(metavar="SECONDS|FRAMES")
    hop: str | None = option(metavar="SECONDS|FRAMES")
    plot: str | None = option(metavar="FILE|DIR")
    threshold: float = 0.5
    timeout: float | None = option(metavar="SECONDS")
    reconnect: float | None = option(metavar="SECONDS")
    behind: Literal["drop", "wait"] | None = None


def evaluate(arguments: Namespace, spec: TaskSpec) -> int:
    """Run ``evaluate``."""
    experiment = experiment_of(spec.configuration, arguments)  # refused before torch is loaded
    spec = asked_spec(spec, experiment, arguments.task)
    options: Evaluate | EvaluateImages
    if spec.inputs == "videos":
        options = videos = options_of(Evaluate, arguments)
        if experiment.data.num_workers:
            from video_snl.data.workers.forkserver import start_forkserver

            start_forkserver()  # imports its modules while this process imports its own
        more: dict[str, Any] = {
            "clips": videos.clips,
            "crops": videos.crops,
            "cached": videos.cached,
        }
    else:
        options = images = options_of(EvaluateImages, arguments)
        more = {"kind": images.kind}
    with quick_imports():
        from video_snl.commands.evaluate import evaluate

    return evaluate(
        experiment,
        spec,
        checkpoint=options.checkpoint,
        output=options.output,
        unreadable=options.unreadable,
        strips=options.strips,
        command=["evaluate", *arguments.words],
        **more,
    )


def predict(arguments: Namespace, spec: TaskSpec) -> int:
    """Run ``predict``."""
    videos = options_of(Predict, arguments) if spec.inputs == "videos" else None
    options: PredictImages = videos or options_of(PredictImages, arguments)
    pretrained, weights = (videos.pretrained, videos.weights) if videos else (None, None)
    check_one_network(options.model, options.checkpoint, pretrained, weights)
    if pretrained is not None:
        find_pretrained(pretrained)
    patience = _patience(videos, options.paths) if videos else None
    cluster = cluster_of(options, None, options.accelerator)
    if cluster is not None and patience is not None:
        raise UserError("--engine ray is for files: a stream is read by this process alone")
    if cluster is not None and options.model is not None:
        raise UserError(
            f"--model {options.model} cannot be sent to tasks of Ray: give the checkpoint that it "
            "was exported from, or leave out --engine ray."
        )
    if spec.inputs == "videos" and patience is None and cluster is None:
        from video_snl.data.workers.forkserver import start_forkserver

        start_forkserver()  # imports its modules while this process imports its own
    with quick_imports():
        from video_snl.commands.predict import Plot, Views, predict
        from video_snl.tasks.operations import Reading

    views, reading, plot = None, Reading(max_pixels=options.max_pixels), None
    if videos is not None:
        plot = Plot(videos.plot, videos.threshold)
        views = Views(videos.clips, videos.crops, videos.window, videos.hop)
        reading = Reading(videos.short_videos, videos.deadline, videos.max_pixels)
    return predict(
        options.paths,
        spec,
        checkpoint=options.checkpoint,
        model=options.model,
        pretrained=pretrained,
        weights=weights,
        top=options.top,
        views=views,
        reading=reading,
        accelerator=options.accelerator,
        as_json=options.json,
        render=options.render,
        plot=plot,
        patience=patience,
        cluster=cluster,
    )


def _patience(options: Predict, paths: list[str]) -> Patience | None:
    """Return the options of a stream; None where there is none."""
    values = {name: getattr(options, name) for name in ("timeout", "reconnect", "behind")}
    given = {name: value for name, value in values.items() if value is not None}
    if only_source(paths) is None:
        if given:
            raise UserError(f"--{min(given)} is for streams, such as rtsp://camera/1 or -")
        return None
    if options.deadline is not None:
        raise UserError("--deadline is for files: of a stream, give --timeout")
    return Patience(**given)
