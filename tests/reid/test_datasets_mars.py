"""MARS: the official counts on its real tables, and what is wrong with a copy."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from reid.data.check import count, parts_of, unmatched_queries
from reid.data.datasets.base import Fault
from reid.data.datasets.catalog import DATASETS, load_dataset, read_dataset
from reid.data.tracklet import JUNK, ReidData, Tracklet, labels_of
from tests.reid_trees import real_file, write_mars
from video_snl.errors import UserError


@pytest.fixture(scope="module")
def real_root(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real tables and lists; no images."""
    info = real_file(real_data, "mars", "info")
    root = tmp_path_factory.mktemp("mars")
    for name in ("bbox_train", "bbox_test", "info"):
        (root / name).mkdir()
    for name in ("tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat"):
        shutil.copy(info / name, root / "info")
    for part in ("train", "test"):
        packed = gzip.decompress((info / f"{part}_name.RECONSTRUCTED.txt.gz").read_bytes())
        (root / "info" / f"{part}_name.txt").write_bytes(packed)
    return root


@pytest.fixture(scope="module")
def real(real_root: Path) -> ReidData:
    return load_dataset("mars", real_root)


def test_official_counts(real: ReidData) -> None:
    assert (len(real.train), len(real.query), len(real.gallery)) == (8298, 1980, 9330)
    assert len({tracklet.person_id for tracklet in real.train}) == 625
    assert real.num_cameras == 6 and len(real.junk) == 870
    published = DATASETS["mars"].published
    assert published is not None
    assert {name: count(part) for name, part in parts_of(real).items()} == published.parts
    assert len(unmatched_queries(real)) == published.unmatched == 140


def test_first_and_last_of_the_real_tables(real: ReidData, real_root: Path) -> None:
    first = real.train[0]
    assert first.frames[0] == f"{real_root}/bbox_train/0001/0001C1T0001F001.jpg"
    assert (first.person_id, first.camera_id, len(first.frames)) == (1, 0, 16)
    last = real.gallery[-1]
    assert (last.person_id, last.camera_id, len(last.frames)) == (1500, 0, 23)
    assert real.junk[0].name == "00-1/00-1C1T0001F001.jpg"
    labels = labels_of(real.train)
    assert list(labels.values()) == list(range(625))
    assert list(labels) == sorted(labels)


@pytest.mark.slow
def test_agrees_with_torchreid(real: ReidData, real_root: Path, tmp_path: Path) -> None:
    """The lists agree but for the training labels, which are in the order of a set."""
    from torchreid.reid.data.datasets.video.mars import Mars

    (tmp_path / "mars").symlink_to(real_root)
    theirs = Mars(root=str(tmp_path), verbose=False, transform=str)
    prefix = str(tmp_path / "mars")

    def ours(tracklets: list[Tracklet]) -> list[tuple[tuple[str, ...], int]]:
        return [(t.frames, t.camera_id) for t in tracklets]

    for name in ("train", "query", "gallery"):
        found = [
            (tuple(frame.replace(prefix, str(real_root)) for frame in row[0]), row[2])
            for row in getattr(theirs, name)
        ]
        assert found == ours(getattr(real, name))
    assert [row[1] for row in theirs.gallery] == [t.person_id for t in real.gallery]


def test_small_set(tmp_path: Path) -> None:
    root = write_mars(tmp_path / "mars")
    data = load_dataset("mars", root)
    keys = {
        name: [(t.person_id, t.camera_id, len(t.frames)) for t in part]
        for name, part in parts_of(data).items()
    }
    assert keys == {
        "train": [(1, 0, 3), (1, 1, 2), (3, 0, 2)],
        "query": [(2, 0, 3), (4, 0, 2)],
        "gallery": [(0, 1, 1), (2, 0, 1), (2, 1, 2), (4, 2, 1)],
        "junk": [(JUNK, 0, 2)],
    }
    assert data.num_cameras == 3
    assert data.query[0].frames[2] == f"{root}/bbox_test/0002/0002C1T0001F003.jpg"


def test_lists_with_windows_line_ends(tmp_path: Path) -> None:
    root = write_mars(tmp_path / "mars")
    expected = load_dataset("mars", root)
    names = root / "info" / "train_name.txt"
    names.write_bytes(names.read_bytes().replace(b"\n", b"\r\n"))
    assert load_dataset("mars", root) == expected


def test_junk_named_as_market_does(tmp_path: Path) -> None:
    root = write_mars(tmp_path / "mars")
    replace_name(root, "00-1C", "-1C")
    data = load_dataset("mars", root)
    assert [t.person_id for t in data.junk] == [JUNK]
    assert data.junk[0].frames[0] == f"{root}/bbox_test/-1/-1C1T0001F001.jpg"


def replace_name(root: Path, old: str, new: str) -> None:
    names = root / "info" / "test_name.txt"
    assert old in names.read_text()
    names.write_text(names.read_text().replace(old, new))


def test_mixed_people_are_named(tmp_path: Path) -> None:
    root = write_mars(tmp_path / "mars")
    replace_name(root, "0002C2T0001F002", "0004C2T0001F002")
    with pytest.raises(UserError) as raised:
        load_dataset("mars", root)
    assert str(raised.value).startswith(
        f"{root}/info/tracks_test_info.mat: row 5 is of person 0002 camera 2, its files are of "
        "person 0002 camera 2, person 0004 camera 2:"
    )


