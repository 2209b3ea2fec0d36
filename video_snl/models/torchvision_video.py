"""torchvision's networks of clips, with its names and so with its published weights.

Tran et al., CVPR 2018 (arXiv:1711.11248): R3D, MC3 and R(2+1)D with 18 layers. Xie et al., ECCV
2018 (arXiv:1712.04851): S3D. Fan et al., ICCV 2021 (arXiv:2104.11227) and Li et al., CVPR 2022
(arXiv:2112.01526): MViT v1 and v2. Liu et al., CVPR 2022 (arXiv:2106.13230): Video Swin.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import video

__all__ = [
    "kinetics400_classes",
    "mc3_18",
    "mvit_v1_b",
    "mvit_v2_s",
    "r2plus1d_18",
    "r3d_18",
    "s3d",
    "swin3d_b",
    "swin3d_s",
    "swin3d_t",
]


class _DropoutLinear(nn.Linear):
    """Linear layer with dropout before it, whose tensors have the names of a linear layer."""

    dropout = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, self.dropout, self.training))


def _with_dropout(linear: nn.Linear, dropout: float) -> _DropoutLinear:
    made = _DropoutLinear(linear.in_features, linear.out_features)
    made.load_state_dict(linear.state_dict())
    made.dropout = dropout
    return made


def r3d_18(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build R3D-18, (B, 3, T, H, W) -> (B, num_classes); published with 16 x 112 x 112."""
    return _resnet(video.r3d_18(num_classes=num_classes), dropout)


def mc3_18(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build MC3-18, (B, 3, T, H, W) -> (B, num_classes); published with 16 x 112 x 112."""
    return _resnet(video.mc3_18(num_classes=num_classes), dropout)


def r2plus1d_18(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build R(2+1)D-18, (B, 3, T, H, W) -> (B, num_classes); published with 16 x 112 x 112."""
    return _resnet(video.r2plus1d_18(num_classes=num_classes), dropout)


def _resnet(network: video.VideoResNet, dropout: float) -> nn.Module:
    network.fc = _with_dropout(network.fc, dropout)
    return network


def s3d(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build S3D, (B, 3, T, H, W) -> (B, num_classes); published with 128 x 224 x 224.

    It needs at least 14 frames of 224 x 224 pixels: its pooling has a fixed size.
    """
    return video.s3d(num_classes=num_classes, dropout=dropout)


def mvit_v1_b(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build MViT-B 16x4, (B, 3, 16, 224, 224) -> (B, num_classes)."""
    return video.mvit_v1_b(num_classes=num_classes, dropout=dropout)


def mvit_v2_s(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build MViTv2-S 16x4, (B, 3, 16, 224, 224) -> (B, num_classes)."""
    return video.mvit_v2_s(num_classes=num_classes, dropout=dropout)


def swin3d_t(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build Video Swin-T, (B, 3, T, H, W) -> (B, num_classes); published with 32 x 224 x 224."""
    return _swin(video.swin3d_t(num_classes=num_classes), dropout)


def swin3d_s(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build Video Swin-S, (B, 3, T, H, W) -> (B, num_classes); published with 32 x 224 x 224."""
    return _swin(video.swin3d_s(num_classes=num_classes), dropout)


def swin3d_b(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build Video Swin-B, (B, 3, T, H, W) -> (B, num_classes); published with 32 x 224 x 224."""
    return _swin(video.swin3d_b(num_classes=num_classes), dropout)


def _swin(network: nn.Module, dropout: float) -> nn.Module:
    network.head = _with_dropout(network.head, dropout)  # type: ignore[arg-type]
    return network


def kinetics400_classes() -> list[str]:
    """Return the names of the classes of Kinetics-400, in the order that all publishers share."""
    return list(video.R3D_18_Weights.KINETICS400_V1.meta["categories"])
