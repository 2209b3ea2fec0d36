"""Entries of a gallery and the network that they are of: what both kinds of galleries store."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np

from reid.data.tracklet import camera_number, person_number
from reid.metrics.distances import Metric
from reid.retrieval.features import FeatureTable, concatenate, numbers_of, same_model
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.json_text import to_json
from video_snl.utils.text import escaped, read_text

__all__ = [
    "About",
    "Entries",
    "IndexChoice",
    "LONGEST_NAME",
    "ROUNDING",
    "check_same",
    "check_vectors",
    "contents_hash",
    "entries_of",
    "joined",
    "key_of",
    "moment",
    "parse_time",
    "read_times",
    "write_times",
]

IndexChoice = Literal["auto", "flat", "ivf", "hnsw"]

LONGEST_NAME = 1000
"""Most bytes of a name: it is a key, which an index of PostgreSQL holds whole."""

_LENGTHS = 1e-12, 1e15
"""Lengths of vectors whose squares are float32: outside, distances of an index are not numbers."""

ROUNDING = 1e-5
"""Share of a vector's length by which a second extraction of the tracklet may differ: batches,
numbers of threads and kinds of CPU round differently."""

_WHOLE = 1 << 256


@dataclass(frozen=True)
class About:
    """The description of a gallery, which is stored with it.

    Attributes:
        model: Hash of the checkpoint of the network.
        checkpoint: Path of the checkpoint, for messages.
        dimension: Length D of the vectors.
        test_frames: Frames of each tracklet that were looked at; None for all.
        metric: ``cosine`` or ``euclidean``.
        index: ``flat`` (none), ``ivf``, ``hnsw``; ``auto``: by the number of entries.
    """

    model: str
    checkpoint: str
    dimension: int
    test_frames: int | None
    metric: Metric = "cosine"
    index: IndexChoice = "auto"

    def __post_init__(self) -> None:
        for name, value, kinds in (
            ("metric", self.metric, get_args(Metric)),
            ("index", self.index, get_args(IndexChoice)),
        ):
            if value not in kinds:
                raise UserError(f"{name}={value!r} does not exist; choose {', '.join(kinds)}")

    @classmethod
    def of(cls, table: FeatureTable, metric: Metric, index: IndexChoice) -> About:
        """Describe a gallery for the network of a table."""
        return cls(table.model, table.checkpoint, table.dimension, table.test_frames, metric, index)

    def check(self, table: FeatureTable) -> None:
        """Raise UserError unless a table is of this network, dimension and number of frames."""
        same_model(table, Entries.none(self).table)

    def check_unchanged(self, now: About, where: str) -> None:
        """Raise UserError where a gallery that was opened has another description by now."""
        if now != self:
            raise UserError(
                f"{where} was replaced by a gallery of {now.checkpoint} ({now.dimension} numbers, "
                f"{now.metric}, {now.index}) since it was opened: start again"
            )

    def table(
        self,
        names: Sequence[str],
        persons: Sequence[str | None],
        cameras: Sequence[str | None],
        frames: np.ndarray,
        vectors: np.ndarray,
    ) -> FeatureTable:
        """Return a table of this network.

        Args:
            names, persons, cameras: Names of N tracklets, identities and cameras.
            frames: Frames that were read, and that could not be, shape (N, 2).
            vectors: Features, shape (N, D).
        """
        frames = np.asarray(frames, np.int64).reshape(-1, 2)
        return FeatureTable(
            names=list(names),
            person_ids=numbers_of(persons, person_number),
            camera_ids=numbers_of(cameras, camera_number),
            num_frames=frames[:, 0].copy(),
            skipped_frames=frames[:, 1].copy(),
            features=np.asarray(vectors, np.float32),
            model=self.model,
            checkpoint=self.checkpoint,
            test_frames=self.test_frames,
            persons=list(persons),
            cameras=list(cameras),
        )


@dataclass(frozen=True)
class Entries:
    """Entries of a gallery: features of tracklets, whose names are the keys, and their times.

    Attributes:
        table: Features and names; every name is there once.
        times: Seconds since 1970 (UTC), float64, shape (N,); NaN where the time is not known.
    """

    table: FeatureTable
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    @property
    def keys(self) -> list[str]:
        """Names of the tracklets."""
        return self.table.names

    @classmethod
    def none(cls, about: About) -> Entries:
        """Return no entries, of the network of a gallery."""
        table = about.table([], [], [], np.zeros((0, 2)), np.zeros((0, about.dimension)))
        return cls(table, np.zeros(0))

    def rows(self, chosen: np.ndarray) -> Entries:
        """Return some entries, by their row numbers."""
        table, places = self.table, chosen.tolist()
        persons, cameras = table.person_names, table.camera_names
        return Entries(
            replace(
                table,
                names=[table.names[row] for row in places],
                persons=[persons[row] for row in places],
                cameras=[cameras[row] for row in places],
                **{
                    key: getattr(table, key)[chosen]
                    for key in ("person_ids", "camera_ids", "num_frames", "skipped_frames")
                },
                features=table.features[chosen],
            ),
            self.times[chosen],
        )

    def values(self) -> Iterator[tuple[str, str | None, str | None, float | None, int, int]]:
        """Yield name, person, camera, time, frames and skipped frames of every entry."""
        table = self.table
        return zip(
            table.names,
            table.person_names,
            table.camera_names,
            (None if math.isnan(time) else time for time in self.times.tolist()),
            table.num_frames.tolist(),
            table.skipped_frames.tolist(),
            strict=True,
        )

    def digests(self) -> list[bytes]:
        """Compute the SHA-256 of every entry: of its values and its vector."""
        vectors = np.ascontiguousarray(self.table.features, dtype="<f4")
        return [
            hashlib.sha256(to_json(values).encode() + b"\0" + vector.tobytes()).digest()
            for values, vector in zip(self.values(), vectors, strict=True)
        ]


def contents_hash(digests: Iterable[bytes], before: str = "", *, removed: bool = False) -> str:
    """Return the hash of a set of entries: the sum of their digests modulo 2^256, in hex.

    It does not depend on their order, so both kinds of galleries have the same one for the same
    entries. It finds damage; against forgery it is no protection.

    Args:
        digests: Digests of entries that come to it.
        before: The hash without them.
        removed: The entries are taken away instead.
    """
    change = sum(int.from_bytes(digest) for digest in digests)
    total = int(before or "0", 16) + (-change if removed else change)
    return f"{total % _WHOLE:064x}"


def entries_of(table: FeatureTable, times: Mapping[str, float] | None = None) -> Entries:
    """Check features and return them as entries by their keys; those that stand twice, once.

    Args:
        table: Features of tracklets.
        times: Seconds since 1970 by the tracklets' names; others have no known time.

    Raises:
        UserError: A vector is zero, not finite or out of range; a name is empty, too long, or has
            other values the second time; times of tracklets that are not in the table; or numbers
            of a file of format 1, which are no names.
    """
    if table.numbering is not None:
        raise UserError(
            f"{table.numbering} is of format 1, whose numbers mean nothing in a gallery: extract "
            "it again (reid extract --layout folder), which stores names"
        )
    names = [key_of(name) for name in table.names]
    persons, cameras = (
        [None if name is None else escaped(name) for name in of]
        for of in (table.person_names, table.camera_names)
    )
    for what, given in (("name", names), ("person", persons), ("camera", cameras)):
        _check_texts(what, given, names)
    check_vectors(table.features, names)
    known = {key_of(name): time for name, time in (times or {}).items()}
    unknown = known.keys() - set(names)
    if unknown:
        raise UserError(
            f"times of {counts(len(unknown), 'tracklet')} that the features do not have (the first "
            f"is {min(unknown)!r}): name the tracklets as in the feature files"
        )
    found = Entries(
        replace(
            table,
            names=names,
            persons=persons,
            cameras=cameras,
            person_ids=numbers_of(persons, person_number),
            camera_ids=numbers_of(cameras, camera_number),
            # -0 becomes 0, so that equal vectors have equal bytes.
            features=np.ascontiguousarray(table.features, np.float32) + np.float32(0),
        ),
        np.array([known.get(name, math.nan) for name in names], np.float64),
    )
    return _without_repeated(found)


def key_of(name: str) -> str:
    """Return the key of a tracklet's name: the same path, written in the shortest way.

    ``./a//b/`` is ``a/b``. Parts ``..`` and links stay as they are.
    """
    text = escaped(name)
    if text.startswith("./") or text.endswith(("/", "/.")) or "//" in text or "/./" in text:
        return str(PurePosixPath(text))
    return text


def joined(parts: Sequence[Entries]) -> Entries:
    """Join entries of one network, in their order."""
    return Entries(
        concatenate([part.table for part in parts]), np.concatenate([part.times for part in parts])
    )


def _check_texts(what: str, given: Sequence[str | None], names: Sequence[str]) -> None:
    for text, name in zip(given, names, strict=True):
        if text is None:
            continue
        size = len(text.encode())
        if not text or "\0" in text or size > LONGEST_NAME:
            reason = "is empty" if not text else "has a zero byte" if "\0" in text else ""
            raise UserError(
                f"the {what} of tracklet {name[:60]!r} {reason or f'has {size:,} bytes'}: a "
                f"gallery takes names of 1 to {LONGEST_NAME:,} bytes without zero bytes"
            )


def check_vectors(features: np.ndarray, names: Sequence[str]) -> None:
    """Raise UserError where a vector has no distances: zero, not finite, or out of range."""
    with np.errstate(over="ignore"):
        lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    least, most = _LENGTHS
    wrong = np.flatnonzero(~((lengths >= least) & (lengths <= most)))
    if len(wrong):
        length = lengths[wrong[0]]
        reason = (
            "is zero"
            if length == 0
            else f"has length {length:.3g}, out of {least:g} to {most:g}"
            if math.isfinite(length)
            else "is not finite"
        )
        raise UserError(
            f"the vector of tracklet {names[wrong[0]]!r} {reason}, so it has no distances; "
            f"{counts(len(wrong), 'such vector')} of {len(names)}: extract them anew, or leave "
            "them out"
        )


def _without_repeated(entries: Entries) -> Entries:
    first: dict[str, int] = {}
    again = []
    for row, name in enumerate(entries.keys):
        if first.setdefault(name, row) != row:
            again.append(row)
    if not again:
        return entries
    earlier = entries.rows(np.array([first[entries.keys[row]] for row in again]))
    repeated = entries.rows(np.array(again))
    for name, differ in zip(earlier.keys, _differences(earlier, repeated), strict=True):
        if differ:
            raise UserError(
                f"tracklet {name!r} stands twice in what is to be added, with different values "
                f"({'; '.join(differ)}); a name is the key of one entry: give the tracklets "
                "different names"
            )
    return entries.rows(np.array(list(first.values()), np.int64))


def check_same(where: str, there: Entries, new: Entries) -> None:
    """Compare entries with others of the same keys, row for row.

    Raises:
        UserError: One has another identity, camera, time or number of frames, or a vector that is
            further away than :data:`ROUNDING` of its length; nothing is added then.
    """
    for key, differ in zip(there.keys, _differences(there, new), strict=True):
        if differ:
            raise UserError(
                f"{where} has tracklet {key!r} with other values ({'; '.join(differ)}): nothing "
                "was added; give the new one another name, or take the old one out (reid gallery "
                "remove)"
            )


def _differences(there: Entries, new: Entries) -> list[list[str]]:
    """Say what differs in each row."""
    known = [
        (
            *(("person", each.table.person_names), ("camera", each.table.camera_names)),
            ("time", [None if math.isnan(time) else time for time in each.times.tolist()]),
            ("frames", each.table.num_frames.tolist()),
            ("skipped frames", each.table.skipped_frames.tolist()),
        )
        for each in (there, new)
    ]
    one, two = (each.table.features.astype(np.float64) for each in (there, new))
    far = np.linalg.norm(one - two, axis=1) / np.linalg.norm(one, axis=1)
    found = []
    for row, share in enumerate(far.tolist()):
        differ = [] if share <= ROUNDING else [f"another vector, {share:.2g} of its length away"]
        pairs = ((what, a[row], b[row]) for (what, a), (_, b) in zip(*known, strict=True))
        changed = ((what, _shown(what, a), _shown(what, b)) for what, a, b in pairs if a != b)
        found.append(differ + [f"{what} {before}, now {now}" for what, before, now in changed])
    return found


def _shown(what: str, value: str | float | None) -> str:
    return moment(value) if what == "time" and isinstance(value, float) else repr(value)


def parse_time(text: str) -> float:
    """Return a time as seconds since 1970: a number, or ISO 8601 (UTC where no zone is named).

    Raises:
        UserError: It is neither.
    """
    try:
        seconds = float(text)
    except ValueError:
        try:
            found = datetime.fromisoformat(text)
        except ValueError as error:
            raise UserError(
                f"{text!r} is no time: give seconds since 1970, or a time such as "
                "2026-11-30T07:10:00+01:00"
            ) from error
        seconds = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise UserError(f"{text!r} is no time: give a finite number of seconds since 1970")
    return seconds


def moment(seconds: float) -> str:
    """Return a time in seconds since 1970 as ISO 8601."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):  # beyond the years of a calendar
        return f"{seconds:g} s"


