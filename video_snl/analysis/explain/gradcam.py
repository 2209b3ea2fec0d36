"""Grad-CAM (arXiv:1610.02391): what speaks for a class in the last feature map."""

from __future__ import annotations

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.nn import functional as F

from video_snl.blocks.insertion import block_places

__all__ = ["gradcam", "last_unit"]


def last_unit(model: nn.Module) -> nn.Module | None:
    """The last residual unit of a network, its block with it; None where there are no stages."""
    places = list(block_places(model).values())
    if not places:
        return None
    return model.get_submodule(places[-1])


def gradcam(model: nn.Module, layer: nn.Module, clip: Tensor, label: int) -> np.ndarray:
    """The map of a class, ReLU(sum_c mean(dy/dF_c) F_c), over its largest value.

    Args:
        model: (1, 3, T, H, W) -> (1, classes), or of pictures (1, 3, H, W).
        layer: Whose output F (1, C, t, h, w) or (1, C, h, w) is looked at.
        label: Number of the class.

    Returns:
        float32 (T, h, w) in [0, 1], interpolated along time; zero where nothing speaks for the
        class. A picture has T = 1.
    """
    with torch.enable_grad():
        found = LayerGradCam(model, layer).attribute(clip, target=label, relu_attributions=True)
    assert isinstance(found, Tensor)
    cam = found.detach().float()
    if cam.ndim == 4:
        cam = cam[:, :, None]
    frames = clip.shape[2] if clip.ndim == 5 else 1
    cam = F.interpolate(cam, size=(frames, *cam.shape[3:]), mode="trilinear", align_corners=False)
    largest = cam.max()
    return (cam / largest.where(largest > 0, torch.ones_like(largest)))[0, 0].cpu().numpy()
