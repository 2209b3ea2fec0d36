"""MViT (Fan et al., ICCV 2021, arXiv:2104.11227), from pytorchvideo's parts.

The names of the tensors are pytorchvideo's, and so are the published weights.
"""

from __future__ import annotations

from pytorchvideo.models.hub.vision_transformers import mvit_video_base_config
from pytorchvideo.models.vision_transformers import create_multiscale_vision_transformers
from torch import nn

__all__ = ["mvit_base_16x4"]


def mvit_base_16x4(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build MViT-B 16x4, (B, 3, 16, 224, 224) -> (B, num_classes) logits."""
    return create_multiscale_vision_transformers(
        **mvit_video_base_config,
        head_num_classes=num_classes,
        head_dropout_rate=dropout,
        head_activation=None,  # logits: pytorchvideo's returns probabilities in evaluation mode
    )
