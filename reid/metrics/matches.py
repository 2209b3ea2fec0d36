"""Ranks of the true matches of queries among the distances of a gallery.

The gallery is not ordered. A few entries of the query's own identity are compared with its row of
distances, one after the other; many are looked up in the row, sorted as plain values.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reid.data.tracklet import JUNK

__all__ = ["Cameras", "Gallery", "Hits", "Matches", "count_before", "hits_of"]

Cameras = Literal["cross", "ignore"]
"""``cross``: a match is under another camera than the query; ``ignore``: under any."""

COMPARED = 32
"""Entries of a row that are compared with it; sorting 10^4 distances takes as long as twice these.
"""


@dataclass(frozen=True)
class Matches:
    """Gallery entries of the queries' own identities, padded to P columns.

    Attributes:
        columns: Numbers of the entries in the gallery, ascending, shape (Q, P); 0 where padded.
        valid: Mask of the places that hold an entry.
        kept: Mask of the true matches: of another camera than the query's, or of any camera
            where cameras are ignored, and not the query's own tracklet.
    """

    columns: Tensor
    valid: Tensor
    kept: Tensor


class Gallery:
    """Entries of a gallery by identity, without junk.

    Args:
        ids: Identities of the entries, shape (G,); -1 is junk.
        cameras: Their cameras, shape (G,).

    Attributes:
        positions: Numbers of the entries that are not junk, ascending, shape (G',).
    """

    def __init__(self, ids: Tensor, cameras: Tensor) -> None:
        self.positions = (ids != JUNK).nonzero()[:, 0]
        self._cameras = cameras
        ids = ids[self.positions]
        order = ids.argsort(stable=True)
        self._ids, self._columns = ids[order], self.positions[order]

    def matches(
        self,
        ids: Tensor,
        cameras: Tensor,
        rule: Cameras = "cross",
        own: Tensor | None = None,
    ) -> Matches:
        """Find the entries of the queries' identities, and which of them are true matches.

        Args:
            ids: Identities of the queries, shape (Q,).
            cameras: Their cameras, shape (Q,).
            rule: ``cross`` or ``ignore``.
            own: Pairs (query, gallery entry) of the same tracklet, shape (N, 2): no matches.
        """
        begin = torch.searchsorted(self._ids, ids)
        count = torch.searchsorted(self._ids, ids, right=True) - begin
        most = int(count.max()) if len(count) else 0
        step = torch.arange(most, device=ids.device)
        valid = step < count[:, None]
        columns = self._columns[(begin[:, None] + step).where(valid, 0)].where(valid, 0)
        kept = valid.clone()
        if rule == "cross":
            kept &= self._cameras[columns] != cameras[:, None]
        if own is not None and len(own):
            pair, place = (columns[own[:, 0]] == own[:, 1:]).nonzero(as_tuple=True)
            kept[own[pair, 0], place] = False
        return Matches(columns, valid, kept)

    def most(self, ids: Tensor) -> int:
        """Return the largest number P of entries that one of these identities has."""
        begin = torch.searchsorted(self._ids, ids)
        return int((torch.searchsorted(self._ids, ids, right=True) - begin).max())


def count_before(
    distances: Tensor, positions: Tensor, near: Tensor, columns: Tensor, wanted: Tensor
) -> Tensor:
    """Count how many entries of a block come before each of some entries, in every row.

    An entry comes before another if its distance is smaller, or equal and its number is smaller.

    Args:
        distances: Distances to a block of the gallery, float32 or float64, shape (Q, B), no NaN.
        positions: Numbers of the block's entries in the gallery, ascending, shape (B,).
        near: Distances of the entries asked for, shape (Q, P). If such an entry is in the block,
            its distance there has to be the same to the last bit.
        columns: Their numbers in the gallery, shape (Q, P).
        wanted: Mask of the places whose count is wanted, shape (Q, P).

    Returns:
        Counts, shape (Q, P); 0 where none is wanted.
    """
    count = torch.zeros_like(columns)
    # Entries of smaller numbers than this place come first at an equal distance.
    place = torch.searchsorted(positions, columns.contiguous())
    if distances.device.type == "cpu":
        many = wanted.sum(1) > COMPARED
        _count_compared(distances, place, near, wanted & ~many[:, None], count)
    else:
        many = wanted.any(1)
    rows = many.nonzero()[:, 0]
    if len(rows):
        block = distances if len(rows) == len(distances) else distances[rows]
        found = _count_sorted(block, place[rows], near[rows])
        count[rows] = found.where(wanted[rows], 0)
    return count


def _count_compared(
    distances: Tensor, place: Tensor, near: Tensor, wanted: Tensor, count: Tensor
) -> None:
    """Write into ``count`` what is wanted, by a comparison with the whole row for each."""
    pairs = wanted.nonzero(as_tuple=True)
    entries = list(zip(*(x.tolist() for x in (*pairs, place[pairs], near[pairs])), strict=True))
    values, counts = distances.numpy(), count.numpy()

    def compare(some: slice) -> None:
        before = np.empty(values.shape[1], bool)
        for row, entry, here, distance in entries[some]:
            np.less_equal(values[row, :here], distance, out=before[:here])
            np.less(values[row, here:], distance, out=before[here:])
            counts[row, entry] = np.count_nonzero(before)

    step = max(1, -(-len(entries) // torch.get_num_threads()))
    parts = [slice(begin, begin + step) for begin in range(0, len(entries), step)]
    if len(parts) <= 1:
        compare(slice(None))
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(compare, parts))


def _count_sorted(distances: Tensor, place: Tensor, near: Tensor) -> Tensor:
    """Return the counts of all entries, by a search in the sorted rows."""
    rows = _sorted_rows(distances)
    near = near.contiguous()
    smaller = torch.searchsorted(rows, near)
    equal = torch.searchsorted(rows, near, right=True) - smaller
    count = smaller + equal.where(place == distances.shape[1], 0)
    inside = (place > 0) & (place < distances.shape[1])
    tied = (inside & (equal > 1)).any(1).nonzero()[:, 0]
    if len(tied):
        rank = distances[tied].argsort(dim=1, stable=True).argsort(dim=1)
        local = place[tied].clamp(max=distances.shape[1] - 1)
        count[tied] = rank.gather(1, local).where(inside[tied], count[tied])
    return count


def _sorted_rows(values: Tensor) -> Tensor:
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    # NumPy sorts bare values several times as fast as torch, which carries their indices along.
    rows = values.numpy().copy()
    threads = torch.get_num_threads()
    if threads == 1:
        rows.sort(axis=1)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda part: part.sort(axis=1), np.array_split(rows, threads)))
    return torch.from_numpy(rows)


@dataclass(frozen=True)
class Hits:
    """True matches of queries in the order of their distances.

    Attributes:
        rank: Place of each among the kept entries, from 1; shape (Q, P).
        number: 1 for the nearest match, 2 for the next, ...; shape (Q, P).
        kept: Mask of the true matches among them; shape (Q, P).
    """

    rank: Tensor
    number: Tensor
    kept: Tensor


def hits_of(matches: Matches, near: Tensor, before: Tensor) -> Hits:
    """Rank the matches, without the other entries of the query's own identity.

    Args:
        matches: Entries of the queries' identities.
        near: Their distances, shape (Q, P).
        before: Number of entries of the gallery without junk before each, shape (Q, P).
    """
    # Padding comes after all entries and stays there: the sort is stable, and so are ties.
    order = near.where(matches.valid, torch.inf).argsort(dim=1, stable=True)
    kept = matches.kept.gather(1, order)
    removed = (matches.valid.gather(1, order) & ~kept).cumsum(1)
    return Hits(before.gather(1, order) - removed + 1, kept.cumsum(1), kept)
