"""Re-identification as Lightning trains it: the module, how an epoch is scored, and the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Adam
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassAccuracy

from reid.config import ReidExperiment
from reid.data.loading import SampledDataset, TrackletDataset, in_order, make_loader
from reid.data.samplers import IdentitySampler
from reid.data.tracklet import ReidData, Tracklet, labels_of, own_entries
from reid.data.transforms import evaluation_clips, training_clips
from reid.metrics.distances import pairwise_distances
from reid.metrics.ranking import count_as_wrong, evaluate_ranking, with_a_match
from reid.models.losses import TrackletLoss
from reid.models.network import TrackletNet, head_parameters, stage_layers
from reid.task_spec import REID
from video_snl import __version__
from video_snl.data.loading.loader import ClipLoader
from video_snl.data.loading.prefetch import DevicePrefetcher
from video_snl.errors import UserError
from video_snl.tasks.datamodule import RunData
from video_snl.tasks.optimization import (
    freeze,
    keep_frozen_layers_in_eval,
    learning_rate_factor,
    parameter_groups,
    scheduled,
)
from video_snl.utils.timing import stage

__all__ = ["TrackletData", "TrackletTask"]

_VALIDATED_AT_ONCE = 32


class TrackletTask(pl.LightningModule):
    """Cross-entropy, triplet and centre loss over tracklets; scored by ranking the gallery.

    Args:
        experiment: The configuration.
        model: (B, 3, T, H, W), and a mask (B, T) -> :class:`~reid.models.network.TrackletOutput`.
        people: Number of the person of every label.
        data: The lists; query and gallery are what the data module validates on, in this order.
    """

    def __init__(
        self, experiment: ReidExperiment, model: TrackletNet, people: list[int], data: ReidData
    ) -> None:
        super().__init__()
        self.experiment, self.model, self.people, self.data = experiment, model, people, data
        self.loss = TrackletLoss(experiment.optimizer, len(people), model.feature_dim)
        self.train_top1 = MulticlassAccuracy(len(people), average="micro")
        self.skipped = SumMetric()
        self._features = self._read = torch.empty(0)
        # Under the query's own camera nothing counts, unless cameras are ignored.
        ignored = experiment.data.cameras == "ignore"
        self._own = own_entries(data.query, data.gallery) if ignored else []
        freeze(model.trunk, experiment.optimizer, stage_layers)
        # Lightning trains modules in the mode it finds them in.
        self.train()

    def train(self, mode: bool = True) -> TrackletTask:
        super().train(mode)
        if mode:
            keep_frozen_layers_in_eval(self.model.trunk, self.experiment.optimizer, stage_layers)
        return self

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        label = batch["label"]
        with stage("transform"):
            clips = self._laid_out(training_clips(batch, self.experiment.data.pad))
        output = self.model(clips, batch["mask"])
        losses = self.loss(output, label)
        if not torch.isfinite(losses["loss"]):
            self._stop_on_bad_loss(losses["loss"], batch["index"])
        for name, value in losses.items():
            self.log(
                f"train/{name}",
                value.detach(),
                on_step=False,
                on_epoch=True,
                batch_size=len(label),
                sync_dist=True,
            )
        self.train_top1(output.logits, label)
        self.skipped(batch["skipped"])
        for name, metric in (("top1", self.train_top1), ("skipped_frames", self.skipped)):
            self.log(f"train/{name}", metric, on_step=False, on_epoch=True, batch_size=len(label))
        return losses["loss"]

    def on_validation_epoch_start(self) -> None:
        listed = len(self._listed())
        self._features = torch.zeros(listed, self.model.feature_dim, device=self.device)
        self._read = torch.zeros(listed, device=self.device)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        index = batch["index"]
        if len(index):
            clips = self._laid_out(evaluation_clips(batch["video"]))
            self._features[index] = self.model(clips, batch["mask"]).features.float()
            self._read[index] = 1

    def on_validation_epoch_end(self) -> None:
        """Log rank 1 and mAP of the common protocol, by the cosine distance of T frames each."""
        strategy = self.trainer.strategy
        # Every row is filled by one process.
        features = strategy.reduce(self._features, reduce_op="sum")
        read = strategy.reduce(self._read, reduce_op="sum") > 0
        rank1, mean_ap = self._score(features, read)
        self.log("val/rank1", rank1)
        self.log("val/mAP", mean_ap)

    def on_train_epoch_start(self) -> None:
        # Dropout draws from the global generator; so it, too, depends on seed and epoch alone.
        seed = self.experiment.trainer.seed
        torch.manual_seed(hash((seed, self.current_epoch, self.global_rank)) % 2**63)

    def configure_optimizers(self) -> Any:
        config = self.experiment.optimizer
        groups = parameter_groups(self.model, config, head_parameters)
        optimizer = Adam(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        steps = self.trainer.estimated_stepping_batches
        return scheduled(
            optimizer, config.epochs, steps, lambda epoch: learning_rate_factor(config, epoch)
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[REID.entry] = {
            "format_version": REID.format_version,
            "experiment": self.experiment.to_dict(),
            "trained_with": __version__,
            "people": self.people,
        }

    def _listed(self) -> Sequence[Tracklet]:
        return [*self.data.query, *self.data.gallery]

    def _laid_out(self, clips: Tensor) -> Tensor:
        return clips if self.experiment.trainer.channels_last else clips.contiguous()

    def _score(self, features: Tensor, read: Tensor) -> tuple[float, float]:
        queries = len(self.data.query)
        persons = torch.tensor([tracklet.person_id for tracklet in self._listed()])
        cameras = torch.tensor([tracklet.camera_id for tracklet in self._listed()])
        kept = read.cpu().nonzero()[:, 0]
        query, gallery = kept[kept < queries], kept[kept >= queries]
        ids = persons[query], persons[gallery], cameras[query], cameras[gallery]
        distances = pairwise_distances(features[query], features[gallery], "cosine")
        rule = self.experiment.data.cameras
        places = [{int(row): place for place, row in enumerate(rows)} for rows in (query, gallery)]
        own = [
            (places[0][asked], places[1][entry + queries])
            for asked, entry in self._own
            if asked in places[0] and entry + queries in places[1]
        ]
        ranking = evaluate_ranking(distances, *ids, cameras=rule, own=own)
        lost = (~read[:queries].cpu()).nonzero()[:, 0]
        matched = with_a_match(
            persons[lost], persons[gallery], cameras[lost], cameras[gallery], rule
        )
        ranking = count_as_wrong(ranking, int(matched.sum()), len(lost))
        return float(ranking.cmc[0]), ranking.mean_ap

    def _stop_on_bad_loss(self, loss: Tensor, index: Tensor) -> None:
        names = ", ".join(self.data.train[i].path for i in index.tolist())
        raise UserError(
            f"the loss became {loss.item()} in epoch {self.current_epoch + 1}; lower "
            "--optimizer.learning_rate, set --optimizer.gradient_clip, or look at the tracklets of "
            f"this batch: {names}"
        )


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
