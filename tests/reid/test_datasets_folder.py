"""Own data as folders: numbers of identities and cameras, order, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid.data.datasets.base import Fault
from reid.data.datasets.catalog import load_dataset, read_dataset
from reid.data.datasets.folder import camera_numbers, person_numbers
from reid.data.tracklet import DISTRACTOR, JUNK, special_person
from tests.reid_trees import write_folder
from video_snl.errors import UserError

NUMBERS = {
    "train/0007/1/a": 1,
    "train/0012/2/a": 2,
    "query/0003/1/a": 11,
    "gallery/0003/10/b": 1,
    "gallery/0003/2/a10": 1,
    "gallery/0003/2/a9": 1,
    "gallery/0000/1/a": 1,
    "gallery/-1/1/a": 1,
}


def test_whole_numbers_are_kept(tmp_path: Path) -> None:
    data = load_dataset("folder", write_folder(tmp_path, NUMBERS))
    assert [t.person_id for t in data.train] == [7, 12]
    assert [(t.person_id, t.camera_id) for t in data.gallery] == [
        (DISTRACTOR, 0),
        (3, 1),
        (3, 1),
        (3, 2),
    ]
    assert [Path(t.path).parent.name for t in data.gallery] == ["a", "a9", "a10", "b"]
    assert [(t.person_id, t.camera_id) for t in data.junk] == [(JUNK, 0)]
    assert data.num_cameras == 3
    names = [Path(frame).name for frame in data.query[0].frames]
    assert names == [f"{number}.jpg" for number in range(1, 12)]


def test_names_are_numbered_in_their_order(tmp_path: Path) -> None:
    tracklets = {
        "train/zoe/door/1": 1,
        "query/bob/yard/1": 1,
        "gallery/bob/door/1": 1,
        "gallery/ann/door/1": 1,
        "gallery/0000/yard/1": 1,
        "gallery/-1/door/1": 1,
    }
    data = load_dataset("folder", write_folder(tmp_path, tracklets))
    assert [t.person_id for t in data.train] == [3]
    assert [t.person_id for t in data.query] == [2]
    assert [(t.person_id, t.camera_id) for t in data.gallery] == [(0, 1), (1, 0), (2, 0)]


def test_numbers_of_names() -> None:
    root = Path("set")
    assert person_numbers({"-1", "0000", "7", "0012"}, root) == {
        "-1": JUNK,
        "0000": DISTRACTOR,
        "7": 7,
        "0012": 12,
    }
    assert person_numbers({"00-1", "0", "bob", "ann"}, root) == {
        "00-1": JUNK,
        "0": DISTRACTOR,
        "ann": 1,
        "bob": 2,
    }
    with_visitor = person_numbers({"-1", "0", "7", "0012", "visitor_A"}, root)
    assert with_visitor == {"-1": -1, "0": 0, "7": 7, "0012": 12, "visitor_A": 13}
    huge = person_numbers({"9" * 30, "7"}, root)
    assert huge == {"7": 7, "9" * 30: 8}
    with pytest.raises(UserError, match="set: identities '007' and '7' are the same number"):
        person_numbers({"7", "007"}, root)
    assert camera_numbers({"c10", "c2"}) == {"c2": 0, "c10": 1}


@pytest.mark.parametrize(
    ("name", "person"),
    [("-1", JUNK), ("00-1", JUNK), ("0-1", JUNK), ("0", DISTRACTOR), ("0000", DISTRACTOR)]
    + [(name, None) for name in ("1", "-2", "--1", "-01", "00-10", "0010", "", "-", "x-1", "-1\n")],
)
def test_names_of_nobody(name: str, person: int | None) -> None:
    assert special_person(name) == person


def test_junk_as_mars_writes_it(tmp_path: Path) -> None:
    """``00-1`` is junk and renumbers nobody."""
    data = load_dataset("folder", write_folder(tmp_path, NUMBERS | {"gallery/00-1/2/a": 1}))
    assert [t.person_id for t in data.junk] == [JUNK, JUNK]
    assert [t.person_id for t in data.gallery] == [DISTRACTOR, 3, 3, 3]
    assert [t.person_id for t in data.train] == [7, 12]


def test_without_train_and_with_other_files(tmp_path: Path) -> None:
    tracklets = {name: n for name, n in NUMBERS.items() if not name.startswith("train")}
    root = write_folder(tmp_path, tracklets)
    (root / "query" / "notes.txt").touch()
    (root / "query" / "0003" / "1" / "a" / "Thumbs.db").touch()
    (root / "query" / "0003" / "1" / "a" / "12.PNG").touch()
    (root / "gallery" / ".cache").mkdir()
    data = load_dataset("folder", root)
    assert data.train == []
    assert [Path(frame).name for frame in data.query[0].frames[-2:]] == ["11.jpg", "12.PNG"]


def test_empty_folders(tmp_path: Path) -> None:
    root = write_folder(tmp_path, NUMBERS | {"train/0012/2/b": 0})
    (root / "train" / "0099").mkdir()
    (root / "train" / "0098" / "1").mkdir(parents=True)
    (root / "train" / "0098" / "1" / "1.jpg").touch()
    faults: list[Fault] = []
    read_dataset("folder", root, 0, faults.append)
    assert [(fault.kind, Path(fault.path), fault.detail) for fault in faults] == [
        ("empty", root / "train/0012/2/b", "has no images"),
        (
            "empty",
            root / "train/0098/1",
            "has no folders of tracklets; put its 1 image into one",
        ),
        ("empty", root / "train/0099", "has no folders of cameras"),
    ]
    with pytest.raises(UserError, match="0012/2/b: has no images: .*add some"):
        load_dataset("folder", root)


@pytest.mark.parametrize(
    ("tracklets", "said"),
    [
        ({"query/1/1/a": 1}, "has no folder gallery, it holds 'query'"),
        (
            {"query/1/1/a": 1, "gallery": 0},
            "gallery has no folders of identities, it holds no",
        ),
        ({"query/1/1/a": 1, "gallery/-1/1/a": 1}, "the gallery of dataset folder is empty"),
        (NUMBERS | {"query/0000/1/a": 1}, "query/0000 holds distractors.*belong in gallery/"),
        (NUMBERS | {"train/-1/1/a": 1}, "train/-1 holds junk, which belong in gallery/"),
        (NUMBERS | {"train/0003/1/a": 1}, "train/0003/1/a/1.jpg: 1 identity both in train and in"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, tracklets: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_dataset("folder", write_folder(tmp_path, tracklets))


def test_has_one_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="split 2 of folder does not exist"):
        load_dataset("folder", write_folder(tmp_path, NUMBERS), split=2)
