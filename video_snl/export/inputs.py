"""What an exported network takes: the axes of its input, and which of them are free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from video_snl.errors import UserError
from video_snl.export.graph import axis_names

__all__ = ["Input", "free_axes"]

ALL, NONE = "all", "none"


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
        """The free axes, with the smallest size of each."""
        sizes = (1, 3, *self.smallest)
        return {axis: sizes[axis] for axis, name in enumerate(self.axes) if name in self.free}

    def example(self) -> Tensor:
        """For the recording: twice as long along free axes, so that no map is one position."""
        return torch.zeros(self._shape(lambda size, _: 2 * size, batch=2))

    def trials(self) -> list[tuple[int, ...]]:
        """Shapes to try: as trained, then with other sizes along all free axes, then the least."""
        trained = self._shape(lambda size, _: size, batch=1)
        larger = self._shape(lambda size, _: size + size // 3 + 1, batch=3)
        least = self._shape(lambda _, smallest: smallest, batch=1)
        return list(dict.fromkeys([trained, larger, least]))

    def facts(self) -> dict[str, Any]:
        """Plain values, as they are stored in the file."""
        return {
            "name": self.name,
            "axes": list(self.axes),
            "sizes": list(self.sizes),
            "smallest": list(self.smallest),
            "free": list(self.free),
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Input:
        """The inverse of :meth:`facts`."""
        sizes = (tuple(facts[key]) for key in ("sizes", "smallest", "free"))
        return cls(facts["name"], *sizes)

    def check(self, shape: Sequence[int]) -> None:
        """Whether an input has sizes that the network takes, whatever its batch.

        Raises:
            UserError: naming the axis.
        """
        for name, size, trained, smallest in zip(
            self.axes[2:], shape[2:], self.sizes, self.smallest, strict=True
        ):
            if name not in self.free and size != trained:
                raise UserError(
                    f"the exported network takes a {name} of {trained}, not of {size}: export it "
                    f"with --dynamic {name}."
                )
            if size < smallest:
                raise UserError(f"the exported network takes a {name} of {smallest} at least.")

    def _shape(self, size_of: Any, *, batch: int) -> tuple[int, ...]:
        grid = (
            size_of(size, smallest) if name in self.free else size
            for name, size, smallest in zip(self.axes[2:], self.sizes, self.smallest, strict=True)
        )
        return (batch if "batch" in self.free else 1, 3, *grid)


def free_axes(asked: str, ndim: int) -> tuple[str, ...]:
    """The axes that ``--dynamic`` names, in their order.

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
            f"--dynamic {asked}: {wrong[0]!r} is no axis of this network's input; name some of "
            f"{','.join(known)}, or give all or none."
        )
    return tuple(name for name in known if name in names)
