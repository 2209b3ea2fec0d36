"""I3D backbones: 3D ResNets with 3x3x3 bottlenecks, built from pytorchvideo's parts."""

from __future__ import annotations

from pytorchvideo.models.head import create_res_basic_head
from pytorchvideo.models.hub import resnet as pytorchvideo_hub
from pytorchvideo.models.net import Net
from pytorchvideo.models.resnet import create_bottleneck_block, create_res_stage, create_resnet
from pytorchvideo.models.stem import create_res_basic_stem
from torch import nn

__all__ = ["hara_bottleneck", "i3d_r50", "i3d_small", "pytorchvideo_i3d_r50", "slow_r50"]

_Size = tuple[int, int, int]


def hara_bottleneck(
    *, conv_a_stride: _Size, conv_b_stride: _Size, dim_in: int, dim_inner: int, dim_out: int, **rest
) -> nn.Module:
    """Build a bottleneck with the temporal stride on conv_b, where Hara et al. have it.

    pytorchvideo puts it on the 1x1x1 conv_a, which drops frames before they are looked at.
    ``rest`` goes to :func:`create_bottleneck_block`, which rejects unknown names.
    """
    strides = tuple(a * b for a, b in zip(conv_a_stride, conv_b_stride, strict=True))
    return create_bottleneck_block(
        dim_in=dim_in,
        dim_inner=dim_inner,
        dim_out=dim_out,
        conv_a_stride=(1, 1, 1),
        conv_b_stride=strides,
        **rest,
    )


def i3d_r50(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build the paper's I3D: the 3D ResNet-50 of Hara et al. (arXiv:1711.09577).

    7x7x7 stem with stride (1, 2, 2), 3x3x3 max-pool with stride 2, bottlenecks 3-4-6-3 with
    3x3x3 convolutions, projection shortcuts, global average pooling. 47,018,576 parameters for
    400 classes, 46,405,925 for 101; 10.10 G multiply-adds on a 16 x 112 x 112 clip.

    Shapes: (B, 3, T, H, W) -> (B, num_classes); T, H, W >= 16.
    """
    return create_resnet(
        model_depth=50,
        model_num_class=num_classes,
        dropout_rate=dropout,
        stem_conv_kernel_size=(7, 7, 7),
        stem_conv_stride=(1, 2, 2),
        stem_pool_kernel_size=(3, 3, 3),
        stem_pool_stride=(2, 2, 2),
        stage_conv_a_kernel_size=((1, 1, 1),) * 4,
        stage_conv_b_kernel_size=((3, 3, 3),) * 4,
        stage_temporal_stride=(1, 2, 2, 2),
        bottleneck=hara_bottleneck,
        head_pool=nn.AdaptiveAvgPool3d,
    )


def i3d_small(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build a 3D ResNet of the same make for short clips on a CPU: bottlenecks 1-1-2-1, width 16.

    Time is halved in res4 and res5 only, so that a clip of 4 frames still has T = 2 in res4,
    where the block stands.

    Shapes: (B, 3, T, H, W) -> (B, num_classes); T >= 4, H, W >= 32.
    """
    width, depths, temporal, spatial = 16, (1, 1, 2, 1), (1, 1, 2, 2), (1, 2, 2, 2)
    stem = create_res_basic_stem(
        in_channels=3,
        out_channels=width,
        conv_kernel_size=(3, 5, 5),
        conv_stride=(1, 2, 2),
        conv_padding=(1, 2, 2),
    )
    blocks: list[nn.Module] = [stem]
    dim_in, dim_out = width, 4 * width
    for depth, time, space in zip(depths, temporal, spatial, strict=True):
        stage = create_res_stage(
            depth=depth,
            dim_in=dim_in,
            dim_inner=dim_out // 4,
            dim_out=dim_out,
            bottleneck=hara_bottleneck,
            conv_a_kernel_size=(1, 1, 1),
            conv_a_stride=(time, 1, 1),
            conv_a_padding=(0, 0, 0),
            conv_b_kernel_size=(3, 3, 3),
            conv_b_stride=(1, space, space),
            conv_b_padding=(1, 1, 1),
        )
        blocks.append(stage)
        dim_in, dim_out = dim_out, 2 * dim_out
    blocks.append(
        create_res_basic_head(
            in_features=dim_in,
            out_features=num_classes,
            pool=nn.AdaptiveAvgPool3d,
            dropout_rate=dropout,
        )
    )
    return Net(blocks=nn.ModuleList(blocks))


def pytorchvideo_i3d_r50(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build pytorchvideo's own ``i3d_r50``: 28.04 M parameters with 400 classes."""
    return pytorchvideo_hub.i3d_r50(
        model_num_class=num_classes, dropout_rate=dropout, head_pool=nn.AdaptiveAvgPool3d
    )


def slow_r50(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build pytorchvideo's ``slow_r50``, the slow pathway of SlowFast (arXiv:1812.03982)."""
    return pytorchvideo_hub.slow_r50(
        model_num_class=num_classes, dropout_rate=dropout, head_pool=nn.AdaptiveAvgPool3d
    )
