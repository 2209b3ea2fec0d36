"""Runs: a folder each, with its configuration, logs, checkpoints and ``run.json``."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from video_snl import __version__
from video_snl.config import Experiment
from video_snl.engine.files import write_json, write_text
from video_snl.errors import UserError

__all__ = ["Run", "checkpoint_path", "newest_run", "stored_experiment"]

_PACKAGES = ("torch", "torchvision", "pytorchvideo", "decord", "lightning", "numpy", "scikit-learn")


class Run:
    """One training run and its record, ``run.json``."""

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder, self.record = folder, record

    @classmethod
    def create(cls, output: Path, name: str, experiment: Experiment) -> Run:
        """Make ``output/name-DATE-TIME`` with the configuration in it."""
        started = datetime.now(UTC)
        folder = _fresh_folder(output, f"{name}-{started:%Y%m%d-%H%M%S}")
        record = {
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
        run = cls(folder, record)
        run.update()
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run of an existing folder.

        Raises:
            UserError: when the folder holds no readable ``run.json``.
        """
        path = folder / "run.json"
        try:
            return cls(folder, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise UserError(
                f"expected the folder of a run with its run.json, found no readable {path} "
                f"({error}); name a folder that video-snl train has written."
            ) from error

    @property
    def experiment(self) -> Experiment:
        return _experiment(self.record.get("config"), self.folder / "run.json")

    @property
    def last_checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    def update(self, **values: Any) -> None:
        """Set entries of the record and write it."""
        self.record.update(values)
        write_json(self.folder / "run.json", self.record)


def newest_run(output: Path) -> Path:
    """The folder of the run in ``output`` that was started last.

    Raises:
        UserError: when there is none.
    """
    runs = [Run.open(path.parent) for path in output.glob("*/run.json")]
    if not runs:
        raise UserError(
            f"found no run below {output}/; train one first (video-snl train) or name its folder."
        )
    return max(runs, key=lambda run: str(run.record.get("started", ""))).folder


def checkpoint_path(named: str | None) -> Path:
    """The checkpoint file that a user means: a file, a run's folder, or (None) the newest run.

    Raises:
        UserError: when there is no such file.
    """
    path = Path(named) if named is not None else newest_run(Path("runs"))
    if path.is_dir():
        best, last = path / "checkpoints" / "best.ckpt", path / "checkpoints" / "last.ckpt"
        if not best.is_file() and not last.is_file():
            raise UserError(
                f"{path} holds no checkpoints/best.ckpt: no epoch of that run was finished; "
                "train on with video-snl train --resume, or name another run."
            )
        return best if best.is_file() else last
    if not path.is_file():
        raise UserError(f"--checkpoint {path}: no such file or folder.")
    return path


def stored_experiment(named: str | None, output: str, *, checkpoint: bool) -> Experiment:
    """The configuration in a checkpoint, or in the record of a run (by folder, or the newest)."""
    if not checkpoint:
        folder = newest_run(Path(output)) if named in (None, "newest") else Path(str(named))
        return Run.open(folder).experiment
    from video_snl.engine.trained import read_checkpoint

    path = checkpoint_path(named)
    return _experiment(read_checkpoint(path)["video_snl"]["experiment"], path)


def _experiment(values: Any, source: Path) -> Experiment:
    try:
        return Experiment.from_dict(values)
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{source}: its configuration does not fit this version of video-snl ({error})."
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
