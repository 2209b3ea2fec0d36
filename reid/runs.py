"""Checkpoints that a command means, one or several measured together. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from reid.config import ReidExperiment
from reid.task_spec import REID
from video_snl.errors import UserError
from video_snl.runs.published import is_shared
from video_snl.runs.run import (
    Run,
    checkpoint_path,
    newest_of,
    newest_run,
    runs_in,
)
from video_snl.runs.trained import stored_experiment
from video_snl.utils.text import say_once

__all__ = [
    "check_together",
    "find_checkpoint",
    "find_checkpoints",
    "newest_trained",
    "report_folders",
]

# Entries of the model that do not tell one network from another.
_NOT_COMPARED = ("weights", "allow_partial_weights")


def find_checkpoints(
    named: list[str] | None, output: str, dataset: str | None, *, option: str = "--checkpoint"
) -> list[Path]:
    """Find the checkpoint files that a user means.

    Args:
        named: Files, folders of runs, published folders, or folders that hold folders of runs: of
            those, the newest finished run of every split. None is the newest run in ``output`` that
            has a checkpoint.
        output: Folder of runs.
        dataset: Dataset of the runs that count, where several are searched; None for any.
        option: Option that named them, for messages.

    Returns:
        Files in the order of naming; of a folder of runs, in the order of the splits. Empty where
        nothing was named and there is no such run.

    Raises:
        UserError: A file or folder that does not exist.
    """
    if not named:
        run = newest_trained(Path(output), dataset)
        return [] if run is None else [checkpoint_path(str(run.folder), REID)]
    found: list[Path] = []
    for name in named:
        folder = Path(name)
        holds_one = (folder / "checkpoints").is_dir() or is_shared(folder)
        if folder.is_dir() and not holds_one:
            found += _one_of_each_split(folder, dataset, option)
        else:
            found.append(checkpoint_path(name, REID, option=option))
    return found


def find_checkpoint(named: str | None, *, option: str = "--checkpoint") -> Path:
    """Find the one checkpoint file that a user means.

    Args:
        named: As in :func:`find_checkpoints`; None is the newest run in ``runs/`` that has one.
        option: Option that named it, for messages.

    Raises:
        UserError: There is none, or there are several.
    """
    found = find_checkpoints(None if named is None else [named], "runs", None, option=option)
    if not found:
        raise UserError(
            "found no run with a checkpoint below runs/; train one (reid train), or name one."
        )
    if len(found) > 1:
        raise UserError(f"{option} {named} holds runs of several splits; name one of them.")
    return found[0]


def newest_trained(output: Path, dataset: str | None) -> Run | None:
    """Find the newest run that has a checkpoint, of one dataset if it is named.

    Newer runs without a checkpoint are named on stderr, and so is the state of the run found where
    it is not finished.
    """
    runs = [run for run in runs_in(output, REID) if dataset in (None, run.experiment.data.dataset)]
    found = newest_of(runs, lambda run: run.trained)
    if found is not None and found.record.get("status") != "finished":
        say_once(f"taking {found.folder}: {found.state}")
    return found


def check_together(paths: Sequence[Path]) -> None:
    """Check that the checkpoints are comparable runs: of one network on one dataset.

    Splits and seeds may differ.

    Raises:
        UserError: Two checkpoints of one run, or of two networks or datasets.
    """
    _refuse_one_run_twice(paths)
    stored = [
        cast(ReidExperiment, stored_experiment(str(path), "", checkpoint=True, spec=REID))
        for path in paths
    ]
    for path, experiment in zip(paths[1:], stored[1:], strict=True):
        differing = _differing(stored[0], experiment)
        if differing:
            raise UserError(
                f"{paths[0]} and {path} are not of one network and dataset "
                f"({'; '.join(differing)}): their mean says nothing, name those of one."
            )


def report_folders(paths: Sequence[Path], named: str | None) -> list[Path]:
    """Return the folder of every checkpoint's report, no two of them the same.

    A single report goes to ``named``; of several, each has a folder in it that is called after its
    run, or its file. Without a name they are beside the checkpoints.
    """
    several = len(paths) > 1
    folders: list[Path] = []
    for path in paths:
        folder = first = _report_folder(path, named, several=several)
        number = 2
        while folder in folders:
            folder = first.with_name(f"{first.name}-{number}")
            number += 1
        folders.append(folder)
    return folders


def _one_of_each_split(folder: Path, dataset: str | None, option: str) -> list[Path]:
    """Return the checkpoint of the newest finished run of every split in a folder of runs."""
    runs = {
        run.experiment.data.split: run
        for run in runs_in(folder, REID)
        if run.record.get("status") == "finished" and dataset in (None, run.experiment.data.dataset)
    }
    if not runs:
        newest_run(folder, REID)  # raises where there is no run at all
        of = "" if dataset is None else f" of dataset {dataset}"
        raise UserError(f"{option} {folder} holds no finished run{of}; name another folder.")
    if len({run.experiment.data.dataset for run in runs.values()}) > 1:
        raise UserError(
            f"{option} {folder} holds runs of several datasets; say which with --dataset."
        )
    return [checkpoint_path(str(runs[split].folder), REID) for split in sorted(runs)]


def _report_folder(path: Path, named: str | None, *, several: bool) -> Path:
    in_run = path.parent.name == "checkpoints"
    if named is None:
        if in_run:
            return path.parent.parent / "report"
        return path.parent / (f"report-{path.stem}" if several else "report")
    if not several:
        return Path(named)
    return Path(named) / (path.parent.parent.name if in_run else path.stem)


def _refuse_one_run_twice(paths: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path in paths:
        file = path.resolve()
        run = file.parent.parent if file.parent.name == "checkpoints" else file
        if run not in seen:
            seen[run] = path
        elif seen[run].resolve() == file:
            raise UserError(f"--checkpoint {path} is named twice; name every checkpoint once.")
        else:
            raise UserError(
                f"{seen[run]} and {path} are of the same run: their mean says nothing, name one."
            )


def _differing(first: ReidExperiment, other: ReidExperiment) -> list[str]:
    values = [
        {"data.dataset": each.data.dataset}
        | {f"model.{name}": v for name, v in vars(each.model).items() if name not in _NOT_COMPARED}
        for each in (first, other)
    ]
    return [
        f"{name}: {value!r} and {values[1][name]!r}"
        for name, value in values[0].items()
        if value != values[1][name]
    ]
