"""Runs: a folder each, with its configuration, logs, checkpoints and ``run.json``."""

from __future__ import annotations

import glob
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from video_snl import __version__
from video_snl.config.task import task_of_values
from video_snl.config.task_spec import VIDEO, AnyExperiment, TaskSpec
from video_snl.errors import UserError
from video_snl.runs.published import is_shared, shared_weights
from video_snl.utils.counts import counts
from video_snl.utils.files import digest_of, remove_left_overs, write_json, write_text
from video_snl.utils.json_text import parse_json
from video_snl.utils.locks import is_held
from video_snl.utils.text import meant, say_once

__all__ = [
    "Run",
    "check_loaded",
    "checkpoint_path",
    "has_record",
    "kind_of",
    "runs_called",
    "weights_digest",
    "newest_begun",
    "newest_of",
    "newest_run",
    "newest_trained",
    "read_record",
    "run_of",
    "runs_in",
]

_FILES = (
    "run.json",
    "config.yaml",
    "split.csv",
    "metrics.csv",
    "learning_curves.png",
    "quarantine.jsonl",
)
_CHECKPOINTS = ("best.ckpt", "last.ckpt")
_PACKAGES = ("torch", "torchvision", "pytorchvideo", "decord", "lightning", "numpy", "scikit-learn")


class Run:
    """One training run of a kind of task and its record, ``run.json``."""

    def __init__(self, folder: Path, record: dict[str, Any], spec: TaskSpec = VIDEO) -> None:
        self.folder, self.record, self.spec = folder, record, spec
        self.lists: dict[str, Any] = {}
        """Fingerprints of the lists of files in use, once they are known."""

    @classmethod
    def create(
        cls, output: Path, name: str, experiment: AnyExperiment, spec: TaskSpec = VIDEO
    ) -> Run:
        """Make ``output/name-DATE-TIME`` with the configuration in it."""
        if Path(name).name != name:
            raise UserError(
                f"trainer.name={name}: expected the name of a folder, without a slash; give the "
                "folder that it is made in by --trainer.output."
            )
        started = datetime.now(UTC)
        at = started.isoformat(timespec="microseconds")
        folder = _fresh_folder(output, f"{name}-{started:%Y%m%d-%H%M%S}")
        record = {
            "program": spec.kind,
            "status": "started",
            "started": at,
            "command": sys.argv,
            "seed": experiment.trainer.seed,
            "versions": _versions(),
            "git": _git_state(),
            "config": experiment.to_dict(),
            "first_step": None,
            "finished_epochs": 0,
            "metrics": {},
        }
        run = cls(folder, record, spec)
        run.write_config()
        run.update()
        return run

    @classmethod
    def open(cls, folder: Path, spec: TaskSpec = VIDEO) -> Run:
        """Return the run of an existing folder.

        Raises:
            UserError: when the folder holds no readable ``run.json``, or another kind's.
        """
        record = read_record(folder, spec)
        wrote = kind_of(record)
        if wrote != spec.kind:
            raise UserError(
                f"{folder} is a run of {wrote}, not of {spec.kind}; name a folder that "
                f"{spec.command} train has written."
            )
        return cls(folder, record, spec)

    @property
    def experiment(self) -> AnyExperiment:
        return _experiment(self.record.get("config"), self.folder / "run.json", self.spec)

    @property
    def started(self) -> str:
        """Time of its start, as ISO 8601; empty if unknown."""
        return str(self.record.get("started", ""))

    @property
    def last_checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def lock(self) -> Path:
        """The file that whoever trains it holds a lock on."""
        return self.folder / ".lock"

    @property
    def is_being_trained(self) -> bool:
        """True while some process trains the run."""
        return is_held(self.lock)

    @property
    def begun(self) -> bool:
        """True once a training step of the run has begun."""
        if self.record.get("first_step") is not None or self.trained:
            return True
        # Earlier versions did not note it, but there was one where a run was stopped in order.
        stopped = self.record.get("status") in ("running", "finished", "interrupted")
        return "first_step" not in self.record and stopped

    @property
    def finished_epochs(self) -> int:
        """Number of epochs known to be finished, with or without their checkpoints."""
        if "finished_epochs" in self.record:
            return int(self.record["finished_epochs"])
        # Earlier versions wrote an epoch's metrics before its checkpoints.
        try:
            rows = int(self.record["metrics"]["last"]["epoch"])
        except (KeyError, TypeError, ValueError):
            rows = 0
        written = self.trained or self.record.get("status") == "finished"
        return max(rows, 1) if written else max(rows - 1, 0)

    @property
    def trained(self) -> bool:
        """True where the run has a checkpoint."""
        return any((self.folder / "checkpoints" / name).is_file() for name in _CHECKPOINTS)

    @property
    def state(self) -> str:
        """Reason why it may not be what a user wants, in a few words."""
        status = self.record.get("status", "unknown")
        done = self.finished_epochs
        if not self.begun:
            return f"{status} before its first step"
        if not self.trained:
            return f"{status}, without a checkpoint"
        return f"{status} after {counts(done, 'epoch')}"

    def update(self, **values: Any) -> None:
        """Set entries of the record and write it."""
        self.record.update(values)
        write_json(self.folder / "run.json", self.record)

    def write_config(self) -> None:
        """Write ``config.yaml``, from the record."""
        import yaml  # not needed where runs are only read

        config = self.record["config"]
        task = task_of_values(config, self.spec.command)
        text = yaml.safe_dump({"task": task, **config}, sort_keys=False)
        write_text(self.folder / "config.yaml", text)

    def begin(self, experiment: AnyExperiment, **values: Any) -> None:
        """Note that a training step begins, and what is trained with from here on.

        Options that differ from the stored ones take their place. A run that is resumed gets an
        entry in ``resumed``: when, by which command and version, after how many epochs, and which
        options changed from what to what.

        Args:
            experiment: The configuration in use.
            values: Further entries of the record.
        """
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        config = experiment.to_dict()
        if self.begun:
            resumed = {
                "time": now,
                "command": sys.argv,
                "after_epochs": self.finished_epochs,
                "changed": _changes(self.experiment.to_dict(), config),
                "versions": _versions(),
                "git": _git_state(),
            }
            values["resumed"] = [*self.record.get("resumed", []), resumed]
        else:
            values["first_step"] = now
        if self.lists:
            values["lists"] = self.lists
        changed = config != self.record.get("config")
        self.record["config"] = config
        if changed:
            self.write_config()
        self.record.pop("error", None)
        self.update(status="running", **values)

    def remove_left_overs(self) -> None:
        """Remove the temporary files of the run that a kill has left; under its lock only."""
        remove_left_overs(self.folder, _FILES)
        remove_left_overs(self.folder / "checkpoints", _CHECKPOINTS)


