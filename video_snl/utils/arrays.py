"""What a caller in Python gives for an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from video_snl.errors import UserError

__all__ = ["as_array"]


def as_array(value: Any, name: str) -> np.ndarray:
    """Return an array, a tensor of any device, or a nested list as an array of NumPy.

    bfloat16, which NumPy does not have, becomes float32.

    Args:
        value: The array.
        name: Name of it, for the message.

    Raises:
        UserError: It is none.
    """
    try:
        if not isinstance(value, torch.Tensor):
            return np.asarray(value)
        tensor = value.detach()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(value).__name__
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{name}: expected an array, found {kind} ({reason})") from error
