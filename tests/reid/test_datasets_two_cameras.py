"""iLIDS-VID and PRID-2011: the official divisions, the order of frames, random divisions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.data.check import count, parts_of
from reid.data.datasets.base import Counts, Fault
from reid.data.datasets.catalog import DATASETS, load_dataset, read_dataset
from reid.data.datasets.ilids import SPLIT_FILE
from reid.data.datasets.two_cameras import digest, random_splits
from reid.data.tracklet import ReidData, Tracklet
from tests.reid_trees import read_frames, real_file, write_ilids, write_prid
from video_snl.errors import UserError
from video_snl.utils.media import natural_key

ROWS = np.array([[1, 3, 2, 4], [4, 2, 1, 3]], np.uint16)
IDENTITIES = ("person001", "person002", "person005", "person010")


def ilids_names(camera: int, person: str) -> list[str]:
    return [f"cam{camera}_{person}_{number:05d}.png" for number in (99, 317, 318, 1000)]


def ilids_frames() -> dict[str, list[str]]:
    return {f"cam{c}/{person}": ilids_names(c, person) for person in IDENTITIES for c in (1, 2)}


def prid_frames(identities: dict[str, tuple[int, int]]) -> dict[str, list[str]]:
    """Person -> number of frames under either camera; 0: no folder."""
    return {
        f"cam_{camera}/{person}": [f"{number:04d}.png" for number in range(1, n + 1)]
        for person, lengths in identities.items()
        for camera, n in zip("ab", lengths, strict=True)
        if n
    }


def people_in(tracklets: list[Tracklet]) -> list[int]:
    return [tracklet.person_id for tracklet in tracklets]


def frames_only(data: ReidData) -> dict[str, Counts]:
    return {
        name: Counts(held.people, held.cameras, held.tracklets, None)
        for name, held in ((name, count(part)) for name, part in parts_of(data).items())
    }


def published(name: str) -> dict[str, Counts]:
    sizes = DATASETS[name].published
    assert sizes is not None
    return sizes.parts


# Digests of the random divisions of the real datasets; docs/reid/datasets.md has them, too.
DOCUMENTED = {
    "ilids-vid": "6251cda87c1c680abfe335fda18eb1cc860fd1216faaaf14237cf7208c7e867b",
    "prid2011": "19a91b6d5c54835994f7fda17ec8461273a560c98c47ac920dd0911c8295e5ac",
}


# The real names and divisions


@pytest.fixture(scope="module")
def real_ilids(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = read_frames(real_file(real_data, "ilids-vid", "frames.json.gz"))
    root = tmp_path_factory.mktemp("ilids")
    # Of each tracklet the first two frames: a listing of 42,459 takes seconds to lay out.
    write_ilids(root, {name: names[:2] for name, names in frames.items()})
    (root / SPLIT_FILE).parent.mkdir()
    mat = real_file(real_data, "ilids-vid", "train_test_splits_ilidsvid.RECONSTRUCTED.mat")
    shutil.copy(mat, root / SPLIT_FILE)
    return root


def test_official_divisions_of_ilids(real_ilids: Path, real_data: Path) -> None:
    listed = real_file(real_data, "ilids-vid", "splits_from_yanbeic.json").read_text()
    names = json.loads(listed)
    assert len(names) == 10
    for split in (0, 9):
        data = load_dataset("ilids-vid", real_ilids, split)
        assert frames_only(data) == published("ilids-vid")
        identities = {t.person_id for t in data.train} | {t.person_id for t in data.query}
        assert len(identities) == 300
        train = sorted(int(name.removeprefix("person")) for name in names[split]["train"])
        assert people_in(data.train)[::2] == train
    identities = sorted(path.name for path in (real_ilids / "i-LIDS-VID/sequences/cam1").iterdir())
    assert digest(random_splits("ilids-vid", identities)) == DOCUMENTED["ilids-vid"]
    with pytest.raises(UserError, match="split 10 of ilids-vid does not exist: .* from 0 to 9"):
        load_dataset("ilids-vid", real_ilids, 10)
    with pytest.raises(UserError, match="split -1 of ilids-vid"):
        load_dataset("ilids-vid", real_ilids, -1)


def test_official_divisions_of_prid(real_data: Path, tmp_path: Path) -> None:
    real = read_frames(real_file(real_data, "prid2011", "frames.json.gz"))
    renamed = {
        name.replace("cam1", "cam_a").replace("cam2", "cam_b"): files[:2]
        for name, files in real.items()
    }
    assert len({name.split("/")[1] for name in renamed}) == 178
    assert min(map(len, real.values())) > 27
    splits = json.loads(real_file(real_data, "prid2011", "splits_prid2011.json").read_text())
    root = write_prid(tmp_path, renamed, splits)
    for number in (0, 9):
        data = load_dataset("prid2011", root, number)
        assert frames_only(data) == published("prid2011")
        test = sorted(int(name.removeprefix("person_")) for name in splits[number]["test"])
        assert people_in(data.query) == people_in(data.gallery) == test
    identities = [*splits[0]["train"], *splits[0]["test"]]
    assert digest(random_splits("prid2011", identities)) == DOCUMENTED["prid2011"]
    with pytest.raises(UserError, match="split 10 of prid2011 does not exist: .* from 0 to 9"):
        load_dataset("prid2011", root, 10)


# Small trees


def test_ilids(tmp_path: Path) -> None:
    root = write_ilids(tmp_path, ilids_frames(), ROWS)
    data = load_dataset("ilids-vid", root)
    assert people_in(data.query) == people_in(data.gallery) == [1, 5]
    assert [(t.person_id, t.camera_id) for t in data.train] == [(2, 0), (2, 1), (10, 0), (10, 1)]
    assert {t.camera_id for t in data.query} == {0} and {t.camera_id for t in data.gallery} == {1}
    names = [Path(frame).name for frame in data.gallery[1].frames]
    assert names == ilids_names(2, "person005")
    assert people_in(load_dataset("ilids-vid", root, 1).query) == [2, 10]
    assert load_dataset("ilids-vid", root / "i-LIDS-VID").num_cameras == 2  # random divisions


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (ROWS[:, :2], "divides 2 identities, the folders cam1 and cam2 hold 4"),
        (np.array([[1, 2, 3, 3]]), "split 0 must hold each of 1 to 4 once"),
        (np.array([[1, 2, 3, 4], [0, 1, 2, 3]]), "split 1 must hold each of 1 to 4 once"),
    ],
)
def test_wrong_divisions_of_ilids(tmp_path: Path, rows: np.ndarray, said: str) -> None:
    with pytest.raises(UserError, match=f"train_test_splits_ilidsvid.mat.*{said}"):
        load_dataset("ilids-vid", write_ilids(tmp_path, ilids_frames(), rows))


def test_frames_of_somebody_else(tmp_path: Path) -> None:
    frames = ilids_frames()
    frames["cam1/person001"].append("cam2_person001_00500.png")
    frames["cam2/person005"] = []
    del frames["cam2/person010"]
    root = write_ilids(tmp_path, frames, ROWS)
    faults: list[Fault] = []
    read_dataset("ilids-vid", root, 1, faults.append)
    found = {(fault.kind, fault.path.rpartition("sequences/")[2], fault.detail) for fault in faults}
    assert found == {
        ("mixed", "cam1/person001/cam2_person001_00500.png", "is an image of person001, camera 2"),
        ("empty", "cam2/person005", "has no images"),
        ("missing", "cam2/person010", "the splits name person010, who has no folder"),
    }
    with pytest.raises(UserError, match="cam1/person001/cam2_person001_00500.png: is an image"):
        load_dataset("ilids-vid", root, 1)


def test_no_such_layout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder i-LIDS-VID/sequences, it holds nothing"):
        load_dataset("ilids-vid", tmp_path)
    write_ilids(tmp_path / "ilids-vid", {"cam1/person001": ["1.png"]})
    with pytest.raises(UserError, match="try --root .*/ilids-vid"):
        load_dataset("ilids-vid", tmp_path)
    with pytest.raises(UserError, match="sequences/cam2 does not exist: unpack"):
        load_dataset("ilids-vid", tmp_path / "ilids-vid")
    with pytest.raises(UserError, match="no folder prid_2011/multi_shot"):
        load_dataset("prid2011", tmp_path)


def test_prid(tmp_path: Path) -> None:
    frames = prid_frames({"person_0001": (3, 3), "person_0002": (2, 11), "person_0003": (1, 1)})
    splits = [{"train": ["person_0003"], "test": ["person_0002", "person_0001"]}]
    data = load_dataset("prid2011", write_prid(tmp_path, frames, splits))
    assert people_in(data.query) == people_in(data.gallery) == [1, 2]
    assert people_in(data.train) == [3, 3] and data.num_cameras == 2
    assert [Path(frame).name for frame in data.gallery[1].frames][8:] == [
        "0009.png",
        "0010.png",
        "0011.png",
    ]
    with pytest.raises(UserError, match="split 1 of prid2011 does not exist: give one from 0 to 0"):
        load_dataset("prid2011", tmp_path, 1)


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({}, "must hold a list of splits"),
        ([{"train": ["person_0001"]}], "split 0 must have the form"),
        ([{"train": ["person_0001"], "test": ["person_0001"]}], "split 0 has a person twice"),
        ([{"train": ["ann"], "test": ["person_0001"]}], "'ann', must end in a number from 1"),
        ([{"train": ["person_0001"], "test": ["person_0009"]}], "person_0009: the splits name"),
    ],
)
def test_wrong_divisions_of_prid(tmp_path: Path, splits: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_dataset("prid2011", write_prid(tmp_path, prid_frames({"person_0001": (1, 1)}), splits))


def test_divisions_that_are_not_json(tmp_path: Path) -> None:
    write_prid(tmp_path, prid_frames({"person_0001": (1, 1)}))
    (tmp_path / "splits_prid2011.json").write_text("[")
    with pytest.raises(UserError, match="splits_prid2011.json is not a readable JSON file"):
        load_dataset("prid2011", tmp_path)


# Without the file of the divisions


def test_random_divisions_never_change() -> None:
    ilids = random_splits("ilids-vid", [f"person{number:03d}" for number in range(1, 301)])
    assert digest(ilids) == ILIDS_DIGEST
    prid = random_splits("prid2011", [f"person_{number:04d}" for number in range(1, 179)])
    assert digest(prid) == PRID_DIGEST
    assert len(ilids) == len(prid) == 10
    assert {(len(s.train), len(s.test)) for s in ilids} == {(150, 150)}
    assert {(len(s.train), len(s.test)) for s in prid} == {(89, 89)}


ILIDS_DIGEST = "383ff12af9672a0bcc4f327e0e87c8531d2fef94b47d95437a9ded341bf3e7c1"
PRID_DIGEST = "1ab0577c742fc1392f42a9d89464f1042a6abb9b1a82c40b0edc88ba9d4aeb76"


@given(st.sets(st.text("abc123", min_size=1), min_size=2, max_size=12))
def test_random_divisions_are_divisions(identities: set[str]) -> None:
    for split in random_splits("any", sorted(identities, reverse=True)):
        assert sorted([*split.train, *split.test]) == sorted(identities)
        assert len(split.test) == len(identities) // 2
        assert list(split.train) == sorted(split.train)


def test_random_divisions_are_uniform() -> None:
    """Each of 40 identities tests in about half of 400 divisions."""
    identities = [str(number) for number in range(40)]
    tested = {person: 0 for person in identities}
    for number in range(40):
        for split in random_splits(f"set {number}", identities):
            for person in split.test:
                tested[person] += 1
    # Of a binomial of 400 at one half the standard deviation is 10.
    assert sum(tested.values()) == 40 * 200
    assert all(150 < times < 250 for times in tested.values())


def test_ilids_without_its_divisions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_ilids(tmp_path, ilids_frames())
    halves = [people_in(load_dataset("ilids-vid", root, split).query) for split in range(10)]
    expected = random_splits("ilids-vid", IDENTITIES)
    assert halves == [[int(name[6:]) for name in split.test] for split in expected]
    [line] = set(capsys.readouterr().err.splitlines())
    assert f"there is no {root}/train-test people splits/train_test" in line
    assert (
        f"uses 10 random divisions of the identities instead (sha256 {digest(expected)[:16]})"
        in line
    )
    assert not (root / SPLIT_FILE).exists()


def test_prid_without_its_divisions(tmp_path: Path) -> None:
    """The identities with more than 27 frames under both cameras, of the first 200."""
    lengths = {
        "person_0001": (28, 40),
        "person_0002": (27, 40),
        "person_0003": (40, 27),
        "person_0004": (30, 28),
        "person_0199": (40, 0),
        "person_0200": (28, 28),
        "person_0201": (40, 40),
    }
    root = write_prid(tmp_path, prid_frames(lengths))
    data = load_dataset("prid2011", root, 3)
    assert sorted({*people_in(data.train), *people_in(data.query)}) == [1, 4, 200]
    few = write_prid(tmp_path / "few", prid_frames({"person_0001": (28, 28)}))
    with pytest.raises(UserError, match="has 1 identity with at least 28 frames"):
        load_dataset("prid2011", few)


# Order


@given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["{}.png", "c1s2_{:05d}.jpg"]))
def test_natural_order_is_that_of_the_numbers(numbers: list[int], form: str) -> None:
    names = [form.format(number) for number in numbers]
    assert sorted(names, key=natural_key) == [form.format(number) for number in sorted(numbers)]


@given(st.lists(st.text("a1_-²", max_size=6)))
def test_natural_order_is_total(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == sorted(reversed(names), key=natural_key)
