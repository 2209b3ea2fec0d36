"""Lightning's Trainer, set up from the configuration."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from video_snl.config.task_spec import AnyExperiment
from video_snl.config.video import TrainerConfig
from video_snl.engine.callbacks import AtomicCheckpointIO
from video_snl.engine.gradients import ProvenConvolutions
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.processes import handling, leave_lost_terminal
from video_snl.utils.progress import EVERY

__all__ = [
    "EXIT_HUNG_UP",
    "EXIT_TERMINATED",
    "ProgressLines",
    "StopTogether",
    "check_precision",
    "check_processes",
    "device_named",
    "device_of",
    "make_trainer",
    "stopping_in_order",
]

EXIT_HUNG_UP, EXIT_TERMINATED = 129, 143

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"]


def make_trainer(
    experiment: AnyExperiment,
    folder: Path,
    callbacks: Sequence[Callback] = (),
    *,
    validate_every: int = 1,
) -> pl.Trainer:
    """Return a Trainer for ``experiment`` that writes below ``folder``.

    Args:
        validate_every: Epochs from one validation to the next.

    Raises:
        UserError: for devices that this machine does not have, or a logger that is not installed.
    """
    config, optimizer = experiment.trainer, experiment.optimizer
    _quieten()
    bar = config.progress if config.progress is not None else sys.stderr.isatty()
    more: list[Callback] = [Bar(console_kwargs={"stderr": True})] if bar else []
    if _precision(config) == "bf16-mixed" and not _on_gpus(config):
        more.append(ProvenConvolutions())
    try:
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            precision=_precision(config),
            max_epochs=optimizer.epochs,
            check_val_every_n_epoch=validate_every,
            accumulate_grad_batches=optimizer.accumulate,
            gradient_clip_val=optimizer.gradient_clip,
            sync_batchnorm=config.sync_batchnorm and _on_gpus(config),
            callbacks=[*callbacks, *more],
            logger=_loggers(config, folder),
            plugins=[AtomicCheckpointIO(), *_launched_by_slurm()],
            default_root_dir=folder,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            enable_progress_bar=bar,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error


class Bar(RichProgressBar):
    """Lightning's progress bar, without the number of a logger's version."""

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return what the bar shows beside the progress."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


class StopTogether(Callback):
    """End a training of several processes between two steps, whichever of them gets SIGTERM.

    Lightning's handler calls the other processes from within the signal, whatever they are doing
    just then: where SLURM or torchrun send SIGTERM to all, they wait for each other until they are
    killed. Here a signal is noted, and all processes ask each other before each step, of training
    and of validation; the answer is looked at before the next one. That goes by gloo, on CPUs: no
    step waits for a GPU to finish the one before, and gloo notices at once that a process was
    killed.
    """

    def __init__(self) -> None:
        self._asked = False
        self._any_asked = torch.zeros(1)
        self._group: Any = None
        self._answer: torch.distributed.Work | None = None
        self._shared_steps = 0  # of a validation, that are left

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take SIGTERM over from Lightning, which gives it back to what had it before."""
        if trainer.world_size > 1:
            self._group = torch.distributed.new_group(backend="gloo")
            signal.signal(signal.SIGTERM, self._ask)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Raise SIGTERMException in all processes where one of them was asked to end."""
        if trainer.world_size > 1:
            self._agree()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the steps that all processes have: some may have one more than others."""
        if trainer.world_size > 1:
            steps = torch.tensor(sum(map(int, trainer.num_val_batches)))
            torch.distributed.all_reduce(steps, torch.distributed.ReduceOp.MIN, self._group)
            self._shared_steps = int(steps)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Raise SIGTERMException, as in training."""
        if self._shared_steps:
            self._shared_steps -= 1
            self._agree()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the last answer."""
        self._wait()

    def _agree(self) -> None:
        self._wait()
        if self._any_asked.item():
            raise SIGTERMException
        self._any_asked.fill_(self._asked)
        self._answer = torch.distributed.all_reduce(
            self._any_asked, torch.distributed.ReduceOp.MAX, self._group, async_op=True
        )

    def _wait(self) -> None:
        if self._answer is not None:
            self._answer.wait()
            self._answer = None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


class ProgressLines(Callback):
    """A line now and then where no bar is shown: how many samples of an evaluation are done."""

    def __init__(self, total: int, what: str) -> None:
        self._done, self._total, self._what = 0, total, what
        self._said = time.monotonic()

    def _count(self, trainer: pl.Trainer, batch: Mapping[str, torch.Tensor]) -> None:
        self._done += len(batch["index"])
        if trainer.progress_bar_callback is None and time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            line = f"{self._what}: {self._done:,} of {self._total:,}"
            print(line, file=sys.stderr, flush=True)

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *places: int
    ) -> None:
        """Count the videos or images of a batch."""
        self._count(trainer, batch)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *places: int
    ) -> None:
        """Count the images of a batch."""
        self._count(trainer, batch)


