"""Tables of features, and the parquet files that keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from video_snl.engine.files import replace_file
from video_snl.errors import UserError
from video_snl.utils.parquet import check_claims

__all__ = ["FeatureTable", "concatenate", "read_features", "same_model", "write_features"]

FORMAT = 1
_NUMBERS = ("person_ids", "camera_ids", "num_frames", "skipped_frames")
_KEYS = ("format", "model", "checkpoint", "dimension", "test_frames")
_ALL = "all"
_PREFIX = "reid."


@dataclass(frozen=True)
class FeatureTable:
    """One feature vector per tracklet, and what it was computed from.

    Attributes:
        names: Of the N tracklets.
        person_ids: People, int64, shape (N,).
        camera_ids: Cameras, int64, shape (N,).
        num_frames: Frames that were read of each tracklet, int64, shape (N,).
        skipped_frames: Frames besides that could not be read, int64, shape (N,).
        features: float32, shape (N, D).
        model: Hash of the checkpoint.
        checkpoint: Its path, for messages.
        test_frames: Frames of each tracklet that were looked at, evenly spaced; None for all.
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

    def __post_init__(self) -> None:
        size = len(self.names)
        if self.features.ndim != 2 or len(self.features) != size:
            raise ValueError(f"features of shape {self.features.shape} for {size} tracklets")
        for key in _NUMBERS:
            if getattr(self, key).shape != (size,):
                raise ValueError(f"{key} has shape {getattr(self, key).shape}, not {(size,)}")

    @property
    def dimension(self) -> int:
        """Length D of a feature vector."""
        return self.features.shape[1]

    def __len__(self) -> int:
        return len(self.names)


def write_features(path: Path, table: FeatureTable) -> None:
    """Write a table as parquet, whole or not at all.

    One row per tracklet: ``name``, the four numbers, and ``feature`` as a list of D float32. The
    schema's metadata holds the format's version, the model's hash, its checkpoint, D, and how many
    frames of each tracklet were looked at, or ``all``.
    """
    flat = pa.array(np.ascontiguousarray(table.features, dtype=np.float32).reshape(-1))
    columns = {
        "name": pa.array(table.names, pa.string()),
        **{key: pa.array(np.asarray(getattr(table, key), dtype=np.int64)) for key in _NUMBERS},
        "feature": pa.FixedSizeListArray.from_arrays(flat, table.dimension),
    }
    frames = _ALL if table.test_frames is None else str(table.test_frames)
    values = (str(FORMAT), table.model, table.checkpoint, str(table.dimension), frames)
    metadata = {_PREFIX + key: value for key, value in zip(_KEYS, values, strict=True)}
    stored = pa.table(columns).replace_schema_metadata(metadata)
    replace_file(path, lambda file: _write(stored, file))


def read_features(path: Path) -> FeatureTable:
    """The table in a parquet file of :func:`write_features`.

    Raises:
        UserError: A file that is missing, no parquet, broken, of another program or version.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file; write one with reid extract ... -o {path}")
    try:
        check_claims(path)
        stored = pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be read as parquet ({reason}); make it anew with reid extract"
        ) from error
    values = _metadata(path, stored.schema)
    dimension = int(values["dimension"])
    _check_columns(path, stored, dimension)
    column = stored["feature"].combine_chunks()
    flat = column.values if column.offset == 0 else column.flatten()
    features = flat.to_numpy(zero_copy_only=False)
    return FeatureTable(
        names=stored["name"].to_pylist(),
        **{key: stored[key].to_numpy().copy() for key in _NUMBERS},
        features=features.reshape(-1, dimension).copy(),
        model=values["model"],
        checkpoint=values["checkpoint"],
        test_frames=None if values["test_frames"] == _ALL else int(values["test_frames"]),
    )


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


def concatenate(tables: Sequence[FeatureTable]) -> FeatureTable:
    """The rows of several tables of one model, in their order.

    Raises:
        UserError: Tables of different models.
    """
    for table in tables[1:]:
        same_model(tables[0], table)
    numbers: dict[str, Any] = {
        key: np.concatenate([getattr(table, key) for table in tables]) for key in _NUMBERS
    }
    return FeatureTable(
        names=[name for table in tables for name in table.names],
        **numbers,
        features=np.concatenate([table.features for table in tables]),
        model=tables[0].model,
        checkpoint=tables[0].checkpoint,
        test_frames=tables[0].test_frames,
    )


def _write(stored: pa.Table, file: Path) -> None:
    # Features are noise to a compressor. The checksums are for disks and copies gone wrong.
    pq.write_table(stored, file, compression="none", write_page_checksum=True)


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
    if values["format"] != str(FORMAT):
        raise UserError(
            f"{path} has version {values['format']} of the format, this program reads {FORMAT}; "
            "make it anew with reid extract"
        )
    if not values["dimension"].isdecimal() or values["dimension"] == "0":
        raise UserError(f"{path} names no dimension of its features; make it anew")
    frames = values["test_frames"]
    if frames != _ALL and (not frames.isdecimal() or int(frames) < 1):
        raise UserError(
            f"{path} does not say how many frames its features are of (reid.test_frames is "
            f"{frames!r}); make it anew with reid extract"
        )
    return values


def _check_columns(path: Path, stored: pa.Table, dimension: int) -> None:
    types = {
        "name": pa.string(),
        **{key: pa.int64() for key in _NUMBERS},
        "feature": pa.list_(pa.float32(), dimension),
    }
    for name, type_ in types.items():
        index = stored.schema.get_field_index(name)
        if index < 0:
            raise UserError(f"{path} has no column {name!r}; make it anew with reid extract")
        if not stored.schema.field(index).type.equals(type_):
            raise UserError(
                f"column {name!r} of {path} is {stored.schema.field(index).type}, not {type_}; "
                "make it anew with reid extract"
            )
        if stored[name].null_count:
            raise UserError(f"column {name!r} of {path} has empty cells; make it anew")