def runs_in(output: Path, spec: TaskSpec = VIDEO) -> list[Run]:
    """List the runs of a kind of task in ``output``, in the order in which they were started.

    A folder whose ``run.json`` cannot be read is passed over, and said.
    """
    records = []
    for path in sorted(output.glob("*/run.json")):
        try:
            records.append((path.parent, read_record(path.parent, spec)))
        except UserError:
            say_once(f"passing over {path.parent}: its run.json cannot be read")
    runs = [Run(*found, spec) for found in records if kind_of(found[1]) == spec.kind]
    return sorted(runs, key=lambda run: run.started)


def newest_run(output: Path, spec: TaskSpec = VIDEO) -> Path:
    """Return the folder of the run of a kind of task in ``output`` that was started last.

    Raises:
        UserError: when there is none.
    """
    runs = runs_in(output, spec)
    if not runs:
        raise UserError(
            f"found no run below {output}/; train one first ({spec.command} train) or name its "
            "folder."
        )
    return runs[-1].folder


def newest_trained(output: Path, spec: TaskSpec = VIDEO) -> Run:
    """Return the newest run of the kind of task in ``output`` that has a checkpoint.

    Newer ones without are named on stderr, once.

    Raises:
        UserError: There is none.
    """
    return _newest(
        output,
        spec,
        lambda run: run.trained,
        "run with a checkpoint",
        f"train one first ({spec.command} train) or name its folder.",
    )


def newest_begun(output: Path, spec: TaskSpec = VIDEO) -> Run:
    """Return the newest run of the kind of task in ``output`` of which a training step ever began.

    Newer ones, whose start failed, are named on stderr, once.

    Raises:
        UserError: There is none.
    """
    return _newest(
        output,
        spec,
        lambda run: run.begun,
        "run to train on",
        f"start one ({spec.command} train) or name a folder: --resume RUN.",
    )


def newest_of(runs: Sequence[Run], wanted: Callable[[Run], bool]) -> Run | None:
    """Return the last of them that is wanted; later ones are named on stderr, once."""
    passed: list[Run] = []
    for run in reversed(runs):
        if wanted(run):
            for each in passed:
                say_once(f"passing over {each.folder}: {each.state}")
            return run
        passed.append(run)
    return None


def _newest(
    output: Path, spec: TaskSpec, wanted: Callable[[Run], bool], what: str, advice: str
) -> Run:
    runs = runs_in(output, spec)
    run = newest_of(runs, wanted)
    if run is None:
        raise UserError(f"found no {what} below {output}/{_but(runs[-1:])}; {advice}")
    return run


def _but(newest: Sequence[Run]) -> str:
    return "".join(f" (the newest is {run.folder}, {run.state})" for run in newest)


