"""Options whose values must lie in a range, whatever is trained. Without torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from video_snl.config.task_spec import AnyExperiment
from video_snl.errors import OptionsError

__all__ = ["LARGEST_INPUT", "LIMITS", "Range", "check_limits", "check_ranges", "check_training"]

LARGEST_INPUT = 1 << 27
"""Values of one clip, tracklet or image that a network sees: 512 MiB of float32."""
LIMITS: dict[str, tuple[float | None, float]] = {
    "data.clip_frames": (1, 1024),
    "data.frames": (1, 1024),
    "data.frame_stride": (1, 100_000),
    "data.short_side": (1, 8192),
    "data.crop": (1, 8192),
    "data.height": (1, 8192),
    "data.width": (1, 8192),
    "data.pad": (0, 1024),
    "data.identities": (None, 4096),
    "data.tracklets": (None, 4096),
    "data.num_workers": (0, 512),
    "data.deadline": (None, 604_800),
    "model.inter_channels": (1, 4096),
    "model.num_units": (1, 32),
    "model.num_classes": (1, 100_000),
    "model.reduction": (1, 4096),
    "model.block_options.order": (None, 64),
    "model.block_options.groups": (None, 4096),
    "model.block_options.recurrence": (None, 64),
    "model.block_options.pool": (None, 64),
    "model.block_options.reduction": (None, 4096),
    "model.block_options.extent": (None, 64),
    "model.block_options.gamma": (None, 1e6),
    "optimizer.epochs": (None, 1_000_000),
    "optimizer.epoch_steps": (None, 10_000_000),
    "optimizer.step_epochs": (None, 1_000_000),
    "optimizer.validate_every": (None, 1_000_000),
    "optimizer.batch_size": (None, 65_536),
    "optimizer.test_batch_size": (None, 65_536),
    "optimizer.accumulate": (None, 65_536),
    "trainer.devices": (-1, 128),
    "trainer.nodes": (1, 4096),
}
"""Least and largest value of options that memory, time or processes depend on.

They hold for every command, so that nothing is taken before an option is refused. Where the least
is None, only a training has one (:func:`check_training`).
"""

_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
_LONGEST_TEXT = 4096  # of a path
# Arguments of blocks that the model's own options, or its channels, decide.
_NOT_OF_BLOCKS = {
    "activation": "model.activation",
    "block": "model.block",
    "in_channels": None,
    "inter_channels": "model.inter_channels",
    "model": None,
    "name": "model.block",
    "ndim": None,
    "num_units": "model.num_units",
    "positions": "model.positions",
    "wrapper": None,
    "zero_init": "model.zero_init",
}


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


def check_limits(experiment: Any) -> None:
    """Refuse sizes that no machine has the memory, time or processes for, whatever the command.

    Raises:
        OptionsError: It names the option, its value and its limit.
    """
    options = dict(_options(experiment))
    for name, (least, most) in LIMITS.items():
        value = options.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue  # not set, another experiment's, or a word such as auto
        if least is not None and not value >= least:
            raise OptionsError(f"{name}={_short(value)} must be at least {least:g}.")
        if not value <= most:  # which nan is not either
            raise OptionsError(f"{name}={_short(value)} must be at most {most:,g}.")
    check_ranges("model", experiment.model, {"dropout": _SHARE})
    _check_input(experiment.data)
    for name, value in options.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and ("\0" in text or len(text) > _LONGEST_TEXT):
                raise OptionsError(
                    f"{name} must be text of at most {_LONGEST_TEXT} characters, without the "
                    f"character of code 0; found {text[:40]!r}..."
                )
    for name in experiment.model.block_options:
        if name in _NOT_OF_BLOCKS:
            instead = _NOT_OF_BLOCKS[name]
            raise OptionsError(
                f"model.block_options.{name} is not an option of a block: "
                + (f"use {instead}." if instead else "the network decides it.")
            )
    accelerator = experiment.trainer.accelerator
    if accelerator not in _ACCELERATORS:
        raise OptionsError(
            f"trainer.accelerator={accelerator!r} is not supported: choose one of "
            f"{', '.join(_ACCELERATORS)}."
        )


def _options(experiment: Any) -> Iterator[tuple[str, Any]]:
    for section, values in experiment.to_dict().items():
        for key, value in values.items():
            yield f"{section}.{key}", value
            if isinstance(value, dict):
                yield from ((f"{section}.{key}.{inner}", each) for inner, each in value.items())


def _check_input(data: Any) -> None:
    """Refuse inputs whose axes are in their limits, and which are too large together."""
    frames = getattr(data, "clip_frames", getattr(data, "frames", 1))
    sides = ("crop", "crop") if hasattr(data, "crop") else ("height", "width")
    height, width = (getattr(data, side) for side in sides)
    if 3 * frames * height * width > LARGEST_INPUT:
        named = " x ".join(map(str, (frames, height, width)))
        raise OptionsError(
            f"data: an input of 3 x {named} values is larger than {LARGEST_INPUT:,}; lower the "
            f"number of frames or data.{sides[0]}."
        )


def _short(value: float) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def check_training(experiment: AnyExperiment, more: Mapping[str, Range]) -> None:
    """Check the options that all trainings have, and ``more`` of the optimizer's.

    Raises:
        OptionsError: It names the option, its value and the range.
    """
    check_limits(experiment)
    check_ranges("optimizer", experiment.optimizer, {**_OPTIMIZER, **more})
    check_ranges("model", experiment.model, {"dropout": _SHARE})
    check_ranges("trainer", experiment.trainer, _TRAINER)
