"""Video classification: its data, its network and how one video is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from video_snl.blocks.insertion import block_places
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.config.statistics import STATISTICS, Statistics
from video_snl.config.validation import Range, check_training
from video_snl.config.video import DataConfig, Experiment
from video_snl.data.transforms.augment import check_augmentation
from video_snl.data.transforms.geometry import crop_clips, normalise
from video_snl.data.transforms.mixup import check_mixing
from video_snl.data.video.catalog import class_count, load_videos, resolve_dataset
from video_snl.data.video.division import (
    SPLIT_FILE,
    StoredSplit,
    read_split,
    split_table,
    write_split,
)
from video_snl.data.video.inference import read_views
from video_snl.data.video.records import VideoSet
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.errors import UserError
from video_snl.models.split import split_frozen
from video_snl.models.video import build_model, check_clips
from video_snl.models.weights.loading import LoadReport
from video_snl.runs.published import WEIGHTS, is_shared
from video_snl.runs.run import Run, has_record, run_of
from video_snl.runs.trained import Trained
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.class_operations import ClassOperations
from video_snl.tasks.datamodule import ClipDataModule, share_of_batch
from video_snl.tasks.operations import (
    Lists,
    ModelInput,
    evenly_spaced,
)
from video_snl.tasks.optimization import freeze, keep_frozen_layers_in_eval
from video_snl.tasks.preprocessing import PixelNetwork, Preprocessed
from video_snl.utils.counts import counts, noun
from video_snl.utils.text import escaped, examples, say_once

__all__ = ["VideoOperations"]

_OWN = ("folder", "csv")  # datasets of users' files, which may not say what tests
_LONGEST_NAME = 40
_SCORES = "The scores are those of the frames shown: the middle of the video, its centre crop."
_OPTIMIZER = {
    "batch_size": Range(1),
    "step_epochs": Range(1),
    "momentum": Range(),
    "mixup": Range(),
    "cutmix": Range(),
}


class VideoOperations(ClassOperations[Experiment, VideoSet]):
    """Operations of video classification."""

    def check_options(self, experiment: Experiment) -> None:
        check_clips(experiment)
        check_augmentation(experiment.data)
        check_training(experiment, _OPTIMIZER)
        optimizer = experiment.optimizer
        if optimizer.cached_versions and (optimizer.mixup or optimizer.cutmix):
            raise UserError(
                "optimizer.cached_versions keeps what frozen stages make of single clips, which "
                "mixup and CutMix would mix before: leave one of them out."
            )
        if optimizer.cached_versions:
            _check_split(experiment)

    def load_data(self, experiment: Experiment) -> tuple[Experiment, VideoSet]:
        # The dataset that is recognised is that of the run, and of its files.
        experiment = replace(experiment, data=resolve_dataset(experiment.data))
        return experiment, load_videos(experiment.data)

    def load_test_data(
        self, experiment: Experiment, known: list[str] | None
    ) -> tuple[Experiment, VideoSet]:
        experiment = replace(experiment, data=resolve_dataset(experiment.data))
        return experiment, load_videos(experiment.data, known=known)

    def load_resumed(self, experiment: Experiment, run: Path) -> tuple[Experiment, VideoSet]:
        experiment = replace(experiment, data=resolve_dataset(experiment.data))
        stored = Run.open(run, self.spec).experiment.data if has_record(run) else experiment.data
        split = _split_of(run, stored, experiment.data)
        return experiment, load_videos(experiment.data, stored=split)

    def load_trained_test_data(
        self, experiment: Experiment, trained: Trained[Experiment]
    ) -> tuple[Experiment, VideoSet]:
        experiment = replace(experiment, data=resolve_dataset(experiment.data))
        split = _split_of(_folder_of(trained.path), trained.experiment.data, experiment.data)
        videos = load_videos(experiment.data, known=trained.class_names, stored=split)
        _say_made_again(videos, trained, experiment.data)
        return experiment, videos

    def data_summary(self, data: VideoSet) -> str | None:
        return split_table(data)

    def write_lists(self, data: VideoSet, run: Path) -> None:
        if data.division is not None and data.division.rule in ("group", "fifth"):
            write_split(data, run / SPLIT_FILE)

    def run_name(self, experiment: Experiment, config_name: str | None) -> str:
        """Return the name of the user's folder or table, and that of the configuration."""
        data = experiment.data
        name = super().run_name(experiment, config_name)
        if data.dataset not in _OWN or data.root is None:
            return name
        own = _folder_name(Path(data.root).expanduser())
        return "-".join(part for part in (own, config_name) if part) or name

    def check_data(self, experiment: Experiment, data: VideoSet) -> None:
        super().check_data(experiment, data)
        optimizer = experiment.optimizer
        check_mixing(optimizer, share_of_batch(optimizer.batch_size, optimizer.accumulate, 1))
        self.check_batches(experiment, data, optimizer.batch_size)
        if experiment.data.num_workers:
            start_forkserver()  # loads its modules while the network is made

    def keep_frozen(self, model: nn.Module, experiment: Experiment) -> None:
        keep_frozen_layers_in_eval(model, experiment.optimizer)

    def lists(self, data: VideoSet) -> Lists:
        return {
            part: [(video.path, video.label) for video in videos]
            for part, videos in (("training", data.train), ("test", data.test))
        }

    def datamodule(
        self, experiment: Experiment, data: VideoSet, folder: Path | None
    ) -> ClipDataModule:
        return ClipDataModule(experiment, data, folder)

    def class_count(self, experiment: Experiment) -> int:
        data = experiment.data
        if data.dataset in _OWN and data.root is None:
            raise UserError(
                f"data.dataset={data.dataset}: the number of classes is that of your videos; give "
                "--data.root, or --model.num_classes alone"
            )
        return class_count(data)

    def heading(self, experiment: Experiment, model: nn.Module, labels: int) -> str:
        first = super().heading(experiment, model, labels)
        name, data = experiment.model.backbone, experiment.data
        recipe, published = (getattr(VIDEO_BACKBONES[name], of) for of in ("recipe", "published"))
        if recipe is None or published is None:
            return first
        if (data.clip_frames, data.crop) == (recipe.frames, recipe.crop):
            return first
        return (
            f"{first}\n{name} is published for clips of {recipe.frames} x {recipe.crop} x "
            f"{recipe.crop}: --data.clip_frames {recipe.frames} --data.crop {recipe.crop}"
        )

    def input_shape(self, experiment: Experiment) -> tuple[int, ...]:
        data = experiment.data
        return 3, data.clip_frames, data.crop, data.crop

    def smallest_input(self, experiment: Experiment) -> tuple[int, ...]:
        return VIDEO_BACKBONES[experiment.model.backbone].smallest_clip

    def build_network(
        self, experiment: Experiment, labels: int, *, seed: int = 0
    ) -> tuple[nn.Module, LoadReport | None]:
        return build_model(experiment.model, labels, seed=seed)

    def empty_network(self, experiment: Experiment, stored: Mapping[str, Any]) -> nn.Module:
        check_clips(experiment)
        return super().empty_network(experiment, stored)

    def statistics(
        self, experiment: Experiment, data: VideoSet, report: LoadReport | None
    ) -> Statistics:
        name: str = experiment.data.statistics
        if name == "auto":
            backbone = VIDEO_BACKBONES[experiment.model.backbone]
            name = report.statistics if report is not None else backbone.statistics
        return STATISTICS[name]

    def training_task(
        self,
        experiment: Experiment,
        model: nn.Module,
        labels: list[str],
        statistics: Statistics | None,
        data: VideoSet,
    ) -> ActionRecognition:
        assert statistics is not None
        mean, std = statistics
        files = [video.path for video in data.train]
        return ActionRecognition(experiment, model, labels, mean=mean, std=std, files=files)

    def scoring_task(self, trained: Trained[Experiment]) -> ActionRecognition:
        return ActionRecognition(
            trained.experiment,
            trained.model,
            trained.class_names,
            mean=trained.mean,
            std=trained.std,
        )

    def test_inputs(
        self, trained: Trained[Experiment], count: int
    ) -> list[tuple[str, Path | Tensor]]:
        data = trained.experiment.data
        try:
            split = _split_of(run_of(trained.path), data, data)
            test = load_videos(data, stored=split).test
        except UserError as error:
            raise UserError(f"the test list of the run: {error}; or name videos") from error
        paths = [test[index].path for index in evenly_spaced(count, len(test))]
        return [(path, Path(path)) for path in paths]

    def read_input(
        self,
        trained: Trained[Experiment],
        name: str,
        item: Path | Tensor,
        device: torch.device,
        *,
        option: str | None = None,
    ) -> ModelInput:
        """Read the clip in the middle of a video, and crop its centre, as for clip accuracy."""
        advice = {} if option is None else {"if_short": f"give a longer {option}"}
        data = trained.experiment.data
        views = torch.from_numpy(read_views(name, data, 1, **advice))
        frames = _centre_crop(views, data.crop)
        return ModelInput(
            frames=frames[0].numpy(),
            clip=normalise(frames.to(device), trained.mean, trained.std),
            notes=[_SCORES],
        )

    def preprocessed(self, trained: Trained[Experiment]) -> Preprocessed:
        data = trained.experiment.data
        crop = data.crop

        def evaluated(frames: Tensor) -> Tensor:
            return trained.model(normalise(_centre_crop(frames, crop), *trained.statistics))  # type: ignore[no-any-return]

        network = PixelNetwork(trained.model, trained.statistics, (crop, crop))
        smallest = self.smallest_input(trained.experiment)[0], crop, crop
        return Preprocessed(network, evaluated, smallest)

    def layers(self, model: nn.Module) -> list[tuple[str, nn.Module]]:
        """Name the stem, ``res2`` ... ``res5`` (and the pooling that some networks have), head.

        Another network than pytorchvideo's convolutional ones is shown by its modules.
        """
        if not any(place.rpartition(".")[0].endswith("res2") for place in block_places(model)):
            return [
                named
                for name, module in model.named_children()
                for named in (
                    [(f"{name}.{number}", unit) for number, unit in enumerate(module)]
                    if isinstance(module, nn.ModuleList)  # which is not called itself
                    else [(name, module)]
                )
            ]
        first, *between, last = model.get_submodule("blocks").children()
        named, stage = [("stem", first)], 2
        for layer in between:
            pathways = getattr(layer, "multipathway_blocks", [layer])
            if hasattr(pathways[0], "res_blocks"):
                named.append((f"res{stage}", layer))
                stage += 1
            else:
                named.append((type(layer).__name__, layer))
        return [*named, ("head", last)]


