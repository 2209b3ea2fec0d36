"""``reid train``: the network and the tracklets of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from reid.config import ReidExperiment
from reid.data.datamodule import TrackletData
from reid.data.datasets.catalog import load_dataset
from reid.data.own_tracklets import own_entries
from reid.data.samplers import IdentitySampler
from reid.data.tracklet import ReidData, labels_of
from reid.metrics.labels import Cameras
from reid.metrics.scores import no_match
from reid.metrics.unreadable import with_a_match
from reid.models.backbones import build_trunk
from reid.models.network import build_network
from reid.options import check_options
from reid.program import REID
from reid.task import TrackletTask
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.fitting import fit, opened_run, tell
from video_snl.engine.resume import Asked, Listed
from video_snl.errors import UserError
from video_snl.models.video import recompute_units
from video_snl.runs.trained import read_checkpoint

__all__ = ["check_experiment", "make_task", "train"]


def train(
    experiment: ReidExperiment, *, config_name: str | None, asked: Asked, profile: bool = False
) -> int:
    """Train, or train on, and return the exit code; ``profile`` prints where loading took time."""
    config = experiment.data
    data = load_dataset(config.dataset, config.root, config.split)
    check_experiment(experiment, data)
    if config.num_workers:
        start_forkserver()  # loads its modules while the network is made
    lists: Listed = {
        part: [(t.path, (t.person_id, t.camera_id, len(t.frames))) for t in tracklets]
        for part, tracklets in (
            ("training", data.train),
            ("test", [*data.query, *data.gallery, *data.junk]),
        )
    }
    with opened_run(experiment, REID, config_name, asked, lists) as run:
        task = make_task(experiment, data, resumed=run.last_checkpoint)
        tracklets = TrackletData(experiment, data, run.folder)
        every = experiment.optimizer.validate_every
        return fit(experiment, task, tracklets, run, profile=profile, validate_every=every)


def check_experiment(experiment: ReidExperiment, data: ReidData) -> None:
    """Refuse what would only fail later, deep inside.

    Raises:
        UserError: naming the option, or the list, and what it should be.
    """
    check_options(experiment)
    config = experiment.data
    if not data.train:
        raise UserError(f"data set {data.name} has no training tracklets: add a folder train/")
    if experiment.trainer.activation_checkpointing:
        with torch.device("meta"):  # takes neither time nor memory
            recompute_units(
                build_trunk(experiment.model.backbone, (config.height, config.width)).network
            )
    IdentitySampler(
        data.train,
        experiment.trainer.seed,
        people=config.identities,
        per_person=config.tracklets,
    )
    check_matches(data, config.cameras)


def check_matches(data: ReidData, cameras: Cameras) -> None:
    """Check that there is anything to be found.

    Raises:
        UserError: No query has a match in the gallery.
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
            no_match(len(data.query), f"in the gallery of data set {data.name}", cameras)
        )


def make_task(
    experiment: ReidExperiment, data: ReidData, *, resumed: Path | None = None
) -> TrackletTask:
    """The network with its weights, ready to train (or for those of the checkpoint ``resumed``).

    Raises:
        UserError: when the weights do not fit, or the checkpoint knows other people.
    """
    people = list(labels_of(data.train))
    stored = read_checkpoint(resumed, REID)[REID.entry] if resumed and resumed.is_file() else None
    if stored is not None and stored["people"] != people:
        raise UserError(
            f"{resumed} was trained on {len(stored['people'])} other people than the {len(people)} "
            "of the data set; resume with the data set and split it was trained on."
        )
    # A resumed run takes its weights from the checkpoint, not from where it once started.
    config = replace(experiment.model, weights=None) if stored else experiment.model
    sizes = experiment.data
    model, report = build_network(
        config,
        len(people),
        seed=experiment.trainer.seed,
        frames=sizes.frames,
        size=(sizes.height, sizes.width),
    )
    if report is not None:
        tell(report.summary())
    if experiment.trainer.activation_checkpointing:
        recompute_units(model.trunk)
    return TrackletTask(experiment, model, people, data)
