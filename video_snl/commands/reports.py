"""Reports of an evaluation: figures by class, confusion matrices, predictions, accuracies."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import classification_report as by_class
from sklearn.metrics import confusion_matrix

from video_snl.config.task_spec import TOP, shown_tops
from video_snl.data.image.catalog import ImageSet, image_labels
from video_snl.data.video.records import VideoSet
from video_snl.engine.plots import confusion_picture
from video_snl.tasks.metrics import PixelConfusion, further_metrics
from video_snl.utils.files import write_json, write_text

__all__ = [
    "LEVELS",
    "Scores",
    "classification_report",
    "has_label",
    "predicted_classes",
    "segmentation_report",
    "top_k_accuracy",
    "write_reports",
]

LEVELS = ("clip", "video")
_NO_CLASS = -1  # the prediction for a video that cannot be read

# level -> (videos, classes) scores, with the labels under "label", and under "read" which videos
# could be read; the scores of the others are NaN, as are those a broken network gives
Scores = dict[str, np.ndarray]


def top_k_accuracy(scores: np.ndarray, label: np.ndarray, k: int) -> float:
    """Return the share of rows whose label is among the k highest scores; ties: the lower class.

    A row without finite scores is wrong, whatever its label.
    """
    return float(has_label(scores, label, k).mean())


def has_label(scores: np.ndarray, label: np.ndarray, k: int) -> np.ndarray:
    """Return which rows have their label among the k highest scores, as :func:`top_k_accuracy`."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return (best == label[:, None]).any(1) & _scored(scores)


def predicted_classes(scores: np.ndarray) -> np.ndarray:
    """Return the classes with the highest scores; no class for a video without any."""
    return np.where(_scored(scores), np.nan_to_num(scores, nan=-1.0).argmax(1), _NO_CLASS)


def write_reports(
    folder: Path,
    scores: Scores,
    videos: VideoSet,
    metrics: dict[str, Any],
    views: str,
    levels: Sequence[str] = LEVELS,
) -> None:
    """Write all of them into a folder, each atomically; ``views`` says what the video level is."""
    names, read = videos.class_names, scores["read"]
    counted = read if metrics["unreadable_are"] == "skipped" else np.ones_like(read)
    for level in levels:
        what = "centre clip" if level == "clip" else views
        title = f"{level} level ({what}): top-1 {metrics[f'{level}_top1']:.1%}"
        _class_reports(folder, level, scores[level], scores["label"], names, read, counted, title)
    write_text(folder / "predictions.csv", _as_csv(_predictions(scores, videos, levels)))
    write_json(folder / "metrics.json", metrics)


def classification_report(
    folder: Path,
    scores: np.ndarray,
    read: np.ndarray,
    counted: np.ndarray,
    images: ImageSet,
    about: dict[str, Any],
) -> str:
    """Write the reports of class scores.

    Args:
        scores: (N, classes). Rows that are not finite, as for images that could not be read or of
            a broken network, are not predictions: they count as wrong.
        read: (N,), which images could be read.
        counted: (N,), which of them the figures are of.

    Returns:
        The accuracies as text.
    """
    label = image_labels(images.test)
    k = min(TOP, len(images.class_names))  # the keys stay, shown or not
    figures = {f"top{n}": top_k_accuracy(scores[counted], label[counted], n) for n in (1, k)}
    further = further_metrics(scores[counted], label[counted])
    title = f"images: top-1 {figures['top1']:.1%}"
    predicted = _class_reports(
        folder, "image", scores, label, images.class_names, read, counted, title, unit="images"
    )
    rows = []
    for index, best in enumerate(predicted):
        found = best >= 0
        rows.append(
            {
                "picture": images.test.paths[index],
                "true class": images.class_names[label[index]],
                "prediction": images.class_names[best] if found else "",
                "score": round(float(scores[index][best]), 6) if found else "",
            }
        )
    write_text(folder / "predictions.csv", _as_csv(rows))
    write_json(folder / "metrics.json", {**about, **figures, **further})
    tops = shown_tops(len(images.class_names))
    shown = [f"top-{n} {figures[f'top{n}']:.2%}" for n in tops]
    return "  ".join([*shown, *(f"{name} {value:.4g}" for name, value in further.items())])


