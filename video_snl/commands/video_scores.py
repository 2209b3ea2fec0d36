"""Scores of test videos by a trained network, and the figures made of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from video_snl.commands.reports import LEVELS, Scores, top_k_accuracy
from video_snl.config.image import ImageExperiment
from video_snl.config.task_spec import TOP, VIDEO, TaskSpec
from video_snl.config.video import Experiment
from video_snl.data.decoding.auto import resolve_reader
from video_snl.data.loading.collate import Batch
from video_snl.data.loading.loader import ClipLoader
from video_snl.data.loading.prefetch import prefetched, to_device
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.video.dataset import EvaluationDataset
from video_snl.data.video.records import VideoSet
from video_snl.engine.trainer import ProgressLines, make_trainer, stopping_in_order
from video_snl.errors import UserError
from video_snl.models.split import split_frozen
from video_snl.runs.trained import Trained
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.activations import Activations, read_activations
from video_snl.tasks.datamodule import evaluation_loader
from video_snl.tasks.metrics import further_metrics
from video_snl.tasks.video_operations import VideoOperations
from video_snl.utils.counts import counts
from video_snl.utils.finite import check_scores, class_scores

__all__ = [
    "counted_samples",
    "evaluation_trainer",
    "score_videos",
    "unreadable_samples",
    "video_metrics",
]

_VIDEOS_AT_ONCE = 8


def video_metrics(
    scores: Scores, videos: VideoSet, *, skip: bool, levels: Sequence[str] = LEVELS
) -> dict[str, Any]:
    """Return the accuracies at both levels, and what could not be read.

    Args:
        scores: Scores of all test videos, as of :func:`score_videos`.
        videos: The dataset.
        skip: Leave out videos that could not be read; else they count as wrong.
        levels: Levels that there are scores of.

    Raises:
        UserError: No video is left.
    """
    read = scores["read"]
    counted = counted_samples(read, VIDEO, skip=skip)
    label, classes = scores["label"][counted], len(videos.class_names)
    k = min(TOP, classes)  # the keys stay, shown or not
    return {
        "videos": int(counted.sum()),
        "classes": classes,
        **{
            f"{level}_top{n}": top_k_accuracy(scores[level][counted], label, n)
            for level in levels
            for n in (1, k)
        },
        **{
            f"{level}_{name}": value
            for level in levels
            for name, value in further_metrics(scores[level][counted], label).items()
        },
        **unreadable_samples([video.path for video in videos.test], read, skip=skip),
    }


def score_videos(
    trained: Trained[Experiment],
    experiment: Experiment,
    videos: VideoSet,
    *,
    clips: int,
    crops: int,
    quarantine: Quarantine | None = None,
    cached: bool = False,
) -> Scores:
    """Score every test video.

    Args:
        trained: The network.
        experiment: The options of the evaluation.
        videos: The dataset.
        clips, crops: Views of a video.
        quarantine: List that takes the videos that cannot be read.
        cached: Start from kept activations of the frozen stages, of one crop.

    Returns:
        ``label`` and ``read`` (V,), ``clip`` and ``video`` (V, classes): the scores of the centre
        crop of the centre clip, and their mean over all views. NaN for a video that was not read.

    Raises:
        UserError: A video cannot be read and there is no quarantine, or too many cannot; or the
            scores of a video that was read are not finite.
    """
    data, line = resolve_reader(experiment.data, [video.path for video in videos.test])
    if line:
        print(line, file=sys.stderr, flush=True)
    experiment = replace(experiment, data=data)
    trained = replace(trained, experiment=experiment)
    dataset = EvaluationDataset(videos.test, data, clips=clips)
    if cached:
        parts = _kept_parts(dataset, trained, videos, quarantine)
    else:
        parts = _video_parts(dataset, trained, crops, quarantine)
    shape = len(dataset), len(trained.class_names)
    scores: Scores = {level: np.full(shape, np.nan, dtype=np.float32) for level in LEVELS}
    read = np.zeros(len(dataset), dtype=bool)
    for part in parts:
        index = part["index"].numpy()
        read[index] = True
        for level in LEVELS:
            scores[level][index] = part[f"{level}_scores"].numpy()
    both = torch.from_numpy(np.concatenate([scores[level][read] for level in LEVELS], axis=1))
    check_scores(both, [videos.test[i].path for i in np.flatnonzero(read)], "test videos")
    return {"label": np.array([video.label for video in videos.test]), "read": read, **scores}


def _video_parts(
    dataset: EvaluationDataset,
    trained: Trained[Experiment],
    crops: int,
    quarantine: Quarantine | None,
) -> list[dict[str, Tensor]]:
    """Run the network on every video, one a batch, on one device."""
    task, trainer, make_loader = _made(dataset, trained, quarantine)
    task.crops = crops
    loader = make_loader()
    try:
        with stopping_in_order():
            parts = trainer.predict(
                task, dataloaders=prefetched(loader, trainer.strategy.root_device)
            )
    finally:
        loader.close()
    assert parts is not None and len(parts) == len(dataset)
    return cast("list[dict[str, Tensor]]", parts)


def _made(
    dataset: EvaluationDataset, trained: Trained[Experiment], quarantine: Quarantine | None
) -> tuple[ActionRecognition, pl.Trainer, Callable[[], ClipLoader]]:
    """Make the task, the Trainer of one device, and what makes the loader of one video a batch."""
    task = VideoOperations(trained.spec).scoring_task(trained)
    trainer = evaluation_trainer(trained.experiment, len(dataset), trained.spec.inputs)
    make_loader = partial(
        evaluation_loader,
        dataset,
        1,
        trained.experiment.data.num_workers,
        pin_memory=trainer.strategy.root_device.type == "cuda",
        quarantine=quarantine,
    )
    return task, trainer, make_loader


def _kept_parts(
    dataset: EvaluationDataset,
    trained: Trained[Experiment],
    videos: VideoSet,
    quarantine: Quarantine | None,
) -> list[dict[str, Tensor]]:
    """Run the part that trained on what the frozen part makes of every video, kept in the cache."""
    task, trainer, make_loader = _made(dataset, trained, quarantine)
    first, rest = split_frozen(task.model)  # before evaluation mode, in which nothing trains
    device = trainer.strategy.root_device
    task.to(device).eval()
    kept = Activations(first, (trained.mean, trained.std), trained.experiment.data, videos)

    @torch.inference_mode()
    def apply(batch: Batch) -> Tensor:
        return task.over_centres(to_device(batch, device), first)

    path = kept.fill(
        f"test-{dataset.clips}",
        make_loader,
        apply,
        f"activations, {counts(dataset.clips, 'clip')} of test videos",
    )
    values, unreadable = read_activations(path)
    there = torch.tensor([at for at in range(len(dataset)) if at not in unreadable])
    parts = []
    with torch.inference_mode(), trainer.strategy.precision_plugin.forward_context():
        for index in there.split(_VIDEOS_AT_ONCE):
            activations = torch.from_numpy(values[index.numpy()].astype(np.float32)).to(device)
            logits = task.of_activations(activations.flatten(0, 1), rest)
            scores = class_scores(logits).unflatten(0, activations.shape[:2]).cpu()
            found = {"clip_scores": scores[:, 0], "video_scores": scores[:, 1:].mean(1)}
            parts.append({"index": index, **found})
    return parts


def counted_samples(read: np.ndarray, spec: TaskSpec, *, skip: bool) -> np.ndarray:
    """Return which test samples the figures are of: all, or those that could be read.

    Args:
        read: (N,), which samples could be read.
        spec: The kind of task.
        skip: Leave out the others.

    Raises:
        UserError: None is left.
    """
    counted = read if skip else np.ones_like(read)
    if not counted.any():
        check = ", and at video-snl check" if spec.name == "video" else ""
        raise UserError(
            f"none of the {len(read)} test {spec.inputs} can be read, and --unreadable skip leaves "
            f"them out: there is nothing to evaluate; look at --data.root{check}"
        )
    return counted


def unreadable_samples(paths: Sequence[str], read: np.ndarray, *, skip: bool) -> dict[str, Any]:
    """Return the entries of ``metrics.json`` on what could not be read."""
    return {
        "unreadable_count": int((~read).sum()),
        "unreadable_are": "skipped" if skip else "wrong",
        "unreadable": [paths[index] for index in np.flatnonzero(~read).tolist()],
    }


def evaluation_trainer(
    experiment: Experiment | ImageExperiment, total: int, inputs: str
) -> pl.Trainer:
    """Return a Trainer for one device, with lines of progress and no log."""
    options = replace(experiment.trainer, devices=1, nodes=1, loggers=[])
    lines = ProgressLines(total, f"evaluated {inputs}")
    return make_trainer(replace(experiment, trainer=options), Path("."), [lines])
