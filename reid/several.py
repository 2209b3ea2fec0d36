"""Several checkpoints that are measured together: whether they may be, and where reports go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from reid.config import ReidExperiment
from reid.task_spec import REID
from video_snl.errors import UserError
from video_snl.runs.trained import stored_experiment

__all__ = ["check_together", "report_folders"]

# Of a network, what does not tell it from another one.
_BESIDE = ("weights", "allow_partial_weights")


def check_together(paths: Sequence[Path]) -> None:
    """Whether mean and deviation over these checkpoints mean something.

    They are to be of different runs of one network on one data set; splits and seeds may differ.

    Raises:
        UserError: naming two checkpoints of which that is not so.
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
                f"{paths[0]} and {path} are not of one network and data set "
                f"({'; '.join(differing)}): their mean says nothing, name those of one."
            )


def report_folders(paths: Sequence[Path], named: str | None) -> list[Path]:
    """The folder of every checkpoint's report, no two of them the same.

    A single one's is ``named``; of several, each has a folder in it that is called after its run,
    or its file. Without a name they are beside the checkpoints.
    """
    several = len(paths) > 1
    folders: list[Path] = []
    for path in paths:
        folder = _folder(path, named, several=several)
        number = 2
        while folder in folders:
            folder = folder.with_name(f"{_folder(path, named, several=several).name}-{number}")
            number += 1
        folders.append(folder)
    return folders


def _folder(path: Path, named: str | None, *, several: bool) -> Path:
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
        | {f"model.{name}": v for name, v in vars(each.model).items() if name not in _BESIDE}
        for each in (first, other)
    ]
    return [
        f"{name}: {value!r} and {values[1][name]!r}"
        for name, value in values[0].items()
        if value != values[1][name]
    ]
