"""Files of features: what they keep, and how they are brought up to date in parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from video_snl.data.video.file_lists import LabelledVideo
from video_snl.errors import UserError
from video_snl.runs.feature_file import FeatureFile, FeatureParts, VideoFeatures
from video_snl.runs.features import FeatureTable, read_features, write_features
from video_snl.utils.files import state_of


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_file_of_equal_rows_can_be_read(tmp_path: Path, suffix: str) -> None:
    rows = 2000
    table = FeatureTable(
        paths=["a.avi"] * rows,
        clips=np.arange(rows, dtype=np.int32),
        times=np.full((rows, 2), np.nan),
        labels=[None] * rows,
        parts=["train"] * rows,
        features=np.zeros((rows, 512), np.float32),
        about={"per": "clip"},
    )
    write_features(tmp_path / f"f{suffix}", table)
    found = read_features(tmp_path / f"f{suffix}")
    assert np.array_equal(found.features, table.features) and found.about == table.about
    assert np.array_equal(found.clips, table.clips) and np.isnan(found.times).all()
    assert (found.labels, found.parts) == (table.labels, table.parts)


@pytest.mark.parametrize("what", ["feature", "label", "path", "failed"])
def test_contents_of_other_types_are_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "f.parquet"
    write_features(path, table_of_one(os.devnull))
    table = pq.read_table(path)
    column: Any = {"feature": [0.5], "label": [3], "path": [None], "failed": ["a"]}[what]
    if what == "failed":
        odd = replace(
            table_of_one(os.devnull),
            about={"per": "video", "unreadable": ["a"], "unreadable_labels": [[["q"], "test"]]},
        )
        write_features(path, odd)
    else:
        at = table.column_names.index(what)
        pq.write_table(table.set_column(at, what, pa.array(column)), path)
    with pytest.raises(UserError, match="cannot be read|of other types"):
        read_features(path)


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"parts": ["train", "test"]}, "differ in label or split"),
        ({"labels": ["run", "jump"]}, "differ in label or split"),
        ({"clips": np.zeros(2, np.int32)}, "clip 0 of a.avi is there twice"),
        ({"parts": ["val", "val"]}, "not in train or test"),
        (
            {"clips": np.array([7, 1], np.int32)},
            "clips of a.avi are not numbered from 0 on: 1, 7",
        ),
        ({"clips": np.array([-1, 0], np.int32)}, "not numbered from 0 on: -1, 0"),
        ({"clips": np.array([-2, -1], np.int32)}, "not numbered from 0 on"),
        ({"times": np.array([[0.0, 1], [3, 2]])}, "clip 1 of a.avi is from 3 s to 2 s"),
        ({"times": np.array([[0.0, 1], [-1, 2]])}, "clip 1 of a.avi is from -1 s to 2 s"),
        ({"times": np.array([[0.0, np.nan], [1, 2]])}, "clip 0 of a.avi is from 0 s to nan s"),
        ({"times": np.array([[0.0, np.inf], [1, 2]])}, "clip 0 of a.avi is from 0 s to inf s"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(
    tmp_path: Path, suffix: str, changed: dict[str, Any], fault: str, monkeypatch: Any
) -> None:
    sound = FeatureTable(
        paths=["a.avi"] * 2,
        clips=np.arange(2, dtype=np.int32),
        times=np.zeros((2, 2)),
        labels=["run"] * 2,
        parts=["train"] * 2,
        features=np.zeros((2, 3), np.float32),
        about={"per": "clip"},
    )
    with pytest.raises(ValueError, match=fault):
        replace(sound, **changed)
    with monkeypatch.context() as unchecked:
        unchecked.setattr(FeatureTable, "_check_rows", lambda self: None)
        write_features(tmp_path / f"f{suffix}", replace(sound, **changed))
    with pytest.raises(UserError, match=f"cannot be read .*{fault}"):
        read_features(tmp_path / f"f{suffix}")


PAIRS = pa.list_(pa.float32(), 2)


@pytest.mark.parametrize(
    ("vectors", "kind", "fault"),
    [
        ([], PAIRS, "f.parquet cannot be read .it holds no row."),
        ([None], PAIRS, "column 'feature' of .*f.parquet has empty cells"),
        ([[0.5, None]], PAIRS, "column 'feature' of .*f.parquet has empty cells"),
        ([[0.5, 1.5], [0.5]], pa.list_(pa.float32()), "not vectors of one length in float32"),
        ([0.5], pa.float64(), "column feature holds double, not vectors of one length"),
    ],
)
def test_vectors_that_are_not_there_are_said_in_words(
    tmp_path: Path, vectors: list[Any], kind: pa.DataType, fault: str
) -> None:
    path = tmp_path / "f.parquet"
    write_features(path, table_of_one(os.devnull))
    table = pq.read_table(path).take(pa.array([0] * len(vectors), pa.int64()))
    at = table.column_names.index("feature")
    pq.write_table(table.set_column(at, "feature", pa.array(vectors, kind)), path)
    with pytest.raises(UserError, match=fault):
        read_features(path)


def test_a_file_of_arrays_without_rows_is_said_in_words(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    write_features(path, table_of_one(os.devnull))
    with np.load(path) as stored:
        empty = {name: each[:0] if each.ndim else each for name, each in stored.items()}
    np.savez(path, **empty)
    with pytest.raises(UserError, match=r"cannot be read \(it holds no row\)"):
        read_features(path)


def _vector(value: float) -> VideoFeatures:
    return VideoFeatures(
        np.array([-1], np.int32), np.zeros((1, 2)), np.full((1, 2), value, np.float32)
    )


def test_a_video_is_known_by_its_size_and_time(tmp_path: Path) -> None:
    """Also one in whose place an older file came, and one that changed while others were read."""
    videos = [tmp_path / "a.avi", tmp_path / "b.avi"]
    for video in videos:
        video.write_bytes(b"first")
    target = tmp_path / "f.parquet"
    listed = [LabelledVideo(str(video), None, None) for video in videos]
    asked: list[list[str]] = []

    def run(value: float, change: Callable[[], object] = lambda: None) -> np.ndarray:
        def compute(todo: Sequence[str]) -> Generator[tuple[str, VideoFeatures]]:
            asked.append([Path(path).name for path in todo])
            for path in todo:
                yield path, _vector(value)
                change()

        FeatureFile(target, listed, {"per": "video"}, force=False).update(compute)
        return read_features(target).features[:, 0]

    assert run(1, lambda: videos[1].write_bytes(b"second, longer")).tolist() == [1, 1]
    assert run(2).tolist() == [1, 2] and asked[-1] == ["b.avi"]
    assert run(3).tolist() == [1, 2] and len(asked) == 2
    videos[0].write_bytes(b"older, and of another size")
    os.utime(videos[0], ns=(1, 1))
    assert run(4).tolist() == [4, 2] and asked[-1] == ["a.avi"]

    # What an interrupted update had computed reaches the file, though nothing is left to compute.
    videos[1].write_bytes(b"third")
    with FeatureParts(target).alone():
        FeatureParts(target).add(table_of_one(str(videos[1])))
    assert run(6).tolist() == [4, 5] and len(asked) == 3
    assert not FeatureParts(target).files()


def test_a_part_that_is_damaged_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "a.avi"
    video.write_bytes(b"video")
    file = FeatureFile(tmp_path / "f.npz", [LabelledVideo(str(video))], {"per": "video"}, False)
    parts = FeatureParts(file.target)
    with parts.alone():
        parts.add(table_of_one(str(video)))
        (part,) = parts.files()
        part.write_bytes(part.read_bytes()[:-40])
        content = part.read_bytes()
    found = file.update(lambda todo: ((path, _vector(7)) for path in todo))
    assert found is not None and found.features[:, 0].tolist() == [7]
    said = capsys.readouterr().err
    assert f"{part} cannot be read" in said and "computed anew" in said
    assert part.with_name(f"{part.name}.damaged").read_bytes() == content


def test_vectors_of_another_width_are_refused(tmp_path: Path) -> None:
    videos = [tmp_path / "a.avi", tmp_path / "b.avi"]
    for video in videos:
        video.write_bytes(b"video")
    listed = [LabelledVideo(str(video)) for video in videos]
    file = FeatureFile(tmp_path / "f.npz", listed, {"per": "video"}, False)
    parts = FeatureParts(file.target)
    with parts.alone():
        parts.add(replace(table_of_one(str(videos[0])), features=np.ones((1, 3), np.float32)))
    with pytest.raises(
        UserError, match=r"b.avi has vectors of 2 numbers and .*part-00001.npz of 3"
    ):
        file.update(lambda todo: ((path, _vector(7)) for path in todo))
    assert not file.target.exists()


def table_of_one(path: str) -> FeatureTable:
    return FeatureTable(
        paths=[path],
        clips=np.array([-1], np.int32),
        times=np.zeros((1, 2)),
        labels=[None],
        parts=[None],
        features=np.full((1, 2), 5, np.float32),
        about={"per": "video"},
        states=np.array([state_of(path)]),
    )
