"""A trained Re-ID network, of ours or published, and what it may be evaluated on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from reid.config import ReidExperiment
from reid.data.tracklet import ReidData
from reid.models.network import TrackletNet, build_network
from reid.models.weights import pretrained_file
from reid.pretrained import recipe_experiment
from reid.runs import find_checkpoint
from reid.task_spec import REID
from video_snl.errors import UserError
from video_snl.runs.trained import TrainedNetwork
from video_snl.runs.trained import load_trained as load_any
from video_snl.utils.files import digest_of

__all__ = ["TrainedReid", "check_identities", "find_network", "load_trained", "pretrained"]


@dataclass(frozen=True, kw_only=True)
class TrainedReid(TrainedNetwork[ReidExperiment]):
    """A trained network with all that is needed to use it.

    Attributes:
        people: Numbers of the identities it was trained on.
        digest: SHA-256 of the checkpoint: features are comparable where it is the same. For a
            published folder, that of the checkpoint it was made from.
        pretrained: Name of a published network, whose weights are in ``path``; None for our own.
    """

    model: TrackletNet
    people: list[int]
    digest: str
    pretrained: str | None = None

    @property
    def finished_epochs(self) -> int:
        """Number of finished epochs; 0 of a published network."""
        return 0 if self.epoch is None else self.epoch + 1

    @property
    def said(self) -> str:
        """Name for messages: path of the checkpoint, or name and file of a published network."""
        return str(self.path) if self.pretrained is None else f"{self.pretrained} ({self.path})"


def load_trained(path: Path) -> TrainedReid:
    """Load the network of a checkpoint, on the CPU and in evaluation mode.

    Raises:
        UserError: The file is not a checkpoint of ``reid train``, is damaged, or does not fit.
    """
    trained = load_any(path, REID)
    assert isinstance(trained, TrainedReid)
    return trained


def find_network(
    checkpoint: str | None, published: str | None, weights: str | None
) -> Path | TrainedReid:
    """Find the checkpoint that ``--checkpoint`` means, or load a published network in its place.

    Args:
        checkpoint: As for :func:`reid.runs.find_checkpoint`.
        published: Name of a published network; None for the checkpoint.
        weights: File of its weights, as for :func:`pretrained`.

    Raises:
        UserError: As both say.
    """
    return find_checkpoint(checkpoint) if published is None else pretrained(published, weights)


def pretrained(name: str, weights: str | Path | None = None) -> TrainedReid:
    """Load a network with its published weights, on the CPU and in evaluation mode.

    Its configuration is that of its entry: the size of the images, their resizing by Pillow, chunks
    of one frame, and the mean of the frames' vectors, each divided by its norm.

    Args:
        name: Key of :data:`reid.pretrained.PRETRAINED`.
        weights: File of the weights, whose names and shapes are compared with the network's; None
            for that in torch hub's cache.

    Raises:
        UserError: The name is unknown, or the weights cannot be had or are of another network.
    """
    experiment = recipe_experiment(name)
    path = pretrained_file(name, None if weights is None else str(weights))
    data = experiment.data
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        size = data.height, data.width
        model, _ = build_network(experiment.model, 0, frames=1, size=size, published=path)
    about = {"format_version": REID.format_version, "experiment": experiment.to_dict()}
    return TrainedReid(
        model=model.eval(),
        experiment=experiment,
        epoch=None,
        path=path,
        spec=REID,
        stored={REID.entry: about | {"people": [], "pretrained": name}, "epoch": -1},
        people=[],
        digest=digest_of(path),
        pretrained=name,
    )


def check_identities(trained: TrainedReid, experiment: ReidExperiment, data: ReidData) -> None:
    """Check that the identities searched for are new to the network.

    Raises:
        UserError: It was trained on some of them, in another split of the same dataset.
    """
    stored, asked = trained.experiment.data, experiment.data
    # Identities of own data are numbered anew in every folder.
    same_root = stored.dataset != "folder" or stored.root == asked.root
    if stored.dataset != asked.dataset or not same_root:
        return
    names = {tracklet.person_id: tracklet.person_name for tracklet in data.query}
    seen = sorted(names.keys() & set(trained.people))
    if seen:
        raise UserError(
            f"{trained.path} was trained on {len(seen)} of the identities that split "
            f"{asked.split} of "
            f"{asked.dataset} searches for (the first is {names[seen[0]]}): evaluate it on its own "
            f"split, --split {stored.split}"
        )
