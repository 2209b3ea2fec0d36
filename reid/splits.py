"""``reid train --splits all``: one run after the other, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from reid.config import ReidExperiment
from reid.data.datasets.catalog import num_splits
from reid.task_spec import REID
from video_snl.config.task_spec import AnyExperiment
from video_snl.errors import UserError
from video_snl.runs.run import Run, runs_in
from video_snl.utils.processes import handling

__all__ = ["train_all"]


def train_all(experiment: ReidExperiment, which: str, *, resume: str | None) -> int:
    """Run this very command once for every split; ends with the first run that does not finish.

    A process each, since those that Lightning starts for more devices repeat the command line.
    Given once more, it goes on: splits with a finished run of this configuration below
    ``trainer.output`` are passed over, and one that was interrupted is resumed.

    Raises:
        UserError: Not a dataset of several splits, or a run that is to be resumed.
    """
    dataset = experiment.data.dataset
    if which != "all":
        raise UserError(f"--splits {which}: give all, or a single one by --split.")
    splits = num_splits(dataset)
    if splits == 1:
        raise UserError(f"--splits all: {dataset} has one split only; leave the option out.")
    if resume is not None:
        raise UserError("--resume goes on with one run: leave --splits out.")
    for split in range(splits):
        present = _present_run(experiment, split)
        done = present is not None and present.record["status"] == "finished"
        state = f": finished, in {present.folder}" if done and present is not None else ""
        print(f"split {split} of {splits}{state}", file=sys.stderr, flush=True)
        if done:
            continue
        words = [*_without_splits(sys.argv[1:]), "--data.split", str(split)]
        code = _run(words if present is None else ["train", "--resume", str(present.folder)])
        if code != 0:
            return code
    return 0


def _present_run(experiment: ReidExperiment, split: int) -> Run | None:
    """Return the newest run of this configuration and split that is finished or can be resumed."""
    wanted = _configuration(experiment) | {"data": vars(replace(experiment.data, split=split))}
    for run in reversed(runs_in(Path(experiment.trainer.output), REID)):
        status = run.record["status"]
        # One that says it is running may be: in another process, which then holds its lock. Where
        # there is no lock, of an earlier version, nobody can tell.
        stopped = status in ("interrupted", "failed") or run.lock.exists()
        resumable = stopped and run.begun and not run.is_being_trained
        usable = status == "finished" or resumable
        if usable and _configuration(run.experiment) == wanted:
            return run
    return None


def _configuration(experiment: AnyExperiment) -> dict[str, Any]:
    values = experiment.to_dict()
    del values["trainer"]["output"]
    return values


def _without_splits(words: list[str]) -> list[str]:
    kept, skip = [], False
    for word in words:
        if skip or word.startswith("--splits="):
            skip = False
        elif word == "--splits":
            skip = True
        else:
            kept.append(word)
    return kept


def _run(words: list[str]) -> int:
    """Run the command in a process that gets the signals this one gets."""
    process = subprocess.Popen([sys.executable, "-m", "reid", *words])

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    with handling(signal.SIGTERM, pass_on), handling(signal.SIGHUP, pass_on):
        return _waited(process)


def _waited(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Ctrl-C reaches the process, too; it ends in order
