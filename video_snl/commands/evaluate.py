"""``video-snl evaluate``: the figures of a trained network on its test list, with reports.

Videos are scored at two levels, images by their scores, pixels by a confusion matrix.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

import lightning.pytorch as pl
import numpy as np
from PIL import Image
from torch import Tensor

from video_snl.commands.evaluation_page import About, Samples, write_evaluation_page
from video_snl.commands.reports import (
    LEVELS,
    Scores,
    classification_report,
    segmentation_report,
    write_reports,
)
from video_snl.commands.video_scores import (
    counted_samples,
    evaluation_trainer,
    score_videos,
    unreadable_samples,
    video_metrics,
)
from video_snl.config.datasets import VIDEO_DATASETS
from video_snl.config.image import ImageExperiment
from video_snl.config.task_spec import (
    TOP,
    VIDEO,
    AnyExperiment,
    ExperimentT,
    TaskSpec,
    shown_tops,
)
from video_snl.config.video import Experiment
from video_snl.data.image.catalog import ImageSet, image_labels
from video_snl.data.image.loader import make_image_loader
from video_snl.data.loading.prefetch import prefetched
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.video.division import division_facts
from video_snl.data.video.recordings import recordings_of
from video_snl.data.video.records import VideoSet
from video_snl.engine.trainer import stopping_in_order
from video_snl.errors import UserError
from video_snl.models.released.state_dicts import Kind
from video_snl.render.film_strips import Strip, film_strip, video_strips
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import Trained, check_same_network, holds, load_trained
from video_snl.tasks.class_operations import AnyClassOperations, ClassOperations
from video_snl.tasks.datamodule import test_batch_size
from video_snl.tasks.image_operations import ImageOperations
from video_snl.tasks.images import ImageTask, Segmentation
from video_snl.utils.counts import counts, views_named
from video_snl.utils.files import check_folder
from video_snl.utils.finite import not_finite_error
from video_snl.utils.memory import keep_freed_memory
from video_snl.utils.text import escaped

__all__ = ["Unreadable", "evaluate"]

PAGE = "report.html"
"""Name of the page among the reports."""
_THUMBNAIL = 112  # pixels of a side

Unreadable = Literal["wrong", "skip"]
"""Test samples that cannot be read count as wrong, or are left out of all figures."""


_DataT = TypeVar("_DataT", bound=VideoSet | ImageSet)
_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True)
class _Evaluation(Generic[ExperimentT, _DataT]):
    """One evaluation.

    Attributes:
        trained: The network, with the options of the evaluation.
        data: The dataset.
        folder: Folder of the reports.
        quarantine: List of the samples that cannot be read.
        clips, crops: Views of a video.
        cached: Start from kept activations of the frozen stages.
        skip: Leave out what cannot be read.
        strips: Most film strips on the page.
        command: Command line that repeats the evaluation.
    """

    trained: Trained[ExperimentT]
    data: _DataT
    folder: Path
    quarantine: Quarantine
    clips: int
    crops: int
    cached: bool
    skip: bool
    strips: int
    command: Sequence[str]


def evaluate(
    experiment: AnyExperiment,
    spec: TaskSpec,
    *,
    checkpoint: str | None,
    output: str | None,
    unreadable: Unreadable = "wrong",
    clips: int = 10,
    crops: int = 3,
    cached: bool = False,
    kind: Kind | None = None,
    strips: int = 120,
    command: Sequence[str] = (),
) -> int:
    """Evaluate a checkpoint on the test list, print the figures, write the reports.

    Args:
        experiment: The options; those of the network must be the checkpoint's.
        spec: The kind of task.
        checkpoint: Checkpoint, as for :func:`~video_snl.runs.run.checkpoint_path`.
        output: Folder of the reports; default ``evaluation`` beside the checkpoint.
        unreadable: Options for samples that cannot be read.
        clips: Clips of a video, evenly spaced over its length.
        crops: Crops of a clip, 1 or 3.
        cached: Start from kept activations of the frozen stages (``optimizer.cached_versions``).
        kind: Kind of the blocks in a checkpoint of the paper's released code, if the file does not
            tell it.
        strips: Most film strips on the page of the evaluation.
        command: Words of the command line, which the page shows; the checkpoint is added.

    Raises:
        UserError: An option, the checkpoint or the data do not fit, or the scores of a sample that
            was read are not finite.
    """
    path = checkpoint_path(checkpoint, spec)
    if clips < 1:
        raise UserError(f"--clips {clips}: at least one clip of each video is needed.")
    if strips < 0:
        raise UserError(f"--strips {strips}: give the number of film strips, 0 for none.")
    operations = spec.make()
    assert isinstance(operations, ClassOperations)
    operations.check_evaluation(experiment)
    trained, data = _trained_and_data(experiment, operations, path, kind)
    keep_freed_memory()
    if cached:
        _check_cached(trained.experiment, crops)
    folder = Path(output) if output is not None else _default_folder(path)
    check_folder("--output", str(folder))
    evaluation: _Evaluation[Any, Any] = _Evaluation(
        trained=trained,
        data=data,
        folder=folder,
        quarantine=Quarantine.fresh(
            folder / "quarantine.jsonl", trained.experiment.data.max_failures, spec.inputs
        ),
        clips=clips,
        crops=crops,
        cached=cached,
        skip=unreadable == "skip",
        strips=strips,
        command=_repeating(command, checkpoint, path),
    )
    text, metrics = _MEASURES[spec.name](evaluation)
    print(text)
    if note := _note(path):
        print(note)
    if metrics["unreadable"]:
        how = {"wrong": "they count as wrong", "skipped": "they are left out of all figures"}
        print(
            f"test {spec.inputs} that could not be read: {metrics['unreadable_count']}; "
            f"{how[metrics['unreadable_are']]}:"
        )
        print(*(f"  {escaped(file)}" for file in metrics["unreadable"]), sep="\n")
    if (folder / PAGE).is_file():
        print(f"page: {folder / PAGE}")
    print(f"reports: {folder}")
    return 0


def _check_cached(experiment: AnyExperiment, crops: int) -> None:
    if not getattr(experiment.optimizer, "cached_versions", 0):
        raise UserError(
            "--cached: the run did not train on kept activations (optimizer.cached_versions is 0): "
            "leave it out"
        )
    if crops != 1:
        raise UserError(f"--cached keeps one crop of each clip: give --crops 1, not {crops}")


def _repeating(command: Sequence[str], checkpoint: str | None, path: Path) -> list[str]:
    """Return a command line that names its checkpoint: the newest run will be another one."""
    named = [] if checkpoint is not None else ["--checkpoint", str(path)]
    return ["video-snl", *(command or ("evaluate",)), *named]


def _trained_and_data(
    experiment: AnyExperiment, operations: AnyClassOperations, path: Path, kind: Kind | None
) -> tuple[Trained[AnyExperiment], VideoSet | ImageSet]:
    """Load a network, with the options of the evaluation, and the data it is evaluated on."""
    spec = operations.spec
    if isinstance(operations, ImageOperations) and not holds(path, spec):
        assert isinstance(experiment, ImageExperiment)
        options, images = operations.load_test_data(experiment, None)
        return operations.load_released(path, options, images, kind), images
    if kind is not None:
        raise UserError(f"--kind is for checkpoints of the released code; {path} says it itself.")
    trained = load_trained(path, spec)
    assert isinstance(trained, Trained)
    check_same_network(experiment.model, trained.experiment.model, path)
    experiment, data = operations.load_trained_test_data(experiment, trained)
    operations.check_trained(trained, experiment, data)
    experiment = replace(experiment, model=trained.experiment.model)
    return replace(trained, experiment=experiment), data


def _run_folder(path: Path) -> Path:
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent


def _default_folder(path: Path) -> Path:
    return _run_folder(path) / "evaluation"


def _note(path: Path) -> str:
    """Say where a checkpoint was chosen on a test list, whose accuracy is then too high."""
    if path.name != "best.ckpt":
        return ""
    return (
        "This is the epoch that was best on the test list of its run, so that accuracies on that "
        f"list are too high; the last epoch was not chosen by it: {path.with_name('last.ckpt')}"
    )


def _head(evaluation: _Evaluation[Any, Any], samples: int) -> str:
    """First line of the text: what was evaluated, and which network."""
    trained, spec = evaluation.trained, evaluation.trained.spec
    asked = trained.experiment.data
    has_splits = spec.name == "video" and VIDEO_DATASETS[asked.dataset].splits
    split = f", split {asked.split}" if has_splits else ""
    epoch = "" if trained.epoch is None else f"epoch {trained.epoch + 1} of "
    classes = counts(len(evaluation.data.class_names), "class")
    return f"{counts(samples, f'test {spec.input}')} of {classes}{split}, {epoch}{trained.path}"


def _about(evaluation: _Evaluation[Any, Any], head: str, measured: Mapping[str, Any]) -> About:
    """Return what the page says beside the figures."""
    trained = evaluation.trained
    evaluated = {
        key: measured[key]
        for key in ("checkpoint", "epoch", "views", "unreadable_are")
        if key in measured
    }
    name = _run_folder(trained.path.absolute()).name
    settings = trained.experiment.to_dict()
    # The network was built without them, and trained from them.
    stored = trained.stored.get(trained.spec.entry, {}).get("experiment", {}).get("model", {})
    settings["model"]["weights"] = stored.get("weights")
    return About(
        title=f"Evaluation of {name}",
        facts=" ".join(part for part in (f"{head}.", _note(trained.path)) if part),
        settings={"evaluation": evaluated, **settings},
        command=shlex.join(evaluation.command),
    )


# Videos


def _measure_videos(evaluation: _Evaluation[Experiment, VideoSet]) -> tuple[str, dict[str, Any]]:
    trained, videos = evaluation.trained, evaluation.data
    scores = score_videos(
        trained,
        trained.experiment,
        videos,
        clips=evaluation.clips,
        crops=evaluation.crops,
        quarantine=evaluation.quarantine,
        cached=evaluation.cached,
    )
    views = views_named(evaluation.clips, evaluation.crops)
    assert trained.epoch is not None
    metrics = {
        **video_metrics(scores, videos, skip=evaluation.skip),
        "checkpoint": str(trained.path),
        "epoch": trained.epoch + 1,
        "views": views,
        "split": trained.experiment.data.split,
        "dataset": trained.experiment.data.dataset,
        "division": division_facts(videos, trained.experiment.data.split_by),
    }
    write_reports(evaluation.folder, scores, videos, metrics, views)
    _write_video_page(evaluation, scores, metrics)
    tops = shown_tops(metrics["classes"])
    lines = [
        _head(evaluation, metrics["videos"]),
        f"{'level':36}  " + "    ".join(f"top-{n}" for n in tops),
    ]
    names = {"clip": "clip (centre crop of the centre clip)", "video": f"video ({views})"}
    for level in LEVELS:
        shares = "  ".join(f"{metrics[f'{level}_top{n}']:6.2%}" for n in tops)
        lines.append(f"{names[level]:37} {shares}")
    accuracies = {f"clip_top{n}" for n in (1, min(TOP, metrics["classes"]))}
    further = [key for key in metrics if key.startswith("clip_") and key not in accuracies]
    for name in (key.removeprefix("clip_") for key in further):
        values = ", ".join(f"{level} {metrics[f'{level}_{name}']:.4g}" for level in LEVELS)
        lines.append(f"{name}: {values}")
    return "\n".join(lines), metrics


def _write_video_page(
    evaluation: _Evaluation[Experiment, VideoSet], scores: Scores, metrics: Mapping[str, Any]
) -> None:
    trained, test = evaluation.trained, evaluation.data.test
    paths, data = [video.path for video in test], trained.experiment.data
    division = evaluation.data.division
    known = None if division is None else division.groups
    samples = Samples(
        unit="video",
        names=paths,
        class_names=evaluation.data.class_names,
        label=scores["label"],
        read=scores["read"],
        counted=counted_samples(scores["read"], VIDEO, skip=evaluation.skip),
        levels={level: scores[level] for level in LEVELS},
        recordings=recordings_of(paths, known=known),
    )

    def draw(indices: list[int]) -> dict[int, Strip]:
        drawn = video_strips(
            [paths[index] for index in indices],
            num_workers=data.num_workers,
            deadline=data.deadline,
            max_pixels=data.max_pixels,
        )
        return {index: drawn[paths[index]] for index in indices}

    about = _about(evaluation, _head(evaluation, metrics["videos"]), metrics)
    write_evaluation_page(evaluation.folder, samples, about, draw, evaluation.strips)


# Images


def _measure_images(
    evaluation: _Evaluation[ImageExperiment, ImageSet],
) -> tuple[str, dict[str, Any]]:
    images, task = evaluation.data, _image_task(evaluation)
    scores = np.full((len(images.test), len(images.class_names)), np.nan, dtype=np.float32)
    read = np.zeros(len(scores), dtype=bool)
    parts = _over_images(evaluation, lambda trainer, loader: trainer.predict(task, loader))
    for part in cast("list[dict[str, Tensor]]", parts):
        index = part["index"].numpy()
        read[index] = True
        scores[index] = part["scores"].numpy()
    _check_finite(images, np.flatnonzero(read & ~np.isfinite(scores).all(1)).tolist())
    counted = counted_samples(read, evaluation.trained.spec, skip=evaluation.skip)
    about = _about_images(evaluation, read, counted)
    text = classification_report(evaluation.folder, scores, read, counted, images, about)
    head = _head(evaluation, about["pictures"])
    samples = Samples(
        unit="image",
        names=images.test.paths,
        class_names=images.class_names,
        label=image_labels(images.test),
        read=read,
        counted=counted,
        levels={"image": scores},
    )

    def draw(indices: list[int]) -> dict[int, Strip]:
        return {index: _thumbnail(images, index) for index in indices}

    page = _about(evaluation, head, about)
    write_evaluation_page(evaluation.folder, samples, page, draw, evaluation.strips)
    return f"{head}\n{text}", about


def _thumbnail(images: ImageSet, index: int) -> Strip:
    """Return an image as the network is given it, small; it was read a moment ago."""
    try:
        pixels = images.test[0, index]["image"]
    except UserError as error:
        return Strip(note=str(error))
    image = Image.fromarray(np.ascontiguousarray(pixels.numpy()))
    return Strip.of(film_strip([image], width=_THUMBNAIL, height=_THUMBNAIL))


def _measure_pixels(
    evaluation: _Evaluation[ImageExperiment, ImageSet],
) -> tuple[str, dict[str, Any]]:
    images, task = evaluation.data, _image_task(evaluation)
    assert isinstance(task, Segmentation)
    task.skip_unreadable = evaluation.skip
    _over_images(evaluation, lambda trainer, loader: trainer.validate(task, loader, verbose=False))
    read = np.array([path not in evaluation.quarantine for path in images.test.paths], dtype=bool)
    _check_finite(images, sorted(task.not_finite()))
    counted = counted_samples(read, evaluation.trained.spec, skip=evaluation.skip)
    about = _about_images(evaluation, read, counted)
    text = segmentation_report(evaluation.folder, task.confusion, images.class_names, about)
    return f"{_head(evaluation, about['pictures'])}\n{text}", about


_MEASURES: Mapping[str, Callable[[_Evaluation[Any, Any]], tuple[str, dict[str, Any]]]] = {
    "video": _measure_videos,
    "image": _measure_images,
    "segmentation": _measure_pixels,
}
"""By the kind of task: measure, write the reports, and return their text and ``metrics.json``."""


def _image_task(evaluation: _Evaluation[ImageExperiment, ImageSet]) -> ImageTask:
    operations = evaluation.trained.spec.make()
    assert isinstance(operations, ImageOperations)
    return operations.scoring_task(evaluation.trained)


def _over_images(
    evaluation: _Evaluation[ImageExperiment, ImageSet],
    run: Callable[[pl.Trainer, Iterable[object]], _ResultT],
) -> _ResultT:
    """Run a task over the test images."""
    experiment, images = evaluation.trained.experiment, evaluation.data
    trainer = evaluation_trainer(experiment, len(images.test), "images")
    device = trainer.strategy.root_device
    # As many as a device took in training, which is what fits into its memory; the figures do not
    # depend on it, so that the batch need not be divided without a rest.
    optimizer, options = experiment.optimizer, experiment.trainer
    devices = 1 if options.devices == "auto" else options.devices
    share = max(1, optimizer.batch_size // (optimizer.accumulate * devices * options.nodes))
    loader = make_image_loader(
        images.test,
        test_batch_size(experiment, share),
        num_workers=experiment.data.num_workers,
        pin_memory=device.type == "cuda",
        quarantine=evaluation.quarantine,
    )
    try:
        with stopping_in_order():
            return run(trainer, prefetched(loader, device))
    finally:
        loader.close()


def _check_finite(images: ImageSet, broken: Sequence[int]) -> None:
    if broken:
        others = f" and {len(broken) - 1} more test images" if broken[1:] else ""
        raise not_finite_error(f"{images.test.paths[broken[0]]}{others}")


def _about_images(
    evaluation: _Evaluation[ImageExperiment, ImageSet], read: np.ndarray, counted: np.ndarray
) -> dict[str, Any]:
    trained = evaluation.trained
    return {
        "checkpoint": str(trained.path),
        "epoch": None if trained.epoch is None else trained.epoch + 1,
        "dataset": trained.experiment.data.dataset,
        "pictures": int(counted.sum()),
        **unreadable_samples(evaluation.data.test.paths, read, skip=evaluation.skip),
        # There is none, or the evaluation is an error. Readers of older files look for them.
        "not_finite": [],
        "not_finite_count": 0,
    }
