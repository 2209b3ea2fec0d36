"""Train and test one seed of a cell, each as a process of its own, and read what came out.

Without torch.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Literal

from video_snl.errors import UserError
from video_snl.tables.settings import Planned, settings_of
from video_snl.tables.store import Result
from video_snl.utils.counts import views_named
from video_snl.utils.json_text import parse_json

__all__ = [
    "Job",
    "JobResult",
    "found_result",
    "is_held",
    "job_of",
    "run_job",
    "stop_all",
    "test_folder",
]

_PROGRAM = (sys.executable, "-m", "video_snl")
_PATIENCE = 60.0  # seconds that a training has to end in order
_LAST_WORDS = 4096  # bytes of a log that may hold its last line


@dataclass(frozen=True)
class Job:
    """A seed of a cell, as plain values that another machine can take.

    Attributes:
        words: The arguments of ``video-snl train``.
        runs: The folder its run's folder stands in, ``name``-DATE-TIME.
        log: File for the output of the training.
        lock: Held while it trains, by the training itself.
        source: Name of the data where its configuration does not tell it.
        views: Clips of a test video, and crops of a clip, whose scores are averaged after the
            training; None where its own test is all.
    """

    table: int
    row: str
    seed: int
    settings: str
    name: str
    words: tuple[str, ...]
    runs: Path
    log: Path
    lock: Path
    source: str = ""
    views: tuple[int, int] | None = None

    @property
    def label(self) -> str:
        return f"{self.row}, seed {self.seed}"


@dataclass(frozen=True)
class JobResult:
    """End of a job: ``elsewhere`` means that another command trains it just now."""

    job: Job
    status: Literal["finished", "failed", "interrupted", "elsewhere"]
    result: Result | None = None
    message: str = ""


@dataclass(frozen=True)
class _Found:
    """A run's folder with the job's settings."""

    folder: Path
    record: Mapping[str, Any] = field(repr=False)

    @property
    def finished(self) -> bool:
        return self.record.get("status") == "finished"

    @property
    def resumable(self) -> bool:
        return not self.finished and (self.folder / "checkpoints" / "last.ckpt").is_file()


def job_of(planned: Planned, seed: int, folder: Path) -> Job:
    """Return the job of a seed; all its files are below ``folder``."""
    folder = folder.resolve()
    name = planned.name(seed)
    return Job(
        table=planned.cell.table,
        row=planned.cell.row,
        seed=seed,
        settings=planned.settings,
        name=name,
        words=tuple(planned.words(seed, folder / "runs")),
        runs=folder / "runs",
        log=folder / "logs" / f"{name}.log",
        lock=folder / "locks" / f"{name}.lock",
        source=planned.source,
        views=planned.views,
    )


def found_result(job: Job) -> Result | None:
    """Return the result of a finished run of the job, tested where it is to be.

    None where there is none in its folder.
    """
    done = [found for found in _runs_of(job) if found.finished]
    if not done or (job.views is not None and _tested(job, done[-1]) is None):
        return None
    return _result(job, done[-1], _seconds_of(done[-1]))


def run_job(job: Job, environment: Mapping[str, str] | None = None) -> JobResult:
    """Train a job, going on with its half-done run where there is one.

    Args:
        environment: Set for the training, besides that of this process.
    """
    with _locked(job) as lock:
        if lock is None:
            return JobResult(job, "elsewhere", message="another command trains it just now")
        result = found_result(job)
        if result is not None:
            return JobResult(job, "finished", result)
        return _trained(job, lock, environment or {})


def _trained(job: Job, lock: IO[bytes], environment: Mapping[str, str]) -> JobResult:
    environment = {**os.environ, **environment}
    seconds = None
    if not any(found.finished for found in _runs_of(job)):
        resumable = [found for found in _runs_of(job) if found.resumable]
        words = ["train", "--resume", str(resumable[-1].folder)] if resumable else list(job.words)
        began = time.monotonic()
        code = _run(words, job.log, lock, environment)
        seconds = time.monotonic() - began
        if code != 0:
            return _ended(job, code)
    done = [found for found in _runs_of(job) if found.finished]
    if not done:
        reason = f"no finished run of these settings below {job.runs}; see {job.log}"
        return JobResult(job, "failed", message=reason)
    if job.views is not None and _tested(job, done[-1]) is None:
        code = _run(_test_words(job.views, done[-1]), job.log, lock, environment)
        if code != 0:
            return _ended(job, code)
    seconds = _seconds_of(done[-1]) if seconds is None else seconds
    return JobResult(job, "finished", _result(job, done[-1], seconds))


def _ended(job: Job, code: int) -> JobResult:
    """Return the result of a job whose process ended with a code that is not 0."""
    if code in (129, 130, 143):
        return JobResult(
            job, "interrupted", message="interrupted; the same command goes on with it"
        )
    return JobResult(job, "failed", message=f"exit code {code}: {_last_line(job.log)}")


def _test_words(views: tuple[int, int], found: _Found) -> list[str]:
    """Return the arguments of ``video-snl`` that test the last epoch of a run."""
    checkpoint = found.folder / "checkpoints" / "last.ckpt"
    output = found.folder / test_folder(views)
    words = ["evaluate", "--checkpoint", str(checkpoint), "--output", str(output), "--strips", "0"]
    for name, value in zip(("clips", "crops"), views, strict=True):
        words += [f"--{name}", str(value)]
    cached = found.record["config"]["optimizer"].get("cached_versions", 0)
    return [*words, "--cached"] if cached and views[1] == 1 else words


def _tested(job: Job, found: _Found) -> dict[str, Any] | None:
    """Return the figures of a test of a run's last epoch with the job's views, if there is one."""
    assert job.views is not None
    path = found.folder / test_folder(job.views) / "metrics.json"
    try:
        figures: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        of_last = Path(figures["checkpoint"]).name == "last.ckpt"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return figures if of_last and figures.get("views") == views_named(*job.views) else None


def test_folder(views: tuple[int, int]) -> str:
    """Return the name of the folder, in that of a run, of its test with these views.

    It is not that of the user's own ``evaluate``.
    """
    return f"evaluation-{views[0]}x{views[1]}"


def _run(words: list[str], log: Path, lock: IO[bytes], environment: Mapping[str, str]) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [*_PROGRAM, *words]
    with log.open("ab") as file:
        file.write(f"$ video-snl {' '.join(words)}\n".encode())
        file.flush()
        # In a session of its own: Ctrl-C reaches it once, from here. It inherits the lock, so that
        # the lock lasts as long as the training does, whatever happens to this process.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )
        _CHILDREN.add(process)
        try:
            return process.wait()
        except BaseException:
            stop(process)
            raise
        finally:
            _CHILDREN.discard(process)


_CHILDREN: set[subprocess.Popen[bytes]] = set()
"""Trainings that this process waits for, in whichever of its threads."""


def stop(*processes: subprocess.Popen[bytes]) -> None:
    """Let trainings end in order, all at once; kill those that do not in a minute.

    By SIGTERM: SIGINT is ignored by what was started from a shell's background job.
    """
    for process in processes:
        if process.poll() is None:
            process.terminate()
    end = time.monotonic() + _PATIENCE
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def stop_all() -> None:
    """Let all trainings of this process end in order."""
    stop(*_CHILDREN)


def is_held(job: Job) -> bool:
    """Tell whether some process trains the job just now."""
    with _locked(job) as lock:
        return lock is None


@contextmanager
def _locked(job: Job) -> Iterator[IO[bytes] | None]:
    """Yield a file that is locked for the job, or None where another process has it."""
    job.lock.parent.mkdir(parents=True, exist_ok=True)
    with job.lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        except OSError as error:
            raise UserError(
                f"{job.lock} cannot be locked ({error.strerror}); choose a folder -o on another "
                "file system."
            ) from error
        yield file


def _runs_of(job: Job) -> list[_Found]:
    """Return the job's runs with its settings, the newest last."""
    named = re.compile(re.escape(job.name) + r"-\d{8}-\d{6}(-\d+)?")
    found = []
    for path in sorted(job.runs.glob(f"{job.name}-*/run.json")):
        if not named.fullmatch(path.parent.name):
            continue
        try:
            record = parse_json(path.read_text(encoding="utf-8"))
            weights = record.get("weights_sha256")
            fits = settings_of(record["config"], job.source, weights) == job.settings
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a run that never came to write its record cannot be gone on with
        if fits and record["config"]["trainer"]["seed"] == job.seed:
            found.append(_Found(path.parent, record))
    return found


