"""MARS in its published layout.

::

    root/bbox_train/0001/0001C1T0001F001.jpg    person 1, camera 1, tracklet 1, frame 1
    root/bbox_test/00-1/..., 0000/..., 0002/... junk, distractors, identities
    root/info/train_name.txt test_name.txt      all file names, one a line
              tracks_train_info.mat             8298 x 4: first, last line (from 1), person, camera
              tracks_test_info.mat              12180 x 4
              query_IDX.mat                     1980 rows of tracks_test_info (from 1)

Zheng, Bie, Sun, Wang, Su, Wang and Tian, MARS: A Video Benchmark for Large-Scale Person
Re-identification (ECCV 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid.data.datasets.base import Fault, Report
from reid.data.datasets.matlab import read_matrix
from reid.data.tracklet import DISTRACTOR, JUNK, ReidData, Tracklet, special_person
from video_snl.data.video.records import folder_contents
from video_snl.errors import UserError

__all__ = ["load"]

Rows = NDArray[np.int64]

_TRAIN_FILE, _TEST_FILE, _QUERY_FILE = (
    "tracks_train_info.mat",
    "tracks_test_info.mat",
    "query_IDX.mat",
)
_RESTORE = "restore the published files of info/, all of one version"


def load(root: Path, split: int, report: Report) -> ReidData:
    """Load training tracklets, queries, and all other test tracklets, junk in a list of its own.

    Tracklets are in the order of the published tables. No image is opened.

    Raises:
        UserError: Not that layout, or a file that is missing or malformed.
    """
    _check_layout(root)
    info = root / "info"
    train = _part(root, "train", info / _TRAIN_FILE, "track_train_info", report)
    test = _part(root, "test", info / _TEST_FILE, "track_test_info", report)
    queries = _queries(info / _QUERY_FILE, test)
    rest = [track for row, track in enumerate(test) if row not in queries and track is not None]
    return ReidData(
        name="mars",
        train=[track for track in train if track is not None],
        query=[track for row in queries if (track := test[row]) is not None],
        gallery=[track for track in rest if track.person_id != JUNK],
        junk=[track for track in rest if track.person_id == JUNK],
        num_cameras=1 + max((t.camera_id for t in [*train, *test] if t is not None), default=-1),
    )


def _check_layout(root: Path) -> None:
    missing = [name for name in ("bbox_train", "bbox_test", "info") if not (root / name).is_dir()]
    if missing:
        hint = f"; try --root {root / 'mars'}" if (root / "mars" / "info").is_dir() else ""
        raise UserError(
            f"--root {root} has no folder {missing[0]}, it holds {folder_contents(root)}: give the "
            f"folder that holds bbox_train/, bbox_test/ and info/{hint}"
        )


def _part(
    root: Path, part: str, table: Path, variable: str, report: Report
) -> list[Tracklet | None]:
    """Make a tracklet for each row of the table; None for a row with a fault, which is reported."""
    names = _names(root / "info" / f"{part}_name.txt")
    rows = read_matrix(table, variable, columns=4)
    _check_rows(table, rows, len(names), least_person=1 if part == "train" else JUNK)
    made = _tracklets(f"{root / f'bbox_{part}'}/", names, rows)
    return [_reported(track, table, row, report) for row, track in enumerate(made, start=1)]


def _reported(
    made: Tracklet | tuple[str, ...], table: Path, row: int, report: Report
) -> Tracklet | None:
    if isinstance(made, Tracklet):
        return made
    report(Fault("mixed", str(table), f"row {row} {_describe(made)}"))
    return None


def _tracklets(folder: str, names: list[str], rows: Rows) -> Iterator[Tracklet | tuple[str, ...]]:
    """Yield the tracklets of the rows; for a mixed one the heads of its names, its own first."""
    for first, last, person, camera in rows.tolist():
        named = names[first - 1 : last]
        own = _person_name(person, named[0])
        head = f"{own}C{camera}"
        if all(map(str.startswith, named, [head] * len(named))):
            base = f"{folder}{own}/"
            yield Tracklet(tuple([base + name for name in named]), person, camera - 1)
        else:
            yield (head, *sorted({name[: len(head)] for name in named}))


def _person_name(person: int, file: str) -> str:
    """Name the person as the files and their folder do; junk may be ``00-1`` or ``-1``."""
    own = file.partition("C")[0]
    if person in (JUNK, DISTRACTOR) and special_person(own) == person:
        return own
    return "00-1" if person == JUNK else f"{person:04d}"


def _describe(heads: tuple[str, ...]) -> str:
    said, *found = heads
    return f"is of {_words(said)}, its files are of {', '.join(map(_words, found))}"


def _words(head: str) -> str:
    person, _, camera = head.partition("C")
    return f"person {person} camera {camera}"


def _names(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path} does not exist: {_RESTORE}")
    try:
        names = path.read_text(encoding="ascii").split()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a list of file names ({error}): {_RESTORE}") from error
    if not names:
        raise UserError(f"{path} lists no files: {_RESTORE}")
    return names


def _check_rows(table: Path, rows: Rows, num_names: int, least_person: int) -> None:
    first, last, person, camera = rows.T
    wrong = (first < 1) | (last < first) | (last > num_names)
    wrong |= (person < least_person) | (person > 9999) | (camera < 1) | (camera > 9)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"{table}, row {row + 1}: expected first and last line of the {num_names:,} names, "
            f"person (from {least_person}) and camera (from 1), found {rows[row].tolist()}: "
            f"{_RESTORE}"
        )


def _queries(path: Path, test: list[Tracklet | None]) -> dict[int, None]:
    """Return rows of the test table, from 0, in the order of the file."""
    numbers = read_matrix(path, "query_IDX", columns=None).ravel() - 1
    rows = dict.fromkeys(numbers.tolist())
    if len(rows) < len(numbers):
        raise UserError(f"{path} holds a row twice: {_RESTORE}")
    for row in rows:
        if not 0 <= row < len(test):
            raise UserError(
                f"{path}: row {row + 1} is none of the {len(test):,} rows of {_TEST_FILE}: "
                f"{_RESTORE}"
            )
        track = test[row]
        if track is not None and track.person_id in (JUNK, DISTRACTOR):
            raise UserError(
                f"{path}: row {row + 1} of {_TEST_FILE} is of person {track.person_id}, whom "
                f"nobody can search for: {_RESTORE}"
            )
    return rows
