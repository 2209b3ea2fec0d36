"""A gallery in a PostgreSQL database with the extension pgvector.

Its schema has two tables: ``about``, one row with network, counts and hash, which every change
locks first, and ``entries``. All names are quoted, all values are bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import numpy as np
from pgvector.psycopg import register_vector
from psycopg import errors, sql

from reid.galleries.connection import Address, connection, parse_address
from reid.galleries.entries import About, Entries, check_same, contents_hash, key_of
from reid.galleries.schema import (
    CREATE,
    FORMAT,
    Connection,
    make_extension,
    one_row,
    read_about,
    transaction,
)
from reid.galleries.searching import (
    ANYTHING,
    EXACT_UP_TO,
    Answer,
    Only,
    answer,
    check_search,
    furthest,
    nearest,
    say_building,
)
from reid.galleries.store import Added, Removed, Stats, count_people
from reid.retrieval.index import cells_of, least_asked
from video_snl.errors import UserError

__all__ = ["PostgresGallery"]

_PART = 4096  # entries, or keys, that are sent or read at once
# Floats that fit into a page of 8 KiB beside the other columns. Longer vectors are stored out of
# line; of shorter ones the rest of the row, too, stays inline (toast_tuple_target).
_INLINE = 1900
_INDEXED = 2000  # floats of a vector that pgvector's indices take
_MEMORY = 1024  # MiB for building an index, at most
_GRAPH = 4500  # bytes of an entry in the graph of an HNSW index, beside its vector
_MOST_LISTED = 1000  # candidates that hnsw.ef_search allows

_OPERATORS: dict[str, tuple[LiteralString, LiteralString]] = {
    "cosine": ("<=>", "vector_cosine_ops"),
    "euclidean": ("<->", "vector_l2_ops"),
}
_COLUMNS: LiteralString = "key, person, camera, time, frames, skipped, embedding"


class PostgresGallery:
    """A gallery in PostgreSQL; see :class:`~reid.galleries.store.StoredGallery`.

    Every method connects anew, so a server may be restarted between two of them.

    Attributes:
        where: Its address.
        about: Its network, metric and index.
    """

    def __init__(self, address: Address, about: About) -> None:
        self.where = address.shown
        self.about = about
        self._address = address

    @classmethod
    def open(cls, location: str) -> PostgresGallery:
        """Connect to a gallery.

        Raises:
            UserError: There is none, or the server cannot be reached, or refuses.
        """
        address = parse_address(location)
        with transaction(address) as connected:
            return cls(address, read_about(connected, address))

    @classmethod
    def create(cls, location: str, about: About, entries: Entries) -> PostgresGallery:
        """Create a schema with its tables, and the extension where it is not there.

        Raises:
            UserError: There is one already, pgvector is not installed, or the server refuses.
        """
        address = parse_address(location)
        about.check(entries.table)
        if about.index in ("ivf", "hnsw") and about.dimension > _INDEXED:
            raise UserError(
                f"--index {about.index}: pgvector's indices take vectors of at most {_INDEXED:,} "
                f"numbers, these have {about.dimension:,}: choose flat, or a gallery in a folder"
            )
        gallery = cls(address, about)
        with connection(address, write=True) as connected:
            make_extension(connected, address)
            register_vector(connected)
            try:
                connected.execute(
                    gallery._sql(
                        CREATE,
                        dimension=sql.Literal(about.dimension),
                        storage=sql.SQL("PLAIN" if about.dimension <= _INLINE else "EXTERNAL"),
                    )
                )
            # The second one where another process makes it at the same time.
            except (errors.DuplicateSchema, errors.UniqueViolation) as error:
                raise UserError(
                    f"{address.shown}: the database has a schema {address.name!r} already: add to "
                    "the gallery with reid gallery add, or give another name after #"
                ) from error
            connected.execute(
                gallery._sql(
                    "INSERT INTO {schema}.about VALUES "
                    "(true, %s, %s, %s, %s, %s, %s, %s, 0, %s, 'flat', 0)"
                ),
                (
                    *(FORMAT, about.model, about.checkpoint, about.dimension, about.test_frames),
                    *(about.metric, about.index, contents_hash([])),
                ),
            )
            gallery._insert(connected, entries, entries.digests())
        return gallery

    def add(self, entries: Entries) -> Added:
        """Add entries, as :meth:`~reid.galleries.store.StoredGallery.add` says.

        Raises:
            UserError: Another network, a key with other values, or the server refuses.
        """
        digests = entries.digests()
        with self._transaction(write=True) as connected:
            self.about.check(entries.table)
            there: dict[str, bytes] = {}
            for start in range(0, len(entries), _PART):
                there |= connected.execute(
                    self._sql("SELECT key, digest FROM {schema}.entries WHERE key = ANY(%s)"),
                    (entries.keys[start : start + _PART],),
                ).fetchall()
            new, again = [], {}
            for row, (key, digest) in enumerate(zip(entries.keys, digests, strict=True)):
                if key not in there:
                    new.append(row)
                elif there[key] != digest:
                    again[key] = row
            for start in range(0, len(again), _PART):
                found = connected.cursor(binary=True).execute(
                    self._sql(f"SELECT {_COLUMNS} FROM {{schema}}.entries WHERE key = ANY(%s)"),
                    (list(again)[start : start + _PART],),
                )
                old = self._entries(found.fetchall())
                rows = np.array([again[key] for key in old.keys])
                check_same(self.where, old, entries.rows(rows))
            chosen = entries.rows(np.array(new, np.int64))
            self._insert(connected, chosen, [digests[row] for row in new])
        return Added(len(new), len(entries) - len(new))

    def remove(self, keys: Sequence[str]) -> Removed:
        """Remove entries."""
        asked = dict.fromkeys(map(key_of, keys))
        keys = [key for key in asked if "\0" not in key]
        with self._transaction(write=True) as connected:
            gone: dict[str, bytes] = {}
            for start in range(0, len(keys), _PART):
                found = connected.execute(
                    self._sql(
                        "DELETE FROM {schema}.entries WHERE key = ANY(%s) RETURNING key, digest"
                    ),
                    (keys[start : start + _PART],),
                )
                gone |= found.fetchall()
            self._count(connected, list(gone.values()), removed=True)
        return Removed(len(gone), [key for key in asked if key not in gone])

    def search(
        self, vectors: np.ndarray, *, top: int = 10, only: Only = ANYTHING, exact: bool = False
    ) -> Answer:
        """Search, as :meth:`~reid.galleries.store.StoredGallery.search` says."""
        queries = check_search(vectors, self.about.dimension, top)
        with self._transaction() as connected:
            built, built_for, count = one_row(
                connected, self._sql("SELECT built, built_for, entries FROM {schema}.about")
            )
            top = min(top, max(1, count))
            # hnsw lists no more than so many candidates.
            exact = exact or only != ANYTHING or built == "flat"
            exact = exact or (built == "hnsw" and least_asked(top) > _MOST_LISTED)
            if not exact:
                _look_into(connected, built, built_for, least_asked(top))
            find = self._exact if exact else self._approximate
            found = [find(connected, query, top, only) for query in queries]
            # An index may find too few: its cells hold few, or entries that were removed.
            short = [query for query, (entries, _) in enumerate(found) if len(entries) < top]
            if short and not exact:
                _set(connected, enable_seqscan="on")
                for query in short:
                    found[query] = self._exact(connected, queries[query], top, only)
        return answer(found, Entries.none(self.about), top, exact=exact)

    def read(self, only: Only = ANYTHING) -> Iterator[Entries]:
        """Yield the entries in the order of their keys, all of one moment."""
        with self._transaction() as connected:
            for entries, _ in self._read(connected, only):
                yield entries

    def count(self) -> int:
        """Return the number of entries."""
        with self._transaction() as connected:
            (count,) = one_row(connected, self._sql("SELECT entries FROM {schema}.about"))
        return int(count)

    def stats(self) -> Stats:
        """Measure it."""
        with self._transaction() as connected:
            count, cameras, first, last = one_row(
                connected,
                self._sql(
                    "SELECT count(*), count(DISTINCT camera), min(time), max(time) "
                    "FROM {schema}.entries"
                ),
            )
            people = connected.execute(
                self._sql("SELECT person, count(*) FROM {schema}.entries GROUP BY person")
            ).fetchall()
            (size,) = one_row(
                connected,
                "SELECT pg_total_relation_size(%s::regclass)",
                (self._table(connected),),
            )
            built, contents = one_row(
                connected, self._sql("SELECT built, contents FROM {schema}.about")
            )
        return Stats(
            entries=count,
            **count_people(dict(people)),
            cameras=cameras,
            first=first,
            last=last,
            index=built,
            bytes=size,
            contents=contents,
        )

    def faults(self) -> list[str]:
        """Read all entries, and compare them with what is stored of them."""
        with self._transaction() as connected:
            count, contents, built = one_row(
                connected, self._sql("SELECT entries, contents, built FROM {schema}.about")
            )
            digests: list[bytes] = []
            differ: list[str] = []
            for entries, stored in self._read(connected, ANYTHING):
                own = entries.digests()
                digests += own
                differ += [
                    key for key, a, b in zip(entries.keys, own, stored, strict=True) if a != b
                ]
            wrong = []
            if len(digests) != count:
                wrong.append(f"there are {len(digests)} entries, and {count} were stored")
            if differ:
                wrong.append(f"{len(differ)} entries differ from their digests: {differ[0]!r}")
            if contents_hash(digests) != contents:
                wrong.append("the hash of all entries is not the one that is stored")
            valid = connected.execute(
                "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)",
                (self._table(connected, "entries_nearest"),),
            ).fetchone()
            if built != "flat" and valid != (True,):
                wrong.append(f"the {built} index is missing or not valid")
        return wrong

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[Connection]:
        """Connect for one transaction on this very gallery, which is locked to be changed."""
        with transaction(self._address, write=write) as connected:
            self.about.check_unchanged(read_about(connected, self._address, lock=write), self.where)
            yield connected

    def _sql(self, text: LiteralString, **parts: sql.Composable) -> sql.Composed:
        return sql.SQL(text).format(schema=sql.Identifier(self._address.name), **parts)

    def _table(self, connected: Connection, name: str = "entries") -> str:
        return sql.Identifier(self._address.name, name).as_string(connected)

    def _insert(self, connected: Connection, entries: Entries, digests: Sequence[bytes]) -> None:
        """Copy entries that are not there yet, and bring counts and index up to date."""
        rows = zip(entries.values(), digests, entries.table.features, strict=True)
        types = ("text", "text", "text", "float8", "int8", "int8", "bytea", "vector")
        with (
            connected.cursor() as cursor,
            cursor.copy(self._sql("COPY {schema}.entries FROM STDIN (FORMAT BINARY)")) as copy,
        ):
            copy.set_types(types)
            for values, digest, vector in rows:
                copy.write_row((*values, digest, vector))
        self._count(connected, digests)

    def _count(
        self, connected: Connection, digests: Sequence[bytes], *, removed: bool = False
    ) -> None:
        count, contents, index, built, built_for = one_row(
            connected,
            self._sql("SELECT entries, contents, index, built, built_for FROM {schema}.about"),
        )
        count += -len(digests) if removed else len(digests)
        kind = self._kind(index, count)
        if kind != built or (kind != "flat" and count > 2 * built_for):
            self._build(connected, kind, count)
            built, built_for = kind, count
        connected.execute(
            self._sql(
                "UPDATE {schema}.about SET entries = %s, contents = %s, built = %s, built_for = %s"
            ),
            (count, contents_hash(digests, contents, removed=removed), built, built_for),
        )

    def _kind(self, index: str, count: int) -> str:
        """Return the index of a gallery of so many entries."""
        if index == "auto":
            small = count <= EXACT_UP_TO or self.about.dimension > _INDEXED
            return "flat" if small else "ivf"
        return index if count else "flat"

    def _build(self, connected: Connection, kind: str, count: int) -> None:
        """Build the index anew, from all entries.

        Searches use the old one meanwhile: only to drop it, at the end, are they locked out.
        """
        connected.execute(
            self._sql("ALTER INDEX IF EXISTS {schema}.entries_nearest RENAME TO entries_before")
        )
        if kind != "flat":
            self._build_index(connected, kind, count)
        connected.execute(self._sql("DROP INDEX IF EXISTS {schema}.entries_before"))

    def _build_index(self, connected: Connection, kind: str, count: int) -> None:
        say_building(self.where, kind, count)
        # A graph that does not fit into this memory grows many times more slowly.
        graph = _GRAPH if kind == "hnsw" else 0
        needed = min(_MEMORY, 64 + count * (graph + self.about.dimension * 6) // 2**20)
        (given,) = one_row(
            connected,
            "SELECT setting::bigint / 1024 FROM pg_settings WHERE name = 'maintenance_work_mem'",
        )
        if given < needed:
            _set(connected, maintenance_work_mem=f"{needed}MB")
        options: sql.Composable = sql.SQL("m = 32, ef_construction = 200")
        if kind == "ivf":
            options = sql.SQL("lists = {}").format(sql.Literal(cells_of(count)))
        connected.execute(
            self._sql(
                "CREATE INDEX entries_nearest ON {schema}.entries USING {method} "
                "(embedding {operators}) WITH ({options})",
                method=sql.SQL("ivfflat" if kind == "ivf" else "hnsw"),
                operators=sql.SQL(_OPERATORS[self.about.metric][1]),
                options=options,
            )
        )

    def _approximate(
        self, connected: Connection, query: np.ndarray, top: int, only: Only
    ) -> tuple[Entries, np.ndarray]:
        found = self._select(
            connected, only, "ORDER BY {near} LIMIT %(count)s", query, count=least_asked(top)
        )
        return self._ordered(query, found, top)

    def _exact(
        self, connected: Connection, query: np.ndarray, top: int, only: Only
    ) -> tuple[Entries, np.ndarray]:
        """Ask for more than ``top`` by the server's distances, of float32 arithmetic.

        If the last of them may be nearer in truth than the ``top``-th, so may be others: then all
        that may be are asked for.
        """
        wanted = least_asked(top)
        # No index can give the order of a sum.
        found = self._select(
            connected, only, "ORDER BY {near} + 0 LIMIT %(count)s", query, count=wanted
        )
        entries, near = self._ordered(query, found, top)
        if len(found) == wanted:
            bound = furthest(float(near[-1]), self.about.dimension, self.about.metric)
            if found[-1][-1] <= bound:
                found = self._select(
                    connected, only, "AND {near} + 0 <= %(bound)s", query, bound=bound
                )
                entries, near = self._ordered(query, found, top)
        return entries, near

    def _select(
        self,
        connected: Connection,
        only: Only,
        rest: LiteralString,
        query: np.ndarray,
        **values: object,
    ) -> list[tuple[Any, ...]]:
        """Return rows of entries and the server's distances."""
        near = sql.SQL("(embedding {} %(query)s)").format(sql.SQL(_OPERATORS[self.about.metric][0]))
        where, bound = _where(only)
        text = self._sql(
            f"SELECT {_COLUMNS}, {{near}} FROM {{schema}}.entries WHERE {where} {rest}", near=near
        )
        with connected.cursor(binary=True) as cursor:
            return cursor.execute(text, {"query": query, **bound, **values}).fetchall()

    def _ordered(
        self, query: np.ndarray, found: Sequence[tuple[Any, ...]], top: int
    ) -> tuple[Entries, np.ndarray]:
        entries = self._entries([row[:-1] for row in found])
        chosen, near = nearest(query, entries.keys, entries.table.features, top, self.about.metric)
        return entries.rows(chosen), near

    def _read(self, connected: Connection, only: Only) -> Iterator[tuple[Entries, list[bytes]]]:
        where, bound = _where(only)
        with connected.cursor("entries", binary=True) as cursor:
            cursor.execute(
                self._sql(
                    f"SELECT digest, {_COLUMNS} FROM {{schema}}.entries WHERE {where} ORDER BY key"
                ),
                bound,
            )
            while rows := cursor.fetchmany(_PART):
                yield self._entries([row[1:] for row in rows]), [row[0] for row in rows]

    def _entries(self, rows: Sequence[tuple[Any, ...]]) -> Entries:
        if not rows:
            return Entries.none(self.about)
        keys, persons, cameras, times, frames, skipped, vectors = zip(*rows, strict=True)
        return Entries(
            self.about.table(
                keys,
                persons,
                cameras,
                np.array([frames, skipped], np.int64).T,
                np.stack([vector.to_numpy() for vector in vectors]),
            ),
            np.array([math.nan if time is None else time for time in times], np.float64),
        )


