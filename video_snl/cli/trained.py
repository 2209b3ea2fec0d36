"""The commands that use a trained network: ``evaluate`` and ``predict``. Without torch."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from video_snl.config.task_spec import VIDEO, TaskSpec
from video_snl.config.video import ShortVideos
from video_snl.errors import UserError

__all__ = [
    "EVALUATE",
    "PREDICT",
    "add_checkpoint_option",
    "add_evaluate_options",
    "add_max_pixels_option",
    "add_model_option",
    "add_output_option",
    "add_predict_options",
    "add_render_option",
    "add_unreadable_option",
    "check_one_network",
    "predict",
]

EVALUATE = """Measure a trained network: clip-level and video-level accuracy.
Clip level is the centre crop of the centre clip (the paper's), video level the mean
score of --clips x --crops views. Data options not given are those of the checkpoint."""
PREDICT = "Name the actions in videos: the classes with the highest scores."


def add_evaluate_options(parser: ArgumentParser) -> None:
    add_checkpoint_option(parser)
    parser.add_argument(
        "--clips", type=int, default=10, help="Clips of a video, evenly spaced over its length."
    )
    _add_crops(parser)
    add_output_option(parser)
    add_unreadable_option(parser, "videos")


def add_output_option(parser: ArgumentParser) -> None:
    """Where reports go."""
    parser.add_argument(
        "--output",
        type=str,
        help="Folder for the reports; default 'evaluation' beside the checkpoint.",
    )


def add_unreadable_option(parser: ArgumentParser, what: str) -> None:
    """What becomes of those of a test list that cannot be read."""
    parser.add_argument(
        "--unreadable",
        type=Literal["wrong", "skip"],
        default="wrong",
        help=f"Test {what} that cannot be read count as wrong, or are left out of all figures.",
    )


def add_predict_options(parser: ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="FILE|DIR", help="Videos, or folders of them.")
    add_checkpoint_option(parser)
    add_model_option(parser)
    parser.add_argument(
        "--clips",
        type=int | None,
        help="Clips of a video, evenly spaced over its length; default 10, or 1 of a --window.",
    )
    _add_crops(parser)
    parser.add_argument("--top", type=int, default=5, help="How many classes to list.")
    _add_windows(parser)
    parser.add_argument(
        "--short_videos",
        type=ShortVideos | None,
        help="What to do with a video shorter than a clip; default as in training.",
    )
    parser.add_argument(
        "--deadline",
        type=float | None,
        help="Seconds of decoding after which a file is given up; default as in training. (For a "
        "--window, the seconds of its length and of --hop come on top.)",
    )
    add_max_pixels_option(parser)
    add_render_option(
        parser,
        "FILE|DIR",
        "Write the video with its classes drawn on it, in H.264 and without sound: a .mp4, .mov or "
        ".mkv file, or for several a folder. With a --window each frame shows those that cover it.",
    )
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu or gpu.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")


def _add_windows(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--window",
        type=str,
        metavar="SECONDS|FRAMES",
        help="Name the actions of windows over each video, with their times: 2.5s or 64f long.",
    )
    parser.add_argument(
        "--hop",
        type=str,
        metavar="SECONDS|FRAMES",
        help="From the start of a window to that of the next one; default its length.",
    )


def add_checkpoint_option(parser: ArgumentParser, newest: str = "newest run with one") -> None:
    """Which network.

    Args:
        newest: Which run stands for none that is named.
    """
    parser.add_argument(
        "--checkpoint",
        type=str,
        metavar="FILE|DIR",
        help="Checkpoint file, the folder of a run (its best epoch), or a published folder. "
        f"Default: the {newest} below ./runs.",
    )


def add_model_option(parser: ArgumentParser) -> None:
    """A file in the place of a checkpoint."""
    parser.add_argument(
        "--model",
        type=str,
        metavar="FILE",
        help="A file of video-snl export, .onnx or .pt2, in the place of a --checkpoint. "
        "Reading a .pt2 file can run code in it, which cannot be told beforehand: take one only "
        "from where you would run a program from. An .onnx file runs none.",
    )


def check_one_network(arguments: Namespace) -> None:
    """Refuse two networks at once.

    Raises:
        UserError: Both a file and a checkpoint are named.
    """
    model, checkpoint = arguments.model, arguments.checkpoint
    if model is not None and checkpoint is not None:
        raise UserError(f"--model {model} and --checkpoint {checkpoint}: give one of the two.")


def add_render_option(parser: ArgumentParser, what: str, text: str) -> None:
    """Where to draw what is found."""
    parser.add_argument("--render", type=str | None, metavar=what, help=text)


def add_max_pixels_option(parser: ArgumentParser) -> None:
    """Add the limit on pixels, for commands that have no data options."""
    parser.add_argument(
        "--max_pixels",
        type=int | None,
        metavar="N",
        help="Most pixels of an image or of a frame, height times width; default as in training. A "
        "larger one is refused before memory is taken for it.",
    )


def _add_crops(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--crops",
        type=Literal[1, 3],
        default=3,
        help="Crops of a clip: 1 (centre) or 3 along its longer side.",
    )


def predict(arguments: Namespace, spec: TaskSpec = VIDEO) -> int:
    check_one_network(arguments)
    from video_snl.commands.predict import Views, predict
    from video_snl.tasks.operations import Reading

    said = arguments.get
    return predict(
        arguments.paths,
        spec,
        checkpoint=arguments.checkpoint,
        model=arguments.model,
        top=arguments.top,
        views=Views(said("clips"), said("crops", 3), said("window"), said("hop")),
        reading=Reading(said("short_videos"), said("deadline"), arguments.max_pixels),
        accelerator=arguments.accelerator,
        as_json=arguments.json,
        render=arguments.render,
    )
