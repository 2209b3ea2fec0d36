"""A run as a training from Python returns it: its files, its metrics, and its network."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from video_snl.config.task_spec import IMAGE, VIDEO
from video_snl.errors import UserError
from video_snl.runs.run import checkpoint_path, has_record, kind_of, read_record

if TYPE_CHECKING:
    import torch

    from video_snl.commands.predictor import Predictor

__all__ = ["Run"]


class Run:
    """The folder of a run, of ``video_snl.train`` or of the command ``train``.

    Attributes:
        path: The folder.

    Args:
        path: The folder.

    Raises:
        UserError: It is not the folder of a run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not has_record(self.path):
            raise UserError(f"{path} is not the folder of a run: it has no run.json")
        self._spec = IMAGE if kind_of(self.record) == IMAGE.kind else VIDEO

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status})"

    @property
    def record(self) -> dict[str, Any]:
        """What ``run.json`` says now: versions, seed, configuration, best and last metrics."""
        return read_record(self.path, VIDEO)

    @property
    def status(self) -> str:
        """``started``, ``running``, ``interrupted``, ``failed`` or ``finished``."""
        return str(self.record.get("status", "unknown"))

    @property
    def config(self) -> dict[str, Any]:
        """Configuration of the run, as plain values by section."""
        return dict(self.record["config"])

    @property
    def metrics(self) -> list[dict[str, float]]:
        """Rows of ``metrics.csv``, one for each finished epoch, for ``pandas.DataFrame``.

        ``epoch`` counts from 1 and is a whole number; what an epoch did not measure is NaN. Empty
        before the first epoch is finished.
        """
        file = self.path / "metrics.csv"
        if not file.is_file():
            return []
        with file.open(encoding="utf-8", newline="") as lines:
            rows = [
                {name: float(value) if value else float("nan") for name, value in row.items()}
                for row in csv.DictReader(lines)
            ]
        return [{**row, "epoch": int(row["epoch"])} for row in rows]

    def best(self) -> Path:
        """Return the checkpoint of the best epoch; of the last one where there is no best.

        Raises:
            UserError: No epoch was finished.
        """
        return checkpoint_path(str(self.path), self._spec)

    def load(self, device: str | torch.device = "auto", *, allow_code: bool = False) -> Predictor:
        """Load the network of the best epoch, as :func:`video_snl.load` does.

        Args:
            device, allow_code: As of :func:`video_snl.load`.

        Raises:
            UserError: No epoch was finished, or the device is not there.
        """
        from video_snl.commands.predictor import load

        return load(self.path, device=device, allow_code=allow_code)
