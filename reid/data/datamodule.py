"""Data module of a training on tracklets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reid.config import ReidExperiment
from reid.data.loading import SampledDataset, TrackletDataset, in_order, make_loader
from reid.data.samplers import IdentitySampler
from reid.data.tracklet import ReidData, labels_of
from video_snl.data.loading.loader import ClipLoader
from video_snl.data.loading.prefetch import DevicePrefetcher
from video_snl.errors import UserError
from video_snl.tasks.datamodule import RunData

__all__ = ["TrackletData"]

_VALIDATED_AT_ONCE = 32


class TrackletData(RunData):
    """Data module: batches of P x K training tracklets, and query and gallery to validate on."""

    noun = "tracklets"
    consequence = (
        "other tracklets of the same identities stood for training ones, queries count as wrong, "
        "gallery tracklets are left out"
    )

    def __init__(
        self, experiment: ReidExperiment, data: ReidData, folder: Path | None = None
    ) -> None:
        super().__init__(folder, experiment.data.max_failures)
        self.experiment, self.data = experiment, data

    def lists(self) -> Iterable[tuple[str, set[str]]]:
        test = [*self.data.query, *self.data.gallery]
        for what, tracklets in (("training", self.data.train), ("test", test)):
            yield what, {tracklet.path for tracklet in tracklets}

    def train_dataloader(self) -> ClipLoader | DevicePrefetcher:
        config, seed = self.experiment.data, self.experiment.trainer.seed
        train = self.data.train
        rank, world_size = self._place()
        dataset = TrackletDataset(train, labels_of(train), config, seed)
        sampler = IdentitySampler(
            train,
            seed,
            identities=config.identities,
            per_person=config.tracklets,
            rank=rank,
            world_size=world_size,
        )
        return self._used(
            make_loader(
                dataset,
                sampler,
                self.part_size(world_size),
                pin_memory=self._pin(),
                quarantine=self.quarantine,
            )
        )

    def val_dataloader(self) -> ClipLoader | DevicePrefetcher:
        rank, world_size = self._place()
        dataset = SampledDataset([*self.data.query, *self.data.gallery], self.experiment.data)
        return self._used(
            make_loader(
                dataset,
                in_order(len(dataset), rank, world_size),
                _VALIDATED_AT_ONCE,
                pin_memory=self._pin(),
                quarantine=self.quarantine,
            )
        )

    def part_size(self, world_size: int) -> int:
        """Return the number of tracklets of a batch for one device: those of whole identities.

        Raises:
            UserError: The identities cannot be divided equally.
        """
        config = self.experiment.data
        identities, rest = divmod(config.identities, world_size)
        if rest or identities < 1:
            raise UserError(
                f"data.identities={config.identities} cannot be divided over {world_size} devices; "
                f"choose a multiple of {world_size}."
            )
        return identities * config.tracklets
