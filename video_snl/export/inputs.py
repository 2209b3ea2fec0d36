"""Inputs of an exported network: their axes, and which of them are free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from video_snl.config.validation import check_value, described
from video_snl.errors import UserError
from video_snl.export.graph import axis_names

__all__ = ["Input", "free_axes"]

ALL, NONE = "all", "none"
_FACTS = {
    "name": Literal["clips", "images"],
    "sizes": list[int],
    "smallest": list[int],
    "free": list[Literal["batch", "frames", "height", "width"]],
}
_AXES = {"clips": 3, "images": 2}  # that have sizes


@dataclass(frozen=True)
class Input:
    """Normalised clips (B, 3, T, H, W) or images (B, 3, H, W), float32.

    Attributes:
        name: ``clips`` or ``images``.
        sizes: (T, H, W) or (H, W) that it was trained with.
        smallest: The least that the network takes.
        free: Names of the axes that may have any size from there on; the others are fixed, the
            batch at 1.
    """

    name: str
    sizes: tuple[int, ...]
    smallest: tuple[int, ...]
    free: tuple[str, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """Such as batch, channels, frames, height, width."""
        return axis_names(2 + len(self.sizes))

    def least(self) -> dict[int, int]:
        """Return the free axes, with the smallest size of each."""
        sizes = (1, 3, *self.smallest)
        return {axis: sizes[axis] for axis, name in enumerate(self.axes) if name in self.free}

    def from_trained_sizes(self) -> Input:
        """Return the same with the sizes of the training as the least."""
        return replace(self, smallest=self.sizes)

    def example(self) -> Tensor:
        """Make an input to record: twice as long along free axes, so no map is one position."""
        return torch.zeros(self._shape(lambda size, _: 2 * size, batch=2))

    def trials(self) -> list[tuple[int, ...]]:
        """List shapes to try: as trained, with other sizes along all free axes, then the least."""
        trained = self._shape(lambda size, _: size, batch=1)
        larger = self._shape(lambda size, _: size + size // 3 + 1, batch=3)
        least = self._shape(lambda _, smallest: smallest, batch=1)
        return list(dict.fromkeys([trained, larger, least]))

    def facts(self) -> dict[str, Any]:
        """Return plain values, as they are stored in the file."""
        return {
            "name": self.name,
            "axes": list(self.axes),
            "sizes": list(self.sizes),
            "smallest": list(self.smallest),
            "free": list(self.free),
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Input:
        """Invert :meth:`facts`.

        Raises:
            TypeError: An entry is missing, or of another type or size; it names it.
        """
        if not isinstance(facts, Mapping):
            raise TypeError(f"sizes: expected an object around it, found {facts!r:.60}")
        for key, kind in _FACTS.items():
            if key not in facts:
                raise TypeError(f"{key}: expected {described(kind)}, found no such entry")
            check_value(facts[key], kind, key)
        for key in ("sizes", "smallest"):
            axes = _AXES[facts["name"]]
            if len(facts[key]) != axes or min(facts[key]) < 1:
                raise TypeError(f"{key}: expected {axes} sizes of 1 or more, found {facts[key]}")
        sizes = (tuple(facts[key]) for key in ("sizes", "smallest", "free"))
        return cls(facts["name"], *sizes)

    def check(self, shape: Sequence[int]) -> None:
        """Check that an input has sizes that the network takes, whatever its batch.

        Raises:
            UserError: naming the axis.
        """
        for name, size, trained, smallest in zip(
            self.axes[2:], shape[2:], self.sizes, self.smallest, strict=True
        ):
            if name not in self.free and size != trained:
                raise UserError(
                    f"the exported network takes inputs of {name}={trained}, not {size}: export it "
                    f"with --dynamic {name}."
                )
            if size < smallest:
                raise UserError(
                    f"the exported network takes inputs of {name}={smallest} or more, not {size}."
                )

    def _shape(self, size_of: Any, *, batch: int) -> tuple[int, ...]:
        grid = (
            size_of(size, smallest) if name in self.free else size
            for name, size, smallest in zip(self.axes[2:], self.sizes, self.smallest, strict=True)
        )
        return (batch if "batch" in self.free else 1, 3, *grid)


def free_axes(asked: str, ndim: int) -> tuple[str, ...]:
    """Return the axes that ``--dynamic`` names, in their order.

    Args:
        asked: ``all``, ``none`` or names with commas between them.
        ndim: 5 for clips, 4 for images.

    Raises:
        UserError: It names another one.
    """
    known = tuple(name for name in axis_names(ndim) if name != "channels")
    if asked in (ALL, NONE):
        return known if asked == ALL else ()
    names = [name.strip() for name in asked.split(",")]
    wrong = [name for name in names if name not in known]
    if wrong:
        raise UserError(
            f"--dynamic {asked}: {wrong[0]!r} is not an axis of this network's input; name some of "
            f"{','.join(known)}, or give all or none."
        )
    return tuple(name for name in known if name in names)
