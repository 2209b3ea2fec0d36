"""X3D (Feichtenhofer, CVPR 2020, arXiv:2004.04730), from pytorchvideo's parts.

The names of the tensors are pytorchvideo's, and so are the published weights. The head pools over
all positions, whatever their number, so that clips of any size can be given.
"""

from __future__ import annotations

from pytorchvideo.models.x3d import create_x3d
from torch import nn

__all__ = ["x3d_l", "x3d_m", "x3d_s", "x3d_xs"]


def x3d_xs(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build X3D-XS, (B, 3, T, H, W) -> (B, num_classes) logits; published with 4 x 160 x 160."""
    return _x3d(4, 160, 2.2, num_classes, dropout)


def x3d_s(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build X3D-S, (B, 3, T, H, W) -> (B, num_classes) logits; published with 13 x 160 x 160."""
    return _x3d(13, 160, 2.2, num_classes, dropout)


def x3d_m(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build X3D-M, (B, 3, T, H, W) -> (B, num_classes) logits; published with 16 x 224 x 224."""
    return _x3d(16, 224, 2.2, num_classes, dropout)


def x3d_l(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build X3D-L, (B, 3, T, H, W) -> (B, num_classes) logits; published with 16 x 312 x 312."""
    return _x3d(16, 312, 5.0, num_classes, dropout)


def _x3d(frames: int, side: int, depth: float, num_classes: int, dropout: float) -> nn.Module:
    network = create_x3d(
        input_clip_length=frames,
        input_crop_size=side,
        model_num_class=num_classes,
        dropout_rate=dropout,
        depth_factor=depth,
        head_activation=None,  # logits: pytorchvideo's returns probabilities in evaluation mode
    )
    head = network.blocks[-1]
    # The published one takes windows of just the size of its input.
    head.pool.pool = nn.AdaptiveAvgPool3d(1)
    return network
