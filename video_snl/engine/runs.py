"""Runs: a folder each, with its configuration, logs, checkpoints and ``run.json``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from video_snl import __version__
from video_snl.engine.files import write_json, write_text
from video_snl.engine.program import VIDEO_SNL, AnyExperiment, Program
from video_snl.engine.sharing import is_shared, shared_weights
from video_snl.errors import UserError
from video_snl.utils.json_text import parse_json

__all__ = ["Run", "checkpoint_path", "newest_run", "runs_in", "stored_experiment", "stored_program"]

_PACKAGES = ("torch", "torchvision", "pytorchvideo", "decord", "lightning", "numpy", "scikit-learn")


class Run:
    """One training run of a program and its record, ``run.json``."""

    def __init__(self, folder: Path, record: dict[str, Any], program: Program = VIDEO_SNL) -> None:
        self.folder, self.record, self.program = folder, record, program

    @classmethod
    def create(
        cls, output: Path, name: str, experiment: AnyExperiment, program: Program = VIDEO_SNL
    ) -> Run:
        """Make ``output/name-DATE-TIME`` with the configuration in it."""
        started = datetime.now(UTC)
        folder = _fresh_folder(output, f"{name}-{started:%Y%m%d-%H%M%S}")
        record = {
            "program": program.kind,
            "status": "started",
            "started": started.isoformat(timespec="microseconds"),
            "command": sys.argv,
            "seed": experiment.trainer.seed,
            "versions": _versions(),
            "git": _git_state(),
            "config": experiment.to_dict(),
            "metrics": {},
        }
        write_text(folder / "config.yaml", yaml.safe_dump(experiment.to_dict(), sort_keys=False))
        run = cls(folder, record, program)
        run.update()
        return run

    @classmethod
    def open(cls, folder: Path, program: Program = VIDEO_SNL) -> Run:
        """The run of an existing folder.

        Raises:
            UserError: when the folder holds no readable ``run.json``, or another program's.
        """
        record = _record(folder, program)
        wrote = _kind_of(record)
        if wrote != program.kind:
            raise UserError(
                f"{folder} is a run of {wrote}, not of {program.kind}; name a folder that "
                f"{program.name} train has written."
            )
        return cls(folder, record, program)

    @property
    def experiment(self) -> AnyExperiment:
        return _experiment(self.record.get("config"), self.folder / "run.json", self.program)

    @property
    def last_checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    def update(self, **values: Any) -> None:
        """Set entries of the record and write it."""
        self.record.update(values)
        write_json(self.folder / "run.json", self.record)


def runs_in(output: Path, program: Program = VIDEO_SNL) -> list[Run]:
    """A program's runs in ``output``, the one that was started first at first.

    Raises:
        UserError: A ``run.json`` cannot be read.
    """
    folders = [path.parent for path in output.glob("*/run.json")]
    records = [(folder, _record(folder, program)) for folder in folders]
    runs = [Run(*found, program) for found in records if _kind_of(found[1]) == program.kind]
    return sorted(runs, key=lambda run: str(run.record.get("started", "")))


def newest_run(output: Path, program: Program = VIDEO_SNL) -> Path:
    """The folder of the program's run in ``output`` that was started last.

    Raises:
        UserError: when there is none.
    """
    runs = runs_in(output, program)
    if not runs:
        raise UserError(
            f"found no run below {output}/; train one first ({program.name} train) or name its "
            "folder."
        )
    return runs[-1].folder


def checkpoint_path(
    named: str | None, program: Program = VIDEO_SNL, *, option: str = "--checkpoint"
) -> Path:
    """The checkpoint file that a user means.

    Args:
        named: A file, a run's folder, a published folder, or None: the newest run.
        option: By which it was named, for messages.

    Raises:
        UserError: when there is no such file.
    """
    path = Path(named) if named is not None else newest_run(Path("runs"), program)
    if is_shared(path):
        return shared_weights(path)
    if path.is_dir():
        best, last = path / "checkpoints" / "best.ckpt", path / "checkpoints" / "last.ckpt"
        if not best.is_file() and not last.is_file():
            raise UserError(
                f"{path} holds no checkpoints/best.ckpt: no epoch of that run was finished; "
                f"train on with {program.name} train --resume, or name another run."
            )
        return best if best.is_file() else last
    if not path.is_file():
        raise UserError(f"{option} {path}: no such file or folder.")
    return path


def stored_experiment(
    named: str | None, output: str, *, checkpoint: bool, program: Program = VIDEO_SNL
) -> AnyExperiment:
    """The configuration in a checkpoint, or in the record of a run (by folder, or the newest)."""
    if not checkpoint:
        newest = named in (None, "newest")
        folder = newest_run(Path(output), program) if newest else Path(str(named))
        return Run.open(folder, program).experiment
    from video_snl.engine.trained import read_checkpoint

    path = checkpoint_path(named, program)
    # The command that asks for the configuration reads the network next.
    content = read_checkpoint(path, program, hold=True)
    return program.experiment(content[program.entry]["experiment"])


def stored_program(named: str | None, output: str, programs: Sequence[Program]) -> Program:
    """Which of several programs a run or a checkpoint is of; the first where that is not clear.

    Args:
        named: The folder of a run, a file, or None or ``newest`` for the newest run in ``output``.
    """
    if named in (None, "newest"):
        runs = [run for program in programs for run in runs_in(Path(output), program)]
        newest = max(runs, key=lambda run: str(run.record.get("started", "")), default=None)
        return programs[0] if newest is None else newest.program
    path = Path(str(named))
    if (path / "run.json").is_file():
        kind = _kind_of(_record(path, programs[0]))
        return next((program for program in programs if program.kind == kind), programs[0])
    path = shared_weights(path) if is_shared(path) else path
    if not path.is_file():
        return programs[0]  # which says what is wrong with the name
    from video_snl.engine.trained import holds

    return next((program for program in programs if holds(path, program)), programs[0])


def _record(folder: Path, program: Program) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        return dict(parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"expected the folder of a run with its run.json, found no readable {path} "
            f"({error}); name a folder that {program.name} train has written."
        ) from error


def _kind_of(record: dict[str, Any]) -> str:
    """Records from before there were two kinds of runs do not say."""
    return str(record.get("program", VIDEO_SNL.kind))


def _experiment(values: Any, source: Path, program: Program) -> AnyExperiment:
    try:
        return program.experiment(values)
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{source}: its configuration does not fit this version of {program.name} ({error})."
        ) from error


def _fresh_folder(output: Path, name: str) -> Path:
    """Make ``output/name``, with a number behind it where two runs start in one second."""
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        folder = output / f"{name}{suffix}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"cannot make the run's folder {folder}: {error.strerror}.") from error
    raise UserError(f"{output} holds a thousand runs called {name}; choose another --trainer.name.")


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0], "video-snl": __version__}
    return versions | {name: metadata.version(name) for name in _PACKAGES}


def _git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of the checkout the code runs from; None outside of one."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
