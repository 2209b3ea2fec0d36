"""The commands that also take pictures, and how to tell that they are meant. Without torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from jsonargparse import ArgumentParser, Namespace

from video_snl.cli.explain import EXPLAIN_DESCRIPTION, add_picture_options, explain_picture
from video_snl.cli.serve import SERVE_DESCRIPTION, add_serve_picture_options, serve_pictures
from video_snl.cli.spectrum import (
    SPECTRUM_DESCRIPTION,
    add_picture_spectrum_options,
    spectrum_of_pictures,
)
from video_snl.cli.trained import (
    add_checkpoint_option,
    add_max_pixels_option,
    add_model_option,
    add_output_option,
    add_render_option,
    add_unreadable_option,
    predict,
)
from video_snl.config.files import Given
from video_snl.config.image import ImageBackboneName, ImageDatasetName, ImageExperiment
from video_snl.config.parsing import (
    Commands,
    Parser,
    add_profile,
    add_resume,
    config_name,
    experiment_of,
    experiment_parser,
)
from video_snl.config.task_spec import IMAGE, exact_spec

__all__ = ["IMAGE_COMMANDS", "are_about_images"]

_EVALUATE = """Measure a trained network of pictures: top-1 and top-5, or mIoU, mAcc and aAcc.
Data options not given are those of the checkpoint. A checkpoint of the paper's released code
needs --model.backbone and the data options, or a --config."""
_BACKBONES, _DATASETS = get_args(ImageBackboneName), get_args(ImageDatasetName)
_OF_VIDEOS_TOO = "folder"


def are_about_images(words: Iterable[str] | Given) -> bool | None:
    """Tell whether the words of a command are about images; None where they do not say.

    The backbone that is named decides, in the options or else in a configuration; where none is,
    the dataset.

    Raises:
        UserError: A configuration cannot be read.
    """
    given = words if isinstance(words, Given) else Given(words)
    backbone = given.said("model.backbone")
    if backbone is not None:
        return backbone in _BACKBONES
    dataset = given.said("data.dataset")
    return None if dataset in (None, _OF_VIDEOS_TOO) else dataset in _DATASETS


def _train_parser(prog: str) -> ArgumentParser:
    parser = experiment_parser(prog, "Train a network on pictures.", ImageExperiment)
    add_resume(parser)
    add_profile(parser, "pictures")
    return parser


def _evaluate_parser(prog: str) -> ArgumentParser:
    parser = experiment_parser(prog, _EVALUATE, ImageExperiment)
    add_checkpoint_option(parser)
    add_output_option(parser)
    add_unreadable_option(parser, "pictures")
    parser.add_argument(
        "--kind",
        type=Literal["nl", "ns", "a2"] | None,
        help="Of the blocks in a checkpoint of the released code, which has the same names for "
        "these three.",
    )
    return parser


def _describe_parser(prog: str) -> ArgumentParser:
    parser = experiment_parser(
        prog,
        "Show a network of pictures: its layers, blocks, parameters and multiply-adds.",
        ImageExperiment,
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    return parser


def _predict_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description="Name what is on pictures: the best classes.")
    parser.add_argument(
        "paths", nargs="+", metavar="FILE|DIR", help="Pictures, or folders of them."
    )
    add_checkpoint_option(parser)
    add_model_option(parser)
    parser.add_argument("--top", type=int, default=5, help="How many classes to list.")
    add_render_option(
        parser,
        "DIR",
        "Folder for the pictures with their classes written on them or, of a network that labels "
        "pixels, coloured by class and with a legend.",
    )
    add_max_pixels_option(parser)
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu or gpu.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    return parser


def _explain_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=EXPLAIN_DESCRIPTION)
    add_picture_options(parser)
    return parser


def _serve_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=SERVE_DESCRIPTION)
    add_serve_picture_options(parser)
    return parser


def _spectrum_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=SPECTRUM_DESCRIPTION)
    add_picture_spectrum_options(parser)
    return parser


def _experiment_of(arguments: Namespace) -> ImageExperiment:
    return experiment_of(ImageExperiment, arguments)


def _train(arguments: Namespace) -> int:
    experiment = _experiment_of(arguments)  # refused before torch is loaded
    from video_snl.engine.resume import Asked
    from video_snl.engine.train import train

    return train(
        experiment,
        exact_spec(IMAGE, experiment),
        config_name=config_name(arguments),
        asked=Asked(arguments.resume, arguments.given, arguments.force),
        profile=arguments.profile,
    )


def _evaluate(arguments: Namespace) -> int:
    experiment = _experiment_of(arguments)  # refused before torch is loaded
    from video_snl.commands.evaluate import evaluate

    return evaluate(
        experiment,
        exact_spec(IMAGE, experiment),
        checkpoint=arguments.checkpoint,
        kind=arguments.kind,
        output=arguments.output,
        unreadable=arguments.unreadable,
    )


def _describe(arguments: Namespace) -> int:
    experiment = _experiment_of(arguments)  # refused before torch is loaded
    from video_snl.commands.describe import describe

    return describe(experiment, exact_spec(IMAGE, experiment), as_json=arguments.json)


def _predict(arguments: Namespace) -> int:
    return predict(arguments, IMAGE)


IMAGE_COMMANDS: Commands = {
    "train": (_train_parser, _train),
    "evaluate": (_evaluate_parser, _evaluate),
    "describe": (_describe_parser, _describe),
    "predict": (_predict_parser, _predict),
    "explain": (_explain_parser, explain_picture),
    "serve": (_serve_parser, serve_pictures),
    "spectrum": (_spectrum_parser, spectrum_of_pictures),
}
"""In the place of those of the same names, where pictures are meant."""
