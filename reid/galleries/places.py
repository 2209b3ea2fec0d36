"""Where a gallery is: in a feature file, in a folder, or in a PostgreSQL database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reid.galleries.entries import About, Entries
from reid.galleries.store import StoredGallery
from reid.metrics.distances import Metric
from reid.retrieval.features import FeatureTable
from reid.retrieval.index import SearchResult
from video_snl.errors import UserError
from video_snl.utils.extras import require

__all__ = ["Gallery", "create_gallery", "is_database", "open_gallery"]

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
class Gallery:
    """Gallery to search in, and the number of tracklets to find.

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
    def open(cls, path: str, top: int, metric: Metric | None = None) -> Gallery:
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
        elif not Path(path).is_dir():
            from reid.retrieval.searching import filled_table

            return cls(path, filled_table(path), top, metric or "cosine")
        kept = open_gallery(path)
        if not kept.count():
            raise UserError(f"{path} holds no tracklets: add some with reid gallery add")
        own = kept.about.metric
        if metric not in (None, own):
            raise UserError(f"--metric {metric}: {path} was created with --metric {own}")
        return cls(path, Entries.none(kept.about).table, top, own, kept)

    def search(self, asked: FeatureTable) -> tuple[FeatureTable, SearchResult]:
        """Return tracklets, and which of them are the nearest to the queries."""
        from reid.retrieval.index import SearchResult, search

        if self.kept is None:
            return self.table, search(asked, self.table, top=self.top, metric=self.metric)
        answer = self.kept.search(asked.features, top=self.top)
        return answer.entries.table, SearchResult(answer.rows, answer.distances, None)
