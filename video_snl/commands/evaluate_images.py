"""``video-snl evaluate`` on pictures: accuracies or mIoU of a test list, with reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import lightning.pytorch as pl
import numpy as np

from video_snl.commands.image_reports import (
    classification_report,
    counted_pictures,
    segmentation_report,
)
from video_snl.config.image import ImageExperiment
from video_snl.config.image_programs import IMAGES
from video_snl.data.image.catalog import ImageSet, load_images
from video_snl.data.image.loader import ImageLoader, make_image_loader
from video_snl.data.loading.prefetch import prefetched
from video_snl.data.loading.quarantine import Quarantine
from video_snl.engine.train_images import check_network, check_values, task_of
from video_snl.engine.trainer import ProgressLines, make_trainer, stopping_in_order
from video_snl.errors import OptionsError, UserError
from video_snl.models.released.state_dicts import Kind
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import check_same_network, holds
from video_snl.runs.trained_images import TrainedImages, load_released_images, load_trained_images
from video_snl.tasks.image_data import test_batch_size
from video_snl.tasks.images import ImageTask, Segmentation
from video_snl.utils.counts import counts
from video_snl.utils.files import check_folder
from video_snl.utils.finite import not_finite_error
from video_snl.utils.text import same_labels

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

    Raises:
        UserError: An option, the checkpoint or the data do not fit, or the scores of a test
            picture that was read are not finite.
    """
    path = checkpoint_path(checkpoint, IMAGES)
    check_values(experiment)
    check_network(experiment)
    images = load_images(experiment.data)
    trained = _load(path, experiment, images, kind)
    experiment = replace(experiment, model=trained.experiment.model)
    folder = Path(output) if output is not None else _default_folder(path)
    check_folder("--output", str(folder))
    quarantine = _fresh_quarantine(folder, experiment)
    task = task_of(experiment)(
        experiment, trained.model, trained.class_names, (trained.mean, trained.std)
    )
    skip = unreadable == "skip"
    if isinstance(task, Segmentation):
        task.skip_unreadable = skip
        tested = _validate(task, experiment, images, quarantine)
    else:
        tested = _scores(task, experiment, images, quarantine)
    _check_finite(tested, images)
    counted = counted_pictures(tested.read, skip=skip)
    about: dict[str, Any] = {
        "checkpoint": str(path),
        "epoch": None if trained.epoch is None else trained.epoch + 1,
        "dataset": experiment.data.dataset,
        "pictures": int(counted.sum()),
        "unreadable_are": "skipped" if skip else "wrong",
        **_listed("unreadable", images, ~tested.read),
        # There is none, or the evaluation is an error. Readers of older files look for them.
        "not_finite": [],
        "not_finite_count": 0,
    }
    if isinstance(task, Segmentation):
        text = segmentation_report(folder, task.confusion, images.class_names, about)
    else:
        text = classification_report(folder, tested.scores, tested.read, counted, images, about)
    epoch = "" if trained.epoch is None else f"epoch {trained.epoch + 1} of "
    classes = len(images.class_names)
    size = counts(about["pictures"], "test picture")
    print(f"{size} of {counts(classes, 'class')}, {epoch}{path}")
    print(text)
    _tell_of_faults(about)
    print(f"reports: {folder}")
    return 0


class _Tested(NamedTuple):
    """What became of the N test pictures.

    Args:
        read: (N,), which of them could be read.
        broken: (N,), which of them were read and have scores that are not finite.
        scores: (N, classes); of a network that labels pixels (N, 0).
    """

    read: np.ndarray
    broken: np.ndarray
    scores: np.ndarray


def _load(
    path: Path, experiment: ImageExperiment, images: ImageSet, kind: Kind | None
) -> TrainedImages:
    if not holds(path, IMAGES):
        return load_released_images(path, experiment, images, kind=kind)
    if kind is not None:
        raise UserError(f"--kind is for checkpoints of the released code; {path} says it itself.")
    trained = load_trained_images(path)
    check_same_network(experiment.model, trained.experiment.model, path)
    if not same_labels(images.class_names, trained.class_names):
        raise UserError(
            f"{path} knows {counts(len(trained.class_names), 'class')} "
            f"({', '.join(trained.class_names[:3])}, ...), the data set has "
            f"{len(images.class_names)} ({', '.join(images.class_names[:3])}, ...); evaluate on "
            "the data set it was trained on."
        )
    chosen = experiment.data.statistics
    if chosen != "auto" and (images.mean, images.std) != (trained.mean, trained.std):
        raise OptionsError(
            f"data.statistics={chosen}: {path} was trained with the mean {trained.mean} and the "
            f"standard deviation {trained.std}, which go with its weights; leave the option out."
        )
    return trained


