"""The files of a gallery in a folder: names in parquet, vectors in .npy, and an index of FAISS.

``gallery.json`` names the files of one state, their sizes and SHA-256. A change writes new files
and then puts a new ``gallery.json`` in place of the old one, at once: whenever a process is killed,
either state is there as a whole. Files that the description does not name are removed by the next
change. Every change writes all vectors anew.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reid.galleries.entries import About, Entries, contents_hash
from reid.galleries.searching import EXACT_UP_TO, Only, say_building
from reid.retrieval.index import INDICES, prepared
from video_snl.errors import UserError
from video_snl.utils.files import digest_of, is_left_over, replace_file, state_of, write_json
from video_snl.utils.json_text import parse_json, to_json
from video_snl.utils.locks import waiting_lock
from video_snl.utils.parquet import read_parquet, write_parquet

__all__ = [
    "LOCK",
    "MANIFEST",
    "State",
    "changing",
    "columns_of",
    "is_own",
    "load",
    "read_manifest",
    "write",
]

FORMAT = 1
MANIFEST = "gallery.json"
LOCK = "gallery.lock"
_OWN = re.compile(r"(entries-\d+\.parquet|vectors-\d+\.npy|index-\d+\.faiss)")
_TEMPORARY = (".entries-", ".vectors-", ".index-", ".gallery.")  # not of other programs
_PART = 4096  # vectors that are written at once


@dataclass(frozen=True)
class State:
    """What one ``gallery.json`` says, and its entries.

    Attributes:
        manifest: The values of ``gallery.json``.
        stamps: Bytes and times of change that its files had when they were compared with their
            checksums, by their names.
        columns: What is stored of the entries beside their vectors.
        about: Network, metric and index.
        keys, persons, cameras: Names of the N entries, in the order in which they were added.
        times: Seconds since 1970, shape (N,).
        frames: Frames that were read, and that could not be, shape (N, 2).
        digests: SHA-256 of every entry.
        vectors: Mapped from the file, float32 (N, D).
        lengths: Lengths of the vectors, float64 (N,).
        index: Of FAISS, mapped from the file, too; None where every entry is compared.
    """

    manifest: dict[str, Any]
    stamps: dict[str, tuple[int, int] | None]
    columns: pa.Table
    about: About
    keys: list[str]
    persons: list[str | None]
    cameras: list[str | None]
    times: np.ndarray
    frames: np.ndarray
    digests: list[bytes]
    vectors: np.ndarray
    lengths: np.ndarray
    index: Any

    def is_as_read(self, folder: Path) -> bool:
        """Tell whether its files are as they were read: no map of one cut short may be used."""
        return all(state_of(str(folder / name)) == stamp for name, stamp in self.stamps.items())

    def entries(self, rows: np.ndarray) -> Entries:
        """Return some entries."""
        places = rows.tolist()
        table = self.about.table(
            [self.keys[row] for row in places],
            [self.persons[row] for row in places],
            [self.cameras[row] for row in places],
            self.frames[rows],
            self.vectors[rows],
        )
        return Entries(table, self.times[rows])

    def passing(self, only: Only) -> np.ndarray:
        """Return the rows of the entries that a filter lets through."""
        keep = np.ones(len(self.keys), bool)
        for wanted, names in ((only.persons, self.persons), (only.cameras, self.cameras)):
            if wanted:
                keep &= np.fromiter((name in wanted for name in names), bool, len(names))
        # Comparisons with NaN, a time that is not known, are false.
        if only.after is not None:
            keep &= self.times >= only.after
        if only.before is not None:
            keep &= self.times < only.before
        return np.flatnonzero(keep)


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Be the only one that changes a gallery; others wait."""
    with waiting_lock(folder / LOCK, f"changes the gallery {folder}"):
        yield


