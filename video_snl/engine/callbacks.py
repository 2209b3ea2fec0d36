"""Callbacks of the training loop: history, progress lines, loading times, whole checkpoints."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from video_snl.config.task_spec import shown_metrics
from video_snl.engine.plots import learning_curves
from video_snl.runs.run import Run
from video_snl.utils.files import replacing, write_text
from video_snl.utils.text import say_once
from video_snl.utils.timing import STAGES, collect_stages

__all__ = [
    "AtomicCheckpointIO",
    "FirstStep",
    "History",
    "Profile",
    "best_checkpoint",
    "last_checkpoint",
    "loading_row",
    "loading_text",
    "waiting_share",
]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints are written beside their place and renamed: a kill leaves the old one whole."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        # To a file of Python's: of one that torch opens by its path, a full disk's error has
        # neither number nor name.
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # Interrupted in the middle, torch fails once more where it closes the archive.
                if isinstance(error.__context__, (KeyboardInterrupt, SystemExit)):
                    raise error.__context__ from None
                raise


class FirstStep(Callback):
    """Calls ``note`` in the first process when the first training step begins, once."""

    def __init__(self, note: Callable[[], None]) -> None:
        self._note: Callable[[], None] | None = note

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        note, self._note = self._note, None
        if note is not None and trainer.is_global_zero:
            note()


class History(Callback):
    """Metrics of every epoch: a line on stderr, ``metrics.csv``, learning curves, ``run.json``.

    The rows travel in the checkpoints, so that a resumed run has one gapless history.

    Args:
        unreadable: Function that returns how much of the data cannot be read, for the epoch's line.
        profile: Print where the time of loading went, too. (``metrics.csv`` always has it, of the
            first process.)
    """

    def __init__(
        self, run: Run, unreadable: Callable[[], str] = str, *, profile: bool = False
    ) -> None:
        self.run, self._unreadable, self._profile = run, unreadable, profile
        self.rows: list[dict[str, float]] = []
        self._began = 0.0
        self.classes: int | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.classes = class_count(pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1):
            # Lightning goes on to show what the last validation has found.
            metrics = {name: v for name, v in metrics.items() if not name.startswith("val/")}
        row = {"epoch": float(trainer.current_epoch + 1), **metrics}
        row["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        loader: Any = trainer.train_dataloader
        loading: Profile = loader.profile
        loading.stages["transform"] += collect_stages()["transform"]
        self.rows.append(row | loading_row(loading))
        if trainer.is_global_zero:
            self._write()
            lines = [self._line(trainer, row, loading)]
            lines += [loading_text(loading, self.run.spec.samples)] if self._profile else []
            print(*lines, sep="\n", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.rows:
            path = self.run.folder / "learning_curves.png"
            learning_curves(self.rows, path, self.run.spec, self.classes)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the metrics of the last epoch and of the best one (the earliest of several)."""
        if not self.rows:
            return {}
        monitor = self.run.spec.monitor
        best = max(self.rows, key=lambda row: (row.get(monitor, 0.0), -row["epoch"]))
        return {"last": self.rows[-1], "best": best}

    def _write(self) -> None:
        text = io.StringIO()
        names = dict.fromkeys(name for row in self.rows for name in row)
        writer = csv.DictWriter(text, fieldnames=list(names))
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.run.folder / "metrics.csv", text.getvalue())
        self.run.update(metrics=self.summary())

    def _line(self, trainer: pl.Trainer, row: dict[str, float], loading: Profile) -> str:
        seconds = time.monotonic() - self._began
        unreadable = self._unreadable()
        line = shown_metrics(self.run.spec.line, self.classes)
        shown = [(label, row[name]) for name, label in line if name in row]
        shares = "".join(f"  {label} {share:.1%}" for label, share in shown)
        return (
            f"epoch {row['epoch']:.0f}/{trainer.max_epochs}"
            f"  loss {row['train/loss']:.4f}{shares}  {seconds:.0f} s"
            f"  data wait {waiting_share(loading):.0%}"
            f"{unreadable and f'  unreadable: {unreadable}'}"
        )