def _loader(
    experiment: ImageExperiment, images: ImageSet, quarantine: Quarantine, *, pin: bool
) -> ImageLoader:
    return make_image_loader(
        images.test,
        test_batch_size(experiment, _share(experiment)),
        num_workers=experiment.data.num_workers,
        pin_memory=pin,
        quarantine=quarantine,
    )


def _share(experiment: ImageExperiment) -> int:
    """Pictures that a device took at once in training, which is what fits into its memory.

    Any number of them gives the same figures, so that nothing need be divided without a rest.
    """
    optimizer, trainer = experiment.optimizer, experiment.trainer
    devices = 1 if trainer.devices == "auto" else trainer.devices
    return max(1, optimizer.batch_size // (optimizer.accumulate * devices * trainer.nodes))


def _scores(
    task: ImageTask, experiment: ImageExperiment, images: ImageSet, quarantine: Quarantine
) -> _Tested:
    """Class scores of every test picture; NaN for those that cannot be read."""
    trainer = _trainer(experiment, len(images.test))
    device = trainer.strategy.root_device
    loader = _loader(experiment, images, quarantine, pin=device.type == "cuda")
    try:
        with stopping_in_order():
            parts = trainer.predict(task, dataloaders=prefetched(loader, device))
    finally:
        loader.close()
    scores = np.full((len(images.test), len(images.class_names)), np.nan, dtype=np.float32)
    read = np.zeros(len(scores), dtype=bool)
    for part in cast("list[dict[str, np.ndarray]]", parts):
        index = np.asarray(part["index"])
        read[index] = True
        scores[index] = np.asarray(part["scores"])
    return _Tested(read, read & ~np.isfinite(scores).all(1), scores)


def _validate(
    task: Segmentation, experiment: ImageExperiment, images: ImageSet, quarantine: Quarantine
) -> _Tested:
    """Fill the task's confusion matrix."""
    trainer = _trainer(experiment, len(images.test))
    device = trainer.strategy.root_device
    loader = _loader(experiment, images, quarantine, pin=device.type == "cuda")
    try:
        with stopping_in_order():
            trainer.validate(task, dataloaders=prefetched(loader, device), verbose=False)
    finally:
        loader.close()
    read = np.array([path not in quarantine for path in images.test.paths], dtype=bool)
    broken = np.zeros_like(read)
    broken[task.not_finite()] = True
    return _Tested(read, broken, np.empty((len(read), 0), dtype=np.float32))


def _trainer(experiment: ImageExperiment, total: int) -> pl.Trainer:
    options = replace(experiment.trainer, devices=1, nodes=1, loggers=[])
    lines = ProgressLines(total, "evaluated images")
    return make_trainer(replace(experiment, trainer=options), Path("."), [lines])


def _fresh_quarantine(folder: Path, experiment: ImageExperiment) -> Quarantine:
    """One that knows of no earlier evaluation: every file is tried."""
    file = folder / "quarantine.jsonl"
    file.unlink(missing_ok=True)
    return Quarantine(file, experiment.data.max_failures, "pictures")


def _default_folder(path: Path) -> Path:
    run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return run / "evaluation"


def _listed(name: str, images: ImageSet, rows: np.ndarray) -> dict[str, Any]:
    paths = [images.test.paths[index] for index in np.flatnonzero(rows).tolist()]
    return {name: paths, f"{name}_count": len(paths)}


def _check_finite(tested: _Tested, images: ImageSet) -> None:
    broken = [images.test.paths[index] for index in np.flatnonzero(tested.broken).tolist()]
    if broken:
        others = f" and {len(broken) - 1} more test pictures" if broken[1:] else ""
        raise not_finite_error(f"{broken[0]}{others}")


def _tell_of_faults(about: dict[str, Any]) -> None:
    """Name the pictures that could not be read."""
    how = {"wrong": "they count as wrong", "skipped": "they are left out of all figures"}
    if about["unreadable"]:
        lines = [
            f"test pictures that could not be read: {about['unreadable_count']}; "
            f"{how[about['unreadable_are']]}:"
        ]
        print(*lines, *(f"  {path}" for path in about["unreadable"]), sep="\n")
