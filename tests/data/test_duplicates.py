"""The same file under two names, in every layout of both programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reid.data.datasets.base import Fault
from reid.data.datasets.catalog import load_dataset, read_dataset
from tests.image_trees import write_cityscapes, write_cub, write_folders
from tests.reid_trees import write_folder
from tests.tiny import run_here
from tests.videos import write_lines, write_ucf101
from video_snl.config.image import ImageDataConfig
from video_snl.config.video import DataConfig
from video_snl.data import duplicates
from video_snl.data.duplicates import file_ids, find_repeats
from video_snl.data.image.catalog import load_images
from video_snl.data.video.catalog import load_videos
from video_snl.data.video.csv_lists import load_csv
from video_snl.data.video.file_lists import list_files
from video_snl.data.video.folders import load_folder
from video_snl.data.video.ucf101 import load_ucf101
from video_snl.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _hard(first: Path, second: Path) -> None:
    second.hardlink_to(first)


def _soft(first: Path, second: Path) -> None:
    second.symlink_to(os.path.relpath(first, second.parent))


links = pytest.mark.parametrize("link", [_hard, _soft])
Link = Callable[[Path, Path], None]


def test_check_reports_files_that_are_met_twice(tmp_path: Path) -> None:
    root = touch(tmp_path, "a/1.avi", "a/2.avi", "b/1.avi")
    lines = ["path,label,split", "a/1.avi,x,train", "a/2.avi,x,train", "a/../a/2.avi,x,train"]
    table = write_lines(root / "list.csv", [*lines, f"{root}/a/1.avi,x,test"])
    done = run_here("check", "--root", str(table), "--json")
    counts = json.loads(done.stdout)["counts"]
    assert (done.returncode, counts["shared"], counts["repeated"]) == (1, 1, 1)


@pytest.mark.parametrize("spelling", ["a/../a/1.avi", "{root}/a/1.avi", "./a/1.avi", "b/hard.avi"])
def test_csv_with_one_file_in_both_parts(tmp_path: Path, spelling: str) -> None:
    root = touch(tmp_path, "a/1.avi", "a/2.avi", "b/1.avi")
    _hard(root / "a/1.avi", root / "b/hard.avi")
    named = spelling.format(root=root)
    lines = ["path,label,split", "a/1.avi,x,train", "b/1.avi,x,train", f"{named},x,test"]
    table = write_lines(root / "list.csv", lines)
    with pytest.raises(UserError, match="same file as"):
        load_csv(table)
    [shared] = list_files(table, "csv").repeats.shared
    assert shared.first.endswith("a/1.avi")


def test_csv_that_lists_a_file_twice_counts_it_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = touch(tmp_path, *(f"{i}.avi" for i in range(4)))
    lines = ["path,label,split", "0.avi,x,train", "./0.avi,x,train", "0.avi,x,train"]
    lines += ["1.avi,y,train", "2.avi,x,test", f"{root}/3.avi,y,test"]
    videos = load_csv(write_lines(root / "list.csv", lines))
    assert [(Path(video.path).name, video.label) for video in videos.train] == [
        ("0.avi", 0),
        ("1.avi", 1),
    ]
    assert "2 files are listed twice" in capsys.readouterr().err


def test_csv_that_divides_itself_divides_files_and_not_names(tmp_path: Path) -> None:
    root = touch(tmp_path, *(f"{i}.avi" for i in range(4)))
    for i in range(4):
        _hard(root / f"{i}.avi", root / f"{i}_again.avi")
    names = sorted(path.name for path in root.glob("*.avi"))
    videos = load_csv(write_lines(root / "l.csv", ["path,label", *(f"{n},x" for n in names)]))
    assert len(videos.train) + len(videos.test) == 4


def test_csv_with_one_file_of_two_labels(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.avi", "b.avi")
    lines = ["path,label", "a.avi,x", "b.avi,x", f"{root}/a.avi,y"]
    with pytest.raises(UserError, match="line 4: .* is listed before.*label"):
        load_csv(write_lines(root / "list.csv", lines))


@links
def test_folders_of_train_and_test(tmp_path: Path, link: Link) -> None:
    root = touch(tmp_path, "train/a/1.avi", "train/b/1.avi", "test/a/2.avi")
    link(root / "train/a/1.avi", root / "test/a/3.avi")
    with pytest.raises(UserError, match="same file as"):
        load_folder(root)
    assert len(list_files(root, "folder").repeats.shared) == 1


def test_a_class_folder_that_links_to_the_other_part(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/a/1.avi", "train/b/1.avi", "test/a/2.avi")
    (root / "test/b").symlink_to("../train/b")
    with pytest.raises(UserError, match="same file as"):
        load_folder(root)
    assert len(list_files(root, "folder").repeats.shared) == 1


@links
def test_folders_that_are_divided(
    tmp_path: Path, link: Link, capsys: pytest.CaptureFixture[str]
) -> None:
    root = touch(tmp_path, *(f"a/{i}.avi" for i in range(5)), "b/0.avi", "b/1.avi")
    link(root / "a/0.avi", root / "a/4_again.avi")
    videos = load_folder(root)
    assert len(videos.train) + len(videos.test) == 7
    assert "counted once" in capsys.readouterr().err


def test_a_file_of_two_classes_is_kept_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = touch(tmp_path, "train/a/1.avi", "train/b/2.avi", "test/a/3.avi")
    _hard(root / "train/a/1.avi", root / "train/b/1.avi")
    assert len(load_folder(root).train) == 3
    assert "two classes" in capsys.readouterr().err


@links
def test_ucf101_with_one_file_in_both_lists(tmp_path: Path, link: Link) -> None:
    root = write_ucf101(tmp_path / "ucf")
    folder = root / "UCF-101" / "Bow"
    tested = folder / "v_Bow_g01_c01.avi"
    tested.unlink()
    link(folder / "v_Bow_g09_c01.avi", tested)
    with pytest.raises(UserError, match="same file as"):
        load_ucf101(root, 1)
    assert list_files(root, "ucf101").repeats.shared


@pytest.mark.parametrize("entry", ["Bow/../../x.avi", "Bow/../Clap/v_Clap_g01_c01.avi", "../x.avi"])
def test_ucf101_entries_stay_in_their_folders(tmp_path: Path, entry: str) -> None:
    root = write_ucf101(tmp_path / "ucf")
    touch(tmp_path / "ucf", "x.avi")
    lists = root / "ucfTrainTestlist"
    lines = (lists / "trainlist01.txt").read_text().splitlines()
    write_lines(lists / "trainlist01.txt", [*lines, f"{entry} 1"])
    with pytest.raises(UserError, match=f"line {len(lines) + 1}: "):
        load_ucf101(root, 1)
    assert run_here("check", "--root", str(root)).returncode == 2


def test_ucf101_that_lists_a_file_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_ucf101(tmp_path / "ucf")
    lists = root / "ucfTrainTestlist"
    lines = (lists / "trainlist01.txt").read_text().splitlines()
    write_lines(lists / "trainlist01.txt", [*lines, lines[0], lines[0].replace("/", "/./")])
    assert len(load_ucf101(root, 1).train) == len(lines)
    assert "counted once" in capsys.readouterr().err


@links
def test_images_in_train_and_test(tmp_path: Path, link: Link) -> None:
    root = write_folders(tmp_path)
    link(root / "train/cat/000.jpg", root / "test/cat/again.jpg")
    config = ImageDataConfig(dataset="folder", root=str(root))
    with pytest.raises(UserError, match="same file as"):
        load_images(config)


def test_images_twice_in_one_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(tmp_path)
    _hard(root / "train/cat/000.jpg", root / "train/cat/again.jpg")
    data = load_images(ImageDataConfig(dataset="folder", root=str(root), height=32, width=32))
    assert len(data.train) == 8
    assert "counted once" in capsys.readouterr().err


def test_cub_with_one_image_in_both_parts(tmp_path: Path) -> None:
    write_cub(tmp_path)
    folder = tmp_path / "CUB_200_2011" / "images"
    train, test = folder.rglob("*bird_0001.jpg"), folder.rglob("*bird_0003.jpg")
    first, second = next(train), next(test)
    second.unlink()
    _hard(first, second)
    with pytest.raises(UserError, match="same file as"):
        load_images(ImageDataConfig(dataset="cub200", root=str(tmp_path), height=16, width=16))


def test_cityscapes_with_one_image_in_both_parts(tmp_path: Path) -> None:
    images = write_cityscapes(tmp_path) / "leftImg8bit"
    [tested] = (images / "val").rglob("*.png")
    tested.unlink()
    _hard(next((images / "train").rglob("*.png")), tested)
    with pytest.raises(UserError, match="same file as"):
        load_images(ImageDataConfig(dataset="cityscapes", root=str(tmp_path)))


@links
def test_tracklets_that_share_an_image(tmp_path: Path, link: Link) -> None:
    numbers = {"train/0007/1/a": 2, "query/0003/1/a": 2, "gallery/0003/2/a": 2}
    root = write_folder(tmp_path, numbers)
    link(root / "train/0007/1/a/1.jpg", root / "gallery/0003/2/a/3.jpg")
    with pytest.raises(UserError, match="of train"):
        load_dataset("folder", root)
    faults: list[Fault] = []
    read_dataset("folder", root, 0, faults.append)
    assert [fault.kind for fault in faults] == ["leaked"]


@links
def test_a_tracklet_that_is_twice_in_one_part(
    tmp_path: Path, link: Link, capfd: pytest.CaptureFixture[str]
) -> None:
    numbers = {"train/0007/1/a": 2, "query/0003/1/a": 2, "gallery/0003/2/a": 2}
    root = write_folder(tmp_path, numbers)
    for folder in ("gallery/0003/2/b", "gallery/0003/1/a"):
        (root / folder).mkdir(parents=True)
    for name in ("1.jpg", "2.jpg"):
        link(root / "gallery/0003/2/a" / name, root / "gallery/0003/2/b" / name)
        link(root / "query/0003/1/a" / name, root / "gallery/0003/1/a" / name)
    data = load_dataset("folder", root)
    # A gallery may hold the queries; twice in the gallery is once.
    assert [len(part) for part in (data.train, data.query, data.gallery)] == [1, 1, 2]
    said = capfd.readouterr().err
    assert "gallery: 1 tracklet listed twice and counted once" in said
    (root / "train/0007/1/c").mkdir()
    link(root / "train/0007/1/a/1.jpg", root / "train/0007/1/c/9.jpg")
    assert len(load_dataset("folder", root).train) == 2
    assert "train: 1 image in more than one tracklet, and kept in each" in capfd.readouterr().err


def test_frame_folders_are_files_too(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/a/1/1.jpg", "train/b/1/1.jpg", "test/a/2/1.jpg")
    (root / "test/a/3").symlink_to("../../train/a/1")
    with pytest.raises(UserError, match="same file as"):
        load_videos(DataConfig("folder", root=str(root), reader="frames"))


def test_made_up_inodes_are_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems list one inode for all files."""
    root = touch(tmp_path, "a.avi", "b.avi")
    paths = [str(root / name) for name in ("a.avi", "b.avi")]
    monkeypatch.setattr(duplicates, "file_ids", lambda _: dict.fromkeys(paths, (1, 2)))
    lists = {"train": [(paths[0], 0)], "test": [(paths[1], 0)]}
    assert not find_repeats(lists).shared
    (root / "b.avi").unlink()
    (root / "b.avi").hardlink_to(root / "a.avi")
    assert find_repeats(lists).shared


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert file_ids([str(tmp_path / "no/a"), str(tmp_path / "b"), "\0/x", "x" * 5000]) == {}
