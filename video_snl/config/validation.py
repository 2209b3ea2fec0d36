"""Checks of a configuration before anything runs: the types of its values, and their bounds.

Plain values, as JSON and YAML have them, are checked against the types that a dataclass declares
(:func:`check_fields`). Numbers have bounds that hold for every command (:func:`check_limits`) and
some that hold only where a network is trained (:func:`check_training`). Without torch.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from video_snl.config.user_code import DottedPath, is_dotted
from video_snl.errors import OptionsError
from video_snl.utils.text import say_once

__all__ = [
    "LARGEST_INPUT",
    "LIMITS",
    "SEEDS",
    "Range",
    "check_fields",
    "check_limits",
    "check_ranges",
    "check_training",
    "check_value",
    "described",
    "fits",
    "with_readers_of_today",
]

LARGEST_INPUT = 1 << 27
"""Most values of one clip, tracklet or image that a network sees: 512 MiB of float32."""
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
    "optimizer.cached_versions": (0, 1024),
    "optimizer.test_batch_size": (None, 65_536),
    "optimizer.accumulate": (None, 65_536),
    "trainer.devices": (-1, 128),
    "trainer.nodes": (1, 4096),
}
"""Least and largest value of options that memory, time or processes depend on.

They hold for every command, so that nothing is allocated before an option is refused. Where the
least is None, only training has one (:func:`check_training`).
"""

_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "null",
    DottedPath: "a dotted path such as my_package.MyBlock",
}
_LONGEST = 60  # of a value that is shown
_LARGEST = sys.float_info.max

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
    """Bounds of a number.

    Attributes:
        least: Lower bound.
        most: Upper bound.
        open: Exclude the two bounds themselves.
    """

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


_OPTIMIZER = {
    "epochs": Range(1),
    "accumulate": Range(1),
    "learning_rate": Range(),
    "weight_decay": Range(),
    "warmup_epochs": Range(),
    "label_smoothing": Range(0, 1),
    "gradient_clip": Range(open=True),
    "ema_decay": Range(0, 1, open=True),
    "backbone_lr_factor": Range(),
    "block_lr_factor": Range(),
    "head_lr_factor": Range(),
}
SEEDS = Range(0, 2**63 - 1)
"""Seeds that all generators take: they have 64 bits, some of them signed."""
_TRAINER = {"seed": SEEDS}


def check_fields(kind: type, values: object, where: str) -> None:
    """Check that values are those of a dataclass; missing fields have their defaults.

    Args:
        kind: Dataclass.
        values: Values by the names of its fields.
        where: Name of the values in messages, such as ``model``.

    Raises:
        TypeError: It names the entry, what was expected and what was found.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{where}: expected an object, found {_found(values)}")
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            raise TypeError(
                f"{where}: unexpected keyword {name!r}, expected some of {', '.join(hints)}"
            )
        check_value(value, hints[name], f"{where}.{name}")


def check_value(value: object, hint: Any, where: str) -> None:
    """Check that a value is of a type, as :func:`fits` tells.

    Raises:
        TypeError: It names the value, what was expected and what was found.
    """
    if not fits(value, hint):
        raise TypeError(f"{where}: expected {described(hint)}, found {_found(value)}")


def fits(value: object, hint: Any) -> bool:
    """Tell whether a value is of a type.

    A whole number is a float, too; a bool is neither; a tuple is a list.

    Args:
        value: Value as JSON and YAML have them.
        hint: Any, None, bool, int, float, str, DottedPath, or literals, unions, lists and
            dictionaries of those.
    """
    if hint is Any:
        return True
    if hint is DottedPath:
        return isinstance(value, str) and is_dotted(value)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list | tuple) and all(fits(each, parts[0]) for each in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(
            fits(key, parts[0]) and fits(each, parts[1]) for key, each in value.items()
        )
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, float) or (isinstance(value, int) and abs(value) <= _LARGEST)
    return isinstance(value, hint)


def described(hint: Any) -> str:
    """Return a type as a person would say it."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin in (Union, types.UnionType):
        return " or ".join(map(described, parts))
    if origin is list:
        return f"a list, each entry {described(parts[0])}"
    if origin is dict:
        return f"an object, each value {described(parts[1])}"
    return _NAMES.get(hint, str(hint))


def check_ranges(section: str, config: object, ranges: Mapping[str, Range]) -> None:
    """Refuse options out of their bounds; those that are None are not set.

    Args:
        section: Name of the section, such as ``optimizer``.
        config: The section.
        ranges: Bounds by the names of options.

    Raises:
        OptionsError: It names the option, its value and its bounds.
    """
    for name, allowed in ranges.items():
        value = getattr(config, name)
        if value is not None and not allowed.holds(value):
            raise OptionsError(f"{section}.{name}={value} must be {allowed}.")


def check_limits(experiment: Any) -> None:
    """Refuse sizes that no machine has the memory, time or processes for, whatever the command.

    Args:
        experiment: Configuration of any kind of task.

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
    check_ranges("model", experiment.model, {"dropout": Range(0, 1)})
    _check_input(experiment.data)
    if experiment.data.root == "":  # which is no option that is left out, but the folder one is in
        raise OptionsError("data.root is empty: give a folder; the one you are in is .")
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


def check_training(experiment: Any, more: Mapping[str, Range]) -> None:
    """Check the options that every training has.

    Args:
        experiment: Configuration of any kind of task.
        more: Bounds of the optimizer's options that only this kind has.

    Raises:
        OptionsError: It names the option, its value and its bounds.
    """
    check_limits(experiment)
    check_ranges("optimizer", experiment.optimizer, {**_OPTIMIZER, **more})
    check_ranges("trainer", experiment.trainer, _TRAINER)


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


def _found(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def with_readers_of_today(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put ``auto`` in the place of a reader that earlier versions had."""
    data = values.get("data")
    if not isinstance(data, Mapping) or data.get("reader") != "pynvvideocodec":
        return values
    say_once("data.reader=pynvvideocodec is not a reader of this version: auto takes its place")
    return {**values, "data": {**data, "reader": "auto"}}
