"""Files of features, one vector in a row.

A file is parquet (a table of columns, with the settings as JSON under the key ``video_snl`` of its
schema) or NumPy's ``.npz`` (an array for each column, the settings as JSON in ``about``).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from video_snl.errors import UserError
from video_snl.utils.files import replace_file
from video_snl.utils.json_text import parse_json, to_json

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "SUFFIXES",
    "FeatureTable",
    "check_suffix",
    "read_features",
    "write_features",
]

FORMAT = 1
SUFFIXES = (".parquet", ".npz")
_KEY = "video_snl"
_REPLACE = "give another --output, or --force to replace it"
_STATES = ("bytes", "changed")
# What reading a file raises that has other contents than those that are written.
_MALFORMED = (OSError, ValueError, KeyError, AttributeError, TypeError)
_DAMAGED_NPZ = (*_MALFORMED, EOFError, zipfile.BadZipFile, zlib.error)
_WHOLE = -1  # in place of a clip's number, where a row is of a whole video


@dataclass(frozen=True)
class FeatureTable:
    """Features of clips, or of videos, and how they were computed.

    Attributes:
        paths: Paths of the videos of N rows; bytes that are not UTF-8 are escaped.
        clips: Numbers of the clips of their videos from 0, int32 (N,); -1 where a row is a video.
        times: Start and end in seconds from the first frame, float64 (N, 2); NaN where unknown.
        labels: Names of the classes, None where a video has none.
        parts: ``train`` or ``test``, None where a video is in no part.
        features: float32 (N, D).
        about: Settings, as plain values: network, weights, sha256, input, clips, crops, per,
            version, the videos that were not read (unreadable), and the label and part of each
            of them (unreadable_labels), which the first files lack.
        states: Bytes and time of change in nanoseconds of the videos when they were read, int64
            (N, 2); -1 where unknown, None in the first files.
    """

    paths: Sequence[str]
    clips: np.ndarray
    times: np.ndarray
    labels: Sequence[str | None]
    parts: Sequence[str | None]
    features: np.ndarray
    about: Mapping[str, Any]
    states: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.paths)
        if not count:
            raise ValueError("it holds no row")
        lengths = {len(self.clips), len(self.times), len(self.labels), len(self.parts)}
        shape, kind = self.features.shape, self.features.dtype.kind
        if lengths != {count} or len(shape) != 2 or shape[0] != count or 0 in shape or kind != "f":
            raise ValueError(
                f"{count} paths, columns of {lengths}, features of {self.features.dtype}, {shape}"
            )
        texts = all(isinstance(path, str) for path in self.paths)
        if not texts or any(x is not None and not isinstance(x, str) for x in self._words()):
            raise ValueError("paths, labels or parts that are not text")
        self._check_rows()

    def _check_rows(self) -> None:
        """Refuse rows that contradict each other, of which a reader would take the last."""
        videos: dict[str, tuple[str | None, str | None]] = {}
        clips: set[tuple[str, int]] = set()
        rows = zip(self.paths, self.clips.tolist(), self.labels, self.parts, strict=True)
        for path, clip, label, part in rows:
            if part not in (None, "train", "test"):
                raise ValueError(f"{path} is in a split {part!r}, not in train or test")
            if videos.setdefault(path, (label, part)) != (label, part):
                raise ValueError(f"rows of {path} differ in label or split")
            if (path, clip) in clips:
                raise ValueError(f"clip {clip} of {path} is there twice")
            clips.add((path, clip))
        numbers: dict[str, list[int]] = {}
        for path, clip in sorted(clips):
            numbers.setdefault(path, []).append(clip)
        for path, found in numbers.items():
            if found not in ([_WHOLE], list(range(len(found)))):
                shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
                raise ValueError(f"the clips of {path} are not numbered from 0 on: {shown}")
        self._check_times()

    def _check_times(self) -> None:
        """Refuse clips that end before they start."""
        if self.times.shape != (len(self), 2) or self.times.dtype.kind != "f":
            raise ValueError(f"times of {self.times.dtype}, {self.times.shape}")
        start, end = self.times.T
        sound = (start >= 0) & (start <= end) & np.isfinite(end)
        wrong = np.flatnonzero(~sound & ~(np.isnan(start) & np.isnan(end)))
        if len(wrong):
            row = wrong[0]
            raise ValueError(
                f"clip {self.clips[row]} of {self.paths[row]} is from {start[row]:g} s to "
                f"{end[row]:g} s"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def _words(self) -> Iterator[object]:
        yield from self.labels
        yield from self.parts


def check_suffix(option: str, named: str) -> None:
    """Refuse a file of a kind that is not written.

    Raises:
        UserError: It has another suffix.
    """
    if Path(named).suffix.lower() not in SUFFIXES:
        raise UserError(
            f"{option} {named}: give a file that ends in {' or '.join(SUFFIXES)}, such as "
            "features.parquet"
        )


def write_features(path: Path, table: FeatureTable) -> None:
    """Write a table, whole or not at all, as the suffix of the file says."""
    write = _write_npz if path.suffix.lower() == ".npz" else _write_parquet
    about = to_json({"format": FORMAT, **table.about})
    replace_file(path, lambda file: write(file, table, about))


def read_features(path: Path, advice: str = _REPLACE) -> FeatureTable:
    """Read a file of :func:`write_features`.

    Args:
        path: The file.
        advice: What to do where it cannot be read, for the message.

    Raises:
        UserError: It is missing, damaged, not of features, or of a newer version.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file: make one with video-snl features ... -o {path}")
    read = _read_npz if path.suffix.lower() == ".npz" else _read_parquet
    return read(path, advice)


