"""The reports of an evaluation on pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from video_snl.commands.reports import as_csv, class_reports, top_k_accuracy
from video_snl.config.task_spec import TOP, shown_tops
from video_snl.data.image.catalog import ImageSet, image_labels
from video_snl.engine.plots import confusion_picture
from video_snl.errors import UserError
from video_snl.tasks.segmentation_metrics import PixelConfusion
from video_snl.utils.files import write_json, write_text

__all__ = ["classification_report", "counted_pictures", "segmentation_report"]


def counted_pictures(read: np.ndarray, *, skip: bool) -> np.ndarray:
    """Which pictures the figures are of: all, or those that could be read. Shapes: (N,).

    Raises:
        UserError: None is left.
    """
    counted = read if skip else np.ones_like(read)
    if not counted.any():
        raise UserError(
            f"none of the {len(read)} test pictures can be read, and --unreadable skip leaves them "
            "out: there is nothing to evaluate; look at --data.root"
        )
    return counted


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
        scores: (N, classes). Rows that are not finite, as of pictures that could not be read or of
            a broken network, are no prediction: they are wrong.
        read: (N,), which pictures could be read.
        counted: (N,), which of them the figures are of.

    Returns:
        The accuracies, for people.
    """
    label = image_labels(images.test)
    k = min(TOP, len(images.class_names))  # the keys stay, shown or not
    figures = {f"top{n}": top_k_accuracy(scores[counted], label[counted], n) for n in (1, k)}
    title = f"images: top-1 {figures['top1']:.1%}"
    predicted = class_reports(
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
    write_text(folder / "predictions.csv", as_csv(rows))
    write_json(folder / "metrics.json", {**about, **figures})
    tops = shown_tops(len(images.class_names))
    return "  ".join(f"top-{n} {figures[f'top{n}']:.2%}" for n in tops)


def segmentation_report(
    folder: Path, confusion: PixelConfusion, names: list[str], about: dict[str, Any]
) -> str:
    """Write the reports of a filled confusion matrix; returns its scores, for people."""
    scores = confusion.scores()
    matrix = confusion.compute().cpu().numpy()[: len(names)]
    rows: list[dict[str, Any]] = [
        {"class": name, "IoU": _figure(scores.iou[i]), "accuracy": _figure(scores.accuracy[i])}
        for i, name in enumerate(names)
    ]
    write_text(folder / "per_class.csv", as_csv(rows))
    columns = [*names, "(unreadable)"]
    cells = [
        {"true class": name, **dict(zip(columns, map(int, row[: len(columns)]), strict=True))}
        for name, row in zip(names, matrix, strict=True)
    ]
    write_text(folder / "confusion.csv", as_csv(cells))
    picture = folder / "confusion.png"
    title = f"segmentation: mIoU {scores.mean_iou:.1%}"
    confusion_picture(matrix[:, : len(names)], names, picture, title=title, unit="pixels")
    figures = {
        "mIoU": scores.mean_iou,
        "mAcc": scores.mean_accuracy,
        "aAcc": scores.accuracy_of_all,
    }
    write_json(folder / "metrics.json", {**about, **figures, "per_class": rows})
    width = max(map(len, names))
    lines = [f"{'class':{width}}    IoU    accuracy"]
    lines += [
        f"{row['class']:{width}}  {_percent(row['IoU'])}  {_percent(row['accuracy'])}"
        for row in rows
    ]
    lines.append("  ".join(f"{name} {value:.2%}" for name, value in figures.items()))
    return "\n".join(lines)


def _figure(value: Any) -> float | None:
    number = float(value)
    return None if np.isnan(number) else number


def _percent(value: float | None) -> str:
    return f"{'-':>7}" if value is None else f"{value:7.2%}"
