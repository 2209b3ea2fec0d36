"""What makes a block of the family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from video_snl.blocks.filters import Filter
from video_snl.blocks.kernels import Kernel, PairKernel

__all__ = ["Normalization", "Recipe", "check_sizes", "check_start"]

Normalization = Literal["sym", "rw"]


@dataclass(frozen=True)
class Recipe:
    """A block's row in Table 1 of arXiv:2108.02451.

    Args:
        kernel: from embeddings to an affinity, see :mod:`video_snl.blocks.kernels`.
        filter: makes the filter, see :mod:`video_snl.blocks.filters`.
        symmetric: replace M by (M + M^T) / 2 before the normalisation.
        normalization: ``"sym"``, ``"rw"`` or None, see :func:`normalize`.
        reduction: Cs = C // reduction unless ``inter_channels`` is given.
        transfer: Z = X W_Z with Cs channels; otherwise Z = X.
        groups: the weights behind the filter, and a GroupNorm, have this many groups of channels.
        norm: ``"batch"``, or ``"group"`` for GroupNorm.
        pool: keys and Z are max-pooled over this many positions along every spatial axis.
        recurrence: how many times the whole block is applied.

    Raises:
        ValueError: for values that exclude each other; the message names them.
    """

    kernel: Kernel
    filter: Callable[[], Filter]
    symmetric: bool = False
    normalization: Normalization | None = None
    reduction: int = 2
    transfer: bool = True
    groups: int = 1
    norm: Literal["batch", "group"] = "batch"
    pool: int = 1
    recurrence: int = 1

    def __post_init__(self) -> None:
        self.kernel.check(self.symmetric, self.normalization)
        for name in ("groups", "pool", "recurrence"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.pool == 1:
            return
        if self.symmetric or self.normalization == "sym":
            raise ValueError(
                f"pool={self.pool} with normalization={self.normalization!r}: with sub-sampled "
                "keys the affinity is not square and has no symmetric form; leave one of them out."
            )
        if not isinstance(self.kernel, PairKernel):
            raise ValueError(f"pool={self.pool}: {self.kernel} has no keys to sub-sample.")


def check_sizes(
    in_channels: int, inter_channels: int, ndim: int, num_units: int, groups: int
) -> None:
    """Raise ValueError for sizes below 1, an ndim beyond 1-3, or groups that divide no channels."""
    if ndim not in (1, 2, 3):
        raise ValueError(f"ndim={ndim} must be 1, 2 or 3.")
    if in_channels < 1 or inter_channels < 1 or num_units < 1:
        raise ValueError(
            f"in_channels={in_channels}, inter_channels={inter_channels} and num_units={num_units} "
            "must be at least 1 (inter_channels defaults to a part of in_channels)."
        )
    if in_channels % groups or inter_channels % groups:
        raise ValueError(
            f"groups={groups} must divide in_channels={in_channels} and "
            f"inter_channels={inter_channels}."
        )


def check_start(zero_init: bool, activation: str | None) -> None:
    """Raise ValueError for an unknown activation, or one that would keep a block from training."""
    if activation not in (None, "relu"):
        raise ValueError(f"activation={activation!r} is unknown; choose 'relu' or None.")
    if zero_init and activation == "relu":
        raise ValueError(
            "zero_init=True with activation='relu': a ReLU behind a zero weight passes no "
            "gradient, so the block never trains; set zero_init=False or activation=None."
        )
