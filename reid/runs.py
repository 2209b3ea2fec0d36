"""Which checkpoints a command means. Without torch."""

from __future__ import annotations

from pathlib import Path

from reid.task_spec import REID
from video_snl.errors import UserError
from video_snl.runs.published import is_shared
from video_snl.runs.run import Run, checkpoint_path, newest_of, newest_run, runs_in
from video_snl.utils.text import say_once

__all__ = ["find_checkpoint", "find_checkpoints", "newest_trained"]


def find_checkpoints(
    named: list[str] | None, output: str, dataset: str | None, *, option: str = "--checkpoint"
) -> list[Path]:
    """The checkpoint files that a user means.

    Args:
        named: Files, folders of runs, published folders, or folders that hold folders of runs: of
            those, the newest finished run of every split. None is the newest run in ``output`` that
            has a checkpoint.
        output: Folder of runs.
        dataset: Only runs of this data set count, where several are looked through.
        option: By which they were named, for messages.

    Returns:
        In the order of naming; of a folder of runs, in the order of the splits. Empty where nothing
        was named and there is no such run.

    Raises:
        UserError: Something named is not there.
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
    """The one checkpoint file that a user means; None is the newest run in ``runs/`` that has one.

    Args:
        option: By which it was named, for messages.

    Raises:
        UserError: It is not there, or there are several.
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
    """The newest run that has a checkpoint, of this data set if one is named.

    Newer ones without are named on stderr, and so is its state where it is not finished.
    """
    runs = [run for run in runs_in(output, REID) if dataset in (None, run.experiment.data.dataset)]
    found = newest_of(runs, lambda run: run.trained)
    if found is not None and found.record.get("status") != "finished":
        say_once(f"taking {found.folder}: {found.state}")
    return found


def _finished(output: Path, dataset: str | None) -> list[Run]:
    return [
        run
        for run in runs_in(output, REID)
        if run.record.get("status") == "finished" and dataset in (None, run.experiment.data.dataset)
    ]


def _one_of_each_split(folder: Path, dataset: str | None, option: str) -> list[Path]:
    runs = {run.experiment.data.split: run for run in _finished(folder, dataset)}
    if not runs:
        newest_run(folder, REID)  # says that there is none at all
        of = "" if dataset is None else f" of data set {dataset}"
        raise UserError(f"{option} {folder} holds no finished run{of}; name another folder.")
    if len({run.experiment.data.dataset for run in runs.values()}) > 1:
        raise UserError(
            f"{option} {folder} holds runs of several data sets; say which with --dataset."
        )
    return [checkpoint_path(str(runs[split].folder), REID) for split in sorted(runs)]
