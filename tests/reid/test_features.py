"""Feature files: what is written comes back, what is broken or foreign is refused."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.retrieval.features import (
    FeatureTable,
    concatenate,
    read_features,
    same_model,
    write_features,
)
from video_snl.errors import UserError

NUMBERS = ("person_ids", "camera_ids", "num_frames", "skipped_frames")


def make_table(size: int = 4, dimension: int = 3, seed: int = 0, **changes: Any) -> FeatureTable:
    rng = np.random.default_rng(seed)
    table = FeatureTable(
        names=[f"tracklet {i}" for i in range(size)],
        **{key: rng.integers(-1, 900, size) for key in NUMBERS},
        features=rng.normal(size=(size, dimension)).astype(np.float32),
        model="a1" * 32,
        checkpoint="runs/a/checkpoints/best.ckpt",
    )
    return replace(table, **changes)


def assert_equal(found: FeatureTable, wanted: FeatureTable) -> None:
    assert found.names == wanted.names
    assert (found.model, found.checkpoint) == (wanted.model, wanted.checkpoint)
    for key in (*NUMBERS, "features"):
        assert np.array_equal(getattr(found, key), getattr(wanted, key)), key
    assert found.features.dtype == np.float32 and found.features.flags.writeable
    assert found.person_ids.dtype == np.int64


@settings(max_examples=25, deadline=None)
@given(
    names=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=9), data=st.data()
)
def test_comes_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    dimension = data.draw(st.integers(1, 5))
    table = make_table(len(names), dimension, names=names, checkpoint="ein Modell/ä.ckpt")
    table = replace(table, test_frames=data.draw(st.none() | st.integers(1, 99)))
    path = tmp_path_factory.getbasetemp() / "features.parquet"
    write_features(path, table)
    assert_equal(read_features(path), table)
    assert read_features(path).test_frames == table.test_frames


def test_the_name_of_a_file_need_not_be_utf_8(tmp_path: Path) -> None:
    write_features(tmp_path / "f\udcff.parquet", make_table())
    assert_equal(read_features(tmp_path / "f\udcff.parquet"), make_table())


def test_parts_of_larger_arrays_are_written(tmp_path: Path) -> None:
    wide = np.arange(24, dtype=np.float64).reshape(4, 6)
    table = make_table(features=wide[:, ::2], num_frames=np.array([1, 2, 3, 4], dtype=np.int32))
    write_features(tmp_path / "f.parquet", table)
    found = read_features(tmp_path / "f.parquet")
    assert np.array_equal(found.features, wide[:, ::2])
    assert found.num_frames.tolist() == [1, 2, 3, 4]


def test_other_programs_can_read_it(tmp_path: Path) -> None:
    table = make_table()
    write_features(tmp_path / "f.parquet", table)
    stored = pq.read_table(tmp_path / "f.parquet")
    assert stored.column_names == ["name", "person", "camera", *NUMBERS, "feature"]
    assert stored.schema.field("feature").type == pa.list_(pa.float32(), 3)
    assert stored["feature"].to_pylist() == table.features.tolist()
    said = f"format=2\nmodel={table.model}\ncheckpoint={table.checkpoint}\ndimension=3\n"
    assert stored.schema.metadata == {
        b"reid.format": b"2",
        b"reid.model": table.model.encode(),
        b"reid.checkpoint": table.checkpoint.encode(),
        b"reid.dimension": b"3",
        b"reid.test_frames": b"all",
        b"reid.sha256": hashlib.sha256(f"{said}test_frames=all".encode()).hexdigest().encode(),
    }


def test_files_of_several_row_groups_are_read(tmp_path: Path) -> None:
    table = make_table(50)
    write_features(tmp_path / "f.parquet", table)
    stored = pq.read_table(tmp_path / "f.parquet")
    pq.write_table(stored, tmp_path / "g.parquet", row_group_size=7)
    assert_equal(read_features(tmp_path / "g.parquet"), table)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, table = tmp_path / "f.parquet", make_table()
    write_features(path, table)

    def fail(stored: pa.Table, file: pa.NativeFile, **options: Any) -> None:
        file.write(b"PAR1 and no more")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="No space left"):
        write_features(path, make_table(9, seed=1))
    assert [file.name for file in tmp_path.iterdir()] == ["f.parquet"]
    assert_equal(read_features(path), table)


@pytest.mark.parametrize("kept", [0, 3, 200, 0.5, -1])
def test_a_file_that_is_cut_off(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "f.parquet"
    write_features(path, make_table(200))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else int(kept)])
    with pytest.raises(
        UserError, match=r"f.parquet cannot be read as parquet \(.+\); make it anew"
    ):
        read_features(path)


def test_a_file_that_is_damaged_inside(tmp_path: Path) -> None:
    """A changed byte of the data is noticed; one of what is around them, or it changes nothing."""
    path, table = tmp_path / "f.parquet", make_table(30, 40)
    write_features(path, table)
    content = path.read_bytes()
    data = content.index(table.features.tobytes())
    for place in (*range(data, data + table.features.nbytes, 501), *range(4, len(content), 97)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x91]) + content[place + 1 :])
        if data <= place < data + table.features.nbytes:
            with pytest.raises(UserError, match="cannot be read as parquet"):
                read_features(path)
        else:
            read_or_refuse(path)


def read_or_refuse(path: Path) -> None:
    with contextlib.suppress(UserError):
        read_features(path)


def foreign(tmp_path: Path, change: str) -> Path:
    """A file of ``write_features`` with one thing changed."""
    path = tmp_path / "f.parquet"
    write_features(path, make_table())
    stored = pq.read_table(path)
    metadata = dict(stored.schema.metadata)
    if change == "no metadata":
        metadata = {}
    elif change == "no frames":
        del metadata[b"reid.test_frames"]
    elif change == "version":
        metadata[b"reid.format"] = b"3"
    elif change == "dimension":
        metadata[b"reid.dimension"] = b"7"
        del metadata[b"reid.sha256"]
    elif change == "model":
        metadata[b"reid.model"] = metadata[b"reid.model"].swapcase()
    elif change == "no dimension":
        metadata[b"reid.dimension"] = b"many"
    elif change == "column":
        stored = stored.drop_columns(["camera_ids"])
    elif change == "type":
        stored = stored.set_column(3, "person_ids", stored["person_ids"].cast(pa.int32()))
    elif change == "null":
        stored = stored.set_column(0, "name", pa.array(["a", None, "b", "c"]))
    pq.write_table(stored.replace_schema_metadata(metadata), path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no frames", "does not say how many frames"),
        ("no metadata", "is parquet, but not of features of reid"),
        ("version", "has version 3 of the format, this program reads 1 and 2"),
        ("dimension", r"column 'feature' of .* is fixed_size_list<.*>\[3\], not .*\[7\]"),
        ("model", "is damaged .* copy it again"),
        ("no dimension", "names no dimension"),
        ("column", "has no column 'camera_ids'"),
        ("type", "column 'person_ids' of .* is int32, not int64"),
        ("null", "column 'name' of .* has empty cells"),
    ],
)
def test_foreign_files(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_features(foreign(tmp_path, change))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file; write one with reid extract"):
        read_features(tmp_path / "absent.parquet")
    with pytest.raises(UserError, match="is a folder, .* reid gallery export"):
        read_features(tmp_path)


def test_tables_of_one_network_go_together() -> None:
    first, second = make_table(), make_table(2, seed=1)
    same_model(first, second)
    both = concatenate([first, second])
    assert len(both) == 6 and both.names == first.names + second.names
    assert np.array_equal(both.features[4:], second.features)


def test_tables_of_different_networks() -> None:
    table = make_table(checkpoint="a.ckpt")
    wider = make_table(dimension=5, checkpoint="b.ckpt")
    with pytest.raises(UserError, match=r"dimension 5 \(of b.ckpt\), the query's 3 \(of a.ckpt\)"):
        same_model(table, wider)
    other = make_table(checkpoint="b.ckpt", model="b2" * 32)
    message = r"of b.ckpt \(hash b2b2b2b2b2b2\), the query's of a.ckpt \(hash a1a1a1a1a1a1\)"
    with pytest.raises(UserError, match=message):
        same_model(table, other)
    with pytest.raises(UserError, match="extract both with one checkpoint"):
        concatenate([table, other])


def test_rows_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"features of shape \(3, 2\) for 4 tracklets"):
        make_table(features=np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match="camera_ids has shape"):
        make_table(camera_ids=np.zeros(3, np.int64))


def test_a_column_whose_name_is_damaged_is_one_line(tmp_path: Path) -> None:
    rows = np.zeros(2, np.int64)
    table = FeatureTable(["a", "b"], rows, rows, rows, rows, np.ones((2, 3), np.float32), "m", "c")
    write_features(tmp_path / "f.parquet", table)
    content = (tmp_path / "f.parquet").read_bytes()
    (tmp_path / "f.parquet").write_bytes(content.replace(b"person_ids", b"p\xe9rson_ids"))
    with pytest.raises(UserError, match="f.parquet"):
        read_features(tmp_path / "f.parquet")
