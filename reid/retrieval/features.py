"""Tables of features, and the parquet files that keep them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reid.data.tracklet import NO_NUMBER, UNKNOWN, camera_number, person_number
from reid.metrics.ranking import Names, numbers_of_names
from video_snl.errors import UserError
from video_snl.utils.files import replace_file
from video_snl.utils.parquet import read_schema, read_vectors, write_parquet
from video_snl.utils.text import escaped

__all__ = [
    "FeatureTable",
    "comparable",
    "concatenate",
    "filled_table",
    "is_known",
    "numbers_of",
    "read_features",
    "same_model",
    "same_numbering",
    "shared_numbers",
    "write_features",
]

FORMAT = 2
_NUMBERS_ALONE = 1  # the format without names
_FEATURE = "feature"
_NUMBERS = ("person_ids", "camera_ids", "num_frames", "skipped_frames")
_KEYS = ("format", "model", "checkpoint", "dimension", "test_frames")
_SEAL = "sha256"  # of the other entries: pages have checksums, the schema's metadata has none
_ALL = "all"
_PREFIX = "reid."


@dataclass(frozen=True)
class FeatureTable:
    """One feature vector per tracklet, and the network it was computed with.

    Attributes:
        names: Names of the N tracklets.
        person_ids: Numbers of the identities, int64, shape (N,). In a table from a file of format 2
            they are the numbers that the names are: :data:`reid.data.tracklet.NO_NUMBER` for other
            names, :data:`reid.data.tracklet.UNKNOWN` where no name is known.
        camera_ids: Numbers of the cameras, int64, shape (N,), likewise.
        num_frames: Frames that were read of each tracklet, int64, shape (N,).
        skipped_frames: Frames of each tracklet that could not be read, int64, shape (N,).
        features: float32, shape (N, D).
        model: Hash of the checkpoint.
        checkpoint: Path of the checkpoint, for messages.
        test_frames: Frames of each tracklet that were looked at, evenly spaced; None for all.
        persons: Names of the identities, by which tables are compared, N of them; None for each
            that is not known. None as a whole: the numbers are the names.
        cameras: Names of the cameras, likewise.
        numbering: File of format 1 that the numbers are from: they mean nothing beside those of
            another file. None for every other table.
    """

    names: list[str]
    person_ids: np.ndarray
    camera_ids: np.ndarray
    num_frames: np.ndarray
    skipped_frames: np.ndarray
    features: np.ndarray
    model: str
    checkpoint: str
    test_frames: int | None = None
    persons: Sequence[str | None] | None = None
    cameras: Sequence[str | None] | None = None
    numbering: str | None = None

    def __post_init__(self) -> None:
        size = len(self.names)
        if self.features.ndim != 2 or len(self.features) != size:
            raise ValueError(f"features of shape {self.features.shape} for {size} tracklets")
        for key in _NUMBERS:
            if getattr(self, key).shape != (size,):
                raise ValueError(f"{key} has shape {getattr(self, key).shape}, not {(size,)}")
        for key in ("persons", "cameras"):
            names = getattr(self, key)
            if names is not None and len(names) != size:
                raise ValueError(f"{key} has {len(names)} names, not {size}")

    @property
    def dimension(self) -> int:
        """Length D of a feature vector."""
        return self.features.shape[1]

    @property
    def person_names(self) -> list[str | None]:
        """Names of the identities, else their numbers as text; None where neither is known."""
        if self.persons is not None:
            return list(self.persons)
        known = zip(self.person_ids.tolist(), self.camera_ids.tolist(), strict=True)
        return [
            # Junk has a camera; a tracklet without a number has none.
            None if person == NO_NUMBER or (person == UNKNOWN and camera < 0) else str(person)
            for person, camera in known
        ]

    @property
    def camera_names(self) -> list[str | None]:
        """Names of the cameras, else their numbers as text; None where neither is known."""
        if self.cameras is not None:
            return list(self.cameras)
        return [None if camera < 0 else str(camera) for camera in self.camera_ids.tolist()]

    def __len__(self) -> int:
        return len(self.names)


def write_features(path: str | Path, table: FeatureTable) -> None:
    """Write a table as parquet, whole or not at all.

    One row per tracklet: ``name``; ``person`` and ``camera``, null where they are not known;
    ``person_ids`` and ``camera_ids``, the numbers that these names are, else null;
    ``num_frames`` and ``skipped_frames``; and ``feature`` as a list of D float32. The schema's
    metadata holds the format's version, the model's hash, its checkpoint, D, how many frames of
    each tracklet were looked at, or ``all``, and the SHA-256 of these entries. A table that was
    read from a file of format 1 is written as one: its numbers are not names.
    """
    flat = pa.array(np.ascontiguousarray(table.features, dtype=np.float32).reshape(-1))
    numbered = table.numbering is not None
    columns = {"name": pa.array(map(escaped, table.names), pa.string())}
    if not numbered:
        columns["person"] = _texts(table.person_names)
        columns["camera"] = _texts(table.camera_names)
    for key in _NUMBERS:
        columns[key] = pa.array(np.asarray(getattr(table, key), dtype=np.int64))
    if not numbered:
        columns["person_ids"] = _numbers(table.person_names, person_number)
        columns["camera_ids"] = _numbers(table.camera_names, camera_number)
    columns[_FEATURE] = pa.FixedSizeListArray.from_arrays(flat, table.dimension)
    frames = _ALL if table.test_frames is None else str(table.test_frames)
    format_ = str(_NUMBERS_ALONE if numbered else FORMAT)
    values = (format_, table.model, table.checkpoint, str(table.dimension), frames)
    entries = dict(zip(_KEYS, values, strict=True))
    entries[_SEAL] = _seal(entries)
    metadata = {_PREFIX + key: value for key, value in entries.items()}
    stored = pa.table(columns).replace_schema_metadata(metadata)
    replace_file(Path(path), lambda file: write_parquet(stored, file))


def _seal(entries: Mapping[str, str]) -> str:
    """Compute the SHA-256 of the entries of a schema's metadata."""
    text = "\n".join(f"{key}={entries[key]}" for key in _KEYS)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _numbers(names: Sequence[str | None], number_of: Callable[[str], int | None]) -> pa.Array:
    numbers = [None if name is None else number_of(name) for name in names]
    return pa.array(numbers, pa.int64())


