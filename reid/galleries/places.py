"""Where a gallery is: in a feature file, in a folder, or in a PostgreSQL database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid.galleries.entries import About, Entries, check_vectors, contents_hash, joined
from reid.galleries.searching import ANYTHING, Only
from reid.galleries.store import StoredGallery
from reid.metrics.distances import Metric
from reid.retrieval.features import FeatureTable, filled_table
from reid.retrieval.index import IndexName, SearchResult, search
from video_snl.errors import UserError
from video_snl.utils.extras import require
from video_snl.utils.files import digest_of

__all__ = ["Found", "Searchable", "create_gallery", "is_database", "open_gallery"]

_SCHEMES = ("postgresql://", "postgres://")


def is_database(location: str) -> bool:
    """Tell whether a location is the address of a database, and not a folder."""
    return location.lower().startswith(_SCHEMES)


def open_gallery(location: str | Path) -> StoredGallery:
    """Open a gallery.

    Args:
        location: Folder, or ``postgresql://USER@HOST/DATABASE#NAME``.

    Raises:
        UserError: There is none, it is damaged, or the database does not let us in.
    """
    if is_database(str(location)):
        from reid.galleries.postgres import PostgresGallery

        return PostgresGallery.open(str(location))
    from reid.galleries.folder import FolderGallery

    return FolderGallery.open(Path(location))


def create_gallery(location: str | Path, about: About, entries: Entries) -> StoredGallery:
    """Create a gallery with some entries, or none.

    Args:
        location: New folder, or ``postgresql://USER@HOST/DATABASE#NAME`` of an existing database.
        about: Its network, metric and index.
        entries: Its first entries.

    Raises:
        UserError: There is one already, or it cannot be made.
    """
    if is_database(str(location)):
        from reid.galleries.postgres import PostgresGallery

        return PostgresGallery.create(str(location), about, entries)
    from reid.galleries.folder import FolderGallery

    return FolderGallery.create(Path(location), about, entries)


@dataclass(frozen=True)
class Found:
    """The nearest tracklets of a gallery.

    Attributes:
        table: Tracklets, with all that were found.
        result: Rows of them, for each query, and distances.
        by: ``exact``, or the index that found them: ``ivf`` or ``hnsw``.
        times: Seconds since 1970 of the tracklets, shape (N,), NaN where a time is not known; None
            of a feature file.
    """

    table: FeatureTable
    result: SearchResult
    by: IndexName
    times: np.ndarray | None = None


@dataclass(frozen=True)
class Searchable:
    """A feature file, or a gallery that is kept, and what is asked of it.

    Attributes:
        path: Its file, folder, or address in a database.
        table: Features of the file; of a gallery that is kept, no rows, but the network.
        top: Number of tracklets to find.
        metric: Distance of features.
        kept: The gallery that is kept, in a folder or a database; None for a file.
    """

    path: str
    table: FeatureTable
    top: int
    metric: Metric = "cosine"
    kept: StoredGallery | None = None

    @property
    def size(self) -> int:
        """Number of tracklets that it has now."""
        return len(self.table) if self.kept is None else self.kept.count()

    @classmethod
    def open(cls, path: str, top: int = 1, metric: Metric | None = None) -> Searchable:
        """Open a feature file, or a gallery of ``reid gallery``.

        Args:
            path: File, folder, or address in a database.
            top: Number of tracklets to find.
            metric: Distance of features; None: that of a gallery that is kept, of a file cosine.

        Raises:
            UserError: It does not exist, is damaged, cannot be reached, holds no tracklet, or is
                kept for another metric.
        """
        if is_database(path):
            require("postgres")
        elif not Path(path).exists():
            raise UserError(
                f"{path} does not exist: name a feature file (reid extract ... -o FILE) or a "
                "gallery (reid gallery create GALLERY FILE)"
            )
        elif not Path(path).is_dir():
            return cls(path, filled_table(path), top, metric or "cosine")
        return cls.of(open_gallery(path), top, metric)

    @classmethod
    def of(cls, kept: StoredGallery, top: int, metric: Metric | None = None) -> Searchable:
        """Search in a gallery that is kept; arguments and errors as for :meth:`open`."""
        if not kept.count():
            raise UserError(f"{kept.where} holds no tracklets: add some with reid gallery add")
        own = kept.about.metric
        if metric not in (None, own):
            raise UserError(f"--metric {metric}: {kept.where} was created with --metric {own}")
        return cls(kept.where, Entries.none(kept.about).table, top, own, kept)

    def search(
        self, asked: FeatureTable, *, index: IndexName | None = None, only: Only = ANYTHING
    ) -> Found:
        """Find the nearest tracklets.

        Args:
            asked: Features of the queries.
            index: ``exact``, or an index that is made of a feature file. None: ``exact``, or the
                index that a gallery that is kept has.
            only: The entries to search, of a gallery that is kept.

        Raises:
            UserError: Queries of another network, or without distances; an index of another kind
                than the gallery's own.
        """
        if self.kept is None:
            index = index or "exact"
            result = search(asked, self.table, index=index, top=self.top, metric=self.metric)
            return Found(self.table, result, index)
        if index not in (None, "exact"):
            raise UserError(
                f"--index {index}: {self.path} is searched by its own index (reid gallery create "
                "--index), or with --index exact"
            )
        self.kept.about.check(asked)
        check_vectors(asked.features, asked.names)
        answer = self.kept.search(asked.features, top=self.top, only=only, exact=index == "exact")
        own: dict[str, IndexName] = {"auto": "ivf", "ivf": "ivf", "hnsw": "hnsw"}
        found = SearchResult(answer.rows, answer.distances, None)
        by = "exact" if answer.exact else own[self.kept.about.index]
        return Found(answer.entries.table, found, by, answer.entries.times)

    def whole(self) -> tuple[FeatureTable, str]:
        """Return all features, and a hash of them: the file's SHA-256, or that of the entries."""
        if self.kept is None:
            return self.table, digest_of(Path(self.path))
        entries = joined([Entries.none(self.kept.about), *self.kept.read()])
        return entries.table, contents_hash(entries.digests())
