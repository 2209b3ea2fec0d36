"""What a gallery that is kept can do, and whether it holds what it should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reid.data.tracklet import DISTRACTOR, JUNK, people_in, special_person
from reid.galleries.entries import About, Entries, joined
from reid.galleries.searching import ANYTHING, Answer, Only
from video_snl.errors import UserError

__all__ = [
    "Added",
    "Removed",
    "Stats",
    "StoredGallery",
    "count_people",
    "recall",
    "verify",
]

_LEAST_FOUND = 0.9
_SAMPLED_TOP = 10


@dataclass(frozen=True)
class Added:
    """How many entries were added, and how many were there already."""

    added: int
    present: int


@dataclass(frozen=True)
class Removed:
    """How many entries were removed, and the keys of which there were none."""

    removed: int
    absent: list[str]


@dataclass(frozen=True)
class Stats:
    """The size of a gallery.

    Attributes:
        entries: Number of entries.
        persons: Number of different names of identities; junk and distractors are none.
        junk, distractors: Number of entries of junk, and of distractors.
        cameras: Number of different names of cameras.
        first, last: First and last time, in seconds since 1970; None where none is known.
        index: ``flat``, ``ivf`` or ``hnsw``: what is searched now.
        bytes: Bytes on disk, of the index too.
        contents: Hash of the entries, the same one for the same entries in any gallery.
    """

    entries: int
    persons: int
    junk: int
    distractors: int
    cameras: int
    first: float | None
    last: float | None
    index: str
    bytes: int
    contents: str


def count_people(entries: Mapping[str | None, int]) -> dict[str, int]:
    """Count identities, and the entries of junk and of distractors, as :class:`Stats` has them.

    Args:
        entries: Number of entries by the name of their identity, None where it is not known.
    """
    nobody: Counter[int | None] = Counter()
    for name, number in entries.items():
        if name is not None:
            nobody[special_person(name)] += number
    return {
        "persons": len(people_in(entries)),
        "junk": nobody[JUNK],
        "distractors": nobody[DISTRACTOR],
    }


class StoredGallery(Protocol):
    """A gallery that is kept: :class:`~reid.galleries.folder.FolderGallery` in a folder, or
    :class:`~reid.galleries.postgres.PostgresGallery` in a database.

    Every method is one transaction: it is done as a whole, or nothing has changed. Both give the
    same answers to exact searches. (:class:`reid.Gallery` is a table in memory, whose names may
    repeat. It reads and writes the feature files that these take and export.)

    Attributes:
        where: Where it is, without any secret, for messages.
        about: Its network, metric and index.
    """

    where: str

    @property
    def about(self) -> About:
        """Network, metric and index."""

    def add(self, entries: Entries) -> Added:
        """Add entries; those that are there already, with the same values, stay as they are.

        Vectors are the same within :data:`~reid.galleries.entries.ROUNDING`.

        Raises:
            UserError: They are of another network, or one is there with other values: nothing was
                added.
        """

    def remove(self, keys: Sequence[str]) -> Removed:
        """Remove entries by their keys, or names (:func:`~reid.galleries.entries.key_of`)."""

    def search(
        self, vectors: np.ndarray, *, top: int = 10, only: Only = ANYTHING, exact: bool = False
    ) -> Answer:
        """Find the nearest entries of queries (Q, D).

        Args:
            vectors: Vectors of the queries.
            top: Entries for each, at most as many as there are.
            only: The entries to search. Filtered searches are exact.
            exact: Compare with every entry, although there is an index.

        Raises:
            UserError: Vectors of another dimension, zero or not finite; or ``top`` below 1.
        """

    def read(self, only: Only = ANYTHING) -> Iterator[Entries]:
        """Yield the entries in the order of their keys, in parts."""

    def count(self) -> int:
        """Return the number of entries."""

    def stats(self) -> Stats:
        """Measure it."""

    def faults(self) -> list[str]:
        """Read everything, and compare counts and hashes with those that were stored."""


def verify(
    gallery: StoredGallery, against: StoredGallery | None = None, *, searches: int = 20
) -> tuple[list[str], dict[str, Any]]:
    """Compare counts, hashes and a sample of searches.

    The vectors of a sample of entries are searched for: an exact search must find the entry at
    its own distance, and the index must do so for nine of ten.

    Args:
        gallery: The gallery.
        against: Another one, which should hold the same entries and give the same answers.
        searches: Number of sampled entries.

    Returns:
        What is wrong, empty for nothing; and the figures.

    Raises:
        UserError: A gallery was changed meanwhile, by another process, and so gave other answers.
    """
    wrong = gallery.faults()
    stats = gallery.stats()
    asked = _sample(gallery, searches, stats.entries)
    figures: dict[str, Any] = {
        "entries": stats.entries,
        "contents": stats.contents,
        "searches": len(asked),
        "recall": None,
    }
    exact = None
    if len(asked):
        exact = gallery.search(asked.table.features, top=_SAMPLED_TOP, exact=True)
        wrong += _lost(asked, exact)
        if stats.index != "flat":
            found = gallery.search(asked.table.features, top=_SAMPLED_TOP)
            figures["recall"] = recall(found, exact)
            at_once = int((found.distances[:, 0] == exact.distances[:, 0]).sum())
            if at_once < _LEAST_FOUND * len(asked):
                wrong.append(
                    f"the index finds {at_once} of {len(asked)} entries by their own vectors: "
                    "build it anew (create another gallery from an export)"
                )
    other = None
    if against is not None:
        wrong += against.faults()
        other = against.stats()
        for what, one, two in (
            ("entries", stats.entries, other.entries),
            ("contents", stats.contents, other.contents),
            ("model", gallery.about.model, against.about.model),
            ("metric", gallery.about.metric, against.about.metric),
        ):
            if one != two:
                wrong.append(f"{what} differ: {one} in {gallery.where}, {two} in {against.where}")
        if exact is not None and gallery.about.dimension == against.about.dimension:
            same = against.search(asked.table.features, top=_SAMPLED_TOP, exact=True)
            differ = sum(
                exact.keys(q) != same.keys(q) or (exact.distances[q] != same.distances[q]).any()
                for q in range(len(asked))
            )
            if differ:
                wrong.append(f"{differ} of {len(asked)} searches give other answers")
    for each, before in ((gallery, stats), (against, other)):
        if wrong and each is not None and before is not None:
            _check_still(each, before)
    return wrong, figures


def _check_still(gallery: StoredGallery, before: Stats) -> None:
    """Raise UserError if a gallery has changed meanwhile, so that what was found means nothing."""
    if gallery.stats().contents != before.contents:
        raise UserError(
            f"{gallery.where} was changed while it was compared: verify it again while nobody adds "
            "to it"
        )


def recall(found: Answer, exact: Answer) -> float:
    """Return the share of the entries of an exact answer that another one has, too."""
    pairs = [(set(found.keys(q)), set(exact.keys(q))) for q in range(len(exact.rows))]
    return sum(len(a & b) for a, b in pairs) / max(1, sum(len(b) for _, b in pairs))


def _sample(gallery: StoredGallery, wanted: int, size: int) -> Entries:
    """Return entries at even distances in the order of the keys."""
    places = np.unique(np.linspace(0, max(0, size - 1), min(wanted, size)).round().astype(int))
    parts, start = [Entries.none(gallery.about)], 0
    for some in gallery.read():
        parts.append(some.rows(places[(places >= start) & (places < start + len(some))] - start))
        start += len(some)
    return joined(parts)


def _lost(asked: Entries, exact: Answer) -> list[str]:
    """Name entries that are not found by their own vectors.

    Should more than ``top`` entries have the same vector, the last of their keys are not listed.
    """
    lost = [
        key
        for query, key in enumerate(asked.keys)
        if key not in exact.keys(query)
        and not exact.distances[query, -1] <= exact.distances[query, 0] < np.inf
    ]
    if not lost:
        return []
    return [f"{len(lost)} of {len(asked)} entries are not found by their own vectors: {lost[0]!r}"]
