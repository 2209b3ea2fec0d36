"""Folders of classes and CSV files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.videos import write_lines
from video_snl.data.video.csv_lists import load_csv
from video_snl.data.video.folders import load_folder
from video_snl.data.video.labelled import divide
from video_snl.errors import UserError


def touch(root, *names):
    """Files that exist: the lists of a dataset are made without opening them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def below(root, videos):
    return [(video.path.removeprefix(f"{root}/"), video.label) for video in videos]


@pytest.mark.parametrize(
    ("count", "tested"),
    [(2, [1]), (3, [2]), (4, [3]), (5, [4]), (6, [4]), (9, [4]), (10, [4, 9]), (12, [4, 9])],
)
def test_divide(count, tested):
    names = [f"{i:02d}" for i in range(count)]
    assert divide(names[::-1])[1] == [names[i] for i in tested]


@given(st.sets(st.text(max_size=5), min_size=2, max_size=40))
def test_divide_is_a_partition(names):
    train, test = divide(list(names))
    assert train and test and sorted(train + test) == sorted(names)


def test_divide_needs_two():
    with pytest.raises(ValueError, match="cannot be divided"):
        divide(["a"])


def test_train_and_test_folders(tmp_path):
    touch(tmp_path, "train/run/b.avi", "train/run/a.MP4", "train/jump/c.webm", "test/run/d.mkv")
    touch(tmp_path, "train/run/notes.txt", "train/.cache/x.avi", "train/list.csv")
    videos = load_folder(tmp_path)
    assert videos.class_names == ["jump", "run"]
    assert below(tmp_path, videos.train) == [
        ("train/jump/c.webm", 0),
        ("train/run/a.MP4", 1),
        ("train/run/b.avi", 1),
    ]
    assert below(tmp_path, videos.test) == [("test/run/d.mkv", 1)]


def test_class_folders(tmp_path):
    touch(tmp_path, *(f"run/{i}.avi" for i in range(6)), "jump/a.avi", "jump/b.avi")
    videos = load_folder(tmp_path)
    assert below(tmp_path, videos.test) == [("jump/b.avi", 0), ("run/4.avi", 1)]
    assert len(videos.train) == 6
    assert load_folder(tmp_path) == videos


def test_numbered_classes_are_in_order(tmp_path):
    touch(tmp_path, *(f"{name}/{i}.avi" for name in ("10", "9", "1") for i in range(2)))
    assert load_folder(tmp_path).class_names == ["1", "9", "10"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "has no class folders, it holds nothing"),
        (["a.avi"], "has no class folders, it holds 'a.avi'"),
        (["train/run/a.avi"], "has train/ only"),
        (["test/run/a.avi"], "has test/ only"),
        (["train/run/a.avi", "test/run/n.txt"], "test/run has no videos, it holds 'n.txt'"),
        (["run/a.avi", "run/b.avi", "jump/a.txt"], "jump has no videos, it holds 'a.txt'"),
        (["run/a.avi", "run/b.avi", "jump/a.avi"], "class 'jump' has 1 video"),
        (
            ["train/run/a.avi", "test/run/b.avi", "test/fly/c.avi"],
            "class 'fly' has test",
        ),
    ],
)
def test_wrong_folders(tmp_path, files, said):
    with pytest.raises(UserError, match=said):
        load_folder(touch(tmp_path, *files))


def test_folder_is_a_file(tmp_path):
    touch(tmp_path, "a.avi")
    with pytest.raises(UserError, match="is not a folder"):
        load_folder(tmp_path / "a.avi")


def csv_file(root, *lines, line_end="\n"):
    return write_lines(root / "list.csv", list(lines), line_end)


def test_csv_with_split(tmp_path):
    touch(tmp_path, "v/a.avi", "v/b c.avi", "v/d.avi")
    elsewhere = touch(tmp_path / "elsewhere", "e.avi") / "e.avi"
    videos = load_csv(
        csv_file(
            tmp_path / "v",
            "\ufeffsplit,path, label",
            "train,a.avi,run",
            "",
            "test,b c.avi,run",
            "train,../v/d.avi,jump",
            f"test,{elsewhere},run",
            line_end="\r\n",
        )
    )
    assert videos.class_names == ["jump", "run"]
    assert below(tmp_path / "v", videos.train) == [("../v/d.avi", 0), ("a.avi", 1)]
    assert below(tmp_path / "v", videos.test) == [(str(elsewhere), 1), ("b c.avi", 1)]


def test_csv_without_split_is_divided_like_folders(tmp_path):
    touch(tmp_path, *(f"{i}.avi" for i in range(7)))
    lines = [f"{i}.avi,{10 if i < 5 else 9}" for i in range(7)]
    videos = load_csv(csv_file(tmp_path, "path,label", *lines))
    assert videos.class_names == ["9", "10"]  # by value
    assert below(tmp_path, videos.test) == [("6.avi", 0), ("4.avi", 1)]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "line 1: expected the header path,label .* found an empty file"),
        (["file,label"], "line 1: expected the header .* found file,label"),
        (["path,label,split,more"], "line 1: .*found path,label,split,more"),
        (["path,label"], "lists no video"),
        (["path,label", "a.avi,run", "b.avi"], "line 3: expected path,label"),
        (["path,label", "a.avi,run,train"], "line 2: expected path,label.*quote"),
        (["path,label", "a.avi,"], "line 2: expected path,label"),
        (["path,label", ",run"], "line 2: expected path,label"),
        (["path,label,split", "a.avi,run,val"], "line 2: split must be train or test, found 'val'"),
        (["path,label,split", "a.avi,run"], "line 2: split must be train or test, found None"),
        (["path,label", "a.avi,run", "x.avi,run", "y.avi,run"], r"line 3: .*x\.avi does.*2 of 3"),
        (
            ["path,label", "a.avi,run", "b.avi,run", "a.avi,jump"],
            "line 4: .* is listed before",
        ),
        (["path,label", "a.avi,run"], "class 'run' has 1 video"),
        (["path,label,split", "a.avi,run,train"], "the test list holds no video"),
        (["path,label,split", "a.avi,run,test"], "class 'run' has test videos and no train"),
    ],
)
def test_wrong_csv(tmp_path, lines, said):
    touch(tmp_path, "a.avi", "b.avi")
    with pytest.raises(UserError, match=said) as caught:
        load_csv(csv_file(tmp_path, *lines))
    assert "\n" not in str(caught.value)


def test_csv_is_something_else(tmp_path):
    with pytest.raises(UserError, match="not a CSV file"):
        load_csv(tmp_path)
    (tmp_path / "a.avi").write_bytes(b"RIFF\xff\x00\x80")
    with pytest.raises(UserError, match="not a CSV file"):
        load_csv(tmp_path / "a.avi")
