"""``video-snl serve``: what happens in an uploaded video, and what the blocks look at in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch

from video_snl.analysis.explain.page import page_html
from video_snl.analysis.explain.run import video_subject
from video_snl.analysis.model_input import explained
from video_snl.commands.windows import score_views
from video_snl.config.video import ShortVideos
from video_snl.data.video.folders import VIDEO_SUFFIXES
from video_snl.data.video.inference import read_views
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import Trained, load_trained
from video_snl.serve.checks import check_video
from video_snl.serve.server import check_installed, check_options, serve
from video_snl.serve.service import Answer, Limits, Service, ShownPage, best_classes
from video_snl.tasks.action import ActionRecognition
from video_snl.utils.counts import counts

__all__ = ["serve_videos", "video_service"]


def serve_videos(
    *,
    checkpoint: str | None,
    host: str,
    port: int,
    limits: Limits,
    clips: int,
    crops: int,
    short_videos: ShortVideos | None,
    deadline: float | None,
    accelerator: str,
) -> NoReturn:
    """Show the page until a signal comes.

    Raises:
        UserError: A package or the checkpoint is missing, or an option does not fit.
    """
    check_installed()
    check_options(port, limits, deadline)
    if clips < 1:
        raise UserError("--clips must be at least 1.")
    device = device_of(accelerator)
    path = checkpoint_path(checkpoint)

    def make() -> Service:
        start_forkserver()  # loads its modules while the network is made
        trained = _reading(load_trained(path), short_videos, deadline, limits.max_pixels)
        return video_service(trained, limits, clips=clips, crops=crops, device=device)

    serve(make, host=host, port=port, limits=limits)


def video_service(
    trained: Trained, limits: Limits, *, clips: int, crops: int, device: torch.device
) -> Service:
    """A network of videos, asked about one video at a time.

    Args:
        clips: Clips of a video whose mean scores name it, each seen in ``crops`` crops.
    """
    task = ActionRecognition(
        trained.experiment, trained.model, trained.class_names, mean=trained.mean, std=trained.std
    )
    task.crops = crops
    task = task.to(device).eval()
    model = trained.experiment.model
    block = "no block" if model.block == "none" else f"block {model.block}"
    return Service(
        title="What happens in this video?",
        about=f"{model.backbone} with {block}, {counts(len(trained.class_names), 'class')}, from "
        f"{trained.path}",
        hint=f"A video of at most {limits.megabytes:g} MB and {limits.seconds:g} seconds.",
        accept=",".join(["video/*", *sorted(VIDEO_SUFFIXES)]),
        answer=partial(_answer, trained, task, clips, limits.seconds),
        records=True,
    )


def _answer(
    trained: Trained, task: ActionRecognition, clips: int, seconds: float, files: Sequence[Path]
) -> Answer:
    if len(files) != 1:
        raise UserError(f"{len(files)} files were uploaded: choose one video")
    [path] = files
    data = trained.experiment.data
    check_video(path, seconds, data.deadline, data.max_pixels)
    views = read_views(str(path), data, clips)
    scores = score_views(task, views[None], path.name)[0]
    subject = video_subject(str(path), trained, data.short_videos, data.deadline, task.device)
    page = page_html(explained([subject]))
    crops = "1 crop" if task.crops == 1 else f"{task.crops} crops"
    note = f"Mean scores of {clips} {'clip' if clips == 1 else 'clips'} over the video, {crops} of "
    return Answer(
        best_classes(scores, trained.class_names),
        [f"{note}each, as of video-snl predict."],
        [ShownPage("What the network looks at", page)],
    )


def _reading(
    trained: Trained,
    short_videos: ShortVideos | None,
    deadline: float | None,
    max_pixels: int | None,
) -> Trained:
    """With the options for reading uploads; the reader of its training suited other files."""
    data = trained.experiment.data
    data = replace(
        data,
        reader="auto",
        decode_device="cpu",
        short_videos=short_videos or data.short_videos,
        deadline=data.deadline if deadline is None else deadline,
        max_pixels=data.max_pixels if max_pixels is None else max_pixels,
    )
    return replace(trained, experiment=replace(trained.experiment, data=data))
