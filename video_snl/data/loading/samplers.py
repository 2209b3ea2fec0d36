"""The order of the samples: keys (epoch, index), a function of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from video_snl.errors import UserError

__all__ = [
    "EpochSampler",
    "Key",
    "KeySampler",
    "SpanSampler",
    "epoch_generator",
    "order_generator",
    "sample_generator",
    "step_generator",
    "fallback_generator",
]

Key = tuple[int, int] | tuple[int, int, int]
"""(epoch, index), and where an epoch shows a thing more than once, the number of the time."""


class KeySampler(Protocol):
    """The keys of an epoch, or one of several processes' part of them."""

    def set_epoch(self, epoch: int) -> None: ...
    def __iter__(self) -> Iterator[Key]: ...
    def __len__(self) -> int: ...


# The first word of a seed says what is drawn, so that an order and a sample never share a stream.
_ORDER, _SAMPLE, _SUBSTITUTE, _STEP, _EPOCH = 0, 1, 2, 3, 4


def order_generator(seed: int, epoch: int) -> np.random.Generator:
    """What the order of an epoch is drawn from.

    Raises:
        UserError: The seed is negative.
    """
    return _generator(_ORDER, seed, epoch)


def sample_generator(seed: int, epoch: int, index: int, time: int = 0) -> np.random.Generator:
    """What a sample draws its random numbers from, the ``time``-th time an epoch shows it.

    Raises:
        UserError: The seed is negative.
    """
    return _generator(_SAMPLE, seed, epoch, index, time)


def fallback_generator(seed: int, epoch: int, index: int, time: int = 0) -> np.random.Generator:
    """What the video that stands for one that cannot be read is drawn from.

    Raises:
        UserError: The seed is negative.
    """
    return _generator(_SUBSTITUTE, seed, epoch, index, time)


def step_generator(seed: int, epoch: int, step: int, rank: int) -> np.random.Generator:
    """What a training step draws its random numbers from, in one of several processes.

    Raises:
        UserError: The seed is negative.
    """
    return _generator(_STEP, seed, epoch, step, rank)


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """What all samples of an epoch draw from together, one row of a table each.

    Raises:
        UserError: The seed is negative.
    """
    return _generator(_EPOCH, seed, epoch)


def _generator(purpose: int, seed: int, *words: int) -> np.random.Generator:
    if seed < 0:
        raise UserError(f"trainer.seed={seed} is negative: give 0 or more")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([purpose, seed, *words])))


class EpochSampler(Sampler[Key]):
    """The keys (epoch, index) of one epoch, or the part of one of several processes.

    The order is a permutation that depends on (seed, epoch) alone. Rank r of W takes its elements
    r, r + W, r + 2 W, ...: the k-th batches of b samples of all ranks are together the k-th batch
    of W b samples of a single process.

    Training (``shuffle``) gives every rank the same number of samples: where W does not divide
    the length, the first elements of the permutation follow its last ones. Evaluation has the
    order 0, 1, 2, ... and never a sample twice: the ranks' numbers may differ by one.

    Args:
        length: Samples of the data set.
        drop_last_to: Cut the permutation of an epoch to the largest multiple of this (the global
            batch size), so that its last batch is a full one; other samples are left out in other
            epochs.

    Raises:
        UserError: ``length`` does not fill one such batch.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        drop_last_to: int | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must lie in [0, world_size), not {rank=}, {world_size=}")
        if drop_last_to is not None and drop_last_to > length:
            raise UserError(
                f"{length} training videos do not fill one batch of {drop_last_to}: lower "
                "optimizer.batch_size"
            )
        self.seed, self.rank, self.world_size, self.shuffle = seed, rank, world_size, shuffle
        self.length = length
        self.kept = length if drop_last_to is None else length - length % drop_last_to
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose keys come next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Key]:
        order = np.arange(self.length)
        if self.shuffle:
            order = order_generator(self.seed, self.epoch).permutation(order)
        order = order[: self.kept]
        if self.shuffle:
            order = np.resize(order, -(-self.kept // self.world_size) * self.world_size)
        epoch = self.epoch
        return ((epoch, int(index)) for index in order[self.rank :: self.world_size])

    def __len__(self) -> int:
        before = 0 if self.shuffle else self.rank  # shuffled, all ranks have as many as the first
        return (self.kept - before + self.world_size - 1) // self.world_size


class SpanSampler(Sampler[Key]):
    """Epochs of a chosen length: pieces of the permutations of all passes, put end to end.

    Epoch e has the elements e L ... (e + 1) L - 1 of the orders of pass 0, 1, 2, ..., each as of
    :class:`EpochSampler`. A key is (pass, index), so that no pass repeats another's crops. Rank r
    of W takes every W-th element from r on.

    Args:
        length: Samples of the data set.
        span: L, a multiple of ``world_size``.
    """

    def __init__(
        self, length: int, span: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if span % world_size or not 0 <= rank < world_size:
            raise ValueError(f"no part {rank} of {world_size} equal ones of {span=}")
        self.length, self.span, self.seed = length, span, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose keys come next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Key]:
        places = np.arange(self.epoch * self.span, (self.epoch + 1) * self.span)
        for number in range(places[0] // self.length, places[-1] // self.length + 1):
            order = order_generator(self.seed, number).permutation(self.length)
            chosen = places[(places // self.length == number) & self._mine(places)]
            yield from ((number, int(index)) for index in order[chosen % self.length])

    def __len__(self) -> int:
        return self.span // self.world_size

    def _mine(self, places: np.ndarray) -> np.ndarray:
        return (places - places[0]) % self.world_size == self.rank
