"""Run the cells of a table as jobs of SLURM, through Submitit (an extra: ``cluster``)."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from video_snl.errors import UserError
from video_snl.tables.jobs import Job, Outcome, is_held, run_job
from video_snl.tables.run import Runner

__all__ = ["Cluster", "Training", "cluster_runner"]

_REQUEUES = 1000  # of a job that is out of time; Submitit's own limit is 3
_PATIENCE = 60.0  # seconds for jobs that were taken back


@dataclass(frozen=True)
class Cluster:
    """What a job asks for.

    Attributes:
        kind: ``slurm``, or ``local``: Submitit's processes on this machine, to try it.
        partition: Of SLURM; default the cluster's own.
        gpus, cpus: Of a job.
        minutes: That a job may take; one that needs more is put into the queue again, and goes on.
    """

    kind: Literal["slurm", "local"]
    partition: str | None = None
    gpus: int = 1
    cpus: int = 4
    minutes: int = 24 * 60


class Training:
    """A job as Submitit takes it; one that is preempted, or out of time, is queued again."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self) -> Outcome:
        return run_job(self.job)

    def checkpoint(self) -> Any:
        """What is to be queued instead: the same, since it goes on with its half-done run."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Training(self.job))


def cluster_runner(
    cluster: Cluster, folder: Path, number: int, *, every: float | None = None
) -> Runner:
    """Jobs of a cluster, at most ``number`` in its queue at a time.

    Args:
        folder: For what Submitit keeps; all machines must see it, and the repository.
        every: Seconds between two looks at the jobs.

    Raises:
        UserError: Submitit is not installed, or there is no SLURM here.
    """
    executor = _executor(cluster, folder)
    pause = every if every is not None else (1.0 if cluster.kind == "local" else 15.0)

    def run(jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        waiting, running = list(jobs), list[tuple[Job, Any]]()
        try:
            while waiting or running:
                while waiting and len(running) < number:
                    job = waiting.pop(0)
                    running.append((job, executor.submit(Training(job))))
                ended = [pair for pair in running if pair[1].done()]
                running = [pair for pair in running if pair not in ended]
                yield from (_outcome(*pair) for pair in ended)
                if running and not ended:
                    time.sleep(pause)
        except BaseException:
            _cancel(running)
            raise

    return run


def _executor(cluster: Cluster, folder: Path) -> Any:
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise UserError(
            "--cluster needs Submitit: pip install 'video-snl[cluster]' (or leave --cluster out)."
        ) from error
    try:
        executor = submitit.AutoExecutor(
            folder / "%j", cluster=cluster.kind, slurm_max_num_timeout=_REQUEUES
        )
    except RuntimeError as error:
        raise UserError(f"--cluster {cluster.kind}: {error}; is this a login node?") from error
    executor.update_parameters(
        name="video-snl-table",
        timeout_min=cluster.minutes,
        cpus_per_task=cluster.cpus,
        gpus_per_node=cluster.gpus,
        slurm_partition=cluster.partition,
    )
    return executor


def _outcome(job: Job, submitted: Any) -> Outcome:
    error = submitted.exception()
    if error is None:
        outcome: Outcome = submitted.result()
        return outcome
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = f"{lines[-1] if lines else type(error).__name__} (see {submitted.paths.stderr})"
    return Outcome(job, "failed", message=reason)


def _cancel(running: Sequence[tuple[Job, Any]]) -> None:
    """Take jobs back, and wait for their trainings, which end in order."""
    for _, submitted in running:
        submitted.cancel(check=False)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if all(submitted.done() and not is_held(job) for job, submitted in running):
            return
        time.sleep(0.5)
