"""Parquet files with checksums, whose claims are compared with their size before they are read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from video_snl.errors import UserError

__all__ = ["read_parquet", "read_schema", "read_vectors", "write_parquet"]

# Values in a byte of a file: more than any compression of different rows comes to.
_DENSEST = 1_000

# Numbers of vectors that are read at once, and bytes of a column of them.
_AT_ONCE, _BUFFER = 2**20, 2**20


def write_parquet(table: pa.Table, file: Path) -> None:
    """Write a table of features, with checksums that find later damage.

    Features do not compress. Their column has no dictionary either, by which equal rows, as of a
    network that is broken, would take so little space that their number could not be believed.
    """
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    with _opened(file, "wb") as written:
        pq.write_table(
            table, written, compression="none", use_dictionary=texts, write_page_checksum=True
        )


def read_parquet(path: Path) -> pa.Table:
    """Read a table, and compare its pages with their checksums.

    Raises:
        UserError: The file claims what cannot be true of a file of its size.
        ArrowException, OSError: It is damaged, or not a parquet file.
    """
    _check_claims(path)
    with _opened(path) as file:
        return pq.read_table(file, page_checksum_verification=True)


def read_vectors(path: Path, column: str, dimension: int) -> tuple[pa.Table, np.ndarray]:
    """Read a table as :func:`read_parquet` does, its vectors part by part into one array.

    As a table alone they would be in memory several times.

    Args:
        path: The file.
        column: Name of its column of lists of ``dimension`` float32, see :func:`read_schema`.
        dimension: Numbers of a vector.

    Returns:
        The table without that column, and the vectors, float32, shape (N, ``dimension``).

    Raises:
        UserError: As :func:`read_parquet`; cells of the column are empty.
        ArrowException, OSError: The file is damaged, or not a parquet file.
    """
    _check_claims(path)
    with (
        _opened(path) as opened,
        pq.ParquetFile(opened, page_checksum_verification=True, buffer_size=_BUFFER) as file,
    ):
        rows = file.metadata.num_rows
        empty = UserError(f"column {column!r} of {path} has empty cells; make it anew")
        if _values_of(file.metadata, column) != rows * dimension:
            raise empty
        table = file.read([name for name in file.schema_arrow.names if name != column])
        vectors = np.empty((rows, dimension), np.float32)
        done = 0
        for batch in file.iter_batches(max(1, _AT_ONCE // dimension), columns=[column]):
            some = batch.column(0)
            flat = some.flatten()
            if some.null_count or flat.null_count:
                raise empty
            end = done + len(some)
            vectors[done:end] = flat.to_numpy().reshape(-1, dimension)
            done = end
    return table, vectors


def read_schema(path: Path) -> pa.Schema:
    """Read the schema of a table.

    Raises:
        UserError, ArrowException, OSError: As :func:`read_parquet`.
    """
    _check_claims(path)
    with _opened(path) as file:
        return pq.read_schema(file)


def _opened(path: Path, mode: str = "rb") -> pa.OSFile:
    # By bytes, since a name need not be UTF-8, as PyArrow takes text to be.
    return pa.OSFile(os.fsencode(path), mode)


def _values_of(metadata: pq.FileMetaData, column: str) -> int:
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    return sum(
        each.num_values for each in columns if each.path_in_schema.partition(".")[0] == column
    )


def _check_claims(path: Path) -> None:
    """Compare the rows and values that a parquet file claims with its size, before reading it.

    A damaged or forged footer of a few bytes may claim 2^31 rows, for which a reader takes memory.
    """
    size = path.stat().st_size
    with _opened(path) as file:
        metadata = pq.read_metadata(file)
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
