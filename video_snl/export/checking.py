"""Comparison of an exported network with that of its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from video_snl.errors import UserError
from video_snl.utils.finite import not_finite_error

__all__ = ["BOUND", "Difference", "check_equal", "finite_logits", "random_inputs"]

BOUND = 1e-4
"""Bound on the largest difference of two logits, as a share of the largest logit."""


@dataclass(frozen=True)
class Difference:
    """Largest difference for one input, with the input's name and shape."""

    what: str
    shape: tuple[int, ...]
    largest: float

    def facts(self) -> dict[str, Any]:
        return {"input": self.what, "shape": list(self.shape), "difference": self.largest}


def random_inputs(shapes: Iterable[tuple[int, ...]]) -> Iterator[tuple[str, Tensor]]:
    """Yield standard normal values, as normalised pixels roughly are; always the same ones."""
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        yield "random", torch.randn(shape, generator=generator)


@torch.inference_mode()
def finite_logits(network: Callable[..., Tensor], what: str, x: Tensor, *lengths: Tensor) -> Tensor:
    """Compute the logits of an input, which is called ``what`` in the message.

    Raises:
        UserError: They are not finite.
    """
    logits = network(x, *lengths)
    if not logits.isfinite().all():
        raise not_finite_error(f"a {what} input of {tuple(x.shape)}")
    return logits


@torch.inference_mode()
def check_equal(
    network: Callable[..., Tensor],
    run: Callable[..., Tensor],
    inputs: Iterable[tuple[str, Tensor | tuple[Tensor, ...]]],
) -> list[Difference]:
    """Return the differences of two forms of a network, max |y - y'| / max |y| of every input.

    Raises:
        UserError: One is above :data:`BOUND`, or not a number, or the shapes differ, or the
            checkpoint's logits are not finite.
    """
    found = []
    for what, given in inputs:
        x, *lengths = given if isinstance(given, tuple) else (given,)
        expected, got = finite_logits(network, what, x, *lengths), run(x, *lengths)
        if expected.shape != got.shape:
            raise UserError(
                f"the exported network returns {tuple(got.shape)} for a {what} input of "
                f"{tuple(x.shape)}, the checkpoint's {tuple(expected.shape)}: nothing was written."
            )
        largest = ((got - expected).abs().max() / expected.abs().max()).item()
        found.append(Difference(what, tuple(x.shape), largest))
        if not largest <= BOUND:  # which no NaN is
            raise UserError(
                f"the exported network differs from the checkpoint's by {largest:.1e} of the "
                f"largest logit on a {what} input of {tuple(x.shape)}, more than {BOUND:g}: "
                "nothing was written."
            )
    return found
