"""Results: a file of JSON lines, one for each cell and seed. Without torch.

Several processes may append at once: each writes its whole line under a lock. A line that a kill
cut off is left where it is, skipped, and reported.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from video_snl.config.validation import check_fields
from video_snl.errors import UserError
from video_snl.utils.json_text import to_json

__all__ = ["Contents", "Result", "Store"]

_SHARES = ("val/top", "val/mIoU", "val/mAcc", "val/aAcc", "train/top")


@dataclass(frozen=True)
class Result:
    """A trained cell.

    Attributes:
        table, row, seed: Cell and seed.
        settings: Hash of what it was trained with.
        metrics: ``last`` and ``best``, each a mapping; shares in [0, 1].
        run: Folder of the run.
        seconds: Duration of the training, over all of its parts.
        versions: Versions of the packages it was trained with.
        config: Plain values of the experiment.
        precision: Precision of the trainer, such as ``bf16-mixed``; empty where it is not known.
        videos: Accuracy of the last epoch at video level, in [0, 1], where it was tested so.
        views: The clips and crops of that test, such as ``3 clips x 1 crop``.
    """

    table: int
    row: str
    seed: int
    settings: str
    metrics: dict[str, dict[str, float]]
    run: str
    seconds: float
    versions: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    precision: str = ""
    videos: float | None = None
    views: str | None = None


@dataclass(frozen=True)
class Contents:
    """Contents of a store: results, and the numbers of lines that are not results."""

    results: list[Result]
    torn: list[int]

    def of(self, settings: str, metric: str) -> dict[int, Result]:
        """Return by seed the latest results of an experiment, in whichever table it was run.

        Args:
            metric: Metric that they must have.
        """
        return {
            r.seed: r
            for r in self.results
            if r.settings == settings and all(metric in of for of in r.metrics.values())
        }

    def stale(self, row: str, settings: str) -> list[Result]:
        """Return the results of a row that had other settings, and so do not count."""
        return [r for r in self.results if r.row == row and r.settings != settings]


class Store:
    """The results in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Contents:
        """Return all results.

        Raises:
            UserError: The file cannot be read.
        """
        try:
            raw = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise UserError(f"--store {self.path} cannot be read: {error.strerror}") from error
        return _contents(raw.split(b"\n"))

    def append(self, result: Result) -> None:
        """Add a result, so that it is on the disk when this returns.

        Raises:
            UserError: The file cannot be written.
        """
        line = to_json(asdict(result), sort_keys=True).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                _write(file.fileno(), (b"\n" if _is_torn(file) else b"") + line)
        except OSError as error:
            raise UserError(f"--store {self.path} cannot be written: {error.strerror}") from error


def _contents(lines: Iterable[bytes]) -> Contents:
    results, torn = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            results.append(_result(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
            torn.append(number)
    return Contents(results, torn)


def _result(values: dict[str, Any]) -> Result:
    """Return a line's result; anything else than a result is one of the errors of its use."""
    result = Result(**values)
    check_fields(Result, asdict(result), "result")
    measures = result.metrics["last"], result.metrics["best"]
    if not all(math.isfinite(float(value)) for of in measures for value in of.values()):
        raise ValueError("a measure is not finite")
    shares = [of[name] for of in measures for name in of if name.startswith(_SHARES)]
    if not all(0 <= share <= 1 for share in (*shares, result.videos or 0.0)):
        raise ValueError("a share is not between 0 and 1")
    return result


def _is_torn(file: Any) -> bool:
    """Tell whether the last line was cut off: it must not swallow the next one."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) != b"\n")


def _write(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]
    os.fsync(descriptor)