def _write_npz(file: Path, table: FeatureTable, about: str) -> None:
    with file.open("wb") as opened:
        np.savez(
            opened,
            path=np.array(list(table.paths), dtype=np.str_),
            clip=table.clips.astype(np.int32),
            start=table.times[:, 0],
            end=table.times[:, 1],
            label=np.array([label or "" for label in table.labels], dtype=np.str_),
            split=np.array([part or "" for part in table.parts], dtype=np.str_),
            feature=table.features.astype(np.float32),
            about=np.array(about),
            **dict(_states(table)),  # type: ignore[arg-type]  # savez's own option is no array
        )


def _read_npz(path: Path, advice: str) -> FeatureTable:
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = _about(path, str(stored["about"]), advice)
            return FeatureTable(
                paths=stored["path"].tolist(),
                clips=stored["clip"],
                times=np.stack([stored["start"], stored["end"]], axis=1),
                labels=[label or None for label in stored["label"].tolist()],
                parts=[part or None for part in stored["split"].tolist()],
                features=stored["feature"],
                about=about,
                states=np.stack([stored[name] for name in _STATES], axis=1)
                if _STATES[0] in stored
                else None,
            )
    except _DAMAGED_NPZ as error:
        raise _unreadable(path, error, advice) from error


def _write_parquet(file: Path, table: FeatureTable, about: str) -> None:
    import pyarrow as pa

    from video_snl.utils.parquet import write_parquet

    flat = pa.array(np.ascontiguousarray(table.features, dtype=np.float32).reshape(-1))
    whole = table.clips == _WHOLE
    columns = {
        "path": pa.array(list(table.paths), pa.string()),
        "clip": pa.array(table.clips.astype(np.int32), mask=whole),
        "start": pa.array(table.times[:, 0], mask=np.isnan(table.times[:, 0])),
        "end": pa.array(table.times[:, 1], mask=np.isnan(table.times[:, 1])),
        "label": pa.array(list(table.labels), pa.string()),
        "split": pa.array(list(table.parts), pa.string()),
        "feature": pa.FixedSizeListArray.from_arrays(flat, table.features.shape[1]),
    }
    columns |= {name: pa.array(column, mask=column < 0) for name, column in _states(table)}
    stored = pa.table(columns).replace_schema_metadata({_KEY: about})
    write_parquet(stored, file)


def _read_parquet(path: Path, advice: str) -> FeatureTable:
    import pyarrow as pa

    from video_snl.utils.parquet import read_schema, read_vectors

    try:
        schema = read_schema(path)
        text = (schema.metadata or {}).get(_KEY.encode(), b"").decode()
        about = _about(path, text, advice)
        stored, vectors = read_vectors(path, "feature", _dimension(schema))
        clips = stored["clip"].fill_null(_WHOLE).to_numpy().astype(np.int32)
        times = [stored[name].cast(pa.float64()).fill_null(np.nan) for name in ("start", "end")]
        return FeatureTable(
            paths=stored["path"].to_pylist(),
            clips=clips,
            times=np.stack([time.to_numpy() for time in times], axis=1),
            labels=stored["label"].to_pylist(),
            parts=stored["split"].to_pylist(),
            features=vectors,
            about=about,
            states=np.stack([stored[name].fill_null(-1).to_numpy() for name in _STATES], axis=1)
            if _STATES[0] in stored.column_names
            else None,
        )
    except (pa.ArrowException, *_MALFORMED) as error:
        raise _unreadable(path, error, advice) from error


def _dimension(schema: pa.Schema) -> int:
    """Return the length of the vectors.

    Raises:
        ValueError: They are none of one length, in float32.
    """
    import pyarrow as pa

    column = schema.field("feature").type
    if not (pa.types.is_fixed_size_list(column) and pa.types.is_float32(column.value_type)):
        raise ValueError(f"the column feature holds {column}, not vectors of one length in float32")
    return int(column.list_size)


def _states(table: FeatureTable) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the columns of the states of the videos, where they are known."""
    if table.states is not None:
        for name, column in zip(_STATES, table.states.astype(np.int64).T, strict=True):
            yield name, np.ascontiguousarray(column)


def _about(path: Path, text: str, advice: str) -> Mapping[str, Any]:
    """Return the settings in a file.

    Raises:
        UserError: The file has none, or is of a newer version.
    """
    try:
        about = parse_json(text)
    except ValueError:
        about = None
    if not isinstance(about, dict) or "format" not in about:
        raise UserError(f"{path} does not hold features of video-snl: {advice}")
    if about["format"] != FORMAT:
        raise UserError(
            f"{path} has version {about['format']} of the format, this program reads {FORMAT}: "
            f"{advice}"
        )
    if not _is_sound(about):
        raise UserError(f"{path} has settings of other types than video-snl writes: {advice}")
    return {key: value for key, value in about.items() if key != "format"}


def _is_sound(about: Mapping[str, Any]) -> bool:
    """Tell whether the settings of a file have the types that are written."""
    failed, labels = about.get("unreadable", []), about.get("unreadable_labels", [])
    return (
        isinstance(failed, list)
        and all(isinstance(name, str) for name in failed)
        and isinstance(labels, list)
        and all(
            isinstance(each, list)
            and len(each) == 2
            and all(word is None or isinstance(word, str) for word in each)
            for each in labels
        )
        and all(isinstance(about.get(name, 1), int) for name in ("clips", "crops"))
    )


def _unreadable(path: Path, error: Exception, advice: str) -> UserError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return UserError(f"{path} cannot be read ({reason}): {advice}")
