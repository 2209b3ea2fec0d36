"""What the evaluations accept, and the errors for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from video_snl.errors import UserError

__all__ = ["Labels", "Protocol", "check_labels", "check_matrix", "check_options"]

Protocol = Literal["common", "official"]
Labels = Tensor | np.ndarray | Sequence[int]


def check_options(protocol: str, max_rank: int) -> None:
    """Raise UserError for a protocol that does not exist or a curve without a point."""
    if protocol not in ("common", "official"):
        raise UserError(f"protocol={protocol!r} does not exist; choose common or official")
    if max_rank < 1:
        raise UserError(f"max_rank={max_rank} must be at least 1")


def check_labels(
    shape: Sequence[int], given: Sequence[Labels], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """People and cameras of Q queries and G gallery entries as int64 tensors, checked."""
    if 0 in shape:
        what = "no queries" if shape[0] == 0 else "an empty gallery"
        raise UserError(f"{what}: there is nothing to rank (distances of shape {tuple(shape)})")
    names = ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")
    sizes = (shape[0], shape[1]) * 2
    return tuple(  # type: ignore[return-value]
        _label(name, values, size, device)
        for name, values, size in zip(names, given, sizes, strict=True)
    )


def _label(name: str, values: Labels, size: int, device: torch.device) -> Tensor:
    array = values if isinstance(values, Tensor) else np.asarray(values)
    integer = (
        not (array.is_floating_point() or array.is_complex())
        if isinstance(array, Tensor)
        else array.dtype.kind in "iub"
    )
    if not integer:
        raise UserError(f"{name} are {array.dtype}; people and cameras are integers")
    if tuple(array.shape) != (size,):
        raise UserError(
            f"{name} has shape {tuple(array.shape)}, but the distances need {(size,)}: one number "
            f"per {name.split('_')[0]} entry"
        )
    if not isinstance(array, Tensor):
        array = torch.from_numpy(array.astype(np.int64))
    return array.to(device, torch.int64)


def check_matrix(distances: Tensor | np.ndarray) -> Tensor:
    """The distances as a floating-point tensor (Q, G), without a gradient."""
    matrix = torch.as_tensor(distances).detach()
    if matrix.dim() != 2:
        raise UserError(
            f"distances of shape {tuple(matrix.shape)}; a matrix (queries, gallery) is needed"
        )
    if not matrix.is_floating_point():
        raise UserError(f"distances are {matrix.dtype}; they have to be floating-point")
    return matrix
