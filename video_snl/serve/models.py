"""``video-snl serve``: what is in an uploaded video or image, and what the blocks look at in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from video_snl.analysis.explain.page import page_html
from video_snl.analysis.model_input import analysis_input, explained
from video_snl.commands.view_scores import score_views
from video_snl.config.task_spec import TOP, AnyExperiment, TaskSpec
from video_snl.data.image.inference import read_input
from video_snl.data.video.inference import read_views
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import Trained, TrainedNetwork, load_trained
from video_snl.serve.server import check_options, serve
from video_snl.serve.service import Answer, Limits, Service, ShownPage, check_video
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.class_operations import ClassOperations
from video_snl.tasks.images import ImageTask, Segmentation
from video_snl.tasks.metrics import top_classes
from video_snl.tasks.operations import Reading
from video_snl.utils.counts import counts
from video_snl.utils.extras import require
from video_snl.utils.finite import not_finite_error
from video_snl.utils.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES

__all__ = ["about_network", "class_service", "explained_page", "serve_classes"]


def serve_classes(
    spec: TaskSpec,
    *,
    checkpoint: str | None,
    host: str,
    port: int,
    limits: Limits,
    clips: int = 10,
    crops: int = 3,
    reading: Reading,
    accelerator: str,
) -> NoReturn:
    """Show the page of a network of videos or images until a signal comes.

    Args:
        spec: The kind of task.
        checkpoint: The network.
        host, port: Address of the page.
        limits: Limits on an upload.
        clips, crops: Views of a video that are scored.
        reading: Options for reading uploads.
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Raises:
        UserError: A package or the checkpoint is missing, or an option does not fit.
    """
    require("serve")
    check_options(port, limits, reading.deadline)
    if clips < 1:
        raise UserError("--clips must be at least 1.")
    device = device_of(accelerator)
    path = checkpoint_path(checkpoint, spec)

    def make() -> Service:
        if spec.inputs == "videos":
            start_forkserver()  # loads its modules while the network is made
        trained = spec.make().reading(load_trained(path, spec), reading)
        assert isinstance(trained, Trained)
        return class_service(trained, limits, device, clips=clips, crops=crops)

    serve(make, host=host, port=port, limits=limits)


def class_service(
    trained: Trained[AnyExperiment],
    limits: Limits,
    device: torch.device,
    *,
    clips: int = 10,
    crops: int = 3,
) -> Service:
    """Make the service of a network that is asked about one video or image at a time.

    Args:
        trained: The network.
        limits: Limits on an upload.
        device: The device it runs on.
        clips: Clips of a video whose mean scores name it, each seen in ``crops`` crops.
    """
    operations = trained.spec.make()
    assert isinstance(operations, ClassOperations)
    task = operations.scoring_task(trained).to(device).eval()
    size = f"at most {limits.megabytes:g} MB"
    if isinstance(task, ActionRecognition):
        task.crops = crops
        return Service(
            title="What happens in this video?",
            about=about_network(trained),
            hint=f"A video of {size} and {limits.seconds:g} seconds.",
            accept=",".join(["video/*", *sorted(VIDEO_SUFFIXES)]),
            answer=partial(_answer_video, trained, task, clips, limits.seconds),
            records=True,
        )
    assert isinstance(task, ImageTask)
    return Service(
        title="What is in this image?",
        about=about_network(trained),
        hint=f"An image of {size}.",
        accept=",".join(["image/*", *sorted(IMAGE_SUFFIXES)]),
        answer=partial(_answer_image, trained, task),
    )


def about_network(trained: TrainedNetwork[AnyExperiment]) -> str:
    """Return a line on backbone, block, classes and file of a network."""
    model = trained.experiment.model
    block = "no block" if model.block == "none" else f"block {model.block}"
    classes = ""
    if isinstance(trained, Trained):
        classes = f", {counts(len(trained.class_names), 'class')}"
    return f"{model.backbone} with {block}{classes}, from {trained.path}"


def explained_page(
    trained: TrainedNetwork[AnyExperiment], name: str, item: object, device: torch.device
) -> tuple[ShownPage, list[tuple[str, float]]]:
    """Return the page on what the blocks look at in one input, and its classes with scores."""
    [explanation] = explained([analysis_input(trained, name, item, device)])
    page = ShownPage("What the network looks at", page_html([explanation]))
    return page, explanation.classes


def _only(files: Sequence[Path], what: str) -> Path:
    if len(files) != 1:
        raise UserError(f"{len(files)} files were uploaded: choose one {what}")
    return files[0]


def _answer_video(
    trained: Trained[AnyExperiment],
    task: ActionRecognition,
    clips: int,
    seconds: float,
    files: Sequence[Path],
) -> Answer:
    path, data = _only(files, "video"), trained.experiment.data
    check_video(path, seconds, data.deadline, data.max_pixels)
    scores = score_views(task, read_views(str(path), data, clips)[None], path.name)[0]
    page, _ = explained_page(trained, str(path), path, task.device)
    note = f"Mean scores of {counts(clips, 'clip')} over the video, {counts(task.crops, 'crop')} of"
    return Answer(
        top_classes(scores, trained.class_names, TOP),
        [f"{note} each, as of video-snl predict."],
        [page],
    )


def _answer_image(
    trained: Trained[AnyExperiment], task: ImageTask, files: Sequence[Path]
) -> Answer:
    path = _only(files, "image")
    page, classes = explained_page(trained, str(path), path, task.device)
    if isinstance(task, Segmentation):
        image = read_input(path, trained.experiment.data)
        return Answer(_shares(task, image), ["Shares of the pixels."], [page])
    return Answer(classes, [], [page])


@torch.inference_mode()
def _shares(task: Segmentation, image: Tensor) -> list[tuple[str, float]]:
    """Return the classes with the most pixels, of those with any."""
    logits = task.logits(image[None].to(task.device))[0]
    if not logits.isfinite().all():
        raise not_finite_error("this image")
    labels = logits.argmax(0).flatten()
    shares = torch.bincount(labels, minlength=len(task.class_names)) / labels.numel()
    return [pair for pair in top_classes(shares.cpu(), task.class_names, TOP) if pair[1] > 0]