def _result(job: Job, found: _Found, seconds: float) -> Result:
    metrics = found.record["metrics"]
    tested = None if job.views is None else _tested(job, found)
    return Result(
        table=job.table,
        row=job.row,
        seed=job.seed,
        settings=job.settings,
        metrics={which: _measured(metrics[which]) for which in ("last", "best")},
        run=str(found.folder),
        seconds=round(seconds, 1),
        versions=dict(found.record.get("versions", {})),
        config=dict(found.record["config"]),
        precision=str(found.record.get("precision", "")),
        videos=None if tested is None else float(tested["video_top1"]),
        views=None if tested is None else str(tested["views"]),
    )


def _measured(metrics: Mapping[str, float]) -> dict[str, float]:
    """Drop the times of loading, which say nothing of the network."""
    return {name: value for name, value in metrics.items() if not name.startswith("loading/")}


def _seconds_of(found: _Found) -> float:
    """Return the duration of a run that nobody waited for: from its start to its last record."""
    started = datetime.fromisoformat(str(found.record["started"])).timestamp()
    return max(0.0, (found.folder / "run.json").stat().st_mtime - started)


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST_WORDS))
        lines = file.read().decode(errors="replace").split("\n")
    words = [line.split("\r")[-1].strip() for line in lines]
    return next((line for line in reversed(words) if line), f"see {log}")
