"""``reid publish``."""

from __future__ import annotations

from jsonargparse import Namespace

from reid.program import REID
from reid.runs import find_checkpoint
from reid.trained import load_trained
from video_snl.engine.card import CardKind
from video_snl.engine.publish import publish as write_folder

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
    return write_folder(
        trained.path,
        trained.model,
        trained.stored,
        REID,
        _KIND,
        output=arguments.output,
        licence=arguments.licence,
        name=arguments.name,
    )
