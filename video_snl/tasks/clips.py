"""The clips of a training run, as Lightning loads them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from video_snl.config.video import Experiment
from video_snl.data.decoding.auto import resolve_reader
from video_snl.data.loading.prefetch import DevicePrefetcher
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.transforms.mixup import check_mixing
from video_snl.data.video.dataset import (
    ClipDataset,
    ClipLoader,
    EpochSampler,
    EvaluationDataset,
    make_loader,
)
from video_snl.data.video.records import VideoSet
from video_snl.tasks.datamodule import RunData, share_of_batch

__all__ = ["ClipDataModule", "evaluation_loader"]


class ClipDataModule(RunData):
    """One random clip of every training video an epoch; the centre clip of every test video.

    Args:
        folder: See :class:`~video_snl.tasks.datamodule.RunData`.
    """

    consequence = "other videos of their classes stood for training ones, test ones count as wrong"

    def __init__(
        self, experiment: Experiment, videos: VideoSet, folder: Path | None = None
    ) -> None:
        super().__init__(folder, experiment.data.max_failures)
        self.experiment, self.videos = experiment, videos

    def setup(self, stage: str) -> None:
        self._resolve_reader()
        super().setup(stage)

    def lists(self) -> Iterable[tuple[str, set[str]]]:
        for what, videos in (("training", self.videos.train), ("test", self.videos.test)):
            yield what, {video.path for video in videos}

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

    def train_dataloader(self) -> ClipLoader | DevicePrefetcher:
        data, seed = self.experiment.data, self.experiment.trainer.seed
        dataset = ClipDataset(self.videos.train, data, seed)
        rank, world_size = self._place()
        part = self.part_size(world_size)
        sampler = EpochSampler(len(dataset), seed, rank=rank, world_size=world_size)
        loader = make_loader(dataset, sampler, part, data.num_workers, self._pin(), self.quarantine)
        return self._used(loader)

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
        return self._used(loader)

    def part_size(self, world_size: int) -> int:
        """Clips that one device takes at once.

        Raises:
            UserError: when the batch cannot be divided equally, or mixing does not fit it.
        """
        config = self.experiment.optimizer
        part = share_of_batch(config.batch_size, config.accumulate, world_size)
        check_mixing(config, part)
        return part


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
