"""``video-snl evaluate``: accuracy at both levels, with per-class reports and pictures."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from sklearn.metrics import classification_report, confusion_matrix
from torch import Tensor

from video_snl.config import Experiment
from video_snl.data.choice import resolve_reader
from video_snl.data.loader import EvaluationDataset
from video_snl.data.prefetch import prefetched
from video_snl.data.quarantine import Quarantine
from video_snl.data.videos import VideoSet, load_videos
from video_snl.engine.files import write_json, write_text
from video_snl.engine.plots import confusion_picture
from video_snl.engine.runs import checkpoint_path
from video_snl.engine.trained import Trained, load_trained
from video_snl.engine.trainer import make_trainer, stopping_in_order
from video_snl.errors import UserError
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.clips import evaluation_loader

__all__ = ["LEVELS", "Scores", "evaluate", "score_videos", "top_k_accuracy"]

LEVELS = ("clip", "video")
_NO_CLASS = -1  # the prediction for a video that cannot be read, or whose scores are not finite

# level -> (videos, classes) scores, with the labels under "label", and under "read" which videos
# could be read; the scores of the others are NaN, as are those a broken network gives
Scores = dict[str, np.ndarray]


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
    _check_same_network(experiment, trained)
    videos = load_videos(experiment.data)
    _check_same_classes(videos, trained)
    if clips < 1:
        raise UserError(f"--clips {clips}: at least one clip of each video is needed.")
    folder = Path(output) if output is not None else _default_folder(path)
    quarantine = _fresh_quarantine(folder, experiment)
    scores = score_videos(
        trained, experiment, videos, clips=clips, crops=crops, quarantine=quarantine
    )
    views = f"{clips} clips x {crops} crops"
    metrics = _metrics(scores, videos, unreadable)
    metrics |= {"checkpoint": str(path), "epoch": trained.epoch + 1, "views": views}
    metrics |= {"split": experiment.data.split, "dataset": experiment.data.dataset}
    _write_reports(folder, scores, videos, metrics, views)
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
        UserError: A video cannot be read and there is no quarantine, or too many cannot.
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
    trainer = make_trainer(single, trained.path.parent)
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


def top_k_accuracy(scores: np.ndarray, label: np.ndarray, k: int) -> float:
    """Share of rows whose label is among the k highest scores; ties go to the lower class.

    A row without finite scores is wrong, whatever its label.
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float(((best == label[:, None]).any(1) & _scored(scores)).mean())


def _scored(scores: np.ndarray) -> np.ndarray:
    """Which rows hold scores: argmax and argsort would find class 0 in the others."""
    return np.isfinite(scores).all(1)


def _predicted(scores: np.ndarray) -> np.ndarray:
    """The classes with the highest scores; no class for a video without any."""
    return np.where(_scored(scores), np.nan_to_num(scores, nan=-1.0).argmax(1), _NO_CLASS)


def _metrics(
    scores: Scores, videos: VideoSet, unreadable: Literal["wrong", "skip"]
) -> dict[str, Any]:
    k, read = min(5, len(videos.class_names)), scores["read"]
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
    k = min(5, metrics["classes"])
    lines = [
        f"{metrics['videos']} test videos of {metrics['classes']} classes, split "
        f"{metrics['split']}, epoch {metrics['epoch']} of {trained.path}",
        f"{'level':36}  top-1    top-{k}",
    ]
    names = {"clip": "clip (centre crop of the centre clip)", "video": f"video ({views})"}
    for level in LEVELS:
        one, more = metrics[f"{level}_top1"], metrics[f"{level}_top{k}"]
        lines.append(f"{names[level]:37} {one:6.2%}  {more:6.2%}")
    return "\n".join(lines)


def _write_reports(
    folder: Path, scores: Scores, videos: VideoSet, metrics: dict[str, Any], views: str
) -> None:
    names, read = videos.class_names, scores["read"]
    counted = read if metrics["unreadable_are"] == "skipped" else np.ones_like(read)
    label, classes = scores["label"][counted], range(len(names))
    for level in LEVELS:
        predicted = _predicted(scores[level][counted])
        report = classification_report(
            label, predicted, labels=classes, target_names=names, output_dict=True, zero_division=0
        )
        rows = [{"class": name, **report[name]} for name in names]
        write_text(folder / f"per_class_{level}.csv", _csv(rows))
        write_json(folder / f"per_class_{level}.json", report)
        matrix = confusion_matrix(label, predicted, labels=classes)
        cells = _confusion_rows(matrix, names, label, predicted, read[counted])
        write_text(folder / f"confusion_{level}.csv", _csv(cells))
        accuracy = f"{metrics[f'{level}_top1']:.1%}"
        what = "centre clip" if level == "clip" else views
        title = f"{level} level ({what}): top-1 {accuracy}"
        confusion_picture(matrix, names, folder / f"confusion_{level}.png", title=title)
    write_text(folder / "predictions.csv", _csv(_predictions(scores, videos)))
    write_json(folder / "metrics.json", metrics)


def _confusion_rows(
    matrix: np.ndarray,
    names: list[str],
    label: np.ndarray,
    predicted: np.ndarray,
    read: np.ndarray,
) -> list[dict[str, Any]]:
    """A row per class; where videos have no prediction, columns that say how many and why."""
    rows: list[dict[str, Any]] = [
        {"true class": name, **dict(zip(names, map(int, row), strict=True))}
        for name, row in zip(names, matrix, strict=True)
    ]
    for column, whose in (("(unreadable)", ~read), ("(scores not finite)", read)):
        missed = (predicted == _NO_CLASS) & whose
        if missed.any():
            for index, row in enumerate(rows):
                row[column] = int((missed & (label == index)).sum())
    return rows


def _predictions(scores: Scores, videos: VideoSet) -> list[dict[str, Any]]:
    names = videos.class_names
    rows = []
    for index, video in enumerate(videos.test):
        row: dict[str, Any] = {"video": video.path, "true class": names[video.label]}
        for level in LEVELS:
            best = int(_predicted(scores[level][index : index + 1])[0])
            found = best != _NO_CLASS
            row[f"{level} prediction"] = names[best] if found else ""
            row[f"{level} score"] = round(float(scores[level][index][best]), 6) if found else ""
        rows.append(row)
    return rows


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _fresh_quarantine(folder: Path, experiment: Experiment) -> Quarantine:
    """One that knows of no earlier evaluation: every file is tried."""
    file = folder / "quarantine.jsonl"
    file.unlink(missing_ok=True)
    return Quarantine(file, experiment.data.max_failures)


def _default_folder(path: Path) -> Path:
    run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return run / "evaluation"


def _check_same_network(experiment: Experiment, trained: Trained) -> None:
    asked = replace(experiment.model, weights=None)
    stored = replace(trained.experiment.model, weights=None)
    differing = [
        f"model.{name}: {getattr(asked, name)!r} asked for, {value!r} in the checkpoint"
        for name, value in vars(stored).items()
        if getattr(asked, name) != value and name not in ("allow_partial_weights", "num_classes")
    ]
    if differing:
        raise UserError(
            f"{trained.path} holds another network ({'; '.join(differing)}); give the --config it "
            "was trained with, or none."
        )


def _check_same_classes(videos: VideoSet, trained: Trained) -> None:
    if videos.class_names != trained.class_names:
        raise UserError(
            f"{trained.path} knows {len(trained.class_names)} classes "
            f"({', '.join(trained.class_names[:3])}, ...), the data set has "
            f"{len(videos.class_names)} ({', '.join(videos.class_names[:3])}, ...); evaluate on "
            "the data set it was trained on."
        )
