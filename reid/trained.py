"""A trained Re-ID network, and what it may be evaluated on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reid.config import ReidExperiment
from reid.data.tracklet import ReidData
from reid.models.network import TrackletNet
from reid.task_spec import REID
from video_snl.errors import UserError
from video_snl.runs.trained import TrainedNetwork
from video_snl.runs.trained import load_trained as load_any

__all__ = ["TrainedReid", "check_identities", "load_trained"]


@dataclass(frozen=True, kw_only=True)
class TrainedReid(TrainedNetwork[ReidExperiment]):
    """A trained network with all that is needed to use it.

    Attributes:
        people: Numbers of the identities it was trained on.
        digest: SHA-256 of the checkpoint: features are comparable where it is the same. For a
            published folder, that of the checkpoint it was made from.
    """

    model: TrackletNet
    epoch: int
    people: list[int]
    digest: str

    @property
    def finished_epochs(self) -> int:
        """Number of finished epochs."""
        return self.epoch + 1


def load_trained(path: Path) -> TrainedReid:
    """Load the network of a checkpoint, on the CPU and in evaluation mode.

    Raises:
        UserError: The file is not a checkpoint of ``reid train``, is damaged, or does not fit.
    """
    trained = load_any(path, REID)
    assert isinstance(trained, TrainedReid)
    return trained


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
