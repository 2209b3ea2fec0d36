"""A training run, whatever is trained: its folder, Lightning's loops, and how it ends."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from video_snl.config.task_spec import AnyExperiment, TaskSpec, shown_metrics
from video_snl.engine.callbacks import FirstStep, History, best_checkpoint, last_checkpoint
from video_snl.engine.resume import Asked, check_resumable, fingerprints
from video_snl.engine.trainer import (
    StopTogether,
    check_precision,
    check_processes,
    make_trainer,
    stopping_in_order,
)
from video_snl.errors import UserError
from video_snl.runs.run import Run, newest_begun
from video_snl.tasks.datamodule import RunData
from video_snl.tasks.operations import Lists
from video_snl.utils.counts import counts
from video_snl.utils.locks import Held, locked
from video_snl.utils.processes import leading_others

__all__ = ["fit", "is_first_process", "opened_run", "resumed_folder", "tell"]

_EXIT_INTERRUPTED = 130
_ENDING = 5.0  # seconds: what a process takes to end whose connections are closed


@contextmanager
def opened_run(
    experiment: AnyExperiment,
    spec: TaskSpec,
    name: str,
    asked: Asked,
    lists: Lists,
) -> Iterator[Run]:
    """Open a new run's folder, or the one to train on in, and hold its lock for the body.

    Where the body fails, the run's record says so.

    Args:
        experiment: The configuration.
        spec: Kind of task of the run.
        name: Name for a new run, unless ``trainer.name`` is given.
        asked: Request to train on, and the run it names.
        lists: The files of every list.

    Raises:
        UserError: There is no such run, another process trains it just now, it cannot be trained on
            as asked (:func:`~video_snl.engine.resume.check_resumable`), or its device cannot train
            in the precision that is asked for.
    """
    check_precision(experiment.trainer)
    check_processes(experiment.trainer)
    output = Path(experiment.trainer.output)
    folder = resumed_folder(experiment, spec, asked)
    if folder is not None:
        run = Run.open(folder, spec)
    elif is_first_process():
        run = Run.create(output, experiment.trainer.name or name, experiment, spec)
        tell(f"run folder: {run.folder}")
    else:
        # Only the first process writes; the others never touch the folder.
        run = Run(output / "run-of-rank-0", {}, spec)
    with _locked(run) if is_first_process() else nullcontext():
        run.lists = fingerprints(lists, experiment.data.root)
        if asked.resume is not None:
            # Read again: another process may have trained on until it let go of the lock.
            run.record = Run.open(run.folder, spec).record
            for line in check_resumable(experiment, run, asked):
                tell(f"accepted: {line}")
            tell(f"resuming {run.folder}")
            if is_first_process():
                run.remove_left_overs()
        elif is_first_process():
            run.update(lists=run.lists)
        with _recording_failure(run):
            yield run


@contextmanager
def _locked(run: Run) -> Iterator[None]:
    try:
        with locked(run.lock) as holds:
            if not holds:
                tell(
                    f"{run.folder}: its file system has no locks; see to it that no other command "
                    "resumes this run at the same time"
                )
            yield
    except Held as error:
        who = f"by {error}" if str(error) else "by another process"
        raise UserError(
            f"the run in {run.folder} is being trained just now, {who}: wait until that ends, or "
            "name another run."
        ) from error


@contextmanager
def _recording_failure(run: Run) -> Iterator[None]:
    """Let the run's record say so where the body fails."""
    try:
        yield
    except BaseException as error:
        # A refused --resume leaves the record of a finished run as it is.
        if is_first_process() and run.record["status"] != "finished":
            try:
                run.update(status="failed", error=str(error))
            except OSError as unwritten:  # as of the full disk that ended the training
                tell(f"{run.folder / 'run.json'} keeps an earlier status ({unwritten.strerror})")
        raise


def fit(
    experiment: AnyExperiment,
    task: pl.LightningModule,
    data: RunData,
    run: Run,
    *,
    profile: bool = False,
    validate_every: int = 1,
) -> int:
    """Train from the start or from the run's last checkpoint; returns the exit code."""
    history = History(run, data.unreadable, profile=profile)
    callbacks = _callbacks(experiment, run, history)
    trainer = make_trainer(experiment, run.folder, callbacks, validate_every=validate_every)
    data.part_size(trainer.world_size)
    try:
        code = _fit(trainer, task, data, run)
    except BaseException as error:
        broken = isinstance(error, Exception) and not isinstance(error, UserError)
        code = _end_other_processes(trainer, wait=_ENDING if broken else 0.0)
        # Unless this process failed first: its own error is said, too.
        if code or _connection_lost(error):
            # torchrun ends this process now, which is ending: not before it has said why.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise UserError(_stopped_elsewhere(error, code, trainer, run)) from error
        raise
    finally:
        data.close()
    if trainer.is_global_zero:
        run.update(precision=str(trainer.precision))  # what "auto" has come to be
        _close(run, history, code, data)
    return code


