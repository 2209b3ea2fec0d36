"""``video-snl evaluate`` on pictures: accuracies or mIoU of a test list, with reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import lightning.pytorch as pl
import numpy as np

from video_snl.config_image_run import ImageExperiment
from video_snl.data.image_loader import ImageLoader, make_image_loader
from video_snl.data.images import ImageSet, load_images
from video_snl.data.prefetch import prefetched
from video_snl.data.quarantine import Quarantine
from video_snl.engine.image_programs import IMAGES
from video_snl.engine.image_reports import classification_report, segmentation_report
from video_snl.engine.runs import checkpoint_path
from video_snl.engine.train_images import check_network, task_of
from video_snl.engine.trained import check_same_network, holds
from video_snl.engine.trained_images import TrainedImages, load_released_images, load_trained_images
from video_snl.engine.trainer import make_trainer, stopping_in_order
from video_snl.errors import UserError
from video_snl.reference_keys import Kind
from video_snl.tasks.image_data import test_batch_size
from video_snl.tasks.images import ImageTask, Segmentation

__all__ = ["evaluate"]


def evaluate(
    experiment: ImageExperiment,
    *,
    checkpoint: str | None,
    kind: Kind | None,
    output: str | None,
    unreadable: Literal["wrong", "skip"] = "wrong",
) -> int:
    """Evaluate a checkpoint on the test list, print the figures, write the reports.

    Args:
        kind: Of the blocks of a checkpoint of the released code, where the file does not tell it.
    """
    path = checkpoint_path(checkpoint, IMAGES)
    check_network(experiment)
    images = load_images(experiment.data)
    trained = _load(path, experiment, images, kind)
    experiment = replace(experiment, model=trained.experiment.model)
    folder = Path(output) if output is not None else _default_folder(path)
    quarantine = _fresh_quarantine(folder, experiment)
    task = task_of(experiment)(
        experiment, trained.model, trained.class_names, (trained.mean, trained.std)
    )
    epoch = "" if trained.epoch is None else f"epoch {trained.epoch + 1} of "
    about: dict[str, Any] = {
        "checkpoint": str(path),
        "epoch": None if trained.epoch is None else trained.epoch + 1,
        "dataset": experiment.data.dataset,
        "pictures": len(images.test),
        "unreadable_are": "skipped" if unreadable == "skip" else "wrong",
    }
    if isinstance(task, Segmentation):
        _validate(task, experiment, images, quarantine)
        about["unreadable"] = sorted(quarantine.bad)
        text = segmentation_report(folder, task.confusion, images.class_names, about)
    else:
        scores = _scores(task, experiment, images, quarantine)
        text = classification_report(folder, scores, images, about, skip=unreadable == "skip")
    print(f"{len(images.test)} test pictures of {len(images.class_names)} classes, {epoch}{path}")
    print(text)
    if quarantine.bad:
        print(_unreadable_lines(about["unreadable_are"], list(quarantine.bad)))
    print(f"reports: {folder}")
    return 0


def _load(
    path: Path, experiment: ImageExperiment, images: ImageSet, kind: Kind | None
) -> TrainedImages:
    if not holds(path, IMAGES):
        return load_released_images(path, experiment, images, kind=kind)
    if kind is not None:
        raise UserError(f"--kind is for checkpoints of the released code; {path} says it itself.")
    trained = load_trained_images(path)
    check_same_network(experiment.model, trained.experiment.model, path)
    if images.class_names != trained.class_names:
        raise UserError(
            f"{path} knows {len(trained.class_names)} classes "
            f"({', '.join(trained.class_names[:3])}, ...), the data set has "
            f"{len(images.class_names)} ({', '.join(images.class_names[:3])}, ...); evaluate on "
            "the data set it was trained on."
        )
    return trained


def _loader(
    experiment: ImageExperiment, images: ImageSet, quarantine: Quarantine, *, pin: bool
) -> ImageLoader:
    return make_image_loader(
        images.test,
        test_batch_size(experiment, experiment.optimizer.batch_size),
        num_workers=experiment.data.num_workers,
        pin_memory=pin,
        quarantine=quarantine,
    )


def _scores(
    task: ImageTask, experiment: ImageExperiment, images: ImageSet, quarantine: Quarantine
) -> np.ndarray:
    """Class scores of every test picture, (N, classes); NaN for those that cannot be read."""
    trainer = _trainer(experiment)
    device = trainer.strategy.root_device
    loader = _loader(experiment, images, quarantine, pin=device.type == "cuda")
    try:
        with stopping_in_order():
            parts = trainer.predict(task, dataloaders=prefetched(loader, device))
    finally:
        loader.close()
    scores = np.full((len(images.test), len(images.class_names)), np.nan, dtype=np.float32)
    for part in cast("list[dict[str, np.ndarray]]", parts):
        scores[np.asarray(part["index"])] = np.asarray(part["scores"])
    return scores


def _validate(
    task: Segmentation, experiment: ImageExperiment, images: ImageSet, quarantine: Quarantine
) -> None:
    """Fill the task's confusion matrix."""
    trainer = _trainer(experiment)
    device = trainer.strategy.root_device
    loader = _loader(experiment, images, quarantine, pin=device.type == "cuda")
    try:
        with stopping_in_order():
            trainer.validate(task, dataloaders=prefetched(loader, device), verbose=False)
    finally:
        loader.close()


def _trainer(experiment: ImageExperiment) -> pl.Trainer:
    options = replace(experiment.trainer, devices=1, nodes=1, loggers=[])
    return make_trainer(replace(experiment, trainer=options), Path("."))


def _fresh_quarantine(folder: Path, experiment: ImageExperiment) -> Quarantine:
    """One that knows of no earlier evaluation: every file is tried."""
    file = folder / "quarantine.jsonl"
    file.unlink(missing_ok=True)
    return Quarantine(file, experiment.data.max_failures, "pictures")


def _default_folder(path: Path) -> Path:
    run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return run / "evaluation"


def _unreadable_lines(are: str, paths: list[str]) -> str:
    how = {"wrong": "they count as wrong", "skipped": "they are left out of all figures"}
    lines = [f"test pictures that could not be read: {len(paths)}; {how[are]}:"]
    return "\n".join([*lines, *(f"  {path}" for path in paths)])
