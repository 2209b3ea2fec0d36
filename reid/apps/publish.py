"""``reid publish``."""

from __future__ import annotations

from jsonargparse import Namespace
from torch import Tensor

from reid.program import REID
from reid.runs import find_checkpoint
from reid.trained import load_trained
from video_snl.commands.model_card import CardKind
from video_snl.commands.publish import publish as write_folder

__all__ = ["publish"]

_KIND = CardKind(
    task="feature-extraction",
    what="turns tracklets of pedestrians into features that are alike for one person",
    tags=("video", "person-re-identification"),
    command=REID.name,
    use="extract",
    example="TRACKLETS... -o feats.parquet",
)


def publish(arguments: Namespace) -> int:
    """Write a checkpoint as a folder for a model hub."""
    trained = load_trained(find_checkpoint(arguments.checkpoint))
    data = trained.experiment.data

    def features(clips: Tensor) -> Tensor:
        return trained.model(clips).features

    return write_folder(
        trained.path,
        trained.model,
        trained.stored,
        REID,
        _KIND,
        answer=features,
        shape=(1, 3, data.frames, data.height, data.width),
        output=arguments.output,
        licence=arguments.licence,
        name=arguments.name,
    )
