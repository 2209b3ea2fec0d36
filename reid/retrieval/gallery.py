"""A gallery of features in memory, to add to and to search in, from Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reid.data.tracklet import camera_number, person_number
from reid.retrieval.features import (
    FeatureTable,
    concatenate,
    is_known,
    numbers_of,
    read_features,
    same_model,
    same_numbering,
    write_features,
)
from reid.retrieval.index import IndexName, Metric, search
from video_snl.errors import UserError
from video_snl.utils.arrays import as_array
from video_snl.utils.counts import counts
from video_snl.utils.files import writing
from video_snl.utils.text import escaped

__all__ = ["Gallery", "Match"]

Features = FeatureTable | np.ndarray
"""A table of ``Extractor.table``, or vectors (N, D), or one vector (D,), of floats."""

_UNSAID = "vectors whose network is not said"


@dataclass(frozen=True)
class Match:
    """A tracklet of a gallery that was found.

    Attributes:
        name: Its name.
        distance: Its distance to the query.
        row: Its place in the gallery, from 0.
        person, camera: Names of identity and camera, None where they are not known.
    """

    name: str
    distance: float
    row: int
    person: str | None
    camera: str | None


class Gallery:
    """Features of tracklets by name, in which the nearest to others are found.

    It keeps what ``reid extract`` writes and is searched as by ``reid search``: a file of either
    serves the other (:meth:`read`, :meth:`write`). Tables of features know their network, and are
    refused where it differs; bare vectors are taken to be of the same network.

    Args:
        table: Features that it begins with; None: it is empty.

    Raises:
        UserError: The table is something else, such as bare vectors.
    """

    def __init__(self, table: FeatureTable | None = None) -> None:
        if table is not None and not isinstance(table, FeatureTable):
            raise UserError(
                f"Gallery: expected a table of Extractor.table, found {type(table).__name__}; "
                "vectors are added by Gallery().add(vectors, names)"
            )
        self._parts: list[FeatureTable] = []
        self._numberings: list[str | None] = []  # that of what is known, none or one
        if table is not None:
            self._append(_in_utf8(table))

    @classmethod
    def read(cls, path: str | Path) -> Gallery:
        """Read a file of :meth:`write`, or of ``reid extract``.

        Raises:
            UserError: It is missing, damaged, or of another program.
        """
        return cls(read_features(path))

    def write(self, path: str | Path) -> None:
        """Write a parquet file, whole or not at all.

        Raises:
            UserError: There is nothing to write, or the file cannot be written.
        """
        if self._table is None:
            raise UserError("the gallery is empty: there is nothing to write")
        with writing("Gallery.write", str(path)):
            write_features(path, self._table)

    @property
    def _table(self) -> FeatureTable | None:
        """All parts as one."""
        if len(self._parts) > 1:
            self._parts = [concatenate(self._parts)]
        return self._parts[0] if self._parts else None

    def _append(self, table: FeatureTable) -> None:
        numberings = self._numberings + ([table.numbering] if is_known(table) else [])
        parts = [*self._parts]
        if parts:
            first, table = _of_one_network(parts[0], table)
            parts = [first, *(_as_of(first, part) for part in parts[1:])]
        same_numbering(numberings)
        parts.append(table)
        # Each part is longer than the next: a row is joined log2 N times, not with every addition.
        while len(parts) > 1 and len(parts[-2]) <= len(parts[-1]):
            parts[-2:] = [concatenate(parts[-2:])]
        self._parts, self._numberings = parts, numberings[:1]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __repr__(self) -> str:
        return f"Gallery of {counts(len(self), 'tracklet')}"

    @property
    def names(self) -> list[str]:
        """Names of the tracklets, in their order."""
        return [] if self._table is None else list(self._table.names)

    @property
    def features(self) -> np.ndarray:
        """Features, float32 (N, D); (0, 0) of an empty gallery."""
        return np.zeros((0, 0), np.float32) if self._table is None else self._table.features

    def add(
        self,
        features: Features,
        names: Sequence[str] | None = None,
        *,
        persons: Sequence[str | None] | None = None,
        cameras: Sequence[str | None] | None = None,
    ) -> None:
        """Add tracklets behind those that are there.

        Args:
            features: Their features.
            names: Their names, text of UTF-8; None: those of the table, whose bytes that are not
                UTF-8 are escaped as in a file, or the numbers of their rows.
            persons, cameras: Names of identities and cameras, likewise, None for each that is not
                known; None as a whole: those of the table, or unknown.

        Raises:
            UserError: Features of another network or length, that are not finite, another number
                of names, or names that are no text.
        """
        table = _table(features, first=len(self))
        count = len(table)
        if names is not None:
            table = replace(table, names=_texts("names", names, count))
        if persons is not None:
            known = _texts("persons", persons, count, unknown=True)
            table = replace(table, persons=known, person_ids=numbers_of(known, person_number))
        if cameras is not None:
            known = _texts("cameras", cameras, count, unknown=True)
            table = replace(table, cameras=known, camera_ids=numbers_of(known, camera_number))
        self._append(table)

    def search(
        self,
        features: Features,
        *,
        top: int = 10,
        metric: Metric = "cosine",
        index: IndexName = "exact",
    ) -> list[list[Match]]:
        """Find the nearest tracklets of each query, the nearest first.

        Args:
            features: Features of the queries.
            top: Number of tracklets for a query; at most as many as there are.
            metric: ``cosine``: 1 - cos, or ``euclidean``.
            index: ``exact``, or ``ivf`` or ``hnsw``, which are approximate and may find fewer.

        Raises:
            UserError: The gallery is empty, or the features are of another network or length, or
                not finite.
        """
        if self._table is None:
            raise UserError("the gallery is empty: there is nothing to search; add features")
        table, query = _of_one_network(self._table, _table(features, first=0))
        found = search(query, table, index=index, top=top, metric=metric)
        persons, cameras = table.person_names, table.camera_names
        return [
            [
                Match(table.names[row], float(distance), int(row), persons[row], cameras[row])
                for row, distance in zip(rows, distances, strict=True)
                if row >= 0
            ]
            for rows, distances in zip(found.indices, found.distances, strict=True)
        ]


def _table(features: Features, *, first: int) -> FeatureTable:
    """Return features as a table; the names of vectors are numbers from ``first`` on.

    Raises:
        UserError: They are of another shape or type, or not finite.
    """
    if isinstance(features, FeatureTable):
        return _in_utf8(features)
    vectors = np.atleast_2d(as_array(features, "features"))
    if vectors.dtype.kind != "f" or vectors.ndim != 2 or 0 in vectors.shape:
        raise UserError(
            f"expected features as floats of shape (N, D), found {vectors.dtype} of shape "
            f"{np.shape(features)}"
        )
    with np.errstate(over="ignore"):
        narrow = vectors.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(narrow).all(1))
    if len(wrong):
        row = vectors[wrong[0]]
        found = "are not finite"
        if np.isfinite(row).all():
            found = f"reach {np.abs(row).max():.3g}, which float32 cannot hold: scale them"
        raise UserError(f"features of row {wrong[0]} {found}")
    count = len(vectors)
    unknown: list[str | None] = [None] * count
    return FeatureTable(
        names=[str(first + row) for row in range(count)],
        person_ids=numbers_of(unknown, person_number),
        camera_ids=numbers_of(unknown, camera_number),
        num_frames=np.zeros(count, np.int64),
        skipped_frames=np.zeros(count, np.int64),
        features=narrow,
        model="",
        checkpoint=_UNSAID,
        persons=unknown,
        cameras=unknown,
    )


def _in_utf8(table: FeatureTable) -> FeatureTable:
    """Return a table with the names that a file would hold, so that reading changes none."""
    return replace(table, names=[escaped(name) for name in table.names])


def _texts(what: str, given: Any, count: int, *, unknown: bool = False) -> list[Any]:
    """Return names that were given.

    Args:
        what: Name of the argument.
        count: Number of names that there should be.
        unknown: Whether a name may be None.

    Raises:
        UserError: They are no list of text in UTF-8, or another number.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise UserError(f"{what}={given!r:.60}: give a list of names, such as ['a', 'b']")
    names = list(given)
    if len(names) != count:
        raise UserError(f"{what} has {len(names)} entries for {count} features")
    for name in names:
        if name is None and unknown:
            continue
        if not isinstance(name, str):
            raise UserError(f"{what}: expected names as text, found {name!r:.60}")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{what}: {ascii(name):.60} is not text in UTF-8, which a file of features holds"
            ) from error
    return [None if name is None else str(name) for name in names]


def _of_one_network(
    gallery: FeatureTable, other: FeatureTable
) -> tuple[FeatureTable, FeatureTable]:
    """Return two tables, of which one that does not know its network is of the other's.

    Raises:
        UserError: Both know it, and it differs; or the lengths of the features do.
    """
    if not other.model:
        other = _as_of(gallery, other)
    elif not gallery.model:
        gallery = _as_of(other, gallery)
    same_model(other, gallery)
    return gallery, other


def _as_of(known: FeatureTable, table: FeatureTable) -> FeatureTable:
    if table.dimension != known.dimension:
        return table  # which is refused
    return replace(
        table, model=known.model, checkpoint=known.checkpoint, test_frames=known.test_frames
    )
