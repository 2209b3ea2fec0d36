"""UCF-101's lists and layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.videos import CLASSES, write_lines, write_ucf101
from video_snl.data.video.ucf101 import load_ucf101, parse_split
from video_snl.errors import UserError


@pytest.fixture()
def root(tmp_path):
    return write_ucf101(tmp_path / "ucf")


@pytest.fixture(scope="session")
def official(real_data):
    lists = real_data / "ucf101_originals" / "ucfTrainTestlist"
    if not lists.is_dir():
        pytest.skip(f"no official lists at {lists}")
    return lists


@pytest.mark.parametrize(
    ("split", "train", "test"),
    [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696), ("paper", 7912, 1625)],
)
def test_official_lists(official, split, train, test):
    train_entries, test_entries, names = parse_split(official, split)
    assert (len(train_entries), len(test_entries), len(names)) == (train, test, 101)
    assert not set(train_entries) & set(test_entries)
    for entries in (train_entries, test_entries):
        assert {label for _, label in entries} == set(range(101))
        assert all(Path(path).parent.name == names[label] for path, label in entries)


def test_paper_split_divides_train_list_1(official):
    train, test, _ = parse_split(official, "paper")
    assert sorted(train + test) == sorted(parse_split(official, 1)[0])


def test_missing_videos_are_counted(real_data, official):
    with pytest.raises(UserError, match=r"13,2\d\d of the 13,320 videos of split 1 are missing"):
        load_ucf101(official.parent, 1)


@pytest.mark.parametrize(("split", "train", "test"), [(1, 453, 193), (2, 464, 182), (3, 479, 167)])
def test_ucf5(real_data, split, train, test):
    if not (real_data / "ucf5").is_dir():
        pytest.skip(f"no {real_data / 'ucf5'}")
    videos = load_ucf101(real_data / "ucf5", split)
    assert (len(videos.train), len(videos.test), len(videos.class_names)) == (train, test, 5)


@pytest.mark.parametrize(
    ("split", "train", "test"),
    [
        (1, {8, 9, 10, 11}, set(range(1, 8))),
        (3, {1, 2, 10, 11}, set(range(3, 10))),
        ("paper", {11}, {8, 9, 10}),
    ],
)
def test_load(root, split, train, test):
    videos = load_ucf101(root, split)
    assert videos.class_names == list(CLASSES)
    for part, groups in ((videos.train, train), (videos.test, test)):
        expected = Counter(
            (str(root / "UCF-101" / name / f"v_{name}_g{group:02d}_c01.avi"), label)
            for label, name in enumerate(CLASSES)
            for group in groups
        )
        assert Counter((video.path, video.label) for video in part) == expected


def test_class_folders_directly_in_the_root(root):
    for folder in (root / "UCF-101").iterdir():
        folder.rename(root / folder.name)
    (root / "UCF-101").rmdir()
    assert len(load_ucf101(root, 1).train) == 12


def test_root_is_the_folder_of_the_classes(root):
    with pytest.raises(UserError) as caught:
        load_ucf101(root / "UCF-101", 1)
    assert "no folder ucfTrainTestlist, it holds 'Bow', 'Clap', 'Dive'" in str(caught.value)
    assert str(caught.value).endswith(f"try --data.root {root}")


def test_root_with_nothing_in_it(tmp_path):
    with pytest.raises(UserError, match="it holds nothing: give the folder that holds UCF-101/"):
        load_ucf101(tmp_path, 1)
    with pytest.raises(UserError, match="does not exist"):
        load_ucf101(tmp_path / "no", 1)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("classInd", 1),
        ("trainlist02", 2),
        ("testlist03", 3),
        ("trainlist01", "paper"),
    ],
)
def test_missing_list(root, name, split):
    (root / "ucfTrainTestlist" / f"{name}.txt").unlink()
    with pytest.raises(UserError, match=rf"{name}\.txt does not exist: restore it"):
        load_ucf101(root, split)


def test_missing_video(root):
    path = root / "UCF-101" / "Clap" / "v_Clap_g03_c01.avi"
    path.unlink()
    with pytest.raises(UserError, match="1 of the 33 videos of split 1 are missing") as caught:
        load_ucf101(root, 1)
    assert str(path) in str(caught.value)
    assert len(load_ucf101(root, "paper").train) == 3  # does not name it


def test_missing_class_folder(root):
    for path in (root / "UCF-101" / "Dive").iterdir():
        path.unlink()
    (root / "UCF-101" / "Dive").rmdir()
    with pytest.raises(UserError, match="11 of the 33 videos of split 2 are missing"):
        load_ucf101(root, 2)


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("classInd.txt", ["1 Bow", "3 Clap"], "line 2: expected '2 <new class>', found '3 Clap'"),
        ("classInd.txt", ["1 Bow", "2 Bow"], "line 2: expected '2 <new class>'"),
        ("classInd.txt", ["", ""], "lists no class"),
        ("classInd.txt", ["1 Bow", "2 Clap", "3 Dive", "4 Fly"], "the first is 'Fly'"),
        ("trainlist01.txt", ["Bow/v_Bow_g08_c01.avi 2"], "line 1: Bow has index 2 here and 1 in"),
        ("trainlist01.txt", ["", "Fly/v_Fly_g08_c01.avi 1"], "line 2: expected '<class of"),
        ("trainlist01.txt", ["v_Bow_g08_c01.avi 1"], "line 1: expected '<class of"),
        ("trainlist01.txt", [], "3 of 3 classes have no video in the train list"),
        ("trainlist01.txt", ["Bow/v_Bow_g08_c01.avi 1"], "2 of 3 classes .* first is 'Clap'"),
        ("testlist01.txt", [], "the test list holds no video"),
    ],
)
def test_malformed_list(root, name, lines, said):
    write_lines(root / "ucfTrainTestlist" / name, lines)
    with pytest.raises(UserError, match=said):
        load_ucf101(root, 1)


def test_paper_split_needs_groups(root):
    write_lines(root / "ucfTrainTestlist" / "trainlist01.txt", ["Bow/first.avi 1"])
    with pytest.raises(UserError, match="split paper needs names like .*found Bow/first.avi"):
        load_ucf101(root, "paper")
