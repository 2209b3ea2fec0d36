"""Checks of a run that is to be resumed: its last checkpoint, its files, its options."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from video_snl.config.task_spec import AnyExperiment
from video_snl.errors import UserError
from video_snl.runs.run import Run
from video_snl.runs.trained import read_checkpoint
from video_snl.tasks.operations import Lists
from video_snl.utils.counts import counts, noun

__all__ = ["Asked", "check_resumable", "fingerprints"]

# What an entry of record["lists"] depends on, beside what is on the disk.
_PLACES = ("data.dataset", "data.root", "data.split")
# What Lightning reads beside weights and our own entry.
_STATES = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step")


@dataclass(frozen=True)
class Asked:
    """What ``train`` was asked for, beside the configuration.

    Attributes:
        resume: The folder of a run to train on in, ``newest``, or None: a new run.
        given: The options that stand on the command line, such as ``data.root``; what is given
            there is meant.
        force: Train on with other files or another batch size, too.
    """

    resume: str | None = None
    given: Collection[str] = ()
    force: bool = False


def fingerprints(lists: Lists, root: str | None) -> dict[str, dict[str, Any]]:
    """Number of the files of each list, and SHA-256 of their paths below ``root`` and labels.

    Order counts: what is random about a sample depends on its place in the list.
    """
    # A file names a list: those in it may be relative to its folder.
    folder = None if root is None else Path(root).parent if Path(root).is_file() else Path(root)
    beginning = "" if folder is None else f"{folder}{os.sep}"
    found = {}
    for name, files in lists.items():
        digest, count = hashlib.sha256(), 0
        for path, label in files:
            # A label may be a file, too: the map of an image.
            said = str(label).removeprefix(beginning)
            digest.update(os.fsencode(f"{path.removeprefix(beginning)}\0{said}\n"))
            count += 1
        found[name] = {"files": count, "sha256": digest.hexdigest()}
    return found


def check_resumable(experiment: AnyExperiment, run: Run, asked: Asked) -> list[str]:
    """Check that ``run`` can be trained on with ``experiment``.

    Args:
        experiment: The configuration asked for.
        run: With the fingerprints of the files of today in ``lists``.
        asked: For what was accepted.

    Returns:
        What is accepted though it differs, a line each.

    Raises:
        UserError: Another model or seed; other files or another batch size, which nobody accepted;
            fewer epochs than are finished; a last checkpoint that is missing or damaged.
    """
    stored = run.experiment
    if experiment.model != stored.model or experiment.trainer.seed != stored.trainer.seed:
        raise UserError(
            f"the run in {run.folder} has another model or seed than asked for; leave the "
            "--model options and --trainer.seed out, or start a new run without --resume."
        )
    accepted = [*_check_batch(experiment, run, asked), *_check_lists(run, asked)]
    done = _finished_epochs(run)
    if experiment.optimizer.epochs < done:
        raise UserError(
            f"optimizer.epochs={experiment.optimizer.epochs}, but {counts(done, 'epoch')} of "
            f"{run.folder} {noun(done, 'is', 'are')} finished; give --optimizer.epochs {done} or "
            "more, or leave the option out."
        )
    return accepted


def _check_batch(experiment: AnyExperiment, run: Run, asked: Asked) -> list[str]:
    accepted = []
    for option in run.spec.batch:
        section, name = option.split(".")
        before = getattr(getattr(run.experiment, section), name)
        now = getattr(getattr(experiment, section), name)
        if before == now:
            continue
        if option not in asked.given and not asked.force:
            raise UserError(
                f"{option}={now}, but the run in {run.folder} was trained with {before}; give "
                f"--{option} {now} beside --resume (or --force) if that is meant."
            )
        accepted.append(f"{option}: {before} until now, {now} from here on")
    return accepted


def _check_lists(run: Run, asked: Asked) -> list[str]:
    accepted = []
    stored = run.record.get("lists", {})  # none of versions that did not note them
    for name, now in run.lists.items():
        before = stored.get(name)
        if before is None or before == now:
            continue
        said = f"{before['files']} until now, {now['files']} today"
        if before["files"] == now["files"]:
            said = f"{now['files']}, but other files, labels or another order"
        if not asked.force and not set(_PLACES) & set(asked.given):
            raise UserError(
                f"the {name} list of the run in {run.folder} has changed (files: {said}); let "
                "--data.root name the files it was trained on, or give --force to go on with these."
            )
        accepted.append(f"{name} list: {said}")
    return accepted


def _finished_epochs(run: Run) -> int:
    """How many epochs the last checkpoint has seen.

    Raises:
        UserError: It is not there though an epoch was finished, or cannot be trained on from.
    """
    last, spec = run.last_checkpoint, run.spec
    if not os.path.lexists(last):
        if run.finished_epochs == 0:
            return 0  # stopped in its first epoch, which starts again
        done = run.finished_epochs
        raise UserError(
            f"{last} is missing, though {counts(done, 'epoch')} of the run "
            f"{noun(done, 'was', 'were')} finished: it cannot be trained on. {_instead(run)}"
        )
    try:
        # The network is read from it next.
        content = read_checkpoint(last, spec, cache=True)
    except UserError as error:
        reason = str(error)
        if error.__cause__ is not None and not isinstance(error.__cause__, (UserError, TypeError)):
            reason = f"{last} cannot be read: it is damaged or cut short."
        raise UserError(f"{reason} The run cannot be trained on. {_instead(run)}") from error
    missing = [name for name in _STATES if name not in content]
    if missing:
        raise UserError(
            f"{last} holds no state of a training ({', '.join(missing)} missing): the run cannot "
            f"be trained on. {_instead(run)}"
        )
    return int(content["epoch"]) + 1


def _instead(run: Run) -> str:
    best = run.folder / "checkpoints" / "best.ckpt"
    again = f"{run.spec.command} train --config {run.folder / 'config.yaml'}"
    if best.is_file():
        return (
            f"A new run whose backbone starts from its best epoch, and its blocks anew: {again} "
            f"--model.weights {best}"
        )
    return f"A new run with its options: {again}"
