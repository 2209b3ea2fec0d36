#!/usr/bin/env python
"""Build time, size, recall and query times of galleries in a folder and in PostgreSQL.

The vectors are generated in clusters: 20 for each of N / 20 identities, at random places on the
unit sphere, with noise of the same length. The queries are others of the same clusters. Times are
of one query at a time, with the gallery open; those of PostgreSQL include a connection each.

    python scripts/benchmarks/galleries.py --size 10000
    python scripts/benchmarks/galleries.py --size 100000 --kinds flat ivf
    python scripts/benchmarks/galleries.py --size 1000000 --database postgresql://USER@HOST/DATABASE

Without --database, a server of the wheel pgserver is started for the time of the measurement; no
galleries are left in a database that is named.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmark_arguments import new_parser, positive

from reid.galleries.entries import About, Entries, entries_of
from reid.galleries.places import create_gallery, open_gallery
from reid.galleries.searching import Only
from reid.galleries.store import StoredGallery, recall
from video_snl.utils.files import write_json

PER_IDENTITY = 20
CAMERAS = 10


def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--size", type=positive, default=10_000, help="vectors (default: 10000)")
    parser.add_argument("--dimension", type=positive, default=512, help="(default: 512)")
    parser.add_argument("--queries", type=positive, default=50, help="(default: 50)")
    parser.add_argument(
        "--kinds", nargs="+", choices=("flat", "ivf", "hnsw"), default=["flat", "ivf", "hnsw"]
    )
    parser.add_argument(
        "--backends", nargs="+", choices=("folder", "postgres"), default=["folder", "postgres"]
    )
    parser.add_argument("--database", help="address of a database (default: a server of pgserver)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the temporary one)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    table, queries = clustered(options.size, options.dimension, options.queries)
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for backend in options.backends:
            with places(backend, Path(folder), options.database) as place:
                for kind in options.kinds:
                    row = measured(f"{place}{kind}", kind, table, queries)
                    rows.append({"backend": backend, "index": kind, **row})
                    show(rows[-1], heading=len(rows) == 1)
    if options.json:
        write_json(options.json, rows)
    return 0


def clustered(size: int, dimension: int, count: int) -> tuple[Entries, np.ndarray]:
    """Return entries and queries; no query is an entry."""
    random = np.random.default_rng(0)
    identities = max(1, size // PER_IDENTITY)
    centres = random.standard_normal((identities, dimension), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    noise = dimension**-0.5

    def some(persons: np.ndarray) -> np.ndarray:
        drawn = random.standard_normal((len(persons), dimension), np.float32)
        drawn *= np.float32(noise)
        drawn += centres[persons]
        return drawn

    persons = np.arange(size) % identities
    about = About("0" * 64, "generated", dimension, None)
    table = about.table(
        [f"t{row:08}" for row in range(size)],
        [f"p{person}" for person in persons],
        [f"c{row % CAMERAS}" for row in range(size)],
        np.ones((size, 2)),
        some(persons),
    )
    return entries_of(table), some(random.integers(0, identities, count))


@contextmanager
def places(backend: str, folder: Path, database: str | None) -> Iterator[str]:
    """Yield the beginning of the locations of new galleries; their end is the kind of index."""
    if backend == "folder":
        yield f"{folder}/"
        return
    server = None
    if database is None:
        import pgserver

        server = pgserver.get_server(
            tempfile.mkdtemp(prefix="galleries-", dir=folder.parent), cleanup_mode="delete"
        )
        database = server.get_uri()
    name = f"benchmark {os.getpid()} "
    try:
        yield f"{database}#{name}"
    finally:
        remove_schemas(database, name)
        if server is not None:
            server.cleanup()


def remove_schemas(database: str, name: str) -> None:
    import psycopg
    from psycopg import sql

    with psycopg.connect(database) as connected:
        for kind in ("flat", "ivf", "hnsw"):
            schema = sql.Identifier(name + kind)
            connected.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))


def measured(place: str, kind: Any, entries: Entries, queries: np.ndarray) -> dict[str, Any]:
    """Build a gallery and search it."""
    start = time.perf_counter()
    create_gallery(place, About.of(entries.table, "cosine", kind), entries)
    built = time.perf_counter() - start
    start = time.perf_counter()
    gallery = open_gallery(place)
    opened = time.perf_counter() - start
    gallery.search(queries[:1])  # reads the index
    exact = gallery.search(queries, exact=True)
    found = gallery.search(queries)
    one = gallery.search(queries, top=1), gallery.search(queries, top=1, exact=True)
    new = entries.rows(np.array([0]))
    new.table.names[0] = "one more"
    start = time.perf_counter()
    gallery.add(new)
    added = time.perf_counter() - start
    return {
        "entries": len(entries),
        "build_s": built,
        "open_s": opened,
        "add_one_s": added,
        "bytes": gallery.stats().bytes,
        "recall_1": recall(*one),
        "recall_10": recall(found, exact),
        "query_s": spread(gallery, queries, {}),
        "exact_s": spread(gallery, queries, {"exact": True}),
        "filtered_s": spread(gallery, queries, {"only": Only(cameras=("c1",))}),
    }


def spread(gallery: StoredGallery, queries: np.ndarray, options: dict[str, Any]) -> list[float]:
    """Return the least, the median and the most seconds of one query."""
    seconds = []
    for query in queries:
        start = time.perf_counter()
        gallery.search(query[None], **options)
        seconds.append(time.perf_counter() - start)
    return [min(seconds), median(seconds), max(seconds)]


def show(row: dict[str, Any], *, heading: bool) -> None:
    """Print a row of the table of docs/galleries.md."""
    names = ["backend", "index", "vectors", "build (s)", "open (s)", "add one (s)", "size (MiB)"]
    names += ["recall@1", "recall@10", "query (ms)", "exact (ms)", "one camera of ten (ms)"]
    if heading:
        print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    times = [
        " / ".join(f"{1000 * seconds:.1f}" for seconds in row[key])
        for key in ("query_s", "exact_s", "filtered_s")
    ]
    values = [row["backend"], row["index"], f"{row['entries']:,}"]
    values += [f"{row[key]:.2f}" for key in ("build_s", "open_s", "add_one_s")]
    values += [f"{row['bytes'] / 2**20:.1f}"]
    values += [f"{row[key]:.1%}" for key in ("recall_1", "recall_10")]
    print(f"| {' | '.join([*values, *times])} |", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