def _texts(names: Sequence[str | None]) -> pa.Array:
    return pa.array([None if name is None else escaped(name) for name in names], pa.string())


def read_features(path: str | Path) -> FeatureTable:
    """Read the table in a parquet file of :func:`write_features`.

    Raises:
        UserError: A file that is missing, not parquet, broken, of another program or version.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(
            f"{path} is a folder, no feature file: reid gallery export {path} -o FILE writes that "
            "of a gallery, reid extract -o FILE that of images"
        )
    if not path.is_file():
        raise UserError(f"{path} is not a file; write one with reid extract ... -o {path}")
    with _reading(path):
        schema = read_schema(path)
    values = _metadata(path, schema)
    numbered = values["format"] == str(_NUMBERS_ALONE)
    dimension = int(values["dimension"])
    _check_types(path, schema, dimension, named=not numbered)
    with _reading(path):
        stored, features = read_vectors(path, _FEATURE, dimension)
    _check_cells(path, stored)
    persons = None if numbered else stored["person"].to_pylist()
    cameras = None if numbered else stored["camera"].to_pylist()
    numbers = {key: stored[key].to_numpy().copy() for key in ("num_frames", "skipped_frames")}
    for key, names, number_of in (
        ("person_ids", persons, person_number),
        ("camera_ids", cameras, camera_number),
    ):
        known = None if names is None else numbers_of(names, number_of)
        numbers[key] = stored[key].to_numpy().copy() if known is None else known
    return FeatureTable(
        names=stored["name"].to_pylist(),
        **numbers,
        features=features,
        model=values["model"],
        checkpoint=values["checkpoint"],
        test_frames=None if values["test_frames"] == _ALL else int(values["test_frames"]),
        persons=persons,
        cameras=cameras,
        numbering=str(path.resolve()) if numbered else None,
    )


def filled_table(path: str) -> FeatureTable:
    """Read the table of a feature file to search in, or to search for.

    Raises:
        UserError: As :func:`read_features`, or it holds no tracklet.
    """
    table = read_features(Path(path))
    if not table.names:
        raise UserError(
            f"{path} holds no tracklets: there is nothing to search in, or for; make it anew with "
            "reid extract"
        )
    return table


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of a file that is not parquet, or broken, what is wrong with it."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # of a column's name
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be read as parquet ({reason}); make it anew with reid extract"
        ) from error


def numbers_of(names: Sequence[str | None], number_of: Callable[[str], int | None]) -> np.ndarray:
    """Return the numbers of names, NO_NUMBER for other names and UNKNOWN for None."""
    known = {name: number_of(name) for name in set(names) if name is not None}
    numbers = [UNKNOWN if name is None else known[name] for name in names]
    return np.array([NO_NUMBER if n is None else n for n in numbers], dtype=np.int64)


def same_model(query: FeatureTable, gallery: FeatureTable) -> None:
    """Raise UserError unless both tables hold features of one network, of as many frames."""
    if query.dimension != gallery.dimension:
        raise UserError(
            f"the gallery's features have dimension {gallery.dimension} (of {gallery.checkpoint}), "
            f"the query's {query.dimension} (of {query.checkpoint}); extract both with one "
            "checkpoint"
        )
    if query.model != gallery.model:
        raise UserError(
            f"the gallery's features are of {gallery.checkpoint} (hash {gallery.model[:12]}), the "
            f"query's of {query.checkpoint} (hash {query.model[:12]}); extract both with one "
            "checkpoint"
        )
    if query.test_frames != gallery.test_frames:
        frames = [table.test_frames or _ALL for table in (gallery, query)]
        raise UserError(
            f"the gallery's features are of --test_frames {frames[0]}, the query's of "
            f"--test_frames {frames[1]}; extract both with one"
        )


def comparable(tables: Sequence[FeatureTable]) -> None:
    """Raise UserError unless identities and cameras of all tables can be compared.

    The numbers of a file of format 1 were given in the call of ``reid extract`` that wrote it, so
    that in another file the same number may be somebody else. They are comparable only with
    themselves, and beside tables of which neither identities nor cameras are known.
    """
    same_numbering([table.numbering for table in tables if is_known(table)])


def same_numbering(numberings: Sequence[str | None]) -> None:
    """Raise UserError unless tables of which something is known have one ``numbering``."""
    for numbering in numberings:
        if numbering != numberings[0]:
            old = numbering or numberings[0]
            raise UserError(
                f"{old} is of format 1, which numbers identities and cameras anew in every file: "
                "its numbers cannot be compared with those of another file; extract it again (reid "
                "extract --layout folder), which stores their names"
            )


def is_known(table: FeatureTable) -> bool:
    """Tell whether any identity or camera of a table is known."""
    for names, numbers in ((table.persons, table.person_ids), (table.cameras, table.camera_ids)):
        known = (numbers != UNKNOWN).any() if names is None else any(n is not None for n in names)
        if known:
            return True
    return False


def shared_numbers(tables: Sequence[FeatureTable]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Number identities and cameras of several tables by their names, over all of them at once.

    Junk and distractors keep their numbers, -1 and 0.

    Returns:
        Identities and cameras of each table, int64, each of shape (N,).

    Raises:
        UserError: Names that are not known, or that are equal as numbers, or numbers that cannot be
            compared.
    """
    comparable(tables)
    for table in tables:
        for what, names in (("person", table.person_names), ("camera", table.camera_names)):
            unknown = names.count(None)
            if unknown:
                raise UserError(
                    f"the {what} of {unknown} of {len(names)} tracklets is not known (the first is "
                    f"{table.names[names.index(None)]}): there is nothing to compare; extract them "
                    "with a layout that names them (reid extract --layout folder)"
                )
    identities: list[Names] = [table.person_names for table in tables]
    cameras: list[Names] = [table.camera_names for table in tables]
    return list(
        zip(
            numbers_of_names(identities, "person"), numbers_of_names(cameras, "camera"), strict=True
        )
    )


