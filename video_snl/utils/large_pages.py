"""Memory for large tensors that are made again and again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["empty_in_large_pages"]

_ALIGNMENT = 64  # bytes, as torch aligns its own tensors


def empty_in_large_pages(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a tensor on the CPU without values, in large pages where the system has them.

    A batch of clips is tens of megabytes, which the allocator takes from the system and gives back
    each time. Every page of 4 KiB is then a fault of its own: more time than the arithmetic takes.
    NumPy asks for pages of 2 MiB for arrays from 4 MiB on; torch does not by itself.

    Args:
        shape: Shape of the tensor.
        dtype: Its type.
    """
    count = math.prod(shape) * dtype.itemsize
    memory = torch.from_numpy(np.empty(count + _ALIGNMENT, np.uint8))
    skipped = -memory.data_ptr() % _ALIGNMENT
    return memory[skipped : skipped + count].view(dtype).view(tuple(shape))
