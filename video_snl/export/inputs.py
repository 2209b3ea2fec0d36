"""Inputs of an exported network: their axes, and which of them are free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from video_snl.config.validation import check_value, described
from video_snl.errors import UserError
from video_snl.export.checking import random_inputs
from video_snl.export.graph import axis_names

__all__ = ["Input", "free_axes"]

ALL, NONE = "all", "none"
_FACTS = {
    "name": Literal["clips", "images", "tracklets"],
    "sizes": list[int],
    "smallest": list[int],
    "free": list[Literal["batch", "frames", "height", "width"]],
}
_AXES = {"clips": 3, "images": 2, "tracklets": 3}  # that have sizes
LENGTHS = "lengths"


@dataclass(frozen=True)
class Input:
    """Normalised clips (B, 3, T, H, W) or images (B, 3, H, W), float32; or their pixels.

    Pixels are uint8 (B, T, H, W, 3) or (B, H, W, 3). Tracklets are pixels, with a second input
    ``lengths`` int64 (B,): how many frames of each there are.

    Attributes:
        name: ``clips``, ``images`` or ``tracklets``.
        sizes: (T, H, W) or (H, W) that it was trained with.
        smallest: The least that the network takes.
        free: Names of the axes that may have any size from there on; the others are fixed, the
            batch at 1.
        pixels: The preprocessing is in the network.
    """

    name: str
    sizes: tuple[int, ...]
    smallest: tuple[int, ...]
    free: tuple[str, ...]
    pixels: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the input tensors."""
        return (self.name, LENGTHS) if self.name == "tracklets" else (self.name,)

    @property
    def output(self) -> str:
        """Name of the output."""
        return "features" if self.name == "tracklets" else "logits"

    @property
    def axes(self) -> tuple[str, ...]:
        """Such as batch, channels, frames, height, width."""
        return axis_names(2 + len(self.sizes), pixels=self.pixels)

    def least(self) -> dict[int, int]:
        """Return the free axes, with the smallest size of each."""
        sizes = {"batch": 1} | dict(zip(self._grid, self.smallest, strict=True))
        return {axis: sizes[name] for axis, name in enumerate(self.axes) if name in self.free}

    def from_trained_sizes(self) -> Input:
        """Return the same with the sizes of the training as the least."""
        return replace(self, smallest=self.sizes)

    def example(self) -> tuple[Tensor, ...]:
        """Make an input to record: twice as long along free axes, so no map is one position."""
        shape = self._shape(lambda size, _: 2 * size, batch=2)
        if not self.pixels:
            return (torch.zeros(shape),)
        return self.with_lengths(torch.zeros(shape, dtype=torch.uint8))

    def with_lengths(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of an input; tracklet b has 1 / (b + 1) of the frames there are."""
        if self.name != "tracklets":
            return (x,)
        rows = range(1, len(x) + 1)
        lengths = [max(x.shape[1] // row, min(self.smallest[0], x.shape[1])) for row in rows]
        return x, torch.tensor(lengths)

    def random(self) -> list[tuple[str, tuple[Tensor, ...]]]:
        """Make an input of each of the shapes to try; always the same ones."""
        if not self.pixels:
            return [(what, (x,)) for what, x in random_inputs(self.trials())]
        generator = torch.Generator().manual_seed(0)
        return [
            ("random", self.with_lengths(torch.randint(256, shape, generator=generator).byte()))
            for shape in self.trials()
        ]

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
            "dtype": "uint8" if self.pixels else "float32",
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
        sizes, smallest, free = (tuple(facts[key]) for key in ("sizes", "smallest", "free"))
        dtype = facts.get("dtype", "float32")  # files of earlier versions have no such entry
        check_value(dtype, Literal["uint8", "float32"], "dtype")
        return cls(facts["name"], sizes, smallest, free, dtype == "uint8")

    def check(self, shape: Sequence[int]) -> None:
        """Check that an input has sizes that the network takes, whatever its batch.

        Raises:
            UserError: naming the axis.
        """
        found = shape[1:-1] if self.pixels else shape[2:]
        for name, size, trained, smallest in zip(
            self._grid, found, self.sizes, self.smallest, strict=True
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

    @property
    def _grid(self) -> tuple[str, ...]:
        return tuple(name for name in self.axes if name not in ("batch", "channels"))

    def _shape(self, size_of: Any, *, batch: int) -> tuple[int, ...]:
        grid = (
            size_of(size, smallest) if name in self.free else size
            for name, size, smallest in zip(self._grid, self.sizes, self.smallest, strict=True)
        )
        count = batch if "batch" in self.free else 1
        return (count, *grid, 3) if self.pixels else (count, 3, *grid)


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