def runs_called(path: Path) -> str:
    """Say, for an error, which folder begins with a run's name, to which its time is added."""
    found = sorted(path.parent.glob(f"{glob.escape(path.name)}-*/run.json"))
    return f"; did you mean {found[-1].parent}?" if found and path.name else ""


def check_loaded(
    named: str, weights: str | Path | None, published: Iterable[str], example: str
) -> None:
    """Check what ``load`` is given where it is not the name of a published network.

    Args:
        named: File or folder.
        weights: File of weights that is given beside it, which only a published network takes.
        published: Names of the networks with published weights.
        example: One of them, with a file of weights, in a call.

    Raises:
        UserError: It is not there, or there are weights.
    """
    path = Path(named).expanduser()
    if weights is not None:
        raise UserError(
            f"weights={str(weights)!r} goes with the name of a published network, such as "
            f"{example}; {named!r} is none"
        )
    if not path.exists() and (path.suffix or len(path.parts) > 1):
        raise UserError(f"{named}: no such file or folder{runs_called(path)}")
    if not path.exists():
        raise UserError(
            f"{named!r} is no file or folder, and no network of this name has published weights; "
            f"{meant(named, published)}"
        )


def checkpoint_path(
    named: str | None, spec: TaskSpec = VIDEO, *, option: str = "--checkpoint"
) -> Path:
    """Return the checkpoint file that a user means.

    Args:
        named: A file, a run's folder, a published folder, or None: the newest run below ``runs``
            that has a checkpoint.
        option: By which it was named, for messages.

    Raises:
        UserError: when there is no such file.
    """
    path = Path(named) if named is not None else newest_trained(Path("runs"), spec).folder
    if is_shared(path):
        return shared_weights(path)
    if path.is_dir():
        best, last = path / "checkpoints" / "best.ckpt", path / "checkpoints" / "last.ckpt"
        if not best.is_file() and not last.is_file():
            raise UserError(
                f"{path} holds no checkpoints/best.ckpt: no epoch of that run was finished; "
                f"train on with {spec.command} train --resume, or name another run."
            )
        if not best.is_file():
            say_once(f"{best} is missing: the last epoch is used, {last}")
            return last
        return best
    if not path.is_file():
        raise UserError(f"{option} {path}: no such file or folder{runs_called(path)}.")
    return path


def run_of(checkpoint: Path) -> Path | None:
    """Return the folder of the run that a checkpoint lies in; None where it lies elsewhere."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else None


def weights_digest(weights: str | None) -> str | None:
    """Return the SHA-256 of a file of weights that a run starts from; None for a name or address.

    A run keeps it in its record as ``weights_sha256``.
    """
    path = Path(weights or "").expanduser()
    return digest_of(path) if weights and path.is_file() else None


def has_record(folder: Path) -> bool:
    """Tell whether a folder has the record of a run."""
    return (folder / "run.json").is_file()


def read_record(folder: Path, spec: TaskSpec) -> dict[str, Any]:
    """Read ``run.json``.

    Raises:
        UserError: It cannot be read, or an entry has another type than a run's.
    """
    path = folder / "run.json"
    try:
        record = dict(parse_json(path.read_text(encoding="utf-8")))
        _check_record(record)
        return record
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"expected the folder of a run with its run.json, found no readable {path} "
            f"({error}); name a folder that {spec.command} train has written."
        ) from error


def _check_record(record: Mapping[str, Any]) -> None:
    """Check the entries that a run is trained on by.

    Raises:
        TypeError: One is of another kind than a run's.
    """
    kinds = {"finished_epochs": int, "metrics": dict, "lists": dict, "resumed": list}
    for name, kind in kinds.items():
        if not isinstance(record.get(name, kind()), kind):
            raise TypeError(f"its entry {name} is {record[name]!r:.60}")
    for name, listed in record.get("lists", {}).items():
        if not isinstance(listed, Mapping) or not {"files", "sha256"} <= listed.keys():
            raise TypeError(f"its entry lists says of {name} {listed!r:.60}")


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Compare the plain values of two experiments: differing option -> [before, after]."""
    return {
        f"{section}.{name}": [before.get(section, {}).get(name), value]
        for section, values in after.items()
        for name, value in values.items()
        if before.get(section, {}).get(name) != value
    }


def kind_of(record: Mapping[str, Any]) -> str:
    """Return the kind of a run; records from before there were several do not say."""
    return str(record.get("program", VIDEO.kind))


def _experiment(values: Any, source: Path, spec: TaskSpec) -> AnyExperiment:
    try:
        return spec.experiment(values)
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{source}: its configuration does not fit this version of {spec.command} ({error})."
        ) from error


def _fresh_folder(output: Path, name: str) -> Path:
    """Make ``output/name``, with a number after it where two runs start in one second."""
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
    """Return commit and cleanliness of the checkout the code runs from; None outside of one."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
