"""The ranges of options of an experiment. Without torch."""

from __future__ import annotations

from reid.config import ReidDataConfig, ReidExperiment, why_no_masks
from video_snl.config.validation import Range, check_ranges, check_training
from video_snl.errors import OptionsError, UserError

__all__ = ["check_data", "check_options", "check_short_tracklets"]

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

    Raises:
        OptionsError: It says why, and what to set.
    """
    reason = why_no_masks(experiment.model)
    if experiment.data.short_tracklets == "mask" and reason is not None:
        raise OptionsError(
            f"data.short_tracklets=mask is not possible: {reason}, and so at those that do not "
            "exist; set --data.short_tracklets repeat, or choose another network."
        )


def check_options(experiment: ReidExperiment) -> None:
    """Check all options of a training.

    Raises:
        UserError: It names the option, its value and what it should be.
    """
    check_data(experiment.data)
    check_training(experiment, _OPTIMIZER)
    check_short_tracklets(experiment)
    optimizer = experiment.optimizer
    if optimizer.epochs % optimizer.validate_every:
        raise UserError(
            f"optimizer.validate_every={optimizer.validate_every} must divide optimizer.epochs="
            f"{optimizer.epochs}, so that the last epoch is validated."
        )
