"""Matrices of whole numbers out of MATLAB files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from video_snl.errors import UserError

__all__ = ["read_matrix"]


def read_matrix(path: Path, variable: str, *, columns: int | None) -> NDArray[np.int64]:
    """Read a matrix by its name, shape (rows, columns).

    Args:
        path: MATLAB file.
        variable: Name of the matrix.
        columns: Number of columns it must have; None for any.

    Raises:
        UserError: No such file; not a MATLAB file; it lacks the matrix, or holds another kind of
            value or shape under its name.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: restore it from the published dataset")
    try:
        values = _values(path)
    except Exception as error:  # a damaged file makes scipy raise anything
        raise UserError(
            f"{path} is not a readable MATLAB file ({type(error).__name__}: {error}): restore it "
            "from the published dataset"
        ) from error
    if variable not in values:
        found = ", ".join(name for name in values if not name.startswith("__")) or "nothing"
        raise UserError(f"{path} has no {variable}, it holds {found}: restore the published file")
    return _whole_numbers(path, variable, values[variable], columns)


def _values(path: Path) -> dict[str, object]:
    try:
        return loadmat(path)
    except NotImplementedError:  # MATLAB 7.3 writes HDF5, with the axes in its own order
        with h5py.File(path) as file:
            found = {name: file[name] for name in file}
            kept = {name: value for name, value in found.items() if isinstance(value, h5py.Dataset)}
            return {name: value[()].T for name, value in kept.items()}


def _whole_numbers(path: Path, variable: str, found: object, columns: int | None) -> NDArray:
    wanted = f"rows x {columns or 'any number of'} columns of whole numbers"
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "iuf":
        kind = found.dtype if isinstance(found, np.ndarray) else type(found).__name__
        raise UserError(f"{path}: {variable} is {kind}, expected {wanted}: restore the file")
    if found.ndim != 2 or not found.size or columns not in (None, found.shape[1]):
        shape = " x ".join(map(str, found.shape))
        raise UserError(f"{path}: {variable} is {shape}, expected {wanted}: restore the file")
    numbers = found.astype(np.int64)
    if not np.array_equal(numbers, found):
        raise UserError(f"{path}: {variable} has fractions, expected {wanted}: restore the file")
    return numbers
