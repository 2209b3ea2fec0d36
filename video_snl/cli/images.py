"""The commands of networks of images. Without torch."""

from __future__ import annotations

from typing import Literal

from jsonargparse import Namespace

from video_snl.cli.explain import EXPLAIN, ExplainImage, explain_image
from video_snl.cli.serve import SERVE, ServeAny, serve_images
from video_snl.cli.spectrum import SPECTRUM, SpectrumOfImages, spectrum_of_images
from video_snl.cli.trained import PredictAny
from video_snl.config.image import ImageExperiment
from video_snl.config.options import (
    Checkpoint,
    Json,
    Profile,
    Reports,
    Resume,
    Unreadable,
    check_one_network,
    option_group,
    options_of,
)
from video_snl.config.parsing import (
    COMMON_DESCRIBE,
    COMMON_EVALUATE,
    COMMON_TRAIN,
    Command,
    Commands,
    config_name,
    experiment_of,
)

__all__ = ["IMAGE_COMMANDS"]

_EVALUATE = """Measure a trained network of images: top-1 and top-5, or mIoU, mAcc and aAcc.
Data options not given are those of the checkpoint. A checkpoint of the paper's released code
needs --model.backbone and the data options, or a --config."""


@option_group
class _Train(Profile, Resume):
    """Options of ``train``."""


@option_group
class _Evaluate(Unreadable, Reports, Checkpoint):
    """Options of ``evaluate``.

    Args:
        kind: Kind of the blocks in a checkpoint of the released code, which has the same names for
            these three; default what its names say.
    """

    kind: Literal["nl", "ns", "a2"] | None = None


@option_group
class _Predict(PredictAny):
    """Options of ``predict``.

    Args:
        render: Folder for the images with their classes written on them or, of segmentation,
            coloured by class and with a legend; default none.
    """


def _train(arguments: Namespace) -> int:
    experiment = experiment_of(ImageExperiment, arguments)  # refused before torch is loaded
    from video_snl.engine.resume import Asked
    from video_snl.engine.train_images import train

    return train(
        experiment,
        config_name=config_name(arguments),
        asked=Asked(arguments.resume, arguments.given, arguments.force),
        profile=arguments.profile,
    )


def _evaluate(arguments: Namespace) -> int:
    experiment = experiment_of(ImageExperiment, arguments)  # refused before torch is loaded
    options = options_of(_Evaluate, arguments)
    from video_snl.commands.evaluate_images import evaluate

    return evaluate(
        experiment,
        checkpoint=options.checkpoint,
        kind=options.kind,
        output=options.output,
        unreadable=options.unreadable,
    )


def _describe(arguments: Namespace) -> int:
    experiment = experiment_of(ImageExperiment, arguments)  # refused before torch is loaded
    from video_snl.commands.describe_images import describe

    return describe(experiment, as_json=arguments.json)


def _predict(arguments: Namespace) -> int:
    options = options_of(_Predict, arguments)
    check_one_network(options.model, options.checkpoint)
    from video_snl.commands.predict_images import predict

    return predict(
        options.paths,
        checkpoint=options.checkpoint,
        model=options.model,
        top=options.top,
        accelerator=options.accelerator,
        as_json=options.json,
        render=options.render,
        max_pixels=options.max_pixels,
    )


IMAGE_COMMANDS: Commands = {
    "train": Command("Train a network on images.", _Train, _train, ImageExperiment, COMMON_TRAIN),
    "evaluate": Command(
        _EVALUATE, _Evaluate, _evaluate, ImageExperiment, (*COMMON_EVALUATE, "kind")
    ),
    "describe": Command(
        "Show a network of images: its layers, blocks, parameters and multiply-adds.",
        Json,
        _describe,
        ImageExperiment,
        (*COMMON_DESCRIBE, "data.height", "data.width"),
    ),
    "predict": Command("Name what is on images: the best classes.", _Predict, _predict),
    "explain": Command(EXPLAIN, ExplainImage, explain_image),
    "serve": Command(SERVE, ServeAny, serve_images),
    "spectrum": Command(SPECTRUM, SpectrumOfImages, spectrum_of_images),
}
"""In the place of those of the same names, where images are meant."""
