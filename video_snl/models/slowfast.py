"""SlowFast (Feichtenhofer et al., ICCV 2019, arXiv:1812.03982), from pytorchvideo's parts.

The names of the tensors are pytorchvideo's, and so are the published weights. A block may stand on
either pathway: ``before:slow.res4.-1``, ``after:fast.res3.2``.
"""

from __future__ import annotations

import torch
from pytorchvideo.models.slowfast import PoolConcatPathway, create_slowfast
from torch import Tensor, nn

__all__ = ["SlowFast", "slowfast_r50"]

_ALPHA = 4


class SlowFast(nn.Module):
    """Network of two pathways, of which the slow one sees every ``alpha``-th frame of the clip.

    (B, 3, T, H, W) -> (B, num_classes) logits; T is a multiple of ``alpha``.

    Args:
        blocks: Stem, stages, pooling and head of a pytorchvideo network of two pathways.
        alpha: Frames of the fast pathway for each one of the slow pathway.
    """

    def __init__(self, blocks: nn.ModuleList, alpha: int = _ALPHA) -> None:
        super().__init__()
        self.blocks, self.alpha = blocks, alpha

    def forward(self, clip: Tensor) -> Tensor:
        frames = clip.shape[2]
        # As pytorchvideo's own transform: from the first frame to the last one, evenly spaced.
        taken = torch.linspace(0, frames - 1, frames // self.alpha, device=clip.device).long()
        x: list[Tensor] | Tensor = [clip.index_select(2, taken), clip]
        for block in self.blocks:
            x = block(x)
        assert isinstance(x, Tensor)
        return x


def slowfast_r50(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build SlowFast 8x8 with a ResNet-50; published with clips of 32 x 256 x 256.

    The head pools over all positions, whatever their number.
    """
    network = create_slowfast(
        model_depth=50,
        model_num_class=num_classes,
        dropout_rate=dropout,
        slowfast_fusion_conv_kernel_size=(7, 1, 1),
    )
    *_, pooling, _ = network.blocks
    assert isinstance(pooling, PoolConcatPathway)
    pooling.pool = nn.ModuleList(nn.AdaptiveAvgPool3d(1) for _ in range(2))
    return SlowFast(network.blocks)
