"""MSMT17 and LS-VID in their published layouts: lists of paths, each with its identity.

::

    root/list_train.txt list_query.txt list_gallery.txt     MSMT17: "0000/NAME.jpg 0", one a line
         list_val.txt                                       part of the training images, not read
         train/ test/                                       of MSMT17_V1; in MSMT17_V2, with blurred
         mask_train_v2/ mask_test_v2/                       faces, they have these names
         .../0000/0000_000_01_0303morning_0015_0.jpg        person 0, camera 1

    root/list_sequence/list_seq_train.txt list_seq_test.txt LS-VID: "PREFIX 0", one a line
         test/data/info_test.mat                            query: lines of list_seq_test, from 1
         tracklet_train/... tracklet_test/...               frames PREFIX_..., camera in field 3

Both count their identities from 0 and number those of training and of test apart. So that 0 stays
the number of distractors, and nobody is in both, an identity n of training is n + 1 here, and one
of test n + 2 + the largest n of training. Wei, Zhang, Gao and Tian, Person Transfer GAN to Bridge
Domain Gap for Person Re-Identification (CVPR 2018); Li, Wang, Tian, Gao and Zhang, Global-Local
Temporal Representations for Video Person Re-Identification (ICCV 2019).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reid.data.datasets.base import Fault, Report
from reid.data.datasets.frames import list_frames
from reid.data.datasets.matlab import read_matrix
from reid.data.datasets.two_cameras import find_folder
from reid.data.tracklet import JUNK, ReidData, Tracklet
from video_snl.errors import UserError
from video_snl.utils.media import natural_key

__all__ = ["load_lsvid", "load_msmt17"]

_RESTORE = "restore the published files, all of one version"
_CAMERA = 2  # the field of a name, between underscores, that is the camera

_Found = Callable[[str], tuple[str, ...]]
"""Returns the frames of a path in a list; none where there are none."""


class _Line(NamedTuple):
    """Path and identity of a line of a list."""

    path: str
    person: int


def load_msmt17(root: Path, split: int, report: Report) -> ReidData:
    """Load MSMT17, either version; each image is a tracklet of one frame. No folder is listed.

    Training is by ``list_train.txt`` alone, as in torchreid and fast-reid: the images of
    ``list_val.txt``, of the same identities, are left out.

    Raises:
        UserError: Not that layout, or a list that is missing or malformed.
    """
    root = next((root / v for v in ("MSMT17_V1", "MSMT17_V2") if (root / v).is_dir()), root)
    train = find_folder(root, ("train", "mask_train_v2"), hint="msmt17")
    test = find_folder(root, ("test", "mask_test_v2"), hint="msmt17")
    lists = {part: _read(root / f"list_{part}.txt") for part in ("train", "query", "gallery")}
    first = 2 + max(line.person for line in lists["train"])

    def images(part: str, folder: Path, shift: int) -> list[Tracklet]:
        table = root / f"list_{part}.txt"
        for path, person in lists[part]:
            if path.rpartition("/")[2].partition("_")[0] != f"{person:04d}":
                report(Fault("mixed", str(table), f"says that {path} is of person {person}"))
        made = _tracklets(lists[part], lambda path: (f"{folder}/{path}",), shift, table, report)
        return [image for image in made if image is not None]

    return _data(
        "msmt17",
        images("train", train, 1),
        images("query", test, first),
        images("gallery", test, first),
    )


def load_lsvid(root: Path, split: int, report: Report) -> ReidData:
    """Load LS-VID: training tracklets, queries, and all other test tracklets as the gallery.

    Lists and queries may also be in ``info/list_sequence/`` and ``info/data/``, the queries in
    ``test/query.npy``. The folders that the lists name are listed, and frames are in the order of
    the numbers in their names.

    Raises:
        UserError: Not that layout, or a file that is missing or malformed.
    """
    lists = find_folder(
        root, ("list_sequence", "info/list_sequence", "LS-VID/list_sequence"), "ls-vid"
    )
    info = lists.parent
    root = info.parent if info.name == "info" else info
    train, test = (_read(lists / f"list_seq_{part}.txt") for part in ("train", "test"))
    first = 2 + max(line.person for line in train)
    frames = _frames_below(root)
    trained = _tracklets(train, frames, 1, lists / "list_seq_train.txt", report)
    tested = _tracklets(test, frames, first, lists / "list_seq_test.txt", report)
    asked = dict.fromkeys(_query_rows(info, test))
    return _data(
        "ls-vid",
        [track for track in trained if track is not None],
        [track for row in asked if (track := tested[row]) is not None],
        [track for row, track in enumerate(tested) if row not in asked and track is not None],
    )


def _data(
    name: str, train: list[Tracklet], query: list[Tracklet], gallery: list[Tracklet]
) -> ReidData:
    return ReidData(
        name=name,
        train=train,
        query=query,
        gallery=[track for track in gallery if track.person_id != JUNK],
        junk=[track for track in gallery if track.person_id == JUNK],
        num_cameras=1 + max((t.camera_id for t in (*train, *query, *gallery)), default=-1),
    )


def _read(path: Path) -> list[_Line]:
    """Read a list.

    Raises:
        UserError: It is missing, empty, or has a line that is not a path and an identity.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: {_RESTORE}")
    lines = []
    try:
        texts = path.read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a list of files ({error}): {_RESTORE}") from error
    for number, text in enumerate(texts, start=1):
        name, _, person = text.strip().rpartition(" ")
        if not text.strip():
            continue
        if not name or not (person.isdigit() or person == str(JUNK)) or len(person) > 9:
            raise UserError(
                f"{path}, line {number}: expected a path, a space and the number of an identity, "
                f"found {text!r:.60}: {_RESTORE}"
            )
        lines.append(_Line(name, int(person)))
    if not lines:
        raise UserError(f"{path} lists no files: {_RESTORE}")
    return lines


