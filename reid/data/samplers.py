"""Batches of P identities with K tracklets each, a function of (seed, epoch) alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from reid.data.tracklet import Tracklet
from video_snl.data.loading.samplers import Key, order_generator
from video_snl.errors import UserError

__all__ = ["IdentitySampler"]

Group = list[int]
"""K tracklets of one identity."""


class IdentitySampler:
    """Sampler of the keys of an epoch, P K of which in turn make a batch of P identities.

    The tracklets of an identity are dealt into groups of K, so that the tracklets of every camera
    are spread over them; an identity of n tracklets has ceil(n / K) groups. A group that is not
    full gets tracklets of the identity's other groups, those of cameras it lacks first, and where
    the identity has at most K tracklets, some of them again: their key then ends in the number of
    the repetition, so that other frames are drawn.

    An epoch has B batches, as many as these groups can fill with P different identities each:

        B = max b with sum_i min(groups_i, b) >= P b

    so it shows nearly every tracklet once. Up to P - 1 groups, and those of an identity beyond B,
    are left out; others in other epochs.

    Of W processes, process r takes the identities r P / W, ..., (r + 1) P / W - 1 of every batch:
    whole identities, and the k-th batches of all processes are the k-th batch of a single one. (The
    triplet loss looks for its triplets among the identities of one process.)

    Args:
        tracklets: Training list.
        seed: Seed of the random order.
        identities: Identities P of a batch, of all processes together.
        per_person: Tracklets K of each of them.
        rank: Number r of this process.
        world_size: Number of processes W.

    Raises:
        UserError: P or K is too small, there are fewer than P identities, or W does not divide P.
    """

    def __init__(
        self,
        tracklets: Sequence[Tracklet],
        seed: int,
        *,
        identities: int,
        per_person: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.seed, self.identities, self.per_person = seed, identities, per_person
        self.rank, self.world_size, self.epoch = rank, world_size, 0
        self._cameras = [tracklet.camera_id for tracklet in tracklets]
        self._of_person: dict[int, list[int]] = defaultdict(list)
        for index, tracklet in enumerate(tracklets):
            self._of_person[tracklet.person_id].append(index)
        self._check()
        groups = [-(-len(members) // per_person) for members in self._of_person.values()]
        self.batches = _most_batches(groups, identities)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose keys come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches * self.identities * self.per_person // self.world_size

    def __iter__(self) -> Iterator[Key]:
        random, shown = order_generator(self.seed, self.epoch), Counter[int]()
        share = self.identities // self.world_size
        mine = range(self.rank * share, (self.rank + 1) * share)
        for batch in self._epoch(random):
            for place, group in enumerate(batch):
                for index in group:
                    time, shown[index] = shown[index], shown[index] + 1
                    if place in mine:
                        yield (self.epoch, index, time) if time else (self.epoch, index)

    def _check(self) -> None:
        if self.identities < 2 or self.per_person < 1:
            raise UserError(
                f"data.identities={self.identities} must be at least 2, data.tracklets="
                f"{self.per_person} at least 1"
            )
        if self.identities % self.world_size:
            raise UserError(
                f"data.identities={self.identities} cannot be divided over {self.world_size} "
                f"devices: choose a multiple of {self.world_size}"
            )
        if self.identities // self.world_size * self.per_person < 2:
            raise UserError(
                f"data.identities={self.identities}, data.tracklets={self.per_person} leave one "
                f"tracklet for each of {self.world_size} devices, of which BatchNorm can compute "
                "no deviation: raise one of them"
            )
        if len(self._of_person) < self.identities:
            raise UserError(
                f"data.identities={self.identities} identities are wanted in a batch, the training "
                f"list has {len(self._of_person)}: lower data.identities"
            )

    def _epoch(self, random: np.random.Generator) -> Iterator[list[Group]]:
        groups = [self._groups(members, random) for members in self._of_person.values()]
        left = np.array([min(len(mine), self.batches) for mine in groups])
        surplus = left.sum() - self.identities * self.batches
        left[random.choice(np.flatnonzero(left), surplus, replace=False)] -= 1
        for chosen in _choices(left, self.batches, self.identities, random):
            yield [groups[person].pop() for person in chosen]

    def _groups(self, members: list[int], random: np.random.Generator) -> list[Group]:
        """Deal all tracklets of an identity into groups of K, in a random order."""
        shuffled = [int(index) for index in random.permutation(members)]
        order: dict[int, int] = {}
        for index in shuffled:
            order.setdefault(self._cameras[index], len(order))
        by_camera = sorted(shuffled, key=lambda index: order[self._cameras[index]])
        count = -(-len(members) // self.per_person)
        groups = [self._filled(by_camera[j::count], shuffled) for j in range(count)]
        return [groups[j] for j in random.permutation(count)]

    def _filled(self, group: Group, members: list[int]) -> Group:
        if len(group) == self.per_person:  # all but a few groups of an identity
            return group
        seen = {self._cameras[index] for index in group}
        others = [index for index in members if index not in group]
        others.sort(key=lambda index: self._cameras[index] in seen)  # stable: new cameras first
        filled = [*group, *others][: self.per_person]
        return [filled[i % len(filled)] for i in range(self.per_person)]


def _most_batches(groups: Sequence[int], identities: int) -> int:
    """Find max b with sum_i min(groups_i, b) >= identities * b; the left side is concave in b."""
    least, most = 1, sum(groups) // identities
    while least < most:
        middle = (least + most + 1) // 2
        fits = sum(min(count, middle) for count in groups) >= identities * middle
        least, most = (middle, most) if fits else (least, middle - 1)
    return least


def _choices(
    left: np.ndarray, batches: int, identities: int, random: np.random.Generator
) -> Iterator[list[int]]:
    """Draw different identities for each of so many batches, in a random order.

    Those with a group left for each of the batches to come must be in all of them; the others are
    drawn with probabilities in proportion to the groups left.

    Args:
        left: Groups of each identity, at most ``batches``, ``identities * batches`` in all.
    """
    weights = _Weights(left)
    with_left: dict[int, set[int]] = defaultdict(set)
    for person, count in enumerate(left.tolist()):
        with_left[count].add(person)
    for batch in range(batches, 0, -1):
        needed = sorted(with_left[batch])
        weights.add(needed, -batch)
        drawn = weights.draw(identities - len(needed), random)
        weights.add(needed, batch)
        chosen = [int(person) for person in random.permutation([*needed, *drawn])]
        for person in chosen:
            count = weights.of(person)
            with_left[count].remove(person)
            with_left[count - 1].add(person)
        weights.add(chosen, -1)
        yield chosen


class _Weights:
    """Whole numbers in rows of about sqrt(N), of which some are drawn without looking at all N."""

    def __init__(self, weights: np.ndarray) -> None:
        self._width = max(1, int(len(weights) ** 0.5))
        padded = np.zeros(-(-len(weights) // self._width) * self._width, np.int64)
        padded[: len(weights)] = weights
        self._rows = padded.reshape(-1, self._width)
        self._sums = self._rows.sum(1)

    def of(self, index: int) -> int:
        return int(self._rows[divmod(index, self._width)])

    def add(self, indices: Sequence[int], amount: int | np.ndarray) -> None:
        """Add to the weights of different indices."""
        row, column = np.divmod(np.asarray(indices, np.int64), self._width)
        self._rows[row, column] += amount
        np.add.at(self._sums, row, amount)

    def draw(self, count: int, random: np.random.Generator) -> list[int]:
        """Draw different indices, as ``random.choice`` without replacement does by its shares."""
        drawn: list[int] = []
        removed: list[int] = []
        while len(drawn) < count:
            ends = self._sums.cumsum()
            value = random.random(count - len(drawn)) * ends[-1]
            row = ends.searchsorted(value, side="right")
            rest = value - (ends - self._sums)[row]
            column = (self._rows[row].cumsum(1) <= rest[:, None]).sum(1)
            new = [*dict.fromkeys((row * self._width + column).tolist())]
            drawn += new
            if len(drawn) < count:
                weights = [self.of(index) for index in new]
                self.add(new, -np.array(weights))
                removed += weights
        self.add(drawn[: len(removed)], np.array(removed, np.int64))
        return drawn
