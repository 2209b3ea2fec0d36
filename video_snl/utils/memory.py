"""Memory that the C library keeps for this process. Without torch."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_KEPT = 1 << 30  # bytes; more than any one tensor or the free memory at a time should be


def keep_freed_memory() -> None:
    """Let freed memory be used again by this process, rather than be given back to the system.

    By default glibc gives every tensor of more than 32 MiB back as soon as it is freed, and what is
    free at the end of the heap, too. A network that is called many times then has the system fill
    the same pages with zeros in every layer, which may take longer than the arithmetic. The price
    is that the process stays as large as it has once been, up to the gaps between tensors. Another
    C library is left as it is, and so is a glibc that takes no such threshold (measured with 2.36).
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    # After a refusal the second option alone would turn off that glibc adapts the first.
    if set_option is not None and set_option(_M_MMAP_THRESHOLD, _KEPT):
        set_option(_M_TRIM_THRESHOLD, _KEPT)
