"""The ranges of options of an experiment. Without torch."""

from __future__ import annotations

from dataclasses import replace

from reid.config import (
    CLIP_BACKBONES,
    ReidDataConfig,
    ReidExperiment,
    ReidModelConfig,
    ShortTracklets,
    why_no_masks,
)
from reid.data.datasets.catalog import DATASETS
from video_snl.config.user_code import is_dotted
from video_snl.config.validation import Range, check_ranges, check_training
from video_snl.errors import OptionsError, UserError

__all__ = ["check_data", "check_options", "check_short_tracklets", "with_rule"]

_DATA = {
    "frames": Range(1),
    "height": Range(1),
    "width": Range(1),
    "pad": Range(),
    "erasing": Range(0, 1),
    "num_workers": Range(),
    "deadline": Range(open=True),
    "max_failures": Range(0, 1),
    "max_pixels": Range(1),
}
_OPTIMIZER = {
    "step_epochs": Range(1),
    "validate_every": Range(1),
    "triplet_weight": Range(),
    "triplet_margin": Range(),
    "center_weight": Range(),
}


def check_data(config: ReidDataConfig) -> None:
    """Refuse options of the data that are out of their range; reading would fail deep inside.

    Raises:
        OptionsError: It names the option, its value and the range.
    """
    check_ranges("data", config, _DATA)


def check_short_tracklets(experiment: ReidExperiment) -> None:
    """Refuse masks for a network that cannot leave frames out.

    A block of a user's own is imported: whoever reads a stored configuration asks first
    (:func:`video_snl.config.user_code.refuse_code`).

    Raises:
        OptionsError: It says why, and what to set.
        UserError: There is no such block.
    """
    if experiment.data.short_tracklets != "mask":
        return
    reason = _why_no_masks(experiment.model)
    if reason is not None:
        raise OptionsError(
            f"data.short_tracklets=mask is not possible: {reason}, and so at those that do not "
            "exist; set --data.short_tracklets repeat, or choose another network."
        )


def with_rule(experiment: ReidExperiment) -> ReidExperiment:
    """Write out the default of ``data.short_tracklets``: ``mask`` where the network can.

    Raises:
        UserError: As for :func:`check_short_tracklets`.
    """
    if experiment.data.short_tracklets is not None:
        return experiment
    rule: ShortTracklets = "mask" if _why_no_masks(experiment.model) is None else "repeat"
    return replace(experiment, data=replace(experiment.data, short_tracklets=rule))


def _why_no_masks(model: ReidModelConfig) -> str | None:
    """Say why a network cannot leave out frames, its block of a user's own included.

    That one's class is imported, but not made: its number of channels is that of a place in the
    network.

    Raises:
        UserError: There is no such class.
    """
    reason, path = why_no_masks(model), model.block
    if reason is not None or not is_dotted(path):
        return reason
    from video_snl.blocks.gates import GATES  # these import torch
    from video_snl.blocks.masks import takes_mask
    from video_snl.blocks.user_blocks import import_named, is_block

    try:
        kind = import_named(path, "block", "a class of torch.nn.Module", is_block)
    except ValueError as error:
        raise UserError(f"model: {error}") from error
    if issubclass(kind, GATES["ge"]) and model.block_options.get("extent"):
        return f"the gates of block {path} with an extent are of boxes of all positions of a clip"
    if takes_mask(kind):
        return None
    return f"{path}.forward takes no mask=, so that it looks at all frames of a clip"


def check_options(experiment: ReidExperiment) -> None:
    """Check all options of a training.

    Raises:
        UserError: It names the option, its value and what it should be.
    """
    check_data(experiment.data)
    check_training(experiment, _OPTIMIZER)
    check_short_tracklets(experiment)
    _check_single_images(experiment)
    optimizer = experiment.optimizer
    if optimizer.epochs % optimizer.validate_every:
        raise UserError(
            f"optimizer.validate_every={optimizer.validate_every} must divide optimizer.epochs="
            f"{optimizer.epochs}, so that the last epoch is validated."
        )


def _check_single_images(experiment: ReidExperiment) -> None:
    data, backbone = experiment.data, experiment.model.backbone
    if not DATASETS[data.dataset].single_images:
        return
    if backbone in CLIP_BACKBONES:
        raise OptionsError(
            f"model.backbone={backbone} looks at clips of several frames, and dataset "
            f"{data.dataset} has single images: choose a backbone of images, such as resnet50 or "
            "osnet_x0_25."
        )
    if data.frames != 1:
        raise OptionsError(
            f"data.frames={data.frames}: dataset {data.dataset} has single images, which would be "
            f"repeated {data.frames} times; set --data.frames 1."
        )
