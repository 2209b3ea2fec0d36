"""``video-snl features``: vectors of clips or videos, for probes, search and clustering.

The vector of a clip is what the network's classifier gets. Files that take long are made in parts
(:class:`~video_snl.runs.feature_file.FeatureFile`): a command that was interrupted goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from video_snl import __version__
from video_snl.commands.predict import Views, network_of
from video_snl.commands.probe import Probe, divided, fit_probe
from video_snl.config.datasets import VIDEO_DATASETS
from video_snl.config.task_spec import IMAGE, VIDEO
from video_snl.config.video import DataConfig, Experiment
from video_snl.data.loading.quarantine import named
from video_snl.data.video.division import OWN_LISTS
from video_snl.data.video.file_lists import LabelledVideo, layout_of, list_dataset, list_labelled
from video_snl.data.video.inference import (
    SHORT_VIDEOS,
    TimedViews,
    read_timed_views,
    value_of,
)
from video_snl.data.workers.cluster import Cluster, map_on_cluster
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.models.video import classifier_input
from video_snl.runs.feature_file import FeatureFile, VideoFeatures
from video_snl.runs.features import FeatureTable, check_suffix
from video_snl.runs.pretrained import describe_input, load_pretrained
from video_snl.runs.trained import Trained, stored_spec
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.operations import Reading
from video_snl.tasks.video_operations import VideoOperations
from video_snl.utils.counts import counts
from video_snl.utils.files import check_file, check_folder, digest_of
from video_snl.utils.finite import not_finite_error
from video_snl.utils.media import is_video_name
from video_snl.utils.memory import keep_freed_memory
from video_snl.utils.processes import ending_in_order
from video_snl.utils.text import escaped, say_once

__all__ = [
    "Dataset",
    "Per",
    "VideoFeatures",
    "compute_features",
    "features",
    "features_of_views",
    "videos_named",
]

Per = Literal["clip", "video"]
"""A vector for each clip, or their mean for each video."""
Split = Literal[1, 2, 3, "paper"]
"""Split of a dataset that has several."""

_COMMAND = "video-snl features"


@dataclass(frozen=True)
class Dataset:
    """A dataset whose lists name the videos.

    Attributes:
        name: Name of the dataset; None: by what the root holds.
        root: Folder, or CSV file.
        split: Number of the split, of those that have several.
    """

    name: str | None = None
    root: str | None = None
    split: Split = 1

    def config(self) -> DataConfig:
        """Return the options by which it is listed.

        Raises:
            UserError: The root is a video.
        """
        if self.root is not None and is_video_name(self.root):
            raise UserError(f"--data.root {self.root} is a video: give it without the option.")
        name = layout_of(Path(str(self.root)).expanduser()) if self.name is None else self.name
        return DataConfig(dataset=name, root=self.root, split=self.split)

    @property
    def described(self) -> str:
        """Name and split in words."""
        config = self.config()
        entry = VIDEO_DATASETS[config.dataset]
        return f"{config.dataset}, split {self.split}" if entry.splits else config.dataset


def features(
    paths: Sequence[str],
    *,
    output: str,
    pretrained: str | None = None,
    weights: str | None = None,
    checkpoint: str | None = None,
    dataset: Dataset | None = None,
    split: Split = 1,
    per: Per = "clip",
    views: Views | None = None,
    reading: Reading | None = None,
    num_workers: int = 1,
    accelerator: str = "auto",
    force: bool = False,
    probe: Probe | None = None,
    cluster: Cluster | None = None,
) -> int:
    """Write the features of videos to a file, and fit a probe on them where that is asked for.

    Args:
        paths: Videos or folders of them; none where there is a dataset.
        output: The file, .parquet or .npz.
        pretrained: Name of a network with published weights.
        weights: File of these weights.
        checkpoint: Checkpoint in their place, as for :func:`~video_snl.runs.run.checkpoint_path`.
        dataset: Dataset in the place of paths.
        split: Split of a dataset that the one path is.
        per: A vector for each clip, or for each video.
        views: Clips and crops of a video.
        reading: Options of reading the videos.
        num_workers: Processes that read.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        force: Replace a file of other settings or of other videos.
        probe: Options of a probe.
        cluster: Ray cluster that reads the videos and runs the network; None: this process.

    Returns:
        0; 2 where a video could not be read.

    Raises:
        UserError: An option does not fit, the network cannot be loaded, or the file is another's.
    """
    views, reading = views or Views(), reading or Reading()
    check_suffix("--output", output)
    check_file("--output", output, "features.parquet")
    if probe is not None:
        check_folder("--probe_output", str(probe.folder))
    dataset = dataset or _recognised(paths, split)
    videos = videos_named(paths, dataset)
    # Refused before anything is computed.
    listed = None if probe is None else divided(videos, _given_by(dataset, videos))
    if listed is not None and not any(video.part for video in videos):
        # The file keeps the division, so that a probe of it alone has the same.
        part = {video.path: "train" for video in listed.train}
        part |= {video.path: "test" for video in listed.test}
        videos = [video._replace(part=part.get(video.path)) for video in videos]
    if cluster is None:
        start_forkserver()  # loads its modules while the network is made
    trained, views = _network(pretrained, weights, checkpoint, views)
    operations = VideoOperations(trained.spec)
    trained = operations.reading(trained, reading)
    device = device_of(accelerator if cluster is None else "cpu")
    task = operations.scoring_task(trained).to(device).eval()
    task.crops = views.crops_of_clip
    keep_freed_memory()
    about = _about(trained, views, per)
    file = FeatureFile(Path(output), videos, about, force=force)
    with ending_in_order():
        if cluster is None:
            table = file.update(
                lambda todo: compute_features(task, todo, views.count, per, num_workers)
            )
        else:
            function = _FeaturesOf(task, views.count, per, cluster.accelerator)
            table = file.update(lambda todo: _by_cluster(function, todo, cluster))
    if table is None:
        raise UserError(f"none of the {len(videos)} videos could be read: {output} is not written")
    read = len(set(table.paths))
    vectors = counts(len(table), "vector")
    print(
        f"{vectors} of {counts(table.features.shape[1], 'number')}, one for each {per}: "
        f"{counts(read, 'video')}, {_labels(table)}"
    )
    missing = len(table.about["unreadable"])
    if missing:
        print(f"videos that could not be read and are not in it: {missing}")
    print(f"features: {output}")
    if probe is not None and listed is not None:
        about_data = None if dataset is None else dataset.described
        print(fit_probe(table, listed, probe, file=output, dataset=about_data))
        print(f"reports: {probe.folder}")
    return 2 if missing else 0


def _given_by(dataset: Dataset | None, videos: Sequence[LabelledVideo]) -> str:
    """Say what gives the parts of videos, or their recordings."""
    name = "folder" if dataset is None else dataset.config().dataset
    divided = any(video.part for video in videos)
    if name == "csv":
        return "the column split" if divided else "the column group"
    if name == "folder":
        return "the folders train/ and test/" if divided else "their folders"
    return OWN_LISTS


def videos_named(paths: Sequence[str], dataset: Dataset | None = None) -> list[LabelledVideo]:
    """List the videos of paths, or of a dataset in their place, with the labels that they have.

    One path that is a CSV file, or a folder in UCF-101's layout, is taken for a dataset.

    Raises:
        UserError: There are none, or a list is malformed.
    """
    dataset = dataset or _recognised(paths)
    if dataset is None:
        return list_labelled(paths, _COMMAND)
    return list_dataset(dataset.config(), _COMMAND)


def _recognised(paths: Sequence[str], split: Split = 1) -> Dataset | None:
    """Return the dataset that a single path is; None for videos and folders of them."""
    if len(paths) != 1:
        return None
    path = Path(paths[0])
    is_table = path.suffix.lower() == ".csv" and path.is_file()
    if not is_table and not (path / "ucfTrainTestlist").is_dir():
        return None
    say_once(f"{path} is taken for a dataset: --data.root {path}")
    return Dataset(root=str(path), split=split)


def compute_features(
    task: ActionRecognition,
    paths: Sequence[str],
    clips: int,
    per: Per,
    num_workers: int,
    *,
    if_short: str = SHORT_VIDEOS,
) -> Generator[tuple[str, VideoFeatures | UserError], None, None]:
    """Compute the features of videos, each independent of the others, as they are read.

    Args:
        task: Network and its input, in evaluation mode on its device.
        paths: The videos.
        clips: Clips of each, evenly spaced over its length.
        per: A vector for each clip, or for each video.
        num_workers: Processes that read.
        if_short: Advice for a video that is too short.

    Yields:
        A video with its features, or with what was wrong with it; in the order in which they are
        ready.
    """
    data = task.experiment.data
    reading = read_timed_views(paths, data, clips, num_workers, if_short=if_short)
    with closing(reading) as results:
        for result in results:
            found: VideoFeatures | UserError
            try:
                read = value_of(result, result.item, data.deadline)
                found = features_of_views(task, read, per, result.item)
            except UserError as error:
                found = error
            yield result.item, found


@dataclass
class _FeaturesOf:
    """Features of a video, computed by a task of Ray."""

    task: ActionRecognition
    clips: int
    per: Per
    accelerator: str

    def __call__(self, path: str) -> VideoFeatures:
        task = self.task.to(device_of(self.accelerator))
        [(_, found)] = compute_features(task, [path], self.clips, self.per, 1)
        if isinstance(found, UserError):
            raise found
        return found


def _by_cluster(
    function: _FeaturesOf, paths: Sequence[str], cluster: Cluster
) -> Generator[tuple[str, VideoFeatures | UserError], None, None]:
    """Yield what :func:`compute_features` yields, in the order of the paths."""
    with closing(map_on_cluster(function, paths, cluster)) as results:
        for result in results:
            if result.value is None:
                yield result.item, UserError(named(result.item, str(result.failure)))
            else:
                yield result.item, result.value


@torch.inference_mode()
def features_of_views(
    task: ActionRecognition, read: TimedViews, per: Per, name: str
) -> VideoFeatures:
    """Compute the features of the clips of a video, or their mean.

    Args:
        task: As for :func:`compute_features`.
        read: The clips.
        per: A vector for each clip, or for the video.
        name: Name of the video, for the message.

    Raises:
        UserError: They are not finite.
    """
    compute = classifier_input(task.model)
    views = torch.from_numpy(read.views)[None].to(task.device)
    size = torch.tensor(views.shape[3:5], device=task.device)[None]
    vectors = task.over_crops({"views": views, "size": size}, compute)[0].float().cpu().numpy()
    if not np.isfinite(vectors).all():
        raise not_finite_error(name)
    if per == "clip":
        return VideoFeatures(np.arange(len(vectors), dtype=np.int32), read.times, vectors)
    span = np.array([[read.times[:, 0].min(), read.times[:, 1].max()]])
    return VideoFeatures(np.array([-1], np.int32), span, vectors.mean(0, keepdims=True))


def _network(
    pretrained: str | None, weights: str | None, checkpoint: str | None, views: Views
) -> tuple[Trained[Experiment], Views]:
    """Load the network on the CPU, and complete the views by what it was published with."""
    if pretrained is not None:
        views = views.published(pretrained)
        trained = load_pretrained(pretrained, weights, classes=False)
        line = describe_input(pretrained, views.count, views.crops_of_clip)
        print(line, file=sys.stderr, flush=True)
        return trained, views
    if stored_spec(checkpoint, "runs", (VIDEO, IMAGE)) is IMAGE:
        raise UserError(
            f"{checkpoint or 'the newest run'} holds a network of images: {_COMMAND} takes "
            "networks of videos."
        )
    found, _ = network_of(VIDEO, checkpoint, None, "cpu")
    return cast("Trained[Experiment]", found), views


def _about(trained: Trained[Experiment], views: Views, per: Per) -> dict[str, Any]:
    """Return the settings that are written into the file."""
    data, model = trained.experiment.data, trained.experiment.model
    return {
        "network": model.backbone if model.block == "none" else f"{model.backbone}, {model.block}",
        "weights": escaped(str(trained.path)),
        "sha256": digest_of(trained.path),
        "input": {
            "clip_frames": data.clip_frames,
            "frame_stride": data.frame_stride,
            "stride_seconds": data.stride_seconds,
            "sampling": data.sampling,
            "resize": list(data.resize) if isinstance(data.resize, tuple) else data.resize,
            "crop": data.crop,
            "short_videos": data.short_videos,
            "mean": list(trained.mean),
            "std": list(trained.std),
        },
        "clips": views.count,
        "crops": views.crops_of_clip,
        "per": per,
        "version": __version__,
    }


def _labels(table: FeatureTable) -> str:
    classes = len(set(table.labels) - {None})
    unlabelled = len(
        {path for path, label in zip(table.paths, table.labels, strict=True) if not label}
    )
    if not classes:
        return "without labels"
    rest = f", {unlabelled} without a label" if unlabelled else ""
    return f"{counts(classes, 'class')}{rest}"