def _look_into(connected: Connection, built: str, built_for: int, asked: int) -> None:
    """Let this transaction use the index, and look into as much of it as FAISS's are."""
    name, value = "hnsw.ef_search", min(_MOST_LISTED, max(128, 2 * asked))
    if built == "ivf":
        name, value = "ivfflat.probes", -(-cells_of(built_for) // 8)
    _set(connected, **{name: str(value), "enable_seqscan": "off"})


def _set(connected: Connection, **settings: str) -> None:
    """Set options of the server for this transaction."""
    for option, setting in settings.items():
        connected.execute("SELECT set_config(%s, %s, true)", (option, setting))


def _where(only: Only) -> tuple[LiteralString, dict[str, object]]:
    """Return the condition of a filter, and the values that are bound in it."""
    parts: list[LiteralString] = ["true"]
    values: dict[str, object] = {}
    if only.persons:
        parts.append("person = ANY(%(persons)s)")
        values["persons"] = list(only.persons)
    if only.cameras:
        parts.append("camera = ANY(%(cameras)s)")
        values["cameras"] = list(only.cameras)
    if only.after is not None:
        parts.append("time >= %(after)s")
        values["after"] = only.after
    if only.before is not None:
        parts.append("time < %(before)s")
        values["before"] = only.before
    return " AND ".join(parts), values
