"""Run the missing cells of a table, here or as jobs of SLURM, and keep every result at once.

SLURM is reached through Submitit (an extra: ``cluster``).
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from video_snl.errors import UserError
from video_snl.tables.jobs import Job, JobResult, is_held, run_job, stop_all
from video_snl.tables.store import Store
from video_snl.utils.extras import require

__all__ = ["Cluster", "Runner", "Training", "cluster_runner", "local_runner", "run_jobs"]

Runner = Callable[[Sequence[Job]], Generator[JobResult, None, None]]
"""Function that runs jobs and yields their results as they end; closed early, it ends them."""

_REQUEUES = 1000  # of a job that is out of time; Submitit's own limit is 3
_PATIENCE = 60.0  # seconds for jobs that were taken back


@dataclass(frozen=True)
class Cluster:
    """Resources of a job.

    Attributes:
        kind: ``slurm``, or ``local``: Submitit's processes on this machine, to try it.
        partition: Partition of SLURM; default the cluster's own.
        gpus, cpus: Number for each job.
        minutes: Time limit of a job; one that needs more is put into the queue again, and goes on.
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

    def __call__(self) -> JobResult:
        return run_job(self.job)

    def checkpoint(self) -> Any:
        """Return what is queued again: the same job, which resumes its half-done run."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Training(self.job))


def run_jobs(jobs: Sequence[Job], runner: Runner, store: Store, metric: str) -> list[JobResult]:
    """Run jobs, append what they give to ``store``, and say so on stderr.

    Returns:
        The results of those that did not finish.
    """
    missed = []
    with closing(runner(jobs)) as results:
        for number, ended in enumerate(results, start=1):
            if ended.result is not None:
                store.append(ended.result)
            else:
                missed.append(ended)
            line = f"{number} of {len(jobs)}: {_line(ended, metric)}"
            print(line, file=sys.stderr, flush=True)
    return missed


def local_runner(number: int, devices: Sequence[str]) -> Runner:
    """Make a runner of processes on this machine, ``number`` at a time.

    Args:
        devices: The GPUs to share out, as ``CUDA_VISIBLE_DEVICES`` names them; none or one is left
            to the trainings as it is.
    """

    def run(jobs: Sequence[Job]) -> Generator[JobResult, None, None]:
        free: SimpleQueue[str] = SimpleQueue()
        for place in range(number):
            free.put(devices[place % len(devices)] if len(devices) > 1 else "")
        with ThreadPoolExecutor(number) as pool:
            futures = [pool.submit(_on_a_device, job, free, number) for job in jobs]
            try:
                yield from _as_they_end(futures)
            except BaseException:
                _end(futures)
                raise

    return run


def cluster_runner(
    cluster: Cluster, folder: Path, number: int, *, every: float | None = None
) -> Runner:
    """Make a runner of jobs on a cluster, at most ``number`` in its queue at a time.

    Args:
        folder: Folder of Submitit's files; all machines must see it, and the repository.
        every: Seconds between two looks at the jobs.

    Raises:
        UserError: Submitit is not installed, or there is no SLURM here.
    """
    executor = _executor(cluster, folder)
    pause = every if every is not None else (1.0 if cluster.kind == "local" else 15.0)

    def run(jobs: Sequence[Job]) -> Generator[JobResult, None, None]:
        waiting, running = list(jobs), list[tuple[Job, Any]]()
        try:
            while waiting or running:
                while waiting and len(running) < number:
                    job = waiting.pop(0)
                    running.append((job, executor.submit(Training(job))))
                ended = [pair for pair in running if pair[1].done()]
                running = [pair for pair in running if pair not in ended]
                yield from (_submitted_result(*pair) for pair in ended)
                if running and not ended:
                    time.sleep(pause)
        except BaseException:
            _cancel(running)
            raise

    return run


def _end(futures: Sequence[Future[JobResult]]) -> None:
    """Start no more trainings, and end those that run, also those that only just start."""
    for future in futures:
        future.cancel()
    while wait(futures, timeout=0.2).not_done:
        stop_all()


def _on_a_device(job: Job, free: SimpleQueue[str], number: int) -> JobResult:
    device = free.get()
    try:
        return run_job(job, _environment(device, number))
    except Exception as error:  # of one job: the others go on
        return JobResult(job, "failed", message=f"{type(error).__name__}: {error}")
    finally:
        free.put(device)


def _environment(device: str, number: int) -> dict[str, str]:
    """Return a training's variables: its GPU, and its share of the cores unless that is set."""
    environment = {"CUDA_VISIBLE_DEVICES": device} if device else {}
    if "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // number))
    return environment


def _as_they_end(futures: Sequence[Future[JobResult]]) -> Generator[JobResult, None, None]:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def _line(ended: JobResult, metric: str) -> str:
    result = ended.result
    if result is None:
        return f"{ended.job.label}: {ended.status}: {ended.message}"
    last, best = (result.metrics[which][metric] for which in ("last", "best"))
    return f"{ended.job.label}: {last:.2%} (best {best:.2%}), {result.seconds:.0f} s"


def _executor(cluster: Cluster, folder: Path) -> Any:
    require("cluster")
    import submitit

    # Its warnings are on stderr, too; standard output is the table's alone.
    logger = logging.getLogger("submitit")
    for handler in list(logger.handlers):
        if handler.name == "submitit_out":
            logger.removeHandler(handler)
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


def _submitted_result(job: Job, submitted: Any) -> JobResult:
    error = submitted.exception()
    if error is None:
        ended: JobResult = submitted.result()
        return ended
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = f"{lines[-1] if lines else type(error).__name__} (see {submitted.paths.stderr})"
    return JobResult(job, "failed", message=reason)


def _cancel(running: Sequence[tuple[Job, Any]]) -> None:
    """Take jobs back, and wait for their trainings, which end in order."""
    for _, submitted in running:
        submitted.cancel(check=False)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if all(submitted.done() and not is_held(job) for job, submitted in running):
            return
        time.sleep(0.5)
