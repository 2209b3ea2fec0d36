"""Parquet files from elsewhere: what they claim is compared with what they can hold."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from video_snl.errors import UserError

__all__ = ["check_claims"]

# Values in a byte of a file: more than any compression of different rows comes to.
_DENSEST = 1_000


def check_claims(path: Path) -> None:
    """Compare the rows and values that a parquet file claims with its size, before reading it.

    A damaged or forged footer of a few bytes may claim 2^31 rows, for which a reader takes memory.

    Raises:
        UserError: The claims contradict each other, or cannot be true of a file of that size.
        ArrowException, OSError: The file is not a parquet file.
    """
    size = path.stat().st_size
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    rows = metadata.num_rows
    in_groups = sum(group.num_rows for group in groups)
    if rows != in_groups or any(group.num_rows < 0 for group in groups):
        raise UserError(
            f"{path} is damaged: its footer claims {rows:,} rows, its parts {in_groups:,}; make it "
            "anew with the command that wrote it"
        )
    values = [group.column(i).num_values for group in groups for i in range(group.num_columns)]
    if rows > size or sum(values) > _DENSEST * size or any(count < 0 for count in values):
        raise UserError(
            f"{path} is damaged: it claims {rows:,} rows with {sum(values):,} values, and has "
            f"{size:,} bytes; make it anew with the command that wrote it"
        )
