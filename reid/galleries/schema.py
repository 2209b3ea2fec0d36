"""What a gallery is in a database: its schema and tables, and transactions on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors, sql

from reid.galleries.connection import Address, connection
from reid.galleries.entries import About
from video_snl.errors import UserError

__all__ = [
    "CREATE",
    "FORMAT",
    "Connection",
    "make_extension",
    "one_row",
    "read_about",
    "transaction",
]

FORMAT = 1
Connection = psycopg.Connection[Any]

CREATE: LiteralString = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.about (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    format integer NOT NULL,
    model text NOT NULL,
    checkpoint text NOT NULL,
    dimension integer NOT NULL,
    test_frames bigint,
    metric text NOT NULL,
    index text NOT NULL,
    entries bigint NOT NULL,
    contents text NOT NULL,
    built text NOT NULL,
    built_for bigint NOT NULL
);
CREATE TABLE {schema}.entries (
    key text COLLATE "C" PRIMARY KEY,
    person text,
    camera text,
    time double precision,
    frames bigint NOT NULL,
    skipped bigint NOT NULL,
    digest bytea NOT NULL,
    embedding vector({dimension}) NOT NULL
) WITH (toast_tuple_target = 8160);
ALTER TABLE {schema}.entries ALTER COLUMN embedding SET STORAGE {storage};
CREATE INDEX entries_person ON {schema}.entries (person);
CREATE INDEX entries_camera ON {schema}.entries (camera, time);
CREATE INDEX entries_time ON {schema}.entries (time);
"""


@contextmanager
def transaction(address: Address, *, write: bool = False) -> Iterator[Connection]:
    """Connect for one transaction with vectors.

    Raises:
        UserError: The database has no vectors, so there is no gallery; or the server refuses.
    """
    with connection(address, write=write) as connected:
        try:
            register_vector(connected)
        except psycopg.ProgrammingError as error:
            raise UserError(
                f"{address.shown}: the database has no extension vector, so it has no gallery: "
                "create one with reid gallery create"
            ) from error
        yield connected


def one_row(
    connected: Connection, text: LiteralString | sql.Composed, values: Sequence[object] = ()
) -> tuple[Any, ...]:
    """Return the only row of an answer."""
    row: tuple[Any, ...] | None = connected.execute(text, values).fetchone()
    if row is None:
        raise UserError("the gallery is damaged: its description is empty; create it anew")
    return row


def make_extension(connected: Connection, address: Address) -> None:
    """Make the extension, unless it is there: that may be a right of superusers alone."""
    try:
        connected.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (
        errors.FeatureNotSupported,
        errors.UndefinedFile,
        errors.InsufficientPrivilege,
    ) as error:
        raise UserError(
            f"{address.shown}: the database has no extension vector "
            f"({' '.join(str(error).split())[:150]}): install pgvector on the server, and let a "
            "superuser give the command CREATE EXTENSION vector in this database"
        ) from error


def read_about(connected: Connection, address: Address, *, lock: bool = False) -> About:
    """Read the description of a gallery.

    Raises:
        UserError: There is no such gallery, or it is of another version.
    """
    text: LiteralString = (
        "SELECT format, model, checkpoint, dimension, test_frames, metric, index "
        "FROM {schema}.about"
    )
    try:
        row = connected.execute(
            sql.SQL(text + (" FOR UPDATE" if lock else "")).format(
                schema=sql.Identifier(address.name)
            )
        ).fetchone()
    except (errors.UndefinedTable, errors.InvalidSchemaName, errors.UndefinedColumn) as error:
        raise UserError(
            f"{address.shown}: the database has no gallery {address.name!r}: create it with reid "
            "gallery create, or give the name of another one after #"
        ) from error
    if row is None or row[0] != FORMAT:
        raise UserError(
            f"{address.shown}: the gallery is of version {row and row[0]}, this program reads "
            f"{FORMAT}: use the version that wrote it to export the gallery"
        )
    return About(*row[1:])