def read_times(path: str) -> dict[str, float]:
    """Read a CSV file with the columns ``name`` and ``time``.

    Raises:
        UserError: It cannot be read, has other columns, or a line has no time; it names the line.
    """
    found: dict[str, float] = {}
    try:
        lines = csv.DictReader(io.StringIO(read_text(Path(path)), newline=""), strict=True)
        if not {"name", "time"} <= set(lines.fieldnames or ()):
            raise UserError(
                f"{path} has the columns {', '.join(lines.fieldnames or ()) or 'of no header'}: "
                "expected name and time in the first line"
            )
        for line in lines:
            name, text = line["name"], line["time"]
            if not name or not text:
                raise UserError(f"{path}, line {lines.line_num}: expected a name and a time")
            try:
                time = parse_time(text)
            except UserError as error:
                raise UserError(f"{path}, line {lines.line_num}: {error}") from error
            if found.setdefault(name, time) != time:
                raise UserError(
                    f"{path}, line {lines.line_num}: another time of {name!r} than above"
                )
    except csv.Error as error:
        raise UserError(f"--times {path} cannot be read ({error})") from error
    return found


def write_times(path: Path, entries: Iterable[Entries]) -> None:
    """Write the known times as a CSV file that :func:`read_times` reads."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("name", "time"))
        for some in entries:
            known = zip(some.keys, some.times.tolist(), strict=True)
            lines.writerows((name, repr(time)) for name, time in known if not math.isnan(time))
