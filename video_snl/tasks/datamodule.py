"""Lightning data modules: what a run loads, in which place of several, and its quarantine.

Batches that no training can use are refused before anything is written.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from video_snl.config.datasets import IMAGE_DATASETS
from video_snl.config.image import ImageExperiment
from video_snl.config.task_spec import AnyExperiment
from video_snl.config.video import Experiment
from video_snl.data.decoding.auto import resolve_reader
from video_snl.data.image.base import ImageSet
from video_snl.data.image.loader import ImageLoader, make_image_loader
from video_snl.data.loading.prefetch import DevicePrefetcher, prefetched, to_device
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
from video_snl.errors import UserError
from video_snl.tasks.activations import Activations, Apply, CachedClips
from video_snl.utils.counts import counts

__all__ = [
    "ClipDataModule",
    "ImageDataModule",
    "RunData",
    "check_last_batch",
    "evaluation_loader",
    "share_of_batch",
    "test_batch_size",
]


class _Loader(Sized, Protocol):
    def close(self) -> None: ...


_L = TypeVar("_L", bound=_Loader)
# Versions of clips whose activations are kept are the same for all seeds of the training.
_SEED_OF_VERSIONS = 0


class RunData(pl.LightningDataModule, ABC):
    """The data of a run, as the engine sees it.

    Args:
        folder: Folder of the run, for its ``quarantine.jsonl``; that of the first process
            counts. None keeps the quarantine in memory.
        max_failures: Share of a list that may be unreadable.
    """

    noun = "videos"
    consequence = ""
    """Words in messages for what became of samples that cannot be read."""

    def __init__(self, folder: Path | None, max_failures: float) -> None:
        super().__init__()
        self.folder = folder
        self.quarantine = Quarantine(None, max_failures, self.noun)
        self._loaders: list[_Loader] = []

    @abstractmethod
    def part_size(self, world_size: int) -> int:
        """Return the samples of a training batch that one of so many devices takes.

        Raises:
            UserError: The batch cannot be divided so.
        """

    @abstractmethod
    def lists(self) -> Iterable[tuple[str, set[str]]]:
        """Yield every list's name, ``training`` or ``test``, and its paths."""

    def setup(self, stage: str) -> None:
        folder = self.folder
        if self.trainer is not None:
            # Other processes do not know the folder that the first one has made.
            folder = self.trainer.strategy.broadcast(folder)
        file = None if folder is None else folder / "quarantine.jsonl"
        self.quarantine = Quarantine(file, self.quarantine.max_failures, self.noun)

    def close(self) -> None:
        """End the processes that decode."""
        for loader in self._loaders:
            loader.close()

    def unreadable(self) -> str:
        """Return how many cannot be read, as ``1 training, 2 test``; empty where all can."""
        counts = [
            (what, sum(path in self.quarantine for path in paths)) for what, paths in self.lists()
        ]
        return ", ".join(f"{count} {what}" for what, count in counts if count)

    def transfer_batch_to_device(
        self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> dict[str, Tensor]:
        return to_device(batch, device)

    def _used(self, loader: _L) -> _L | DevicePrefetcher:
        """Return the loader as Lightning gets it; :meth:`close` ends it with the others."""
        self._loaders.append(loader)
        return prefetched(loader, self._device())

    def _place(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _pin(self) -> bool:
        return self._device().type == "cuda"


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
        self._cached: tuple[CachedClips, CachedClips] | None = None

    def keep(self, kept: Activations, apply: Apply, versions: int) -> None:
        """Train and validate on kept activations, which are computed if they are not there.

        Args:
            kept: Their folder.
            apply: Computes those of a batch of clips.
            versions: Number of augmented versions of each training clip.
        """
        data, workers = self.experiment.data, self.experiment.data.num_workers
        clips = ClipDataset(self.videos.train, data, _SEED_OF_VERSIONS)
        tests = EvaluationDataset(self.videos.test, data, clips=0)

        def loader(dataset: ClipDataset | EvaluationDataset, version: int) -> ClipLoader:
            sampler = EpochSampler(len(dataset), _SEED_OF_VERSIONS, shuffle=False)
            sampler.set_epoch(version)
            size = self.experiment.optimizer.batch_size
            return make_loader(dataset, sampler, size, workers, self._pin(), self.quarantine)

        files = [
            kept.fill(
                f"train-{version}",
                partial(loader, clips, version),
                apply,
                f"activations, version {version + 1} of {versions}",
                data.max_failures,
            )
            for version in range(versions)
        ]
        test = kept.fill(
            "test", partial(loader, tests, 0), apply, "activations, test list", data.max_failures
        )
        self._cached = (
            CachedClips(self.videos.train, files, "training"),
            CachedClips(self.videos.test, [test], "test"),
        )
        if self._place()[0] == 0:
            size = sum(file.stat().st_size for file in (*files, test)) / 1e6
            print(
                f"training from kept activations: {counts(versions, 'version')} of "
                f"{counts(len(clips), 'clip')}, {size:,.0f} MB in {kept.folder}",
                file=sys.stderr,
                flush=True,
            )

    def setup(self, stage: str) -> None:
        self._resolve_reader()
        super().setup(stage)

    def lists(self) -> Iterable[tuple[str, set[str]]]:
        for what, videos in (("training", self.videos.train), ("test", self.videos.test)):
            yield what, {video.path for video in videos}

    def _resolve_reader(self) -> None:
        """Let the first process decide what ``reader: auto`` is to be, for all of them."""
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
        if self._cached is not None:
            return self._used(self._kept_loader(self._cached[0], sampler, part))
        loader = make_loader(dataset, sampler, part, data.num_workers, self._pin(), self.quarantine)
        return self._used(loader)

    def _kept_loader(self, source: CachedClips, sampler: EpochSampler, size: int) -> ClipLoader:
        return ClipLoader(
            source,
            sampler,
            size,
            num_workers=0,  # a sample is a copy from a file that is mapped into memory
            pin_memory=self._pin(),
            deadline=self.experiment.data.deadline,
            quarantine=self.quarantine,
            what=source.what,
        )

    def val_dataloader(self) -> ClipLoader | DevicePrefetcher:
        rank, world_size = self._place()
        if self._cached is not None:
            sampler = EpochSampler(
                len(self.videos.test), 0, rank=rank, world_size=world_size, shuffle=False
            )
            size = self.part_size(world_size)
            return self._used(self._kept_loader(self._cached[1], sampler, size))
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
        """Return the clips that one device takes at once.

        Raises:
            UserError: when the batch cannot be divided equally, or mixing does not fit it.
        """
        config = self.experiment.optimizer
        part = share_of_batch(config.batch_size, config.accumulate, world_size)
        check_mixing(config, part)
        return part


class ImageDataModule(RunData):
    """Every training image once an epoch, or a number of steps of them; every test image."""

    noun = "images"
    consequence = "other images of their classes stood for training ones, test ones count as wrong"

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
        """Return the images that one device takes at once.

        Raises:
            UserError: when the batch cannot be divided equally.
        """
        config = self.experiment.optimizer
        return share_of_batch(config.batch_size, config.accumulate, world_size)


def share_of_batch(batch_size: int, accumulate: int, world_size: int) -> int:
    """Return the samples that one of several devices takes at once.

    Raises:
        UserError: when the batch cannot be divided equally.
    """
    part, rest = divmod(batch_size, world_size * accumulate)
    if rest or part == 0:
        raise UserError(
            f"optimizer.batch_size={batch_size} cannot be divided over {world_size} device(s) "
            f"times optimizer.accumulate={accumulate}; choose a multiple of "
            f"{world_size * accumulate}."
        )
    return part


def check_last_batch(
    experiment: AnyExperiment,
    batch_size: int,
    samples: int,
    sample_shape: Sequence[int],
    build: Callable[[], nn.Module],
    *,
    smaller_last: bool = True,
) -> None:
    """Refuse batches of one sample whose feature maps shrink to one position.

    BatchNorm in training mode needs more than one value per channel; torch raises in the middle of
    the first epoch. The network is run on shapes alone, and only where a batch of one comes up.

    Args:
        batch_size: Samples of a step, over all devices and accumulated parts.
        samples: Samples of an epoch.
        sample_shape: Shape of one input, such as (3, T, H, W).
        build: Function that makes the network in training mode, with frozen layers in evaluation
            mode.
        smaller_last: The last batch of an epoch holds what is left over.

    Raises:
        UserError: There is such a batch, or it cannot be divided; names the options.
    """
    optimizer, trainer = experiment.optimizer, experiment.trainer
    devices = 1 if trainer.devices == "auto" else trainer.devices
    world = max(1, devices * trainer.nodes)
    part = share_of_batch(batch_size, optimizer.accumulate, world)
    share = -(-samples // world)
    last = share % part if smaller_last else 0
    if part != 1 and last != 1:
        return
    try:
        _run_on_shapes(build(), sample_shape)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        size = " x ".join(map(str, sample_shape[1:]))
        what = "batches hold 1 sample" if part == 1 else f"the last of {samples} samples is alone"
        raise UserError(
            f"optimizer.batch_size={batch_size}: {what} in its batch on a device, and "
            f"an input of {size} shrinks to one position, of which BatchNorm can take no "
            "deviation: give another --optimizer.batch_size (or accumulate), or larger inputs "
            "(--data.crop; of images --data.height and --data.width)"
        ) from error


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
    """Make the loader of every video once, in order."""
    sampler = EpochSampler(len(dataset), 0, rank=rank, world_size=world_size, shuffle=False)
    return make_loader(dataset, sampler, batch_size, num_workers, pin_memory, quarantine)


def test_batch_size(experiment: ImageExperiment, part: int) -> int:
    """Return the images tested at once: as given, else ``part``; in segmentation one."""
    given = experiment.optimizer.test_batch_size
    if given is not None:
        return given
    return 1 if IMAGE_DATASETS[experiment.data.dataset].segments else part


def _run_on_shapes(model: nn.Module, sample_shape: Sequence[int]) -> None:
    try:
        model.to("meta")(torch.zeros(1, *sample_shape, device="meta"))
    except (NotImplementedError, RuntimeError):
        # An operation without arithmetic on shapes: training itself will tell.
        return
