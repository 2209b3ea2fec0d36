"""Options whose values must lie in a range, whatever is trained. Without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from video_snl.engine.program import AnyExperiment
from video_snl.errors import OptionsError

__all__ = ["Range", "check_ranges", "check_training"]


class Range(NamedTuple):
    """From ``least`` to ``most``; without these two themselves where it is ``open``."""

    least: float = 0.0
    most: float = math.inf
    open: bool = False

    def holds(self, value: float) -> bool:
        if not math.isfinite(value):  # nan and inf come from YAML
            return False
        if self.open:
            return self.least < value < self.most
        return self.least <= value <= self.most

    def __str__(self) -> str:
        if self.most == math.inf:
            return f"above {self.least:g}" if self.open else f"at least {self.least:g}"
        if self.open:
            return f"above {self.least:g} and below {self.most:g}"
        return f"from {self.least:g} to {self.most:g}"


_ONE_OR_MORE, _NOT_NEGATIVE, _SHARE = Range(1), Range(), Range(0, 1)
_OPTIMIZER = {
    "epochs": _ONE_OR_MORE,
    "accumulate": _ONE_OR_MORE,
    "learning_rate": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "warmup_epochs": _NOT_NEGATIVE,
    "label_smoothing": _SHARE,
    "gradient_clip": Range(open=True),
    "ema_decay": Range(0, 1, open=True),
    "backbone_lr_factor": _NOT_NEGATIVE,
    "block_lr_factor": _NOT_NEGATIVE,
    "head_lr_factor": _NOT_NEGATIVE,
}
# Generators take seeds of 64 bits, some of them signed.
_TRAINER = {"seed": Range(0, 2**63 - 1)}


def check_ranges(section: str, config: object, ranges: Mapping[str, Range]) -> None:
    """Refuse options out of their range; those that are None are not set.

    Args:
        section: Of the configuration, such as ``optimizer``.
        config: It.
        ranges: By the names of options.

    Raises:
        OptionsError: It names the option, its value and the range.
    """
    for name, allowed in ranges.items():
        value = getattr(config, name)
        if value is not None and not allowed.holds(value):
            raise OptionsError(f"{section}.{name}={value} must be {allowed}.")


def check_training(experiment: AnyExperiment, more: Mapping[str, Range]) -> None:
    """Check the options that all trainings have, and ``more`` of the optimizer's.

    Raises:
        OptionsError: It names the option, its value and the range.
    """
    check_ranges("optimizer", experiment.optimizer, {**_OPTIMIZER, **more})
    check_ranges("model", experiment.model, {"dropout": _SHARE})
    check_ranges("trainer", experiment.trainer, _TRAINER)