def _folder_of(checkpoint: Path) -> Path | None:
    """Return the folder of the run of a checkpoint, or the published folder that it is of."""
    return checkpoint.parent if checkpoint.name == WEIGHTS else run_of(checkpoint)


def _check_split(experiment: Experiment) -> None:
    """Refuse a network without a frozen beginning, whose activations could be kept.

    Raises:
        UserError: It has none, or its stages do not follow each other.
    """
    with torch.device("meta"):  # takes neither time nor memory
        network, _ = build_model(replace(experiment.model, weights=None), 2)
    freeze(network, experiment.optimizer)
    network.train()
    keep_frozen_layers_in_eval(network, experiment.optimizer)
    split_frozen(network)


def _split_of(run: Path | None, stored: DataConfig, asked: DataConfig) -> StoredSplit | None:
    """Return the division that a run keeps, where the data of its training is asked for.

    A published folder does not say where its data was: it is that where all of its files are.

    Args:
        run: Folder of the run, or the published folder, if there is one.
        stored: Options of its data.
        asked: Options of the data to load.
    """
    if run is None or asked.dataset not in _OWN:
        return None
    if (asked.dataset, asked.split_by) != (stored.dataset, stored.split_by):
        return None
    split = read_split(run / SPLIT_FILE)
    if split is None or asked.root is None:
        return None
    now = Path(asked.root).expanduser()
    if stored.root is not None:
        before = Path(stored.root).expanduser()
        if stored.root == asked.root or before.resolve() == now.resolve():
            return split
        if before.exists():
            return None
    elif not is_shared(run):
        return None
    # Moved, or published: all of its files are there.
    folder = now if asked.dataset == "folder" else now.parent
    gone = [name for name in split.rows if not os.path.exists(folder / name)]
    if gone and stored.root is None and len(gone) < len(split.rows):
        say_once(
            f"{split.file} is not followed: {counts(len(gone), 'video')} of {len(split.rows)} in "
            f"it {noun(len(gone), 'is', 'are')} not in {folder} ({examples(gone)})"
        )
    return None if gone else split


