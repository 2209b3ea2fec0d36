"""Batches put together from samples that come in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["Batch", "BatchBuilder", "Sample", "collate"]

Sample = dict[str, Tensor]
Batch = dict[str, Tensor]


class BatchBuilder:
    """A batch whose rows are filled one by one, each sample copied once, to where it stays.

    Clips (tensors with H, W as their last axes but one) are padded with black, below and right, to
    the largest frame. A row may be left out.

    Args:
        rows: Samples of the batch.
        pin: Put the batch into page-locked memory, from which a GPU copies in the background.
    """

    def __init__(self, rows: int, *, pin: bool = False) -> None:
        self._missing = set(range(rows))
        self._rows, self._pin = rows, pin
        self._omitted: set[int] = set()
        self._tensors: dict[str, Tensor] = {}

    @property
    def complete(self) -> bool:
        """Whether every row is filled or left out."""
        return not self._missing

    def add(self, row: int, sample: Mapping[str, Tensor]) -> None:
        """Copy a sample into its row.

        Raises:
            RuntimeError: A tensor that is no clip has another shape than in the samples before.
        """
        for name, value in sample.items():
            target = self._room(name, value)[row]
            if value.ndim >= 4:
                height, width = value.shape[-3:-1]
                if target.shape != value.shape:
                    target.zero_()
                target = target[..., :height, :width, :]
            target.copy_(value)
        self._missing.discard(row)

    def omit(self, row: int) -> None:
        """Leave a row out."""
        self._missing.discard(row)
        self._omitted.add(row)

    def batch(self) -> Batch:
        """The batch, once it is complete; empty where all rows were left out."""
        if not self._omitted:
            return self._tensors
        kept = torch.tensor([r for r in range(self._rows) if r not in self._omitted])
        if len(kept) == 0:
            return {}
        chosen = {name: value[kept] for name, value in self._tensors.items()}
        return {name: v.pin_memory() for name, v in chosen.items()} if self._pin else chosen

    def _room(self, name: str, value: Tensor) -> Tensor:
        """The tensor for all rows, large enough for this value."""
        present = self._tensors.get(name)
        shape = list(value.shape)
        if present is None:
            self._tensors[name] = torch.empty(
                self._rows, *shape, dtype=value.dtype, pin_memory=self._pin
            )
        elif value.ndim >= 4:
            for axis in (-3, -2):
                shape[axis] = max(shape[axis], present.shape[axis])
            if shape != list(present.shape[1:]):
                grown = torch.zeros(self._rows, *shape, dtype=value.dtype, pin_memory=self._pin)
                grown[..., : present.shape[-3], : present.shape[-2], :] = present
                self._tensors[name] = grown
        return self._tensors[name]


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; clips are padded with black, below and right, to the largest frame.

    ``size`` keeps the height and width of every sample within the padding.
    """
    builder = BatchBuilder(len(samples))
    for row, sample in enumerate(samples):
        builder.add(row, sample)
    return builder.batch()
