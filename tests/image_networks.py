"""Small networks of images, and images for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from video_snl.config.image import ImageModelConfig
from video_snl.models.image import build_image_model


def network(classes: int = 10, *, seed: int = 0, **options: Any) -> Any:
    """A ``preresnet20`` without blocks unless told otherwise."""
    config = ImageModelConfig(**{"block": "none", **options})
    return build_image_model(config, classes, seed=seed)[0]


def on_meta(classes: int = 10, **options: Any) -> Any:
    with torch.device("meta"):
        return network(classes, **options)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
