"""Recognition of the dataset that a folder holds."""

from __future__ import annotations

import os
import pickle
from pkgutil import resolve_name

import pytest

from tests.videos import CLASSES, write_lines, write_ucf101
from video_snl.config.datasets import IMAGE_DATASETS, VIDEO_DATASETS, VideoDatasetEntry
from video_snl.config.video import DataConfig
from video_snl.data.synthetic import sample
from video_snl.data.video.catalog import class_count, load_videos
from video_snl.data.video.records import (
    PackedVideos,
    Video,
    VideoSet,
    folder_contents,
    missing_files,
)
from video_snl.errors import UserError


@pytest.mark.parametrize("entry", [*VIDEO_DATASETS.values(), *IMAGE_DATASETS.values()])
def test_every_dataset_has_a_loader(entry):
    assert callable(entry.load())
    assert entry.counter is None or callable(resolve_name(entry.counter))
    assert entry.counter or entry.classes or isinstance(entry, VideoDatasetEntry)


def test_a_worker_gets_the_same_videos():
    videos = [Video("/a/b.avi", 3), Video("ä\udcff.avi", 0), Video("", 101), Video("c" * 300, 1)]
    packed = pickle.loads(pickle.dumps(PackedVideos(videos)))
    assert list(packed) == videos and len(packed) == 4
    assert (packed[-1], packed[1:3]) == (videos[-1], videos[1:3])
    with pytest.raises(IndexError):
        packed[4]
    assert list(PackedVideos([])) == []


def test_ucf101(tmp_path):
    config = DataConfig("ucf101", root=str(write_ucf101(tmp_path / "ucf")), split=2)
    videos = load_videos(config)
    assert (len(videos.train), len(videos.test)) == (12, 21)
    assert class_count(config) == 3


def test_folder_and_csv(tmp_path):
    for name in ("a/1.avi", "a/2.avi", "b/1.avi", "b/2.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    folder = DataConfig("folder", root=str(tmp_path))
    lines = ["path,label", "a/1.avi,a", "a/2.avi,a", "b/1.avi,b", "b/2.avi,b"]
    table = DataConfig("csv", root=str(write_lines(tmp_path / "list.csv", lines)))
    assert load_videos(folder) == load_videos(table)
    assert class_count(folder) == class_count(table) == 2


def test_sample(tmp_path, monkeypatch):
    """The sample is made where it is asked for, and read as UCF-101."""
    asked = []

    def ensure_sample(root):
        asked.append(root)
        return write_ucf101(tmp_path / "made")

    monkeypatch.setattr(sample, "ensure_sample", ensure_sample)
    config = DataConfig("sample", root=str(tmp_path / "here"))
    assert class_count(config) == len(sample.CLASSES)
    assert not asked
    assert load_videos(config).class_names == list(CLASSES)
    assert asked == [tmp_path / "here"]


def test_ucf101_has_101_classes():
    assert class_count(DataConfig("ucf101")) == 101


@pytest.mark.parametrize("dataset", ["ucf101", "folder", "csv"])
def test_no_root(dataset):
    with pytest.raises(UserError, match=f"data.dataset={dataset} needs --data.root"):
        load_videos(DataConfig(dataset))


def test_no_root_names_the_variable():
    with pytest.raises(UserError, match="UCF101_ROOT"):
        load_videos(DataConfig("ucf101"))


@pytest.mark.parametrize("dataset", ["ucf101", "folder", "csv"])
def test_root_that_does_not_exist(dataset, tmp_path):
    with pytest.raises(UserError, match="data.root=.*/nowhere does not exist"):
        load_videos(DataConfig(dataset, root=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("dataset", ["folder", "csv"])
@pytest.mark.parametrize("split", [2, "paper"])
def test_splits_are_those_of_ucf101(dataset, split, tmp_path):
    with pytest.raises(UserError, match=f"data.split={split} is UCF-101's"):
        load_videos(DataConfig(dataset, root=str(tmp_path), split=split))


def test_a_class_without_videos():
    with pytest.raises(UserError, match="1 of 2 classes have no video in the train list.*'b'"):
        VideoSet([Video("x", 0)], [Video("y", 1)], ["a", "b"])


def test_missing_files(tmp_path, monkeypatch):
    (tmp_path / "a" / "c").mkdir(parents=True)
    (tmp_path / "a" / "b").touch()
    (tmp_path / "a" / "c" / "d").touch()
    scanned = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(path) or scandir(path))
    paths = [str(tmp_path / name) for name in ("a/b", "a/c/d", "a/z", "no/b", "a/c/e", "a/b/x")]
    missing = missing_files(paths)
    assert sorted(missing) == sorted(paths[i] for i in (2, 3, 4, 5))
    assert len(scanned) == len(set(scanned)) == 4


def test_folder_contents(tmp_path):
    assert folder_contents(tmp_path) == "nothing"
    for i in range(7):
        (tmp_path / str(i)).touch()
    assert folder_contents(tmp_path) == "'0', '1', '2', '3', '4' and 2 more"
