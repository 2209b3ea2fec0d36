"""``video-snl predict`` of pictures: what is on them?"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from video_snl.config.image_programs import IMAGES
from video_snl.data.image.inference import read_input
from video_snl.data.image.reading import check_max_pixels, read_image
from video_snl.engine.train_images import task_of
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.render.fonts import Line
from video_snl.render.image import labelled, overlaid, save_image
from video_snl.render.targets import targets
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained_images import TrainedImages, load_trained_images
from video_snl.tasks.images import ImageTask, Segmentation
from video_snl.utils.finite import not_finite_error
from video_snl.utils.json_text import to_json
from video_snl.utils.media import named_media
from video_snl.utils.text import escaped

__all__ = ["predict"]


def predict(
    paths: list[str],
    *,
    checkpoint: str | None,
    model: str | None = None,
    top: int,
    accelerator: str,
    as_json: bool,
    render: str | None = None,
    max_pixels: int | None = None,
) -> int:
    """Print the ``top`` classes of every picture: by score, or by their share of its pixels.

    Args:
        model: An exported file in the place of a checkpoint.
        render: Folder for the pictures with what was found drawn on them.
        max_pixels: Most pixels of an image; default as in training.

    Returns:
        0; 2 when a picture could not be read or scored, else 1 when one could not be rendered.
    """
    if top < 1:
        raise UserError("--top must be at least 1.")
    if max_pixels is not None:
        check_max_pixels("--max_pixels ", max_pixels)
    pictures = named_media(paths, "images", "video-snl predict")
    rendered = (
        {} if render is None else targets(render, pictures, suffixes=[".png"], folder_only=True)
    )
    trained, device = _network(checkpoint, model, accelerator)
    trained = limited(trained, max_pixels)
    task = _task(trained).to(device).eval()
    results, unread, unrendered = [], 0, 0
    for path in pictures:
        try:
            found, labels = _best(task, read_input(path, trained.experiment.data), top, path)
        except UserError as error:  # the file is damaged, or too small, or its scores overflow
            unread += 1
            _tell(error)
            continue
        results.append({"picture": str(path), "predictions": found})
        if not as_json:
            width = max(len(row["class"]) for row in found)
            lines = [f"  {row['class']:{width}}  {row['score']:7.2%}" for row in found]
            print(escaped(str(path)), *lines, sep="\n", flush=True)
        if path not in rendered:
            continue
        try:
            limit = trained.experiment.data.max_pixels
            _render(path, rendered[path], found, labels, task.class_names, limit)
        except UserError as error:
            unrendered += 1
            _tell(error)
            continue
        results[-1]["rendered"] = str(rendered[path])
        if not as_json:
            print(f"  rendered: {escaped(str(rendered[path]))}", flush=True)
    if as_json:
        print(to_json(results, indent=2))
    return 2 if unread else 1 if unrendered else 0


def limited(trained: TrainedImages, max_pixels: int | None) -> TrainedImages:
    """Give a network another limit on the pixels of an image; None keeps that of its training."""
    if max_pixels is None:
        return trained
    data = replace(trained.experiment.data, max_pixels=max_pixels)
    return replace(trained, experiment=replace(trained.experiment, data=data))


def _tell(error: UserError) -> None:
    print(f"video-snl predict: error: {error}", file=sys.stderr, flush=True)


def _network(
    checkpoint: str | None, model: str | None, accelerator: str
) -> tuple[TrainedImages, torch.device]:
    """The network that is asked for, and where it is to run."""
    if model is None:
        return load_trained_images(checkpoint_path(checkpoint, IMAGES)), device_of(accelerator)
    from video_snl.export.networks import find_exported

    return cast(tuple[TrainedImages, torch.device], find_exported(model, IMAGES, accelerator))


def _task(trained: TrainedImages) -> ImageTask:
    statistics = trained.mean, trained.std
    make = task_of(trained.experiment)
    return make(trained.experiment, trained.model, trained.class_names, statistics)


@torch.inference_mode()
def _best(
    task: ImageTask, image: Tensor, top: int, path: Path
) -> tuple[list[dict[str, Any]], np.ndarray | None]:
    """The highest scores; of a network that labels pixels, the classes with the most of them, and
    the label of every pixel.

    Raises:
        UserError: Scores are not finite.
    """
    images, labels = image[None].to(task.device), None
    if isinstance(task, Segmentation):
        logits = task.logits(images)[0]
    else:
        logits = task.model(task.evaluation_input(images))[0]
    if not logits.isfinite().all():
        raise not_finite_error(str(path))
    if isinstance(task, Segmentation):
        predicted = logits.argmax(0)
        labels, predicted = predicted.cpu().numpy(), predicted.flatten()
        shares = torch.bincount(predicted, minlength=len(task.class_names)) / predicted.numel()
    else:
        shares = logits.float().softmax(-1)
    values, classes = shares.topk(min(top, len(shares)))
    best = [
        {"class": task.class_names[index], "score": round(value, 6)}
        for value, index in zip(values.tolist(), classes.tolist(), strict=True)
    ]
    return best, labels


def _render(
    path: Path,
    target: Path,
    found: list[dict[str, Any]],
    labels: np.ndarray | None,
    class_names: list[str],
    max_pixels: int,
) -> None:
    picture = read_image(str(path), max_pixels=max_pixels)
    if labels is not None:
        save_image(overlaid(picture, labels, class_names), target)
        return
    lines = [Line(best["class"], f"{best['score']:.1%}") for best in found]
    save_image(labelled(picture, lines), target)
