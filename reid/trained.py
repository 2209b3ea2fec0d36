"""A trained network back out of its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reid.config import ReidExperiment
from reid.data.tracklet import ReidData
from reid.models.network import TrackletNet, build_network
from reid.program import REID
from video_snl.errors import UserError
from video_snl.runs.published import DIGEST, digest_of
from video_snl.runs.trained import fill, read_checkpoint, said_of
from video_snl.runs.validation import built_from

__all__ = ["TrainedReid", "check_people", "load_trained"]


@dataclass(frozen=True)
class TrainedReid:
    """A trained network with all that is needed to use it.

    Attributes:
        people: Numbers of the people it was trained on.
        epoch: Epochs that were finished.
        digest: SHA-256 of the checkpoint: features are comparable where it is the same. Of a
            published one, that of the checkpoint it was made from.
        stored: What the checkpoint says of it.
    """

    model: TrackletNet
    experiment: ReidExperiment
    people: list[int]
    epoch: int
    path: Path
    digest: str
    stored: Mapping[str, Any] = field(default_factory=dict)


def load_trained(path: Path) -> TrainedReid:
    """The network of a checkpoint, on the CPU and in evaluation mode.

    Raises:
        UserError: The file is no checkpoint of ``reid train``, is damaged, or does not fit.
    """
    content = read_checkpoint(path, REID)
    about = content[REID.entry]
    experiment = ReidExperiment.from_dict(about["experiment"])
    sizes = experiment.data
    # The weights come from this checkpoint: those the training started from are not needed again.
    with built_from(path):
        model, _ = build_network(
            replace(experiment.model, weights=None),
            len(about["people"]),
            frames=sizes.frames,
            size=(sizes.height, sizes.width),
        )
    fill(model, content, path)
    return TrainedReid(
        model=model.eval(),
        experiment=experiment,
        people=list(about["people"]),
        epoch=int(content["epoch"]) + 1,
        path=path,
        digest=str(content.get(DIGEST) or digest_of(path)),
        stored=said_of(content, REID),
    )


def check_people(trained: TrainedReid, experiment: ReidExperiment, data: ReidData) -> None:
    """Whether the people searched for are new to the network.

    Raises:
        UserError: It was trained on some of them, in another split of the same data set.
    """
    stored, asked = trained.experiment.data, experiment.data
    # People of own data are numbered anew in every folder.
    same_root = stored.dataset != "folder" or stored.root == asked.root
    if stored.dataset != asked.dataset or not same_root:
        return
    names = {tracklet.person_id: tracklet.person_name for tracklet in data.query}
    seen = sorted(names.keys() & set(trained.people))
    if seen:
        raise UserError(
            f"{trained.path} was trained on {len(seen)} of the people that split {asked.split} of "
            f"{asked.dataset} searches for (the first is {names[seen[0]]}): evaluate it on its own "
            f"split, --split {stored.split}"
        )
