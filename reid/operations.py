"""Re-ID as a kind of task: its data, its network and how one tracklet is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from reid.config import ReidExperiment
from reid.data.datasets.catalog import DATASETS, load_dataset
from reid.data.loading import SampledDataset, in_order, make_loader
from reid.data.samplers import IdentitySampler
from reid.data.tracklet import ReidData, Tracklet, labels_of, own_entries
from reid.data.tracklet_folders import Layout, find_tracklets, tracklets_in
from reid.data.transforms import evaluation_clips
from reid.metrics.ranking import Cameras, no_match, with_a_match
from reid.models.backbones import build_backbone
from reid.models.heads import NonlocalHead
from reid.models.network import TrackletNet, build_network
from reid.options import check_data, check_options, with_rule
from reid.retrieval.deployed import preprocessed
from reid.runs import find_checkpoint
from reid.task import TrackletData, TrackletTask
from reid.trained import TrainedReid
from video_snl.config.statistics import Statistics
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.fit import tell
from video_snl.errors import UserError
from video_snl.models.video import recompute_units
from video_snl.models.weights.loading import LoadReport
from video_snl.runs.published import DIGEST
from video_snl.runs.trained import checkpoint_metadata
from video_snl.tasks.operations import Lists, ModelInput, Operations, Reading, evenly_spaced
from video_snl.tasks.preprocessing import Preprocessed
from video_snl.utils.counts import counts
from video_snl.utils.files import digest_of

__all__ = ["ReidOperations", "check_matches"]

_STAND_IN = 100


class ReidOperations(Operations[ReidExperiment, ReidData, int, TrainedReid, Tracklet]):
    """Operations of Re-ID; a label is the number of an identity."""

    # Data

    def check_options(self, experiment: ReidExperiment) -> None:
        check_options(experiment)
        data = experiment.data
        if experiment.trainer.activation_checkpointing:
            with torch.device("meta"):  # takes neither time nor memory
                backbone = build_backbone(experiment.model.backbone, (data.height, data.width))
                recompute_units(backbone.network)

    def load_data(self, experiment: ReidExperiment) -> tuple[ReidExperiment, ReidData]:
        config = experiment.data
        data = load_dataset(config.dataset, config.root, config.split)
        return with_rule(experiment), data

    def check_data(self, experiment: ReidExperiment, data: ReidData) -> None:
        config = experiment.data
        if not data.train:
            raise UserError(f"dataset {data.name} has no training tracklets: add a folder train/")
        IdentitySampler(  # refuses batches that the identities do not fill
            data.train,
            experiment.trainer.seed,
            identities=config.identities,
            per_person=config.tracklets,
        )
        check_matches(data, config.cameras)
        if config.num_workers:
            start_forkserver()  # loads its modules while the network is made

    def lists(self, data: ReidData) -> Lists:
        return {
            part: [(t.path, (t.person_id, t.camera_id, len(t.frames))) for t in tracklets]
            for part, tracklets in (
                ("training", data.train),
                ("test", [*data.query, *data.gallery, *data.junk]),
            )
        }

    def datamodule(
        self, experiment: ReidExperiment, data: ReidData, folder: Path | None
    ) -> TrackletData:
        return TrackletData(experiment, data, folder)

    # Network

    def labels(self, data: ReidData) -> list[int]:
        return list(labels_of(data.train))

    def stored_labels(self, stored: Mapping[str, Any]) -> list[int]:
        return list(stored["people"])

    def label_count(self, experiment: ReidExperiment) -> int:
        """Return the number of identities to train on; 100 where the root is not known."""
        config = experiment.data
        published = DATASETS[config.dataset].published
        if published is not None and (known := published.parts["train"].people) is not None:
            return known
        if config.root is not None:
            return len(labels_of(load_dataset(config.dataset, config.root, config.split).train))
        if DATASETS[config.dataset].root is not None:
            return _STAND_IN
        from reid.data.synthetic.sample import SampleSettings

        return SampleSettings().train_people

    def input_shape(self, experiment: ReidExperiment) -> tuple[int, ...]:
        data = experiment.data
        return 3, data.frames, data.height, data.width

    def smallest_input(self, experiment: ReidExperiment) -> tuple[int, ...]:
        data = experiment.data
        return build_backbone(experiment.model.backbone, (data.height, data.width)).smallest

    def build_network(
        self, experiment: ReidExperiment, labels: int, *, seed: int = 0
    ) -> tuple[TrackletNet, LoadReport | None]:
        data = experiment.data
        size = data.height, data.width
        return build_network(experiment.model, labels, seed=seed, frames=data.frames, size=size)

    def restored(
        self, model: nn.Module, experiment: ReidExperiment, content: Mapping[str, Any], path: Path
    ) -> TrainedReid:
        assert isinstance(model, TrackletNet)
        return TrainedReid(
            model=model,
            experiment=experiment,
            epoch=int(content["epoch"]),
            path=path,
            spec=self.spec,
            stored=checkpoint_metadata(content, self.spec),
            people=self.stored_labels(content[self.spec.entry]),
            digest=str(content.get(DIGEST) or digest_of(path)),
        )

    def recomputed(self, model: nn.Module) -> nn.Module:
        assert isinstance(model, TrackletNet)
        return model.trunk

    # Training

    def check_resumed(self, stored: Mapping[str, Any], data: ReidData, path: Path) -> None:
        known, asked = stored["people"], self.labels(data)
        if known != asked:
            raise UserError(
                f"{path} was trained on {len(known)} other identities than the {len(asked)} of the "
                "dataset; resume with the dataset and split it was trained on."
            )

    def training_task(
        self,
        experiment: ReidExperiment,
        model: nn.Module,
        labels: list[int],
        statistics: Statistics | None,
        data: ReidData,
    ) -> TrackletTask:
        assert isinstance(model, TrackletNet)
        return TrackletTask(experiment, model, labels, data)

    def validate_every(self, experiment: ReidExperiment) -> int:
        return experiment.optimizer.validate_every

    # One input

    def find_checkpoint(self, named: str | None, *, option: str = "--checkpoint") -> Path:
        return find_checkpoint(named, option=option)

    def find_inputs(
        self, paths: Sequence[str], command: str, asked: Reading
    ) -> list[tuple[str, Tracklet]]:
        return list(find_tracklets(paths, _layout(asked), say=tell).items())

    def find_input(self, source: str, asked: Reading) -> tuple[str, Tracklet]:
        found = tracklets_in(source, _layout(asked))
        if len(found.tracklets) > 1:
            raise UserError(
                f"{source} holds {len(found.tracklets)} tracklets: name one of them, such as "
                f"{next(iter(found.tracklets))}"
            )
        if found.ignored:
            tell(found.text())
        return next(iter(found.tracklets.items()))

    def test_inputs(self, trained: TrainedReid, count: int) -> list[tuple[str, Tracklet]]:
        data = trained.experiment.data
        try:
            query = load_dataset(data.dataset, data.root, data.split).query
        except UserError as error:
            raise UserError(f"the queries of the run: {error}; or name tracklets") from error
        chosen = (query[index] for index in evenly_spaced(count, len(query)))
        return [(tracklet.path, tracklet) for tracklet in chosen]

    def read_input(
        self,
        trained: TrainedReid,
        name: str,
        item: Tracklet,
        device: torch.device,
        *,
        option: str | None = None,
    ) -> ModelInput:
        """Read as many frames of a tracklet as the network was trained on, evenly spaced.

        Of a shorter tracklet the frames that count (``data.short_tracklets``), which are a clip of
        that length.
        """
        data = trained.experiment.data
        check_data(data)
        loader = make_loader(SampledDataset([item], data), in_order(1), 1)
        try:
            [sample] = loader
        finally:
            loader.close()
        kept = int(sample["mask"].sum())
        video = sample["video"][:, :kept]
        used, skipped = int(sample["frames"]), int(sample["skipped"])
        notes = [f"{counts(kept, 'frame')}, evenly spaced over the tracklet."]
        if kept < data.frames:
            notes.append(f"It has no more; a clip of the training has {data.frames}.")
        if used < kept:
            notes.append(
                f"Only {used} of them differ, the others stand in for frames there are not."
            )
        if skipped:
            notes.append(f"Frames that could not be read, in whose place others stand: {skipped}.")
        clip = evaluation_clips(video.to(device))
        return ModelInput(frames=video[0].numpy(), clip=clip, notes=notes)

    # Description

    def blocks(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return the blocks of the backbone, and that of the head as ``head``."""
        assert isinstance(model, TrackletNet)
        blocks = super().blocks(model.trunk)
        return blocks | ({"head": model.head.block} if isinstance(model.head, NonlocalHead) else {})

    def block_name(self, experiment: ReidExperiment) -> str:
        """Return the name of the blocks; the head ``nonlocal3d`` has one without others, too."""
        name = super().block_name(experiment)
        return "snl" if name == "none" else name

    def output(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return what computes the features."""

        def features(clips: Tensor) -> Tensor:
            return model(clips).features

        return features

    def scores_classes(self, trained: TrainedReid) -> bool:
        return False  # the identities it was trained on are not those it is asked about

    def preprocessed(self, trained: TrainedReid) -> Preprocessed:
        return preprocessed(trained)

    def layers(self, model: nn.Module) -> list[tuple[str, nn.Module]]:
        assert isinstance(model, TrackletNet)
        parts = model.trunk.get_submodule("blocks") if model.over_time else model.trunk
        backbone = [
            (f"blocks.{name}" if model.over_time else name, module)
            for name, module in parts.named_children()
            if next(module.parameters(), None) is not None
        ]
        rest = {"head": model.head, "neck": model.neck, "classifier": model.classifier}
        return [*backbone, *((name, module) for name, module in rest.items())]

    def heading(self, experiment: ReidExperiment, model: nn.Module, labels: int) -> str:
        assert isinstance(model, TrackletNet)
        shape = self.input_shape(experiment)
        name = counts(labels, "person")
        text = f"{experiment.model.backbone}, {name}; tracklet (channels, T, H, W) = {shape}"
        if model.over_time:
            return text
        return f"{text}\nlayers of the backbone see single frames: their output is (C, H, W)"

    def facts(self, model: nn.Module, labels: int) -> dict[str, Any]:
        assert isinstance(model, TrackletNet)
        return {"people": model.num_people, "feature_dim": model.feature_dim}


def _layout(asked: Reading) -> Layout:
    return cast(Layout, asked.layout or "auto")


def check_matches(data: ReidData, cameras: Cameras) -> None:
    """Check that a query has a match in the gallery.

    Raises:
        UserError: No query has one.
    """
    ids, views = (
        [
            torch.tensor([getattr(tracklet, name) for tracklet in tracklets])
            for tracklets in (data.query, data.gallery)
        ]
        for name in ("person_id", "camera_id")
    )
    own = own_entries(data.query, data.gallery) if cameras == "ignore" else []
    pairs = torch.tensor(own, dtype=torch.int64).view(-1, 2)
    if not with_a_match(ids[0], ids[1], views[0], views[1], cameras, pairs).any():
        raise UserError(
            no_match(len(data.query), f"in the gallery of dataset {data.name}", cameras)
        )
