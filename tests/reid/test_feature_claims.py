"""What files of features claim, and what they can hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid.retrieval.features import FeatureTable, read_features, write_features
from video_snl.errors import UserError

ROWS = 53  # a number that stands nowhere else in the footer


def _table() -> FeatureTable:
    numbers = np.arange(ROWS, dtype=np.int64)
    return FeatureTable(
        names=[f"{number:04}" for number in numbers],
        person_ids=numbers,
        camera_ids=numbers % 3,
        num_frames=numbers + 1,
        skipped_frames=numbers * 0,
        features=np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32),
        model="m" * 64,
        checkpoint="best.ckpt",
    )


def _varint(value: int) -> bytes:
    """Encode a positive number as thrift's compact protocol does: zigzag."""
    value *= 2
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _claim(path: Path, rows: int, *, last: bool) -> None:
    """Write another number of rows into the footer: of the file, and of its row group if not last.

    Both are the third field of their structures, a 64-bit integer, the file's the first of the two.
    """
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    body, footer = content[: -8 - length], content[-8 - length : -8]
    old, new = b"\x16" + _varint(ROWS), b"\x16" + _varint(rows)
    assert footer.count(old) >= 2
    changed = footer.replace(old, new, 1 if last else -1)
    path.write_bytes(body + changed + len(changed).to_bytes(4, "little") + content[-4:])


@pytest.mark.parametrize("only_the_file", [True, False])
def test_rows_that_a_file_cannot_hold(tmp_path: Path, only_the_file: bool) -> None:
    path = tmp_path / "features.parquet"
    write_features(path, _table())
    assert len(read_features(path)) == ROWS
    _claim(path, 2**31, last=only_the_file)
    with pytest.raises(UserError, match=r"damaged.*2,147,483,648 rows") as caught:
        read_features(path)
    assert "\n" not in str(caught.value)
