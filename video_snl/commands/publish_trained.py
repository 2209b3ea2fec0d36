"""``video-snl publish``."""

from __future__ import annotations

from video_snl.commands.model_card import CardKind
from video_snl.commands.publish import publish
from video_snl.config.datasets import IMAGE_DATASETS
from video_snl.config.image_programs import IMAGES
from video_snl.config.task_spec import VIDEO_SNL, Program
from video_snl.export.samples import input_of
from video_snl.runs.kinds import AnyTrained, find_trained

__all__ = ["publish_trained"]

_KINDS = {
    VIDEO_SNL.entry: CardKind(
        task="video-classification",
        what="names actions in videos",
        tags=("video", "action-recognition"),
        command=VIDEO_SNL.name,
        use="predict",
        example="VIDEO",
    ),
    IMAGES.entry: CardKind(
        task="image-classification",
        what="names what is on pictures",
        tags=("image",),
        command=VIDEO_SNL.name,
        use="predict",
        example="PICTURE",
    ),
}
_SCENES = CardKind(
    task="image-segmentation",
    what="labels every pixel of a picture",
    tags=("image",),
    command=VIDEO_SNL.name,
    use="predict",
    example="PICTURE",
)


def publish_trained(named: str | None, *, output: str, licence: str, name: str | None) -> int:
    """Write a checkpoint as a folder for a model hub."""
    trained, program = find_trained(named)
    kind = _kind(trained, program)
    return publish(
        trained.path,
        trained.model,
        trained.stored,
        program,
        kind,
        answer=trained.model,
        shape=(1, 3, *input_of(trained, "none").sizes),
        output=output,
        licence=licence,
        name=name,
    )


def _kind(trained: AnyTrained, program: Program) -> CardKind:
    scenes = IMAGE_DATASETS[trained.experiment.data.dataset].segments
    return _SCENES if scenes else _KINDS[program.entry]
