"""The pictures of a training run, as Lightning loads them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from video_snl.config.datasets import IMAGE_DATASETS
from video_snl.config.image import ImageExperiment
from video_snl.data.image.catalog import ImageSet
from video_snl.data.image.loader import ImageLoader, make_image_loader
from video_snl.data.loading.prefetch import DevicePrefetcher
from video_snl.tasks.datamodule import RunData, share_of_batch

__all__ = ["ImageDataModule", "test_batch_size"]


class ImageDataModule(RunData):
    """Every training picture once an epoch, or so many steps of them; every test picture."""

    noun = "pictures"
    consequence = (
        "other pictures of their classes stood for training ones, test ones count as wrong"
    )

    def __init__(
        self, experiment: ImageExperiment, images: ImageSet, folder: Path | None = None
    ) -> None:
        super().__init__(folder, experiment.data.max_failures)
        self.experiment, self.images = experiment, images

    def lists(self) -> Iterable[tuple[str, set[str]]]:
        for dataset in (self.images.train, self.images.test):
            yield dataset.what, set(dataset.paths) if self.quarantine.bad else set()

    def train_dataloader(self) -> ImageLoader | DevicePrefetcher:
        optimizer = self.experiment.optimizer
        rank, world_size = self._place()
        loader = make_image_loader(
            self.images.train,
            self.part_size(world_size),
            num_workers=self.experiment.data.num_workers,
            seed=self.experiment.trainer.seed,
            rank=rank,
            world_size=world_size,
            pin_memory=self._pin(),
            quarantine=self.quarantine,
            span=optimizer.epoch_steps and optimizer.epoch_steps * optimizer.batch_size,
        )
        return self._used(loader)

    def val_dataloader(self) -> ImageLoader | DevicePrefetcher:
        rank, world_size = self._place()
        loader = make_image_loader(
            self.images.test,
            test_batch_size(self.experiment, self.part_size(world_size)),
            num_workers=self.experiment.data.num_workers,
            rank=rank,
            world_size=world_size,
            pin_memory=self._pin(),
            quarantine=self.quarantine,
        )
        return self._used(loader)

    def part_size(self, world_size: int) -> int:
        """Pictures that one device takes at once.

        Raises:
            UserError: when the batch cannot be divided equally.
        """
        config = self.experiment.optimizer
        return share_of_batch(config.batch_size, config.accumulate, world_size)


def test_batch_size(experiment: ImageExperiment, part: int) -> int:
    """Pictures tested at once: as given, else ``part``; of scenes, which are large, one."""
    given = experiment.optimizer.test_batch_size
    if given is not None:
        return given
    return 1 if IMAGE_DATASETS[experiment.data.dataset].segments else part