def test_mixed_cameras_and_other_people_are_reported_together(tmp_path: Path) -> None:
    root = write_mars(tmp_path / "mars")
    replace_name(root, "0002C1T0002F001", "0002C3T0002F001")
    replace_name(root, "0000C2", "0009C2")
    faults: list[Fault] = []
    data = read_dataset("mars", root, 0, faults.append)
    assert [fault.detail for fault in faults] == [
        "row 2 is of person 0000 camera 2, its files are of person 0009 camera 2",
        "row 4 is of person 0002 camera 1, its files are of person 0002 camera 3",
    ]
    assert {fault.kind for fault in faults} == {"mixed"}
    assert len(data.gallery) == 2


def test_people_in_train_and_query(tmp_path: Path) -> None:
    root = write_mars(tmp_path / "mars", train=((2, 1, 1), (3, 1, 1)))
    with pytest.raises(UserError, match="1 identity both in train and in query, the first is 2"):
        load_dataset("mars", root)


def spoil(root: Path, name: str, **values: object) -> None:
    savemat(root / "info" / name, values)


TABLE = np.array([[1, 2, 1, 1]])


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("tracks_train_info.mat", {"other": TABLE}, "has no track_train_info, it holds other"),
        (
            "tracks_train_info.mat",
            {"track_train_info": TABLE[:, :3]},
            "is 1 x 3, expected rows x 4",
        ),
        (
            "tracks_train_info.mat",
            {"track_train_info": "text"},
            "expected rows x 4 columns of whole",
        ),
        ("tracks_train_info.mat", {"track_train_info": TABLE + 0.5}, "has fractions"),
        (
            "tracks_train_info.mat",
            {"track_train_info": np.array([[1, 8, 1, 1]])},
            "row 1: expected",
        ),
        (
            "tracks_train_info.mat",
            {"track_train_info": np.array([[2, 1, 1, 1]])},
            "row 1: expected",
        ),
        (
            "tracks_train_info.mat",
            {"track_train_info": np.array([[1, 2, -1, 1]])},
            "person .from 1",
        ),
        ("tracks_test_info.mat", {"track_test_info": np.array([[1, 2, -1, 0]])}, "camera .from 1"),
        ("query_IDX.mat", {"query_IDX": np.array([[3, 8]])}, "row 8 is none of the 7 rows"),
        ("query_IDX.mat", {"query_IDX": np.array([[3, 3]])}, "holds a row twice"),
        ("query_IDX.mat", {"query_IDX": np.array([[1]])}, "is of person -1, whom nobody"),
    ],
)
def test_wrong_tables(tmp_path: Path, name: str, values: dict[str, object], said: str) -> None:
    root = write_mars(tmp_path / "mars")
    spoil(root, name, **values)
    with pytest.raises(UserError, match=said) as raised:
        load_dataset("mars", root)
    assert f"{root}/info/{name}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_tables_of_doubles_are_read(tmp_path: Path) -> None:
    root = write_mars(tmp_path / "mars")
    expected = load_dataset("mars", root)
    spoil(root, "query_IDX.mat", query_IDX=np.array([[3.0], [6.0]]))
    assert load_dataset("mars", root) == expected


@pytest.mark.parametrize("content", [b"", b"no matrix", b"MATLAB 7.3 MAT-file" + bytes(600)])
def test_a_damaged_table_is_named(tmp_path: Path, content: bytes) -> None:
    root = write_mars(tmp_path / "mars")
    (root / "info" / "tracks_test_info.mat").write_bytes(content)
    with pytest.raises(UserError, match=r"tracks_test_info.mat is not a readable MATLAB file"):
        load_dataset("mars", root)


@pytest.mark.parametrize(
    "name",
    ["train_name.txt", "test_name.txt", "tracks_train_info.mat", "query_IDX.mat"],
)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    root = write_mars(tmp_path / "mars")
    (root / "info" / name).unlink()
    with pytest.raises(UserError, match=f"info/{name} does not exist"):
        load_dataset("mars", root)


def test_no_such_layout(tmp_path: Path) -> None:
    root = write_mars(tmp_path / "mars")
    with pytest.raises(UserError, match=f"has no folder bbox_train.*try --root {root}"):
        load_dataset("mars", tmp_path)
    with pytest.raises(UserError, match="dataset mars needs --root: the folder that holds"):
        load_dataset("mars")
    with pytest.raises(UserError, match="does not exist: give the folder that holds bbox_train"):
        load_dataset("mars", tmp_path / "nothing")
    with pytest.raises(UserError, match="is a file: give the folder"):
        load_dataset("mars", root / "info" / "query_IDX.mat")
    with pytest.raises(UserError, match="split 1 of mars does not exist.*give 0"):
        load_dataset("mars", root, split=1)
    with pytest.raises(UserError, match="no dataset 'mrs': give one of sample, mars, ilids-vid"):
        load_dataset("mrs", root)


def test_empty_gallery(tmp_path: Path) -> None:
    root = write_mars(tmp_path / "mars", test=((-1, 1, 1), (2, 1, 1)), queries=(2,))
    with pytest.raises(UserError, match="the gallery of dataset mars is empty"):
        load_dataset("mars", root)
