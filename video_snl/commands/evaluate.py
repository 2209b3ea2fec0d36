"""``video-snl evaluate``: accuracy at both levels, with per-class reports and pictures."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from video_snl.commands.reports import LEVELS, Scores, top_k_accuracy, write_reports
from video_snl.config.task_spec import TOP, shown_tops
from video_snl.config.video import Experiment
from video_snl.data.decoding.auto import resolve_reader
from video_snl.data.loading.prefetch import prefetched
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.video.catalog import load_videos, resolve_dataset
from video_snl.data.video.dataset import EvaluationDataset
from video_snl.data.video.records import VideoSet
from video_snl.engine.trainer import ProgressLines, make_trainer, stopping_in_order
from video_snl.errors import UserError
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import Trained, check_same_network, load_trained
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.clips import evaluation_loader
from video_snl.utils.counts import counts
from video_snl.utils.files import check_folder
from video_snl.utils.finite import check_scores
from video_snl.utils.text import same_labels

__all__ = ["evaluate", "score_videos"]


def evaluate(
    experiment: Experiment,
    *,
    checkpoint: str | None,
    clips: int,
    crops: int,
    output: str | None,
    unreadable: Literal["wrong", "skip"] = "wrong",
) -> int:
    """Evaluate a checkpoint on the test list, print the accuracies, write the reports."""
    path = checkpoint_path(checkpoint)
    trained = load_trained(path)
    check_same_network(experiment.model, trained.experiment.model, path)
    experiment = replace(experiment, data=resolve_dataset(experiment.data))
    videos = load_videos(experiment.data, known=trained.class_names)
    _check_same_classes(videos, trained)
    if clips < 1:
        raise UserError(f"--clips {clips}: at least one clip of each video is needed.")
    folder = Path(output) if output is not None else _default_folder(path)
    check_folder("--output", str(folder))
    quarantine = _fresh_quarantine(folder, experiment)
    scores = score_videos(
        trained, experiment, videos, clips=clips, crops=crops, quarantine=quarantine
    )
    views = f"{counts(clips, 'clip')} x {counts(crops, 'crop')}"
    metrics = _metrics(scores, videos, unreadable)
    metrics |= {"checkpoint": str(path), "epoch": trained.epoch + 1, "views": views}
    metrics |= {"split": experiment.data.split, "dataset": experiment.data.dataset}
    write_reports(folder, scores, videos, metrics, views)
    print(_table(metrics, views, trained))
    if metrics["unreadable"]:
        print(_unreadable_lines(metrics))
    print(f"reports: {folder}")
    return 0


def score_videos(
    trained: Trained,
    experiment: Experiment,
    videos: VideoSet,
    *,
    clips: int,
    crops: int,
    quarantine: Quarantine | None = None,
) -> Scores:
    """Class scores of every test video.

    Shapes: "label" and "read" (V,), "clip" and "video" (V, classes). Videos that go to the
    quarantine are not read, and their scores are NaN.

    Raises:
        UserError: A video cannot be read and there is no quarantine, or too many cannot; or the
            scores of a video that was read are not finite.
    """
    data, line = resolve_reader(experiment.data, [video.path for video in videos.test])
    if line:
        print(line, file=sys.stderr, flush=True)
    dataset = EvaluationDataset(videos.test, data, clips=clips)
    parts = _predictions_of(dataset, trained, experiment, crops, quarantine)
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


def _predictions_of(
    dataset: EvaluationDataset,
    trained: Trained,
    experiment: Experiment,
    crops: int,
    quarantine: Quarantine | None,
) -> list[dict[str, Tensor]]:
    """What the network says of every video, one batch each, on one device."""
    task = ActionRecognition(
        experiment, trained.model, trained.class_names, mean=trained.mean, std=trained.std
    )
    task.crops = crops
    single = replace(
        experiment, trainer=replace(experiment.trainer, devices=1, nodes=1, loggers=[])
    )
    lines = ProgressLines(len(dataset), "evaluated videos")
    trainer = make_trainer(single, trained.path.parent, [lines])
    device = trainer.strategy.root_device
    pin = device.type == "cuda"
    workers = experiment.data.num_workers
    loader = evaluation_loader(dataset, 1, workers, pin_memory=pin, quarantine=quarantine)
    try:
        with stopping_in_order():
            parts = trainer.predict(task, dataloaders=prefetched(loader, device))
    finally:
        loader.close()
    assert parts is not None and len(parts) == len(dataset)
    return cast("list[dict[str, Tensor]]", parts)


def _metrics(
    scores: Scores, videos: VideoSet, unreadable: Literal["wrong", "skip"]
) -> dict[str, Any]:
    k, read = min(TOP, len(videos.class_names)), scores["read"]  # the keys stay, shown or not
    counted = read if unreadable == "skip" else np.ones_like(read)
    if not counted.any():
        raise UserError(
            f"none of the {len(read)} test videos can be read, and --unreadable skip leaves them "
            "out: there is nothing to evaluate; look at --data.root, and at video-snl check"
        )
    label = scores["label"][counted]
    return {
        "videos": int(counted.sum()),
        "classes": len(videos.class_names),
        **{
            f"{level}_top{n}": top_k_accuracy(scores[level][counted], label, n)
            for level in LEVELS
            for n in (1, k)
        },
        "unreadable_count": int((~read).sum()),
        "unreadable_are": "skipped" if unreadable == "skip" else "wrong",
        "unreadable": [videos.test[i].path for i in np.flatnonzero(~read)],
    }


def _unreadable_lines(metrics: dict[str, Any]) -> str:
    how = {"wrong": "they count as wrong", "skipped": "they are left out of all figures"}
    count, are = metrics["unreadable_count"], metrics["unreadable_are"]
    lines = [f"test videos that could not be read: {count}; {how[are]}:"]
    return "\n".join([*lines, *(f"  {path}" for path in metrics["unreadable"])])


def _table(metrics: dict[str, Any], views: str, trained: Trained) -> str:
    tops = shown_tops(metrics["classes"])
    lines = [
        f"{counts(metrics['videos'], 'test video')} of {counts(metrics['classes'], 'class')}, "
        f"split {metrics['split']}, epoch {metrics['epoch']} of {trained.path}",
        f"{'level':36}  " + "    ".join(f"top-{k}" for k in tops),
    ]
    names = {"clip": "clip (centre crop of the centre clip)", "video": f"video ({views})"}
    for level in LEVELS:
        shares = "  ".join(f"{metrics[f'{level}_top{k}']:6.2%}" for k in tops)
        lines.append(f"{names[level]:37} {shares}")
    return "\n".join(lines)


def _fresh_quarantine(folder: Path, experiment: Experiment) -> Quarantine:
    """One that knows of no earlier evaluation: every file is tried."""
    file = folder / "quarantine.jsonl"
    file.unlink(missing_ok=True)
    return Quarantine(file, experiment.data.max_failures)


def _default_folder(path: Path) -> Path:
    run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return run / "evaluation"


def _check_same_classes(videos: VideoSet, trained: Trained) -> None:
    if not same_labels(videos.class_names, trained.class_names):
        raise UserError(
            f"{trained.path} knows {counts(len(trained.class_names), 'class')} "
            f"({', '.join(trained.class_names[:3])}, ...), the data set has "
            f"{len(videos.class_names)} ({', '.join(videos.class_names[:3])}, ...); evaluate on "
            "the data set it was trained on."
        )
