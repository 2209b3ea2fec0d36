"""Small networks of tracklets for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reid.config import ReidModelConfig
from reid.models.network import TrackletNet, build_network

IDENTITIES = 5
SIZE = (64, 32)
OSNET_PLACES = ["after:conv2", "after:conv3"]


def network(*, seed: int = 0, **options: Any) -> TrackletNet:
    """Build a network in evaluation mode; ``osnet_x0_25`` without blocks unless told otherwise."""
    config = ReidModelConfig(**{"block": "none", **options})
    return build_network(config, IDENTITIES, seed=seed, size=SIZE)[0].eval()


def clips(batch: int = 2, frames: int = 4, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, frames, *SIZE, generator=generator)
