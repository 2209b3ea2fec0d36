"""``video-snl train``: the network and the data of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from video_snl.config.ranges import Range, check_training
from video_snl.config.task_spec import VIDEO_SNL
from video_snl.config.video import Experiment
from video_snl.data.transforms.augment import check_augmentation
from video_snl.data.transforms.geometry import STATISTICS, Statistics
from video_snl.data.transforms.mixup import check_mixing
from video_snl.data.video.catalog import load_videos, resolve_dataset
from video_snl.data.video.records import VideoSet
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.fitting import fit, opened_run, tell
from video_snl.engine.resume import Asked, Listed
from video_snl.engine.training_checks import check_class_count, check_last_batch
from video_snl.errors import UserError
from video_snl.models.clip_options import check_clips
from video_snl.models.video import build_model, recompute_units
from video_snl.models.weights.loading import LoadReport
from video_snl.runs.trained import read_checkpoint
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.clips import ClipDataModule
from video_snl.tasks.datamodule import share_of_batch
from video_snl.tasks.optimization import keep_frozen_layers_in_eval
from video_snl.utils.text import same_labels

__all__ = ["check_experiment", "make_task", "train"]


def train(
    experiment: Experiment, *, config_name: str | None, asked: Asked, profile: bool = False
) -> int:
    """Train, or train on, and return the exit code; ``profile`` prints where loading took time."""
    # What is recognised is what the run is of, and what its files say.
    experiment = replace(experiment, data=resolve_dataset(experiment.data))
    videos = load_videos(experiment.data)
    check_experiment(experiment, videos)
    _check_last_batch(experiment, videos)
    if experiment.data.num_workers:
        start_forkserver()  # imports its modules while the network is made
    lists: Listed = {
        part: [(video.path, video.label) for video in listed]
        for part, listed in (("training", videos.train), ("test", videos.test))
    }
    with opened_run(experiment, VIDEO_SNL, config_name, asked, lists) as run:
        task = make_task(experiment, videos, resumed=run.last_checkpoint)
        clips = ClipDataModule(experiment, videos, run.folder)
        return fit(experiment, task, clips, run, profile=profile)


def check_experiment(experiment: Experiment, videos: VideoSet) -> None:
    """Refuse what would only fail later, deep inside.

    Raises:
        UserError: naming the option and what it should be.
    """
    data, model = experiment.data, experiment.model
    classes = len(videos.class_names)
    check_class_count(classes, "videos")
    if model.num_classes not in (None, classes):
        raise UserError(
            f"model.num_classes={model.num_classes}, but the data set has {classes} classes; "
            "leave the option out."
        )
    check_clips(experiment)
    check_augmentation(data)
    check_training(
        experiment,
        {
            "batch_size": Range(1),
            "step_epochs": Range(1),
            "momentum": Range(),
            "mixup": Range(),
            "cutmix": Range(),
        },
    )


def _check_last_batch(experiment: Experiment, videos: VideoSet) -> None:
    def build() -> nn.Module:
        config = replace(experiment.model, weights=None)
        model, _ = build_model(config, len(videos.class_names), seed=experiment.trainer.seed)
        model.train()
        keep_frozen_layers_in_eval(model, experiment.optimizer)
        return model

    data, optimizer = experiment.data, experiment.optimizer
    check_mixing(optimizer, share_of_batch(optimizer.batch_size, optimizer.accumulate, 1))
    shape = 3, data.clip_frames, data.crop, data.crop
    check_last_batch(experiment, experiment.optimizer.batch_size, len(videos.train), shape, build)


def make_task(
    experiment: Experiment, videos: VideoSet, *, resumed: Path | None = None
) -> ActionRecognition:
    """The network with its weights, ready to train (or for those of the checkpoint ``resumed``).

    Raises:
        UserError: when the weights do not fit, or the checkpoint knows other classes.
    """
    stored = read_checkpoint(resumed)["video_snl"] if resumed and resumed.is_file() else None
    if stored is not None and not same_labels(stored["class_names"], videos.class_names):
        raise UserError(
            f"{resumed} was trained on {len(stored['class_names'])} other classes than the "
            f"{len(videos.class_names)} of the data set; resume with the data it was trained on."
        )
    # A resumed run takes its weights from the checkpoint, not from where it once started.
    config = replace(experiment.model, weights=None) if stored else experiment.model
    model, report = build_model(config, len(videos.class_names), seed=experiment.trainer.seed)
    if report is not None:
        tell(report.summary())
    if experiment.trainer.activation_checkpointing:
        recompute_units(model)
    mean, std = (stored["mean"], stored["std"]) if stored else _statistics(experiment, report)
    return ActionRecognition(
        experiment,
        model,
        stored["class_names"] if stored else videos.class_names,
        mean=mean,
        std=std,
        files=[video.path for video in videos.train],
    )


def _statistics(experiment: Experiment, report: LoadReport | None) -> Statistics:
    name: str = experiment.data.statistics
    if name == "auto":
        name = report.statistics if report is not None else "kinetics"
    return STATISTICS[name]
