"""A gallery in a folder: exact answers from all vectors, others by an index of FAISS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from reid.galleries.entries import About, Entries, check_same, contents_hash, key_of
from reid.galleries.folder_files import (
    LOCK,
    MANIFEST,
    State,
    changing,
    columns_of,
    is_own,
    load,
    read_manifest,
    write,
)
from reid.galleries.searching import (
    ANYTHING,
    Answer,
    Only,
    answer,
    check_search,
    distances,
    float32_error,
    furthest,
    nearest,
)
from reid.galleries.store import Added, Removed, Stats, count_people
from reid.retrieval.index import least_asked, prepared
from video_snl.errors import UserError
from video_snl.utils.files import make_folder
from video_snl.utils.text import escaped

__all__ = ["FolderGallery"]

_BLOCK = 2**24  # numbers of vectors that are multiplied at once
_MATRIX = 2**24  # distances that are held at once
_PART = 4096  # entries that are read at once


class FolderGallery:
    """A gallery in a folder; see :class:`~reid.galleries.store.StoredGallery`.

    Attributes:
        where: The folder.
        about: Its network, metric and index.
    """

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._folder = folder
        self._state = load(folder)

    @property
    def about(self) -> About:
        """Network, metric and index."""
        return self._state.about

    @classmethod
    def open(cls, folder: Path) -> FolderGallery:
        """Open a gallery and compare its files with their checksums.

        Raises:
            UserError: There is none, or it is damaged.
        """
        return cls(folder)

    @classmethod
    def create(cls, folder: Path, about: About, entries: Entries) -> FolderGallery:
        """Create a gallery in a new folder, or in an empty one.

        Raises:
            UserError: Something is there already.
            OSError: The folder cannot be made or written to.
        """
        about.check(entries.table)
        if escaped(str(folder)) != str(folder):
            raise UserError(f"{folder} is not text in UTF-8: name a folder that is")
        made = not folder.exists()
        make_folder(folder, "the gallery", "name a new folder")
        with changing(folder):
            if (folder / MANIFEST).exists():
                raise UserError(
                    f"{folder} is a gallery already: add to it with reid gallery add, or name a "
                    "new folder"
                )
            others = [path.name for path in folder.iterdir() if not is_own(path)]
            if others:
                raise UserError(
                    f"{folder} is not empty (there is {min(others)}): name a new folder"
                )
            try:
                write(folder, about, None, columns_of(entries), [entries.table.features])
            except BaseException:
                if made:
                    with suppress(OSError):
                        (folder / LOCK).unlink(missing_ok=True)
                        folder.rmdir()
                raise
        return cls(folder)

    def add(self, entries: Entries) -> Added:
        """Add entries, as :meth:`~reid.galleries.store.StoredGallery.add` says.

        Raises:
            UserError: Another network, or a key with other values.
            OSError: The disk is full, or cannot be written to; nothing has changed.
        """
        with changing(self._folder):
            state = self._fresh()
            state.about.check(entries.table)
            there = {key: row for row, key in enumerate(state.keys)}
            new, again = [], []
            for row, (key, digest) in enumerate(zip(entries.keys, entries.digests(), strict=True)):
                if key not in there:
                    new.append(row)
                elif state.digests[there[key]] != digest:
                    again.append((there[key], row))
            for start in range(0, len(again), _PART):
                old, rows = np.array(again[start : start + _PART]).T
                check_same(self.where, state.entries(old), entries.rows(rows))
            if new:
                chosen = entries.rows(np.array(new))
                columns = pa.concat_tables([state.columns, columns_of(chosen)])
                vectors = [state.vectors, chosen.table.features]
                write(self._folder, state.about, state, columns, vectors)
            return Added(len(new), len(entries) - len(new))

    def remove(self, keys: Sequence[str]) -> Removed:
        """Remove entries."""
        with changing(self._folder):
            state, gone = self._fresh(), dict.fromkeys(map(key_of, keys))
            kept = np.array([r for r, key in enumerate(state.keys) if key not in gone], np.int64)
            removed = len(state.keys) - len(kept)
            there = set(state.keys)
            if removed:
                vectors = [state.vectors[kept]]
                write(self._folder, state.about, state, state.columns.take(kept), vectors)
            return Removed(removed, [key for key in gone if key not in there])

    def search(
        self, vectors: np.ndarray, *, top: int = 10, only: Only = ANYTHING, exact: bool = False
    ) -> Answer:
        """Search, as :meth:`~reid.galleries.store.StoredGallery.search` says."""
        state = self._fresh()
        queries = check_search(vectors, state.about.dimension, top)
        top = min(top, max(1, len(state.keys)))
        exact = exact or only != ANYTHING or state.manifest["index"]["kind"] == "flat"
        found = (
            _exact(state, queries, top, state.passing(only))
            if exact
            else _approximate(state, queries, top)
        )
        return answer(found, Entries.none(state.about), top, exact=exact)

    def read(self, only: Only = ANYTHING) -> Iterator[Entries]:
        """Yield the entries in the order of their keys."""
        state = self._fresh()
        rows = np.array(sorted(state.passing(only).tolist(), key=state.keys.__getitem__), np.int64)
        for start in range(0, len(rows), _PART):
            yield state.entries(rows[start : start + _PART])

    def count(self) -> int:
        """Return the number of entries."""
        return len(self._fresh().keys)

    def stats(self) -> Stats:
        """Measure it."""
        state = self._fresh()
        known = state.times[~np.isnan(state.times)]
        return Stats(
            entries=len(state.keys),
            **count_people(Counter(state.persons)),
            cameras=len(set(state.cameras) - {None}),
            first=float(known.min()) if len(known) else None,
            last=float(known.max()) if len(known) else None,
            index=state.manifest["index"]["kind"],
            bytes=sum(file["bytes"] for file in state.manifest["files"].values()),
            contents=state.manifest["contents"],
        )

    def faults(self) -> list[str]:
        """Read all files anew, and compare them with what is stored of them."""
        try:
            state = self._state = load(self._folder)
        except UserError as error:
            return [str(error)]
        wrong = []
        digests = [
            digest
            for start in range(0, len(state.keys), _PART)
            for digest in state.entries(
                np.arange(start, min(len(state.keys), start + _PART))
            ).digests()
        ]
        differ = [
            key
            for key, one, two in zip(state.keys, digests, state.digests, strict=True)
            if one != two
        ]
        if differ:
            wrong.append(f"{len(differ)} entries differ from their digests: {differ[0]!r}")
        if contents_hash(digests) != state.manifest["contents"]:
            wrong.append("the hash of all entries is not the one that is stored")
        if state.index is not None and state.index.ntotal != len(state.keys):
            wrong.append(f"the index holds {state.index.ntotal} of {len(state.keys)} entries")
        return wrong

    def _fresh(self) -> State:
        """Return the state that the folder has now."""
        try:
            manifest = read_manifest(self._folder)
        except FileNotFoundError as error:
            raise UserError(f"{self._folder} is no gallery any more") from error
        # Not their numbers alone: another gallery may have been put there.
        if manifest != self._state.manifest or not self._state.is_as_read(self._folder):
            state = load(self._folder)
            self.about.check_unchanged(state.about, self.where)
            self._state = state
        return self._state


def _approximate(state: State, queries: np.ndarray, top: int) -> list[tuple[Entries, np.ndarray]]:
    """Order what the index finds; where that is too little, compare with every entry."""
    asked = min(least_asked(top), len(state.keys))
    if state.manifest["index"]["kind"] == "hnsw":
        state.index.hnsw.efSearch = max(128, 2 * asked)
    places = state.index.search(prepared(queries, state.about.metric), asked)[1]
    found = [
        _ordered(state, query, rows[rows >= 0], top)
        for query, rows in zip(queries, places, strict=True)
    ]
    short = [query for query, (entries, _) in enumerate(found) if len(entries) < top]
    if short:
        every = np.arange(len(state.keys))
        for query, whole in zip(short, _exact(state, queries[short], top, every), strict=True):
            found[query] = whole
    return found


def _ordered(
    state: State, query: np.ndarray, rows: np.ndarray, top: int
) -> tuple[Entries, np.ndarray]:
    keys = [state.keys[row] for row in rows.tolist()]
    chosen, near = nearest(query, keys, state.vectors[rows], top, state.about.metric)
    return state.entries(rows[chosen]), near


def _exact(
    state: State, queries: np.ndarray, top: int, rows: np.ndarray
) -> list[tuple[Entries, np.ndarray]]:
    """Compare queries with all rows: in float32 first, then in float64 those that may be nearest.

    The k nearest by float32 give a bound on the true k-th distance; no entry beyond that bound, by
    more than float32 may be wrong, is among the k nearest.
    """
    found: list[tuple[Entries, np.ndarray]] = []
    if not len(rows):
        return [(Entries.none(state.about), np.zeros(0)) for _ in queries]
    metric, size, some = state.about.metric, state.about.dimension, max(1, _MATRIX // len(rows))
    lengths, longest = state.lengths[rows], state.lengths[rows].max()
    for start in range(0, len(queries), some):
        part = queries[start : start + some]
        asked = np.linalg.norm(part.astype(np.float64), axis=1)
        matrix = _products(state.vectors, part, rows)
        if metric == "cosine":
            matrix = 1 - matrix / (asked[:, None] * lengths)
        else:  # squares
            matrix = np.square(asked)[:, None] + np.square(lengths) - 2 * matrix
        for query, length, near in zip(part, asked, matrix, strict=True):
            first = np.argpartition(near, min(top, len(rows)) - 1)[:top]
            bound = distances(query, state.vectors[rows[first]], metric).max()
            if metric == "cosine":
                bound = furthest(bound, size, metric)
            else:
                bound = bound**2 + float32_error(size) * (length + longest) ** 2
            found.append(_ordered(state, query, rows[near <= bound], top))
    return found


def _products(vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Multiply queries (Q, D) by some rows of the vectors, in float32; returns float64 (Q, R)."""
    products = np.empty((len(queries), len(rows)))
    step = max(1, _BLOCK // vectors.shape[1])
    whole = len(rows) == len(vectors)
    for start in range(0, len(rows), step):
        block = vectors[start : start + step] if whole else vectors[rows[start : start + step]]
        products[:, start : start + step] = queries @ block.T
    return products