def _callbacks(experiment: AnyExperiment, run: Run, history: History) -> list[Callback]:
    folder = run.folder / "checkpoints"
    best = best_checkpoint(folder, run.spec.monitor)
    last = last_checkpoint(folder, lambda epochs: run.update(finished_epochs=epochs))
    callbacks: list[Callback] = [
        StopTogether(),
        FirstStep(partial(run.begin, experiment)),
        history,
        best,
        last,
    ]
    if experiment.optimizer.ema_decay is not None:
        callbacks.insert(0, EMAWeightAveraging(decay=experiment.optimizer.ema_decay))
    return callbacks


def _fit(trainer: pl.Trainer, task: pl.LightningModule, data: RunData, run: Run) -> int:
    last = run.last_checkpoint
    options: dict[str, Any] = {"ckpt_path": str(last) if last.is_file() else None}
    try:
        with leading_others(), stopping_in_order():
            trainer.fit(task, datamodule=data, weights_only=True, **options)
    except SystemExit as stopped:
        return int(stopped.code or 0)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    return 0


def _connection_lost(error: BaseException) -> bool:
    """Tell whether another process of the training does not answer any more."""
    if isinstance(error, torch.distributed.DistError):
        return True
    # gloo, which CPUs use, has no class of errors of its own.
    return isinstance(error, RuntimeError) and "gloo/transport" in str(error)


def _stopped_elsewhere(error: BaseException, code: int, trainer: pl.Trainer, run: Run) -> str:
    """Return the line of a process that another one's end has stopped."""
    why = (
        f"exit code {code}; its lines above" if code else "its lines, or those of torchrun or srun,"
    )
    met = " ".join(str(error).split())[:200] or type(error).__name__
    # The others do not know the folder of a new run.
    resume = f"--resume {run.folder}" if trainer.is_global_zero else "--resume"
    return (
        f"another process of this training stopped ({why} say why); this one then met: {met}. "
        f"{run.spec.command} train {resume} goes on from the last finished epoch."
    )


def _end_other_processes(trainer: pl.Trainer, wait: float = 0.0) -> int:
    """End those that this one has started: they would wait for its gradients for good.

    Args:
        wait: Seconds that one of them is given to end by itself, where its end may be the cause.

    Returns:
        The exit code of the first that stopped by itself; 0 where none did.
    """
    shared = getattr(trainer.strategy.launcher, "procs", [])
    # Lightning watches this list, and ends this process where one was killed.
    processes = shared.copy()
    shared.clear()
    until = time.monotonic() + wait
    while not (stopped := [p.returncode for p in processes if p.poll()]):
        if not processes or time.monotonic() >= until:
            break
        time.sleep(0.05)
    for process in processes:
        process.kill()  # no other signal ends one that waits in native code
        process.wait()
    return stopped[0] if stopped else 0


def _close(run: Run, history: History, code: int, data: RunData) -> None:
    status = "finished" if code == 0 else "interrupted"
    run.update(status=status, metrics=history.summary())
    unreadable, spec = data.unreadable(), run.spec
    if unreadable:
        tell(
            f"{data.noun} that could not be read: {unreadable}, see {data.quarantine.file}; "
            f"{data.consequence}"
        )
    if code != 0:
        tell(
            f"interrupted after {counts(len(history.rows), 'finished epoch')}; continue with: "
            f"{spec.command} train --resume {run.folder}"
        )
        return
    for name, row in history.summary().items():
        shown = shown_metrics(spec.summary, history.classes)
        shares = ", ".join(f"{label} {row[metric]:.2%}" for metric, label in shown)
        tell(f"{name} epoch ({row['epoch']:.0f}): {shares}")
    print(f"run: {run.folder}", flush=True)


def resumed_folder(experiment: AnyExperiment, spec: TaskSpec, asked: Asked) -> Path | None:
    """Return the folder of the run that is asked to be trained on; None for a new run.

    Raises:
        UserError: There is no run to train on.
    """
    if asked.resume == "newest":
        return newest_begun(Path(experiment.trainer.output), spec).folder
    return None if asked.resume is None else Path(asked.resume)


def is_first_process() -> bool:
    return int(getattr(rank_zero_only, "rank", 0)) == 0


@rank_zero_only
def tell(message: str) -> None:
    """Print a line on stderr, from the first process."""
    print(message, file=sys.stderr, flush=True)
