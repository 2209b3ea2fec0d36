"""Where a gallery is: in a folder, or in a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path

from reid.galleries.entries import About, Entries
from reid.galleries.store import StoredGallery

__all__ = ["create_gallery", "is_database", "open_gallery"]

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
