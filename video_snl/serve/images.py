"""``video-snl serve`` of a network of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch

from video_snl.analysis.explain.page import page_html
from video_snl.analysis.explain.run_images import picture_subject
from video_snl.analysis.model_input import Subject, explained
from video_snl.commands.predict_images import limited
from video_snl.config.image_programs import IMAGES
from video_snl.engine.train_images import task_of
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained_images import TrainedImages, load_trained_images
from video_snl.serve.server import check_installed, check_options, serve
from video_snl.serve.service import Answer, Limits, Service, ShownPage, best_classes
from video_snl.tasks.images import ImageTask, Segmentation
from video_snl.utils.counts import counts
from video_snl.utils.finite import not_finite_error
from video_snl.utils.media import IMAGE_SUFFIXES

__all__ = ["picture_service", "serve_pictures"]


def serve_pictures(
    *, checkpoint: str | None, host: str, port: int, limits: Limits, accelerator: str
) -> NoReturn:
    """Show the page until a signal comes.

    Raises:
        UserError: A package or the checkpoint is missing, or an option does not fit.
    """
    check_installed()
    check_options(port, limits, None)
    device = device_of(accelerator)
    path = checkpoint_path(checkpoint, IMAGES)

    def make() -> Service:
        trained = limited(load_trained_images(path), limits.max_pixels)
        return picture_service(trained, limits, device)

    serve(make, host=host, port=port, limits=limits)


def picture_service(trained: TrainedImages, limits: Limits, device: torch.device) -> Service:
    """A network of pictures, asked about one picture at a time."""
    statistics = trained.mean, trained.std
    make = task_of(trained.experiment)
    task = make(trained.experiment, trained.model, trained.class_names, statistics)
    model = trained.experiment.model
    block = "no block" if model.block == "none" else f"block {model.block}"
    return Service(
        title="What is in this picture?",
        about=f"{model.backbone} with {block}, {counts(len(trained.class_names), 'class')}, from "
        f"{trained.path}",
        hint=f"A picture of at most {limits.megabytes:g} MB.",
        accept=",".join(["image/*", *sorted(IMAGE_SUFFIXES)]),
        answer=partial(_answer, trained, task.to(device).eval()),
    )


def _answer(trained: TrainedImages, task: ImageTask, files: Sequence[Path]) -> Answer:
    if len(files) != 1:
        raise UserError(f"{len(files)} files were uploaded: choose one picture")
    subject = picture_subject(str(files[0]), trained, task.device)
    explanations = explained([subject])
    page = ShownPage("What the network looks at", page_html(explanations))
    if isinstance(task, Segmentation):
        return Answer(_shares(task, subject), ["Shares of the pixels."], [page])
    return Answer(explanations[0].classes, [], [page])


@torch.inference_mode()
def _shares(task: Segmentation, subject: Subject) -> list[tuple[str, float]]:
    """The classes with the most pixels, of those with any."""
    images = torch.from_numpy(subject.frames).to(task.device)
    logits = task.logits(images)[0]
    if not logits.isfinite().all():
        raise not_finite_error("this picture")
    labels = logits.argmax(0).flatten()
    shares = torch.bincount(labels, minlength=len(task.class_names)) / labels.numel()
    return [pair for pair in best_classes(shares.cpu(), task.class_names) if pair[1] > 0]
