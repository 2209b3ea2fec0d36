"""The clips of a training run, as Lightning loads them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor

from video_snl.config import Experiment
from video_snl.data.choice import resolve_reader
from video_snl.data.loader import (
    ClipDataset,
    ClipLoader,
    EpochSampler,
    EvaluationDataset,
    make_loader,
)
from video_snl.data.mixing import check_mixing
from video_snl.data.prefetch import DevicePrefetcher, prefetched, to_device
from video_snl.data.quarantine import Quarantine
from video_snl.data.videos import VideoSet
from video_snl.errors import UserError

__all__ = ["ClipDataModule", "evaluation_loader"]


class ClipDataModule(pl.LightningDataModule):
    """One random clip of every training video an epoch; the centre clip of every test video.

    Args:
        folder: Of the run, for its ``quarantine.jsonl``; the first process's one counts. None
            keeps the quarantine in memory.
    """

    def __init__(
        self, experiment: Experiment, videos: VideoSet, folder: Path | None = None
    ) -> None:
        super().__init__()
        self.experiment, self.videos, self.folder = experiment, videos, folder
        self.quarantine = Quarantine(None, experiment.data.max_failures)
        self._loaders: list[ClipLoader] = []

    def setup(self, stage: str) -> None:
        folder = self.folder
        if self.trainer is not None:
            # Other processes do not know the folder that the first one has made.
            folder = self.trainer.strategy.broadcast(folder)
        self._resolve_reader()
        file = None if folder is None else folder / "quarantine.jsonl"
        self.quarantine = Quarantine(file, self.experiment.data.max_failures)

    def _resolve_reader(self) -> None:
        """Let the first process measure what ``reader: auto`` is to be, for all of them."""
        found = None
        if self._place()[0] == 0:
            paths = [video.path for video in self.videos.train]
            found = resolve_reader(self.experiment.data, paths)
        if self.trainer is not None:
            found = self.trainer.strategy.broadcast(found)
        assert found is not None
        data, line = found
        self.experiment = replace(self.experiment, data=data)
        if line and self._place()[0] == 0:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the processes that decode."""
        for loader in self._loaders:
            loader.close()

    def unreadable(self) -> str:
        """How many videos cannot be read, such as ``1 training, 2 test``; empty where all can."""
        parts = []
        for what, videos in (("training", self.videos.train), ("test", self.videos.test)):
            count = sum(path in self.quarantine for path in {video.path for video in videos})
            if count:
                parts.append(f"{count} {what}")
        return ", ".join(parts)

    def train_dataloader(self) -> ClipLoader | DevicePrefetcher:
        data, seed = self.experiment.data, self.experiment.trainer.seed
        dataset = ClipDataset(self.videos.train, data, seed)
        rank, world_size = self._place()
        part = self.part_size(world_size)
        sampler = EpochSampler(len(dataset), seed, rank=rank, world_size=world_size)
        loader = make_loader(dataset, sampler, part, data.num_workers, self._pin(), self.quarantine)
        self._loaders.append(loader)
        return prefetched(loader, self._device())

    def val_dataloader(self) -> ClipLoader | DevicePrefetcher:
        rank, world_size = self._place()
        loader = evaluation_loader(
            EvaluationDataset(self.videos.test, self.experiment.data, clips=0),
            self.part_size(world_size),
            self.experiment.data.num_workers,
            rank=rank,
            world_size=world_size,
            pin_memory=self._pin(),
            quarantine=self.quarantine,
        )
        self._loaders.append(loader)
        return prefetched(loader, self._device())

    def transfer_batch_to_device(
        self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> dict[str, Tensor]:
        return to_device(batch, device)

    def part_size(self, world_size: int) -> int:
        """Clips that one device takes at once.

        Raises:
            UserError: when the batch cannot be divided equally, or mixing does not fit it.
        """
        config = self.experiment.optimizer
        part, rest = divmod(config.batch_size, world_size * config.accumulate)
        if rest or part == 0:
            raise UserError(
                f"optimizer.batch_size={config.batch_size} cannot be divided over {world_size} "
                f"device(s) times optimizer.accumulate={config.accumulate}; choose a multiple of "
                f"{world_size * config.accumulate}."
            )
        check_mixing(config, part)
        return part

    def _place(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _pin(self) -> bool:
        return self._device().type == "cuda"


def evaluation_loader(
    dataset: EvaluationDataset,
    batch_size: int,
    num_workers: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    quarantine: Quarantine | None = None,
) -> ClipLoader:
    """Every video once, in order."""
    sampler = EpochSampler(len(dataset), 0, rank=rank, world_size=world_size, shuffle=False)
    return make_loader(dataset, sampler, batch_size, num_workers, pin_memory, quarantine)