def concatenate(tables: Sequence[FeatureTable]) -> FeatureTable:
    """Join the rows of several tables of one model, in their order.

    Identities and cameras are compared by their names, which the numbers in the result follow, as
    they do in files of format 2.

    Raises:
        UserError: Tables of different models, or numbers that cannot be compared.
    """
    for table in tables[1:]:
        same_model(tables[0], table)
    comparable(tables)
    values: dict[str, Any] = {
        key: np.concatenate([getattr(table, key) for table in tables]) for key in _NUMBERS
    }
    numbering = next((table.numbering for table in tables if is_known(table)), None)
    if any(table.persons is not None or table.cameras is not None for table in tables):
        values["persons"] = [name for table in tables for name in table.person_names]
        values["cameras"] = [name for table in tables for name in table.camera_names]
        if numbering is None:
            values["person_ids"] = numbers_of(values["persons"], person_number)
            values["camera_ids"] = numbers_of(values["cameras"], camera_number)
    return FeatureTable(
        names=[name for table in tables for name in table.names],
        **values,
        features=np.concatenate([table.features for table in tables]),
        model=tables[0].model,
        checkpoint=tables[0].checkpoint,
        test_frames=tables[0].test_frames,
        numbering=numbering,
    )


def _metadata(path: Path, schema: pa.Schema) -> dict[str, str]:
    found = {
        key.decode(errors="replace"): value.decode(errors="replace")
        for key, value in (schema.metadata or {}).items()
    }
    values = {key: found.get(_PREFIX + key, "") for key in _KEYS}
    if not values["format"]:
        raise UserError(
            f"{path} is parquet, but not of features of reid: its schema names no format; "
            "make one with reid extract"
        )
    if values["format"] not in (str(_NUMBERS_ALONE), str(FORMAT)):
        raise UserError(
            f"{path} has version {values['format']} of the format, this program reads "
            f"{_NUMBERS_ALONE} and {FORMAT}; make it anew with reid extract"
        )
    if not values["dimension"].isdecimal() or values["dimension"] == "0":
        raise UserError(f"{path} names no dimension of its features; make it anew")
    frames = values["test_frames"]
    if frames != _ALL and (not frames.isdecimal() or int(frames) < 1):
        raise UserError(
            f"{path} does not say how many frames its features are of (reid.test_frames is "
            f"{frames!r}); make it anew with reid extract"
        )
    sealed = found.get(_PREFIX + _SEAL)  # files of earlier versions have no seal
    if sealed is not None and sealed != _seal(values):
        raise UserError(
            f"{path} is damaged (what its schema says of the features is not what was written): "
            "copy it again, or make it anew with reid extract"
        )
    return values


def _check_types(path: Path, schema: pa.Schema, dimension: int, *, named: bool) -> None:
    names = {"person": pa.string(), "camera": pa.string()} if named else {}
    types = {
        "name": pa.string(),
        **names,
        **{key: pa.int64() for key in _NUMBERS},
        _FEATURE: pa.list_(pa.float32(), dimension),
    }
    for name, type_ in types.items():
        index = schema.get_field_index(name)
        if index < 0:
            raise UserError(f"{path} has no column {name!r}; make it anew with reid extract")
        if not schema.field(index).type.equals(type_):
            raise UserError(
                f"column {name!r} of {path} is {schema.field(index).type}, not {type_}; "
                "make it anew with reid extract"
            )


def _check_cells(path: Path, stored: pa.Table) -> None:
    named = "person" in stored.column_names
    may_be_empty = ("person", "camera", "person_ids", "camera_ids") if named else ()
    for name in ("name", *_NUMBERS):
        if stored[name].null_count and name not in may_be_empty:
            raise UserError(f"column {name!r} of {path} has empty cells; make it anew")
