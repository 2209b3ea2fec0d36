"""Backbones of frames (2D) and of clips (3D).

A backbone is a network without its pooling and classifier. A backbone of frames has
``featuremaps``: (N, 3, H, W) -> (N, C, h, w); a backbone of clips is called: (B, 3, T, H, W) ->
(B, C, t, h, w).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from pytorchvideo.models.net import Net
from pytorchvideo.models.resnet import create_resnet
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from reid.config import CLIP_BACKBONES
from reid.models.torchreid_models import EMBEDDING, MODELS, torchreid_backbone
from reid.pretrained import PRETRAINED
from video_snl.blocks.insertion import block_places
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.errors import UserError
from video_snl.models.i3d import hara_bottleneck

__all__ = ["Backbone", "build_backbone", "default_positions"]

_Size = tuple[int, int, int]
_SMALLEST_FRAME = (1, 16, 16)

# Liu et al. (BMVC 2019): after the last two units of res3 and the last three of res4.
_NVAN = ("after:{0}.-2", "after:{0}.-1", "after:{1}.-3", "after:{1}.-2", "after:{1}.-1")


@dataclass(frozen=True)
class Backbone:
    """A backbone and what the rest of the network must know of it.

    Attributes:
        name: Name in the configuration.
        network: The module itself.
        channels: C of its last feature map, or length of its embedding.
        smallest: Smallest clip (T, H, W) it takes.
        left_out: Names of the parts of the original network that it lacks: pooling and classifier.
        embeds: It has the layer from the pooled map of a frame to the vector of the frame.
    """

    name: str
    network: nn.Module
    channels: int
    smallest: _Size
    left_out: tuple[str, ...]
    embeds: bool = False

    @property
    def over_time(self) -> bool:
        """Tell a backbone of clips (3D) from one of frames."""
        return self.name in CLIP_BACKBONES


class FrameResNet50(ResNet):
    """torchvision's ResNet-50 up to its last feature map, with stride 1 in the last stage.

    Without that stride a 256 x 128 frame ends as 16 x 8 positions instead of 8 x 4 (Luo et al.,
    "Bag of Tricks", CVPRW 2019). The names of its tensors are torchvision's.
    """

    def __init__(self) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3])
        del self.avgpool, self.fc
        first = self.layer4[0]
        first.conv2.stride = first.downsample[0].stride = (1, 1)

    def featuremaps(self, x: Tensor) -> Tensor:
        """Compute the last feature map. (N, 3, H, W) -> (N, 2048, H / 16, W / 16)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def _resnet50(name: str, size: tuple[int, int]) -> Backbone:
    left_out = ("avgpool", "fc", "classifier")
    return Backbone(name, FrameResNet50(), 2048, _SMALLEST_FRAME, left_out)


def _resnet50_3d(name: str, size: tuple[int, int]) -> Backbone:
    """Inflate a ResNet-50: k x k kernels become 3 x k x k, 1 x 1 stay; no stride in time."""
    network = create_resnet(
        model_depth=50,
        model_num_class=1,
        stem_conv_kernel_size=(3, 7, 7),
        stem_conv_stride=(1, 2, 2),
        stem_pool=nn.MaxPool3d,
        stem_pool_kernel_size=(1, 3, 3),
        stem_pool_stride=(1, 2, 2),
        stage_conv_a_kernel_size=((1, 1, 1),) * 4,
        stage_conv_b_kernel_size=((3, 3, 3),) * 4,
        stage_spatial_h_stride=(1, 2, 2, 1),
        stage_spatial_w_stride=(1, 2, 2, 1),
        stage_temporal_stride=(1, 1, 1, 1),
        bottleneck=hara_bottleneck,
        head_pool=nn.AdaptiveAvgPool3d,
    )
    return _without_head(name, network, 2048, _SMALLEST_FRAME)


def _i3d(name: str, size: tuple[int, int]) -> Backbone:
    backbone, channels = VIDEO_BACKBONES[name], {"i3d_r50": 2048, "i3d_small": 512}[name]
    return _without_head(name, backbone.build(1, 0.0), channels, backbone.smallest_clip)


def _without_head(name: str, network: nn.Module, channels: int, smallest: _Size) -> Backbone:
    *parts, _ = network.get_submodule("blocks").children()
    rest = Net(blocks=nn.ModuleList(parts))
    return Backbone(name, rest, channels, smallest, (f"blocks.{len(parts)}",))


def _torchreid(name: str, size: tuple[int, int]) -> Backbone:
    network, channels, left_out = torchreid_backbone(name, size)
    return Backbone(name, network, channels, _SMALLEST_FRAME, left_out)


def _pretrained(name: str, size: tuple[int, int]) -> Backbone:
    architecture = PRETRAINED[name].architecture
    network, channels, left_out = torchreid_backbone(architecture, size, embeds=True)
    embeds = EMBEDDING in dict(network.named_children())
    return Backbone(name, network, channels, _SMALLEST_FRAME, left_out, embeds=embeds)


BACKBONES: dict[str, Callable[[str, tuple[int, int]], Backbone]] = {
    "resnet50": _resnet50,
    "resnet50_3d": _resnet50_3d,
    "i3d_r50": _i3d,
    "i3d_small": _i3d,
    **dict.fromkeys(MODELS, _torchreid),
    **dict.fromkeys(PRETRAINED, _pretrained),
}


def build_backbone(name: str, size: tuple[int, int]) -> Backbone:
    """Build the backbone called ``name``, with new weights, for frames of ``size`` (H, W).

    Raises:
        UserError: A name that is not known (the message lists those that are), or frames too small
            for a network of torchreid.
    """
    if name not in BACKBONES:
        raise UserError(
            f"model.backbone={name!r} is unknown, or has no feature maps; choose from: "
            f"{', '.join(BACKBONES)}."
        )
    return BACKBONES[name](name, size)


def default_positions(name: str, backbone: nn.Module) -> list[str]:
    """Return the positions of blocks where the configuration names none.

    The five places of NVAN in every residual network that has the units, 2D and 3D (so not in a
    ResNet-18); in an OSNet, which has no such units, after the two parts that end at the same
    strides, 8 and 16; in I3D the place of arXiv:2108.02451.

    Raises:
        UserError: A backbone without default positions.
    """
    if name.startswith("i3d"):
        return ["before:res4.-1"]
    if name.startswith("osnet_ain"):
        return ["after:pool2", "after:pool3"]
    if name.startswith("osnet"):
        return ["after:conv2", "after:conv3"]
    units = Counter(place.rpartition(".")[0] for place in block_places(backbone))
    for stages in (("layer2", "layer3"), ("res3", "res4")):
        if units[stages[0]] >= 2 and units[stages[1]] >= 3:
            return [place.format(*stages) for place in _NVAN]
    children = ", ".join(child for child, _ in backbone.named_children())
    raise UserError(
        f"model.positions: there is no default for backbone {name!r}; name places such as "
        f"after:MODULE, or set model.block to none. Its modules are: {children}."
    )
