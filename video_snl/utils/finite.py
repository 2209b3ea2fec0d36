"""Refuse weights and outputs that are not finite: no probability can be made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from video_snl.errors import UserError

__all__ = ["check_kinds", "check_scores", "check_weights", "class_scores", "not_finite_error"]


_COUNTER = "num_batches_tracked"


def check_kinds(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor] | None, source: str
) -> None:
    """Check that tensors of a file can take the place of a network's.

    Args:
        weights: Tensors of the file, by name.
        wanted: Those of the network; None where its names are others, and all but BatchNorm's
            counters are fractions.
        source: Origin of the file, for the message.

    Raises:
        UserError: One is sparse, quantised, complex, without values or in 8 bits, or has whole
            numbers in the place of fractions; it names the first.
    """
    for name, value in weights.items():
        kind = str(value.dtype).removeprefix("torch.")
        odd = value.layout is not torch.strided or value.is_quantized or value.is_meta
        odd = odd or value.is_complex() or kind.startswith("float8")
        if wanted is None:
            fraction = not name.endswith(_COUNTER)
        else:
            fraction = name in wanted and wanted[name].is_floating_point()
        if odd or (fraction and not value.is_floating_point()):
            how = (
                "on the meta device" if value.is_meta else str(value.layout).removeprefix("torch.")
            )
            raise UserError(
                f"{source}: {name} is {kind} ({how}); a network takes dense tensors of 16, 32 or "
                "64 bits: take a file that was not quantised or converted"
            )


def check_weights(weights: Mapping[str, Tensor], source: str) -> None:
    """Check that all floating-point tensors are finite, and no variance negative.

    Args:
        weights: Parameters and buffers, by name.
        source: Origin of the values, for the message.

    Raises:
        UserError: Some are not; it names the first of them.
    """
    broken = [
        name
        for name, value in weights.items()
        if (value.is_floating_point() or value.is_complex()) and not value.isfinite().all()
    ]
    if broken:
        value = weights[broken[0]]
        wrong = int((~value.isfinite()).sum())
        more = f" (and those of {len(broken) - 1} more tensors)" if len(broken) > 1 else ""
        raise UserError(
            f"{source}: {wrong} of the {value.numel()} weights of {broken[0]}{more} are NaN or "
            "infinite: the training has diverged, or the file is damaged; take the checkpoint of "
            "an earlier epoch, or another copy of the file."
        )
    for name, value in weights.items():
        if name.endswith("running_var") and (value < 0).any():
            raise UserError(
                f"{source}: some variances in {name} are negative, so that no output could be a "
                "number: the file is damaged; take the checkpoint of another epoch, or another "
                "copy of the file."
            )


def class_scores(logits: Tensor) -> Tensor:
    """Return the softmax of logits (..., classes), in float32.

    A row with a logit that is not finite becomes NaN as a whole: the softmax of a logit of -inf
    would be a probability of 0.
    """
    broken = ~logits.isfinite().all(-1, keepdim=True)
    return logits.float().softmax(-1).masked_fill(broken, torch.nan)


def check_scores(scores: Tensor, paths: Sequence[str], what: str) -> None:
    """Check that the outputs of a network are finite.

    Args:
        scores: (N, ...), a row for each input.
        paths: Paths of the N inputs.
        what: The inputs are called, in the plural, such as ``test videos``.

    Raises:
        UserError: Some are not; it names the first input and says how many there are.
    """
    broken = (~scores.isfinite().flatten(1).all(1)).nonzero()[:, 0].tolist()
    if broken:
        others = f" and {len(broken) - 1} more of the {len(paths)} {what}" if broken[1:] else ""
        raise not_finite_error(f"{paths[broken[0]]}{others}")


def not_finite_error(inputs: str) -> UserError:
    """Return the error of a network whose outputs for ``inputs`` are not finite."""
    return UserError(
        f"{inputs}: the network's scores are not finite (NaN or infinite), though its weights are: "
        "it overflows on this input. Take a higher --trainer.precision where the command has that "
        "option (32-true), or the checkpoint of another epoch."
    )
