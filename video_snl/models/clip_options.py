"""Whether the options of clips go with each other and with the network."""

from __future__ import annotations

from video_snl.config.validation import Range, check_ranges
from video_snl.config.video import Experiment
from video_snl.errors import UserError
from video_snl.models.i3d import BACKBONES

__all__ = ["check_clips"]

_DATA = {
    "clip_frames": Range(1),
    "frame_stride": Range(1),
    "short_side": Range(1),
    "crop": Range(1),
    "num_workers": Range(),
    "deadline": Range(open=True),
    "max_failures": Range(0, 1),
}


def check_clips(experiment: Experiment) -> None:
    """Refuse clips that cannot be cut, or that the network cannot take.

    Raises:
        UserError: naming the option and what it should be.
    """
    data, model = experiment.data, experiment.model
    check_ranges("data", data, _DATA)
    least_time, least_side, _ = BACKBONES[model.backbone].smallest_clip
    if data.clip_frames < least_time or data.crop < least_side:
        raise UserError(
            f"{model.backbone} needs clips of at least {least_time} frames and {least_side} "
            f"pixels; data.clip_frames={data.clip_frames}, data.crop={data.crop}."
        )
    if data.crop > data.short_side:
        raise UserError(
            f"data.crop={data.crop} is larger than data.short_side={data.short_side}; "
            "crop at most the shorter side."
        )