class Profile(Protocol):
    """Figures of a loader's last epoch; see ``LoaderProfile``."""

    clips: int
    seconds: float
    waited: float
    stages: dict[str, float]
    replaced: int


def class_count(task: pl.LightningModule) -> int | None:
    """Return how many classes a task tells apart; None where it has none."""
    names = getattr(task, "class_names", None)
    return None if names is None else len(names)


def best_checkpoint(folder: Path, monitor: str) -> ModelCheckpoint:
    """Keep ``best.ckpt``, of the epoch with the highest value of the metric ``monitor``."""
    return _RunCheckpoint(
        dirpath=folder,
        filename="best",
        monitor=monitor,
        mode="max",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


def last_checkpoint(folder: Path, finished: Callable[[int], None]) -> ModelCheckpoint:
    """Keep ``last.ckpt``, of the last finished epoch.

    Args:
        finished: Function that the first process calls with the number of epochs after writing.
    """
    return _LastCheckpoint(
        finished,
        dirpath=folder,
        filename="last",
        monitor=None,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


def waiting_share(profile: Profile) -> float:
    """Return the share of the time from first request to last batch that was spent waiting."""
    return profile.waited / profile.seconds if profile.seconds > 0 else 0.0


def loading_row(profile: Profile) -> dict[str, float]:
    """Return the figures of an epoch's row in ``metrics.csv``; seconds, but for the first three."""
    return {
        "loading/clips": float(profile.clips),
        "loading/clips_per_second": profile.clips / max(profile.seconds, 1e-9),
        "loading/wait_share": waiting_share(profile),
        "loading/wait": profile.waited,
        **{f"loading/{name}": profile.stages[name] for name in STAGES},
    }


def loading_text(profile: Profile, samples: str = "clips") -> str:
    """Return the line that ``--profile`` prints."""
    stages = "  ".join(f"{name} {profile.stages[name]:.2f}" for name in STAGES)
    values: dict[str, Any] = loading_row(profile)
    text = (
        f"  loading: {profile.clips} {samples}, "
        f"{values['loading/clips_per_second']:.1f} {samples}/s; "
        f"waited {profile.waited:.2f} s of {profile.seconds:.2f} ({waiting_share(profile):.0%}); "
        f"seconds: {stages}"
    )
    return f"{text}; {profile.replaced} workers replaced" if profile.replaced else text


class _RunCheckpoint(ModelCheckpoint):
    """Lightning's, in a run's folder wherever that stands by now.

    Lightning forgets the best epoch where the name of the folder is not the stored one: of a run
    that was moved, copied, or is reached by a symbolic link. Here there is one such file to a
    folder, so that the folder in use is always the one that is meant.
    """

    @property
    def state_key(self) -> str:
        """Key of Lightning's class, under which checkpoints hold the state."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved: dict[str, Any] = {
            name: here(state_dict[name]) for name in names if name in state_dict
        }
        moved["dirpath"] = self.dirpath
        if "best_k_models" in state_dict:
            best = state_dict["best_k_models"].items()
            moved["best_k_models"] = {here(path): score for path, score in best}
        super().load_state_dict({**state_dict, **moved})
        if self.best_model_path and not Path(self.best_model_path).is_file():
            say_once(
                f"{self.best_model_path} is missing: the best epoch from here on takes its place"
            )
            fresh = ModelCheckpoint(monitor=self.monitor, mode=self.mode)
            for name in ("best_model_path", "best_model_score", "best_k_models"):
                setattr(self, name, getattr(fresh, name))
            for name in ("kth_best_model_path", "kth_value"):
                setattr(self, name, getattr(fresh, name))


class _LastCheckpoint(_RunCheckpoint):
    """Notes that an epoch is finished once its checkpoint is written, and not before."""

    def __init__(self, finished: Callable[[int], None], **options: Any) -> None:
        super().__init__(**options)
        self._finished = finished

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero:
            self._finished(trainer.current_epoch + 1)