def _say_made_again(videos: VideoSet, trained: Trained[Experiment], asked: DataConfig) -> None:
    """Say that the test videos of an evaluation were chosen by names, not as its run has them."""
    division = videos.division
    if division is None or division.rule != "group":
        return
    chosen = f"{len(videos.test)} of {counts(len(videos.train) + len(videos.test), 'video')} test"
    if trained.experiment.data.root == asked.root:
        say_once(
            f"{trained.path} has no {SPLIT_FILE} of its run: the split is made again from the "
            f"names in {asked.root} ({chosen}), and is that of the training unless files were "
            "added or removed since"
        )
    else:
        say_once(
            f"{asked.root} does not say which videos test: whole recordings of each class do "
            f"({chosen}); to test all of them, put the class folders into a folder test/, or give "
            "a CSV file whose column split says test"
        )


def _folder_name(root: Path) -> str:
    """Return the name of a user's folder or table as the name of a folder of ours may begin."""
    name = root.resolve().name if root.is_dir() else root.stem
    kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in escaped(name))
    return kept.strip("._-")[:_LONGEST_NAME]


def _centre_crop(video: Tensor, crop: int) -> Tensor:
    """Crop the centre: uint8 (B, T, H, W, 3) -> (B, T, crop, crop, 3)."""
    size = torch.tensor(video.shape[2:4]).expand(len(video), 2)
    middle = torch.full((len(video), 2), 0.5)
    return crop_clips(video, size, middle, torch.zeros(len(video), dtype=torch.bool), crop)
