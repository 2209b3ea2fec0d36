#!/usr/bin/env python
"""Build time, size, recall and query times of galleries in a folder and in PostgreSQL.

The vectors are generated in clusters: 20 for each of N / 20 identities, at random places on the
unit sphere, with noise of the same length. The queries are others of the same clusters. Times are
of one query at a time, with the gallery open; those of PostgreSQL include a connection each.

    python scripts/benchmarks/galleries.py --size 10000
    python scripts/benchmarks/galleries.py --size 100000 --kinds flat ivf
    python scripts/benchmarks/galleries.py --size 1000000 --kinds ivf --folder DIR --only build
    python scripts/benchmarks/galleries.py --size 1000000 --kinds ivf --folder DIR --only search

Without --database, a server of the wheel pgserver is started for the time of the measurement.
With --only, galleries stay (in DIR; a server of pgserver keeps its data there, too): the second
command searches what the first one built, and galleries that are there already are not built anew.
Without it, nothing is left.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmark_arguments import new_parser, positive

from reid.galleries.entries import About, Entries, entries_of
from reid.galleries.places import create_gallery, open_gallery
from reid.galleries.searching import Answer, Only
from reid.galleries.store import StoredGallery, recall
from video_snl.utils.files import write_json
from video_snl.utils.json_text import parse_json

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
    parser.add_argument(
        "--only", choices=("build", "search"), help="build in --folder, or search there"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.only and options.folder is None:
        parser.error("--only needs --folder DIR, where the galleries stay")
    data = Clusters(options.size, options.dimension)
    rows = []
    with ExitStack() as stack:
        folder = options.folder
        if not options.only:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        for backend in options.backends:
            with places(backend, folder, options.database, keep=bool(options.only)) as place:
                for kind in options.kinds:
                    location, figures = f"{place}{kind}", folder / f"{backend}-{kind}.json"
                    if options.only != "search" and not figures.exists():
                        write_json(figures, build(location, kind, data))
                    if options.only == "build":
                        continue
                    built = parse_json(figures.read_text(encoding="utf-8"))
                    row = built | search(location, data, options.queries)
                    rows.append({"backend": backend, "index": kind, **row})
                    show(rows[-1], heading=len(rows) == 1)
    if options.json:
        write_json(options.json, rows)
    return 0


class Clusters:
    """Generated vectors in clusters.

    Args:
        size: Number of entries.
        dimension: Numbers in a vector.
    """

    def __init__(self, size: int, dimension: int) -> None:
        self.size, self.dimension = size, dimension
        self.identities = max(1, size // PER_IDENTITY)
        random = np.random.default_rng(0)
        self.centres = random.standard_normal((self.identities, dimension), np.float32)
        self.centres /= np.linalg.norm(self.centres, axis=1, keepdims=True)

    def some(self, persons: np.ndarray, seed: int) -> np.ndarray:
        """Return a vector of each of some identities, float32 (N, D)."""
        random = np.random.default_rng(seed)
        drawn = random.standard_normal((len(persons), self.dimension), np.float32)
        drawn *= np.float32(self.dimension**-0.5)
        drawn += self.centres[persons]
        return drawn

    def entries(self) -> Entries:
        """Return the entries, of cameras in turn."""
        persons = np.arange(self.size) % self.identities
        return self._entries(persons, self.some(persons, 1), "t")

    def one_more(self) -> Entries:
        """Return one entry that is not among the others."""
        persons = np.array([0])
        return self._entries(persons, self.some(persons, 2), "one more ")

    def queries(self, count: int) -> np.ndarray:
        """Return vectors to search for, float32 (count, D); no entry has one of them."""
        return self.some(np.random.default_rng(3).integers(0, self.identities, count), 4)

    def _entries(self, persons: np.ndarray, vectors: np.ndarray, name: str) -> Entries:
        about = About("0" * 64, "generated", self.dimension, None)
        size = len(persons)
        table = about.table(
            [f"{name}{row:08}" for row in range(size)],
            [f"p{person}" for person in persons],
            [f"c{row % CAMERAS}" for row in range(size)],
            np.ones((size, 2)),
            vectors,
        )
        return entries_of(table)


@contextmanager
def places(backend: str, folder: Path, database: str | None, *, keep: bool) -> Iterator[str]:
    """Yield the beginning of the locations of galleries; their end is the kind of index."""
    if backend == "folder":
        yield f"{folder}/"
        return
    server, name = None, "benchmark " if keep else f"benchmark {os.getpid()} "
    if database is None:
        import pgserver

        # Its processes have a user of their own, who cannot look into a temporary folder.
        data = folder / "postgres" if keep else tempfile.mkdtemp(dir=folder.parent)
        server = pgserver.get_server(data, cleanup_mode="stop" if keep else "delete")
        database = server.get_uri()
    try:
        yield f"{database}#{name}"
    finally:
        if not keep:
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


def build(place: str, kind: Any, data: Clusters) -> dict[str, Any]:
    """Build a gallery, and add one entry to it."""
    say(f"{place}: generating {data.size:,} vectors")
    entries = data.entries()
    say(f"{place}: building")
    start = time.perf_counter()
    create_gallery(place, About.of(entries.table, "cosine", kind), entries)
    built = time.perf_counter() - start
    say(f"{place}: built in {built:.1f} s")
    del entries
    gallery = open_gallery(place)
    start = time.perf_counter()
    gallery.add(data.one_more())
    added = time.perf_counter() - start
    size = gallery.stats().bytes
    say(f"{place}: one added in {added:.2f} s")
    return {"entries": data.size, "build_s": built, "add_one_s": added, "bytes": size}


def search(place: str, data: Clusters, count: int) -> dict[str, Any]:
    """Search a gallery."""
    queries = data.queries(count)
    start = time.perf_counter()
    gallery = open_gallery(place)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    gallery.search(queries[:1])
    first_s = time.perf_counter() - start  # it reads the index
    say(f"{place}: opened in {opened:.2f} s, first search in {first_s:.2f} s")
    found, query_s = timed(gallery, queries, {})
    first, _ = timed(gallery, queries, {"top": 1})
    say(f"{place}: exact searches")
    exact, exact_s = timed(gallery, queries, {"exact": True})
    _, filtered_s = timed(gallery, queries, {"only": Only(cameras=("c1",))})
    nearest = [one.keys(0) == other.keys(0)[:1] for one, other in zip(first, exact, strict=True)]
    return {
        "open_s": opened,
        "first_s": first_s,
        "recall_1": sum(nearest) / count,
        "recall_10": sum(map(recall, found, exact)) / count,
        "query_s": query_s,
        "exact_s": exact_s,
        "filtered_s": filtered_s,
    }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def timed(
    gallery: StoredGallery, queries: np.ndarray, options: dict[str, Any]
) -> tuple[list[Answer], list[float]]:
    """Search for one query after the other; the answers, and least, median and most seconds."""
    seconds, answers = [], []
    for query in queries:
        start = time.perf_counter()
        answers.append(gallery.search(query[None], **options))
        seconds.append(time.perf_counter() - start)
    return answers, [min(seconds), median(seconds), max(seconds)]


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
    values += [f"{row['bytes'] / 2**20:,.1f}"]
    values += [f"{row[key]:.1%}" for key in ("recall_1", "recall_10")]
    print(f"| {' | '.join([*values, *times])} |", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