def is_own(path: Path) -> bool:
    if path.name.startswith(_TEMPORARY):
        return is_left_over(path)
    return path.name == LOCK or _OWN.fullmatch(path.name) is not None


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read ``gallery.json``.

    Raises:
        FileNotFoundError: There is none.
        UserError: It is damaged, or of another version.
    """
    path = folder / MANIFEST
    damaged = f"{path} is damaged: restore it from a copy, or create the gallery anew"
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
        seal = values.pop("sha256")
    except (ValueError, AttributeError, KeyError, RecursionError, TypeError) as error:
        raise UserError(damaged) from error
    except NotADirectoryError as error:
        raise UserError(
            f"{folder} is a file, no gallery: reid gallery create GALLERY {folder} makes one of "
            f"features, and reid search --gallery {folder} searches them"
        ) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    if seal != _seal(values):
        raise UserError(damaged)
    if values["format"] != FORMAT:
        raise UserError(
            f"{path} is of version {values['format']}, this program reads {FORMAT}: use the "
            "version that wrote it to export the gallery"
        )
    return dict(values)


def _seal(values: dict[str, Any]) -> str:
    return hashlib.sha256(to_json(values, sort_keys=True).encode()).hexdigest()


def load(folder: Path) -> State:
    """Read the state of a folder, and compare its files with their checksums.

    Raises:
        UserError: It is no gallery, or damaged.
    """
    manifest: dict[str, Any] = {}
    while True:
        try:
            before, manifest = manifest, read_manifest(folder)
        except FileNotFoundError as error:
            raise UserError(
                f"{folder} is no gallery (there is no {MANIFEST}): create one with reid gallery "
                f"create {folder} FEATURES.parquet"
            ) from error
        try:
            return _state(folder, manifest)
        except FileNotFoundError as error:
            # Another process may have written a newer state, and removed the files of this one.
            if before == manifest:
                raise UserError(
                    f"{folder} is damaged: {error.filename} is missing; restore it from a copy"
                ) from error


def _state(folder: Path, manifest: dict[str, Any]) -> State:
    files = manifest["files"].values()
    stamps = {file["name"]: state_of(str(folder / file["name"])) for file in files}
    for file in files:
        path = folder / file["name"]
        if path.stat().st_size != file["bytes"] or digest_of(path) != file["sha256"]:
            raise UserError(
                f"{path} is damaged (size or SHA-256 is not what was written): restore it from a "
                "copy, or create the gallery anew"
            )
    stored = read_parquet(folder / manifest["files"]["entries"]["name"])
    about = About(**manifest["about"])
    vectors = np.zeros((0, about.dimension), np.float32)
    if manifest["entries"]:
        vectors = np.load(folder / manifest["files"]["vectors"]["name"], mmap_mode="r")
    # All files at once: another process may remove them with its next change.
    index = _read_index(folder, manifest, mapped=True) if "index" in manifest["files"] else None
    return State(
        manifest=manifest,
        stamps=stamps,
        columns=stored.replace_schema_metadata(None),
        about=about,
        keys=stored["key"].to_pylist(),
        persons=stored["person"].to_pylist(),
        cameras=stored["camera"].to_pylist(),
        times=stored["time"].to_numpy(),
        frames=np.stack([stored[key].to_numpy() for key in ("frames", "skipped")], 1),
        digests=stored["digest"].to_pylist(),
        vectors=vectors,
        lengths=stored["length"].to_numpy(),
        index=index,
    )


def columns_of(entries: Entries) -> pa.Table:
    """Return what is stored of entries beside their vectors."""
    table = entries.table
    return pa.table(
        {
            "key": pa.array(table.names, pa.string()),
            "person": pa.array(table.person_names, pa.string()),
            "camera": pa.array(table.camera_names, pa.string()),
            "time": pa.array(entries.times, pa.float64()),
            "frames": pa.array(table.num_frames, pa.int64()),
            "skipped": pa.array(table.skipped_frames, pa.int64()),
            "digest": pa.array(entries.digests(), pa.binary(32)),
            "length": pa.array(np.linalg.norm(table.features.astype(np.float64), axis=1)),
        }
    )


def write(
    folder: Path,
    about: About,
    old: State | None,
    columns: pa.Table,
    vectors: Sequence[np.ndarray],
) -> None:
    """Write the next state.

    Args:
        folder: The gallery.
        about: Network, metric and index.
        old: The state before; None for none.
        columns: All entries.
        vectors: Their vectors, in parts. If the first part is that of ``old``, so are the first
            entries, and its index is added to.

    Raises:
        OSError: The disk is full, or cannot be written to; nothing has changed.
    """
    number = 1 if old is None else old.manifest["number"] + 1
    named = set() if old is None else {file["name"] for file in old.manifest["files"].values()}
    _remove_others(folder, named)
    count = len(columns)
    kind, built = _kind(about, count), count
    writers: dict[str, tuple[str, Callable[[Path], None]]] = {
        "entries": (f"entries-{number:06}.parquet", lambda file: write_parquet(columns, file)),
        "vectors": (
            f"vectors-{number:06}.npy",
            lambda file: _write_vectors(file, vectors, about.dimension),
        ),
    }
    if kind != "flat":
        index, built = _next_index(folder, about, kind, old, vectors)
        writers["index"] = f"index-{number:06}.faiss", lambda file: _write_index(file, index)
    names = {name for name, _ in writers.values()}
    try:
        files = {}
        for what, (name, write) in writers.items():
            replace_file(folder / name, write)
            size = (folder / name).stat().st_size
            files[what] = {"name": name, "bytes": size, "sha256": digest_of(folder / name)}
        values = {
            "format": FORMAT,
            "number": number,
            "about": asdict(about),
            "entries": count,
            "contents": contents_hash(columns["digest"].to_pylist()),
            "index": {"kind": kind, "built_for": built},
            "files": files,
        }
        _sync(folder)
        write_json(folder / MANIFEST, {**values, "sha256": _seal(values)}, finite=True)
    except BaseException:
        # Whether the description was put in place before the interruption is read from the disk.
        with suppress(OSError, UserError):
            found = read_manifest(folder)["files"].values() if (folder / MANIFEST).exists() else ()
            _remove_others(folder, {file["name"] for file in found})
        raise
    _sync(folder)
    _remove_others(folder, names)


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove files of other states, as they were left by a process that was killed."""
    for path in folder.iterdir():
        if path.name not in names and path.name != LOCK and is_own(path):
            path.unlink(missing_ok=True)


