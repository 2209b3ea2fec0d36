"""I3D backbones: 3D ResNets with 3x3x3 convolutions, built from pytorchvideo's parts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from pytorchvideo.models.head import create_res_basic_head
from pytorchvideo.models.hub import resnet as pytorchvideo_hub
from pytorchvideo.models.net import Net
from pytorchvideo.models.resnet import create_bottleneck_block, create_res_stage
from pytorchvideo.models.stem import create_res_basic_stem
from torch import nn

__all__ = [
    "hara_basic",
    "hara_bottleneck",
    "hara_r3d101",
    "hara_r3d152",
    "hara_r3d18",
    "hara_r3d200",
    "hara_r3d34",
    "hara_resnet",
    "i3d_r50",
    "i3d_small",
    "pytorchvideo_i3d_r50",
    "slow_r50",
]

_Size = tuple[int, int, int]


def hara_bottleneck(
    *, conv_a_stride: _Size, conv_b_stride: _Size, dim_in: int, dim_inner: int, dim_out: int, **rest
) -> nn.Module:
    """Build a bottleneck with the temporal stride on conv_b, where Hara et al. have it.

    pytorchvideo puts it on the 1x1x1 conv_a, which drops frames before they are looked at.
    ``rest`` goes to :func:`create_bottleneck_block`, which rejects unknown names.
    """
    return create_bottleneck_block(
        dim_in=dim_in,
        dim_inner=dim_inner,
        dim_out=dim_out,
        conv_a_stride=(1, 1, 1),
        conv_b_stride=_product(conv_a_stride, conv_b_stride),
        **rest,
    )


def hara_basic(
    *, conv_a_stride: _Size, conv_b_stride: _Size, dim_in: int, dim_out: int, **_: object
) -> nn.Module:
    """Build the basic unit of Hara et al.: two 3x3x3 convolutions, the strides on the first.

    It takes the arguments of :func:`create_bottleneck_block`, as :func:`create_res_stage` gives
    them; sizes of kernels and the inner width mean nothing here. Its layers have pytorchvideo's
    names, so that files of weights are translated as those of bottlenecks are.
    """
    strides = _product(conv_a_stride, conv_b_stride)
    norm = nn.BatchNorm3d(dim_out)
    # pytorchvideo's initialisation starts the last normalisation of a unit at zero by this mark.
    norm.block_final_bn = True  # type: ignore[assignment]
    return nn.Sequential(
        OrderedDict(
            conv_a=nn.Conv3d(dim_in, dim_out, 3, strides, padding=1, bias=False),
            norm_a=nn.BatchNorm3d(dim_out),
            act_a=nn.ReLU(),
            conv_b=nn.Conv3d(dim_out, dim_out, 3, padding=1, bias=False),
            norm_b=norm,
        )
    )


def _product(a: _Size, b: _Size) -> _Size:
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]


def _resnet(
    stem: nn.Module,
    width: int,
    depths: tuple[int, ...],
    temporal: tuple[int, ...],
    num_classes: int,
    dropout: float,
    *,
    unit: Callable[..., nn.Module] = hara_bottleneck,
    expansion: int = 4,
) -> nn.Module:
    """Build a 3D ResNet on a stem: stages, global average pooling, dropout, linear.

    Args:
        stem: First layers, (B, 3, T, H, W) -> (B, width, T', H', W').
        width: Inner width of the first stage; every stage has twice that of the one before.
        depths: Units of each stage.
        temporal: Stride in time of each stage; that in space is 2 from the second on.
        unit: Builds the residual branch of a unit.
        expansion: Channels that a unit returns, as a multiple of its inner width.
    """
    blocks: list[nn.Module] = [stem]
    dim_in, dim_inner = width, width
    for stage, (depth, time) in enumerate(zip(depths, temporal, strict=True)):
        space = 1 if stage == 0 else 2
        blocks.append(
            create_res_stage(
                depth=depth,
                dim_in=dim_in,
                dim_inner=dim_inner,
                dim_out=expansion * dim_inner,
                bottleneck=unit,
                conv_a_kernel_size=(1, 1, 1),
                conv_a_stride=(time, 1, 1),
                conv_a_padding=(0, 0, 0),
                conv_b_kernel_size=(3, 3, 3),
                conv_b_stride=(1, space, space),
                conv_b_padding=(1, 1, 1),
            )
        )
        dim_in, dim_inner = expansion * dim_inner, 2 * dim_inner
    blocks.append(
        create_res_basic_head(
            in_features=dim_in,
            out_features=num_classes,
            pool=nn.AdaptiveAvgPool3d,
            dropout_rate=dropout,
        )
    )
    return Net(blocks=nn.ModuleList(blocks))


_HARA_UNITS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


def hara_resnet(
    depth: int, num_classes: int, dropout: float = 0.0, *, width: int = 64
) -> nn.Module:
    """Build a 3D ResNet of Hara et al. (arXiv:1711.09577) by its depth.

    7x7x7 stem with stride (1, 2, 2), 3x3x3 max-pool with stride 2, four stages of which the last
    three halve T, H and W, projection shortcuts where the size changes (type B).

    Args:
        depth: 18 or 34 (basic units), 50, 101, 152 or 200 (bottlenecks).
        num_classes: Outputs of the classifier.
        dropout: Probability of dropout ahead of it.
        width: Channels of the stem and inner width of the first stage.

    Shapes: (B, 3, T, H, W) -> (B, num_classes).

    Raises:
        ValueError: for another depth.
    """
    if depth not in _HARA_UNITS:
        raise ValueError(f"depth={depth} is none of {', '.join(map(str, _HARA_UNITS))}.")
    stem = create_res_basic_stem(
        in_channels=3,
        out_channels=width,
        conv_kernel_size=(7, 7, 7),
        conv_stride=(1, 2, 2),
        conv_padding=(3, 3, 3),
        pool_kernel_size=(3, 3, 3),
        pool_stride=(2, 2, 2),
        pool_padding=(1, 1, 1),
    )
    basic = depth < 50
    return _resnet(
        stem,
        width,
        _HARA_UNITS[depth],
        (1, 2, 2, 2),
        num_classes,
        dropout,
        unit=hara_basic if basic else hara_bottleneck,
        expansion=1 if basic else 4,
    )


def i3d_r50(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build the paper's I3D: the 3D ResNet-50 of Hara et al. (arXiv:1711.09577).

    7x7x7 stem with stride (1, 2, 2), 3x3x3 max-pool with stride 2, bottlenecks 3-4-6-3 with
    3x3x3 convolutions, projection shortcuts, global average pooling. 47,018,576 parameters for
    400 classes, 46,405,925 for 101; 10.10 G multiply-adds on a 16 x 112 x 112 clip.

    Shapes: (B, 3, T, H, W) -> (B, num_classes); T, H, W >= 16.
    """
    return hara_resnet(50, num_classes, dropout)


def hara_r3d18(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build the 3D ResNet-18 of Hara et al.: basic units 2-2-2-2, else as :func:`i3d_r50`."""
    return hara_resnet(18, num_classes, dropout)


def hara_r3d34(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build the 3D ResNet-34 of Hara et al.: basic units 3-4-6-3, else as :func:`i3d_r50`."""
    return hara_resnet(34, num_classes, dropout)


def hara_r3d101(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build the 3D ResNet-101 of Hara et al.: bottlenecks 3-4-23-3, else as :func:`i3d_r50`."""
    return hara_resnet(101, num_classes, dropout)


def hara_r3d152(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build the 3D ResNet-152 of Hara et al.: bottlenecks 3-8-36-3, else as :func:`i3d_r50`."""
    return hara_resnet(152, num_classes, dropout)


def hara_r3d200(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build the 3D ResNet-200 of Hara et al.: bottlenecks 3-24-36-3, else as :func:`i3d_r50`."""
    return hara_resnet(200, num_classes, dropout)


def i3d_small(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build a 3D ResNet of the same make for short clips on a CPU: bottlenecks 1-1-2-1, width 16.

    Time is halved in res4 and res5 only, so that a clip of 4 frames still has T = 2 in res4,
    where the block stands.

    Shapes: (B, 3, T, H, W) -> (B, num_classes); T >= 4, H, W >= 32.
    """
    width = 16
    stem = create_res_basic_stem(
        in_channels=3,
        out_channels=width,
        conv_kernel_size=(3, 5, 5),
        conv_stride=(1, 2, 2),
        conv_padding=(1, 2, 2),
    )
    return _resnet(stem, width, (1, 1, 2, 1), (1, 1, 2, 2), num_classes, dropout)


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