def _tracklets(
    lines: Sequence[_Line], frames: _Found, shift: int, table: Path, report: Report
) -> list[Tracklet | None]:
    """Make a tracklet for each line; None for one with a fault, which is reported."""
    made: list[Tracklet | None] = []
    for line in lines:
        found = frames(line.path)
        cameras = {_camera(path) for path in found}
        made.append(None)
        if not found:
            report(Fault("missing", str(table), f"names {line.path}, of which there is no image"))
        elif len(cameras) > 1 or None in cameras:
            said = ", ".join(sorted(str(camera) for camera in cameras if camera is not None))
            detail = f"the names of the files of {line.path} say camera {said or 'none'}"
            report(Fault("mixed", str(table), f"{detail}, expected one number"))
        else:
            [camera] = cameras
            assert camera is not None
            person = JUNK if line.person == JUNK else line.person + shift
            made[-1] = Tracklet(found, person, camera - 1)
    return made


def _camera(path: str) -> int | None:
    fields = path.rpartition("/")[2].split("_")
    known = len(fields) > _CAMERA and fields[_CAMERA].isdecimal() and int(fields[_CAMERA]) > 0
    return int(fields[_CAMERA]) if known else None


def _frames_below(root: Path) -> _Found:
    """Return what finds the images whose names begin with a path below the root and ``_``."""

    @cache
    def names(folder: str) -> list[str]:
        try:
            return sorted(list_frames(root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def frames(path: str) -> tuple[str, ...]:
        start = f"{root / path.rstrip('_')}_"
        listed = names(path.rpartition("/")[0])
        begin = end = bisect_left(listed, start)
        while end < len(listed) and listed[end].startswith(start):
            end += 1
        return tuple(sorted(listed[begin:end], key=natural_key))

    return frames


def _query_rows(info: Path, test: Sequence[_Line]) -> list[int]:
    """Return the rows of the test list, from 0, that are queries, in the order of the file."""
    places = (info / "test" / "data", info / "data")
    path = next((p / "info_test.mat" for p in places if (p / "info_test.mat").is_file()), None)
    saved = info / "test" / "query.npy"
    if path is None and saved.is_file():
        path = saved
        try:
            numbers = np.load(saved, allow_pickle=False).ravel()
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{saved} is not an array of numbers ({error}): {_RESTORE}") from error
        known = numbers.dtype.kind in "iuf" and bool(np.isfinite(numbers).all())
        if not known or (numbers != np.floor(numbers)).any():
            raise UserError(f"{saved} is not an array of whole numbers: {_RESTORE}")
    else:
        path = path or places[0] / "info_test.mat"
        numbers = read_matrix(path, "query", columns=None).ravel()
    rows = [int(number) - 1 for number in numbers]
    if len(set(rows)) < len(rows):
        raise UserError(f"{path}: query holds a line twice: {_RESTORE}")
    for row in rows:
        if not 0 <= row < len(test) or test[row].person == JUNK:
            raise UserError(
                f"{path}: query {row + 1} is none of the {len(test):,} lines of list_seq_test.txt "
                f"with an identity: {_RESTORE}"
            )
    return rows
