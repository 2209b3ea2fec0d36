"""``video-snl train``: one run, from its configuration to its checkpoints and pictures."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from video_snl.checkpoints import LoadReport
from video_snl.config import Experiment
from video_snl.data.augment import check_augmentation
from video_snl.data.nursery import nursery
from video_snl.data.transforms import STATISTICS, Statistics
from video_snl.data.videos import VideoSet, load_videos
from video_snl.engine.callbacks import History, best_checkpoint, last_checkpoint
from video_snl.engine.runs import Run, newest_run
from video_snl.engine.trained import read_checkpoint
from video_snl.engine.trainer import EXIT_TERMINATED, make_trainer, stopping_in_order
from video_snl.errors import UserError
from video_snl.models.build import build_model, recompute_units
from video_snl.models.i3d import BACKBONES
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.clips import ClipDataModule

__all__ = ["make_task", "train"]

_EXIT_INTERRUPTED = 130


def train(
    experiment: Experiment, *, config_name: str, resume: str | None, profile: bool = False
) -> int:
    """Train, or train on, and return the exit code; ``profile`` prints where loading took time."""
    videos = load_videos(experiment.data)
    check_experiment(experiment, videos)
    if experiment.data.num_workers:
        nursery()  # loads its modules while the network is made
    run = _open_run(experiment, config_name, resume)
    try:
        return _train(experiment, videos, run, profile=profile)
    except BaseException as error:
        # A refused --resume leaves the record of a finished run as it is.
        if _is_first_process() and run.record["status"] != "finished":
            run.update(status="failed", error=str(error))
        raise


def _train(experiment: Experiment, videos: VideoSet, run: Run, *, profile: bool) -> int:
    task = make_task(experiment, videos, resumed=run.last_checkpoint)
    clips = ClipDataModule(experiment, videos, run.folder)
    history = History(run, clips.unreadable, profile=profile)
    trainer = make_trainer(experiment, run.folder, _callbacks(experiment, run, history))
    clips.part_size(trainer.world_size)
    try:
        code = _fit(trainer, task, clips, run)
    except BaseException:
        _end_other_processes(trainer)
        raise
    finally:
        clips.close()
    if trainer.is_global_zero:
        _close(run, history, code, clips)
    return code


def check_experiment(experiment: Experiment, videos: VideoSet) -> None:
    """Refuse what would only fail later, deep inside.

    Raises:
        UserError: naming the option and what it should be.
    """
    data, model = experiment.data, experiment.model
    classes = len(videos.class_names)
    if model.num_classes not in (None, classes):
        raise UserError(
            f"model.num_classes={model.num_classes}, but the data set has {classes} classes; "
            "leave the option out."
        )
    least_time, least_side, _ = BACKBONES[model.backbone].smallest_clip
    if data.clip_frames < least_time or data.crop < least_side:
        raise UserError(
            f"{model.backbone} needs clips of at least {least_time} frames and {least_side} "
            f"pixels; data.clip_frames={data.clip_frames}, data.crop={data.crop}."
        )
    if data.crop > data.short_side:
        raise UserError(
            f"data.crop={data.crop} is larger than data.short_side={data.short_side}; "
            "crop at most the shorter side."
        )
    check_augmentation(data)
    for name in ("epochs", "batch_size", "accumulate"):
        if getattr(experiment.optimizer, name) < 1:
            raise UserError(f"optimizer.{name} must be at least 1.")


def make_task(
    experiment: Experiment, videos: VideoSet, *, resumed: Path | None = None
) -> ActionRecognition:
    """The network with its weights, ready to train (or for those of the checkpoint ``resumed``).

    Raises:
        UserError: when the weights do not fit, or the checkpoint knows other classes.
    """
    stored = read_checkpoint(resumed)["video_snl"] if resumed and resumed.is_file() else None
    if stored is not None and stored["class_names"] != videos.class_names:
        raise UserError(
            f"{resumed} was trained on {len(stored['class_names'])} other classes than the "
            f"{len(videos.class_names)} of the data set; resume with the data it was trained on."
        )
    # A resumed run takes its weights from the checkpoint, not from where it once started.
    config = replace(experiment.model, weights=None) if stored else experiment.model
    model, report = build_model(config, len(videos.class_names), seed=experiment.trainer.seed)
    if report is not None:
        _tell(report.summary())
    if experiment.trainer.activation_checkpointing:
        recompute_units(model)
    mean, std = (stored["mean"], stored["std"]) if stored else _statistics(experiment, report)
    return ActionRecognition(
        experiment,
        model,
        videos.class_names,
        mean=mean,
        std=std,
        files=[video.path for video in videos.train],
    )


def _statistics(experiment: Experiment, report: LoadReport | None) -> Statistics:
    name = experiment.data.statistics
    if name == "auto":
        name = report.statistics if report is not None else "kinetics"
    return STATISTICS[name]


def _open_run(experiment: Experiment, config_name: str, resume: str | None) -> Run:
    output = Path(experiment.trainer.output)
    if resume is not None:
        folder = newest_run(output) if resume == "newest" else Path(resume)
        run = Run.open(folder)
        _check_resumable(experiment, run)
        _tell(f"resuming {folder}")
        return run
    if not _is_first_process():
        # Only the first process writes; the others never touch the folder.
        return Run(output / "run-of-rank-0", {})
    run = Run.create(output, experiment.trainer.name or config_name, experiment)
    _tell(f"run folder: {run.folder}")
    return run


def _check_resumable(experiment: Experiment, run: Run) -> None:
    stored = run.experiment
    if experiment.model != stored.model or experiment.trainer.seed != stored.trainer.seed:
        raise UserError(
            f"the run in {run.folder} has another model or seed than asked for; leave the "
            "--model options and --trainer.seed out, or start a new run without --resume."
        )


def _callbacks(experiment: Experiment, run: Run, history: History) -> list[Callback]:
    folder = run.folder / "checkpoints"
    callbacks: list[Callback] = [history, best_checkpoint(folder), last_checkpoint(folder)]
    if experiment.optimizer.ema_decay is not None:
        callbacks.insert(0, EMAWeightAveraging(decay=experiment.optimizer.ema_decay))
    return callbacks


def _fit(trainer: pl.Trainer, task: ActionRecognition, clips: ClipDataModule, run: Run) -> int:
    last = run.last_checkpoint
    options: dict[str, Any] = {"ckpt_path": str(last) if last.is_file() else None}
    try:
        with stopping_in_order():
            trainer.fit(task, datamodule=clips, weights_only=True, **options)
    except SystemExit:
        return EXIT_TERMINATED
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    return 0


def _end_other_processes(trainer: pl.Trainer) -> None:
    """End those that this one has started: they would wait for its gradients for good."""
    shared = getattr(trainer.strategy.launcher, "procs", [])
    # Lightning watches this list, and ends this process where one was killed.
    processes = shared.copy()
    shared.clear()
    for process in processes:
        process.kill()  # no other signal ends one that waits in native code
        process.wait()


def _close(run: Run, history: History, code: int, clips: ClipDataModule) -> None:
    status = "finished" if code == 0 else "interrupted"
    run.update(status=status, metrics=history.summary())
    if clips.unreadable():
        _tell(
            f"videos that could not be read: {clips.unreadable()}, see {clips.quarantine.file}; "
            "other videos of their classes stood for training ones, test ones count as wrong"
        )
    if code != 0:
        _tell(
            f"interrupted after {len(history.rows)} finished epochs; continue with: "
            f"video-snl train --resume {run.folder}"
        )
        return
    for name, row in history.summary().items():
        _tell(
            f"{name} epoch ({row['epoch']:.0f}): clip-level top-1 {row['val/top1']:.2%}, "
            f"top-5 {row['val/top5']:.2%}"
        )
    print(f"run: {run.folder}", flush=True)


def _is_first_process() -> bool:
    return int(getattr(rank_zero_only, "rank", 0)) == 0


@rank_zero_only
def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