def check_precision(config: TrainerConfig) -> None:
    """Refuse a precision that the device cannot train in.

    Raises:
        UserError: ``bf16-true`` on a CPU, where PyTorch's layers do not take it.
    """
    if config.precision == "bf16-true" and not _on_gpus(config):
        raise UserError(
            "trainer.precision=bf16-true needs a CUDA GPU; on a CPU use bf16-mixed or 32-true."
        )


def check_processes(config: TrainerConfig) -> None:
    """Refuse other numbers than those of the processes that torchrun or srun has started.

    Each of them would train by itself else, on all the data.

    Raises:
        UserError: It names the options that fit.
    """
    if TorchElasticEnvironment.detect():
        launcher, count = "torchrun", int(os.environ["WORLD_SIZE"])
        of_machine = int(os.environ["LOCAL_WORLD_SIZE"])
    elif SLURMEnvironment.detect() and "SLURM_STEP_NUM_TASKS" in os.environ:  # not sbatch's shell
        launcher, count = "srun", int(os.environ["SLURM_STEP_NUM_TASKS"])
        of_machine = count // int(os.environ["SLURM_STEP_NUM_NODES"])
    else:
        return
    devices = config.devices
    if devices in ("auto", -1):  # to Lightning, on a CPU, one
        devices = torch.cuda.device_count() if _on_gpus(config) else 1
    asked = int(devices) * config.nodes
    if asked != count:
        raise UserError(
            f"{launcher} has started {counts(count, 'process', 'processes')}, but "
            f"trainer.devices={config.devices} with trainer.nodes={config.nodes} asks for "
            f"{asked}: give --trainer.devices {of_machine} --trainer.nodes {count // of_machine}."
        )


def device_of(accelerator: str, *, option: str = "--accelerator") -> torch.device:
    """Return the device that ``--accelerator`` names, for commands that train nothing.

    Args:
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``cuda``.
        option: The option that names it, for messages.

    Raises:
        UserError: No such device is known, or there is none.
    """
    if accelerator == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda"}
    if accelerator not in names:
        raise UserError(f"{option} {accelerator}: choose auto, cpu or gpu.")
    if names[accelerator] == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{option} {accelerator}: this machine has no CUDA GPU; use cpu.")
    return torch.device(names[accelerator])


def device_named(device: str | torch.device) -> torch.device:
    """Return the device that a caller in Python means.

    Args:
        device: ``auto``, ``cpu``, ``gpu`` or ``cuda``, or a device of torch such as ``cuda:1``.

    Raises:
        UserError: There is no such device.
    """
    if isinstance(device, str) and ":" not in device:
        return device_of(device, option="device")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # differs by torch's build
        reason = str(error).splitlines()[0]
        raise UserError(f"device {device} cannot be used ({reason}); use cpu.") from error
    return found


@contextmanager
def stopping_in_order() -> Iterator[None]:
    """Let SIGTERM end in exit code 143, SIGHUP in 129 and Ctrl-C in KeyboardInterrupt.

    Lightning ends its loops in order for SIGTERM and Ctrl-C, and then in a SystemExit that says 0
    or 1. SIGHUP, of a terminal that was closed, is handed on to it as SIGTERM; where it is ignored
    (``nohup``) it stays so.
    """
    hung_up = False

    def hang_up(number: int, frame: FrameType | None) -> None:
        nonlocal hung_up
        hung_up = True
        leave_lost_terminal()
        if signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, None):
            # Not in Lightning's loops yet, or no more: there is nothing to be ended in order.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.raise_signal(signal.SIGHUP)
        else:
            signal.raise_signal(signal.SIGTERM)

    with handling(signal.SIGHUP, hang_up):
        try:
            yield
        except SIGTERMException:
            raise SystemExit(EXIT_HUNG_UP if hung_up else EXIT_TERMINATED) from None
        except SystemExit:
            raise KeyboardInterrupt from None


def _on_gpus(config: TrainerConfig) -> bool:
    return config.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def _precision(config: TrainerConfig) -> Precision:
    if config.precision != "auto":
        return config.precision
    fast = _on_gpus(config) and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if fast else "32-true"


def _launched_by_slurm() -> list[SLURMEnvironment]:
    """Return what tells Lightning of SLURM, where srun started this process.

    By itself, Lightning would answer SIGUSR1 with a checkpoint in the middle of an epoch, and queue
    the job again. A run goes on from whole epochs; scripts/slurm/train.sbatch queues it again.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False)]


def _loggers(config: TrainerConfig, folder: Path) -> list[Logger] | bool:
    # "csv" is metrics.csv, which the History callback keeps whole across interruptions.
    loggers: list[Logger] = []
    if "tensorboard" in config.loggers:
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    if "wandb" in config.loggers:
        if importlib.util.find_spec("wandb") is None:
            raise UserError("trainer.loggers names wandb, which is missing: pip install wandb")
        loggers.append(WandbLogger(save_dir=folder, name=folder.name))
    return loggers or False


def _quieten() -> None:
    """Silence Lightning's banners and tips; our own lines say what matters."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # On a login node every command would say so.
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    warnings.filterwarnings("ignore", message=".*Couldn't infer the batch indices.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
    warnings.filterwarnings("ignore", message=".*lower value for log_every_n_steps.*")
