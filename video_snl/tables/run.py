"""Run the cells of a table that are missing, side by side, and keep every result at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from queue import SimpleQueue

from video_snl.tables.jobs import Job, Outcome, run_job, stop_all
from video_snl.tables.store import Store

__all__ = ["Runner", "local_runner", "run_jobs"]

Runner = Callable[[Sequence[Job]], Generator[Outcome, None, None]]
"""Runs jobs and gives their outcomes in the order they end in; closed early, it ends them."""


def run_jobs(jobs: Sequence[Job], runner: Runner, store: Store, metric: str) -> list[Outcome]:
    """Run jobs, append what they give to ``store``, and say so on stderr.

    Returns:
        The outcomes of those that did not finish.
    """
    missed = []
    with closing(runner(jobs)) as outcomes:
        for number, outcome in enumerate(outcomes, start=1):
            if outcome.result is not None:
                store.append(outcome.result)
            else:
                missed.append(outcome)
            line = f"{number} of {len(jobs)}: {_line(outcome, metric)}"
            print(line, file=sys.stderr, flush=True)
    return missed


def local_runner(number: int, devices: Sequence[str]) -> Runner:
    """Processes on this machine, ``number`` at a time.

    Args:
        devices: The GPUs to share out, as ``CUDA_VISIBLE_DEVICES`` names them; none or one is left
            to the trainings as it is.
    """

    def run(jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
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


def _end(futures: Sequence[Future[Outcome]]) -> None:
    """Start no more trainings, and end those that run, also those that only just start."""
    for future in futures:
        future.cancel()
    while wait(futures, timeout=0.2).not_done:
        stop_all()


def _on_a_device(job: Job, free: SimpleQueue[str], number: int) -> Outcome:
    device = free.get()
    try:
        return run_job(job, _environment(device, number))
    except Exception as error:  # of one job: the others go on
        return Outcome(job, "failed", message=f"{type(error).__name__}: {error}")
    finally:
        free.put(device)


def _environment(device: str, number: int) -> dict[str, str]:
    """Each training has its GPU, and its share of the cores unless that is set from outside."""
    environment = {"CUDA_VISIBLE_DEVICES": device} if device else {}
    if "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // number))
    return environment


def _as_they_end(futures: Sequence[Future[Outcome]]) -> Generator[Outcome, None, None]:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def _line(outcome: Outcome, metric: str) -> str:
    result = outcome.result
    if result is None:
        return f"{outcome.job.label}: {outcome.status}: {outcome.message}"
    last, best = (result.metrics[which][metric] for which in ("last", "best"))
    return f"{outcome.job.label}: {last:.2%} (best {best:.2%}), {result.seconds:.0f} s"