def segmentation_report(
    folder: Path, confusion: PixelConfusion, names: list[str], about: dict[str, Any]
) -> str:
    """Write the reports of a filled confusion matrix; returns its scores as text."""
    scores = confusion.scores()
    matrix = confusion.compute().cpu().numpy()[: len(names)]
    rows: list[dict[str, Any]] = [
        {"class": name, "IoU": _figure(scores.iou[i]), "accuracy": _figure(scores.accuracy[i])}
        for i, name in enumerate(names)
    ]
    write_text(folder / "per_class.csv", _as_csv(rows))
    columns = [*names, "(unreadable)"]
    cells = [
        {"true class": name, **dict(zip(columns, map(int, row[: len(columns)]), strict=True))}
        for name, row in zip(names, matrix, strict=True)
    ]
    write_text(folder / "confusion.csv", _as_csv(cells))
    plot = folder / "confusion.png"
    title = f"segmentation: mIoU {scores.mean_iou:.1%}"
    confusion_picture(matrix[:, : len(names)], names, plot, title=title, unit="pixels")
    figures = scores.named()
    write_json(folder / "metrics.json", {**about, **figures, "per_class": rows})
    width = max(map(len, names))
    lines = [f"{'class':{width}}    IoU    accuracy"]
    lines += [
        f"{row['class']:{width}}  {_percent(row['IoU'])}  {_percent(row['accuracy'])}"
        for row in rows
    ]
    lines.append("  ".join(f"{name} {value:.2%}" for name, value in figures.items()))
    return "\n".join(lines)


def _class_reports(
    folder: Path,
    level: str,
    scores: np.ndarray,
    label: np.ndarray,
    names: list[str],
    read: np.ndarray,
    counted: np.ndarray,
    title: str,
    unit: str = "videos",
) -> np.ndarray:
    """Write the figures of every class, and who was taken for whom, as tables and a plot.

    Args:
        level: Level of the scores, the end of the files' names.
        scores: (N, classes).
        label: (N,).
        read: (N,), which samples could be read.
        counted: (N,), which of them the reports are about.
        title: Title of the plot.
        unit: Plural of what is counted.

    Returns:
        (N,), the predicted classes; -1 where there is none.
    """
    predicted, classes = predicted_classes(scores), range(len(names))
    of, taken = label[counted], predicted[counted]
    report = by_class(
        of, taken, labels=classes, target_names=names, output_dict=True, zero_division=0
    )
    rows = [{"class": name, **report[name]} for name in names]
    write_text(folder / f"per_class_{level}.csv", _as_csv(rows))
    write_json(folder / f"per_class_{level}.json", report)
    matrix = confusion_matrix(of, taken, labels=classes)
    cells = _confusion_rows(matrix, names, of, taken, read[counted])
    write_text(folder / f"confusion_{level}.csv", _as_csv(cells))
    confusion_picture(matrix, names, folder / f"confusion_{level}.png", title=title, unit=unit)
    return predicted


def _confusion_rows(
    matrix: np.ndarray,
    names: list[str],
    label: np.ndarray,
    predicted: np.ndarray,
    read: np.ndarray,
) -> list[dict[str, Any]]:
    """Return a row per class; where videos are unreadable, with a column that counts them."""
    rows: list[dict[str, Any]] = [
        {"true class": name, **dict(zip(names, map(int, row), strict=True))}
        for name, row in zip(names, matrix, strict=True)
    ]
    if not read.all():
        for index, row in enumerate(rows):
            row["(unreadable)"] = int((~read & (label == index)).sum())
    return rows


def _predictions(scores: Scores, videos: VideoSet, levels: Sequence[str]) -> list[dict[str, Any]]:
    names = videos.class_names
    rows = []
    for index, video in enumerate(videos.test):
        row: dict[str, Any] = {"video": video.path, "true class": names[video.label]}
        for level in levels:
            best = int(predicted_classes(scores[level][index : index + 1])[0])
            found = best != _NO_CLASS
            row[f"{level} prediction"] = names[best] if found else ""
            row[f"{level} score"] = round(float(scores[level][index][best]), 6) if found else ""
        rows.append(row)
    return rows


def _scored(scores: np.ndarray) -> np.ndarray:
    """Tell which rows hold scores: argmax and argsort would find class 0 in the others."""
    return np.isfinite(scores).all(1)


def _as_csv(rows: list[dict[str, Any]]) -> str:
    """Format rows of equal keys, which are the header, as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _figure(value: Any) -> float | None:
    number = float(value)
    return None if np.isnan(number) else number


def _percent(value: float | None) -> str:
    return f"{'-':>7}" if value is None else f"{value:7.2%}"
