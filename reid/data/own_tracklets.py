"""Query tracklets that the gallery holds as well: nobody should find themselves."""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from collections.abc import Sequence

from reid.data.tracklet import Tracklet

__all__ = ["own_entries"]


def own_entries(query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> list[tuple[int, int]]:
    """Find the gallery entries that are the queries themselves: of one person and the same frames.

    Frames are the same if they are one file (by whatever path or link) or copies, byte for byte.

    Args:
        query: The Q queries.
        gallery: The G gallery entries.

    Returns:
        Pairs (query, gallery entry), ascending.
    """
    listed = defaultdict(list)
    for row, tracklet in enumerate(gallery):
        listed[tracklet.person_id, len(tracklet.frames)].append(row)
    return [
        (row, entry)
        for row, asked in enumerate(query)
        for entry in listed[asked.person_id, len(asked.frames)]
        if all(map(_same_file, asked.frames, gallery[entry].frames))
    ]


def _same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second) or filecmp.cmp(first, second, shallow=False)
    except OSError:  # a frame that is not there is reported by the one who reads it
        return False