def _kind(about: About, count: int) -> str:
    """Return the index of a gallery of so many entries."""
    if about.index == "auto":
        return "flat" if count <= EXACT_UP_TO else "ivf"
    return about.index if count else "flat"


def _next_index(
    folder: Path, about: About, kind: str, old: State | None, vectors: Sequence[np.ndarray]
) -> tuple[Any, int]:
    """Return the index of the next state, and for how many entries it was built.

    New entries are added to the old one until there are twice as many as it was built for: the
    cells of an IVF index are placed by the entries that are there when it is built.
    """
    count = sum(map(len, vectors))
    if old is not None and vectors[0] is old.vectors:
        before = old.manifest["index"]
        if before["kind"] == kind and count <= 2 * before["built_for"]:
            index = _read_index(folder, old.manifest, mapped=False)
            for part in vectors[1:]:
                index.add(prepared(part, about.metric))
            return index, before["built_for"]
    say_building(str(folder), kind, count)
    parts = [prepared(part, about.metric) for part in vectors]
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return INDICES[kind](whole, about.metric), count


def _read_index(folder: Path, manifest: dict[str, Any], *, mapped: bool) -> Any:
    """Read the index of a state.

    Args:
        mapped: Map its vectors from the file instead: it can then be searched at once, also after
            the file was removed, but not be added to.

    Raises:
        FileNotFoundError: Another process has removed it.
        UserError: The FAISS that is installed cannot read it.
    """
    import faiss

    path = folder / manifest["files"]["index"]["name"]
    # Of FAISS 1.11 and newer; older ones read.
    how = getattr(faiss, "IO_FLAG_MMAP_IFC", 0) if mapped else 0
    try:
        return faiss.read_index(str(path), how)
    except (RuntimeError, TypeError) as error:  # the latter for a path that is not UTF-8
        path.stat()
        raise UserError(
            f"{path} is what was written, but FAISS {faiss.__version__} cannot read it: use the "
            "version that wrote it, and a path in UTF-8"
        ) from error


def _write_index(file: Path, index: Any) -> None:
    import faiss

    # Through Python's file: FAISS's own does not say when the disk is full at its end.
    with file.open("wb") as written:
        faiss.write_index(index, faiss.PyCallbackIOWriter(written.write))  # type: ignore[attr-defined]


def _write_vectors(file: Path, parts: Sequence[np.ndarray], dimension: int) -> None:
    """Write one array of all parts in the format .npy, without a copy of the whole."""
    shape = sum(map(len, parts)), dimension
    with file.open("wb") as written:
        about = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(written, about)
        for part in parts:
            for start in range(0, len(part), _PART):
                written.write(np.ascontiguousarray(part[start : start + _PART], "<f4").tobytes())


def _sync(folder: Path) -> None:
    """Let the names in a folder survive a loss of power."""
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
