"""The networks of clips that configurations can name, and the base of all entries. Without torch.

To add one, write a function ``(num_classes, dropout) -> nn.Module`` and an entry in
:data:`VIDEO_BACKBONES`. Networks of images: :mod:`video_snl.config.backbones`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "IMAGENET",
    "PRETRAINED",
    "VIDEO_BACKBONES",
    "Backbone",
    "BlockLayout",
    "Published",
    "Recipe",
    "VideoBackbone",
    "VideoBackboneName",
]

BlockLayout = Literal["channels_first", "channels_last", "tokens"]
"""Order of the axes of a feature map: (B, C, T, H, W), (B, T, H, W, C) or (B, 1 + T H W, C)."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network and its published weights.

    Attributes:
        builder: ``module:function``, from the number of classes and the probability of dropout to
            the network with new weights.
        weights: URLs of published weights, by the name that ``model.weights`` has for them.
        by_hand: What to do about weights that are published where no program can fetch them, by
            name.
    """

    builder: str
    weights: Mapping[str, str] = field(default_factory=dict)
    by_hand: Mapping[str, str] = field(default_factory=dict)

    def build(self, num_classes: int, dropout: float = 0.0) -> nn.Module:
        """Return the network with new weights."""
        return resolve_name(self.builder)(num_classes, dropout)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Input that published weights were made for, as their publisher says.

    The resizing is ours, bilinear with antialiasing, which the publishers leave out.

    Attributes:
        frames: Frames of a clip.
        seconds: Seconds from one of them to the next.
        resize: Pixels of the shorter side, or height and width of the frames.
        crop: Pixels of the square in the centre of a frame.
        clips, crops: Clips of a video, and crops of a clip, whose scores are averaged.
    """

    frames: int
    seconds: float
    resize: int | tuple[int, int]
    crop: int
    clips: int
    crops: Literal[1, 3] = 1

    @property
    def stride(self) -> int:
        """Distance of the frames at 30 frames a second."""
        return max(1, round(30 * self.seconds))

    def data_options(self) -> dict[str, Any]:
        """Return the data options of a configuration that has this input."""
        return {
            "clip_frames": self.frames,
            "frame_stride": self.stride,
            "stride_seconds": self.seconds,
            "short_side": min(self.resize) if isinstance(self.resize, tuple) else self.resize,
            "frame_size": list(self.resize) if isinstance(self.resize, tuple) else None,
            "crop": self.crop,
            "short_videos": "repeat_last",
        }


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the publisher of weights says of them.

    Attributes:
        trained_on: Dataset, in words.
        accuracy: Published top-1 and top-5 accuracy on its validation part, in per cent.
        views: Clips x crops of a video that these were measured with.
        licence: Licence of the weights or, where that is all there is, of the code they come with.
        classes: ``module:function`` that returns the names of the classes; None where they do not
            come with the weights.
    """

    trained_on: str
    accuracy: tuple[float, float] | None
    views: str | None
    licence: str
    classes: str | None

    def class_names(self) -> list[str] | None:
        """Return the names of the classes in the order of the outputs."""
        return None if self.classes is None else resolve_name(self.classes)()


@dataclass(frozen=True, kw_only=True)
class VideoBackbone(Backbone):
    """A network of clips, (B, 3, T, H, W) -> (B, num_classes).

    A video shorter than a clip of the recipe repeats its last frame.

    Attributes:
        smallest_clip: Least frames, height and width of a clip.
        exact: It takes clips of no other size.
        frames_multiple: The frames of a clip are a multiple of this number.
        statistics: Input statistics of its published weights, and of a training that starts from no
            weights, a key of :data:`video_snl.config.statistics.STATISTICS`.
        positions: Places of blocks, where a configuration names none.
        layout: Order of the axes where blocks stand.
        resnet: It is a 3D ResNet that weights of other 3D and 2D ResNets fit; any other takes
            files with its own names alone.
        recipe: Input of its weights ``kinetics``.
        published: Facts about these weights.
    """

    smallest_clip: tuple[int, int, int]
    exact: bool = False
    frames_multiple: int = 1
    statistics: str = "kinetics"
    positions: tuple[str, ...] = ("before:res4.-1",)
    layout: BlockLayout = "channels_first"
    resnet: bool = False
    recipe: Recipe | None = None
    published: Published | None = None


IMAGENET = {"imagenet": "https://download.pytorch.org/models/resnet50-0676ba61.pth"}
"""Weights of torchvision's ResNet-50, which networks of the same layers start from."""


def _hara(builder: str, depth: int, weights: Mapping[str, str] | None = None) -> VideoBackbone:
    """Describe a 3D ResNet of Hara et al., whose weights lie where no program can fetch them."""
    file = f"r3d{depth}_K_200ep.pth"
    return VideoBackbone(
        builder=f"video_snl.models.i3d:{builder}",
        smallest_clip=(1, 16, 16),
        weights=weights or {},
        resnet=True,
        by_hand={
            "kinetics": f"fetch {file} (Kinetics-700) from the folder of models linked on "
            "https://github.com/kenshohara/3D-ResNets-PyTorch and give "
            f"--model.weights {file}"
        },
    )


def _kinetics_400(accuracy: tuple[float, float], views: str, licence: str) -> Published:
    return Published(
        trained_on="Kinetics-400",
        accuracy=accuracy,
        views=views,
        licence=licence,
        classes="video_snl.models.torchvision_video:kinetics400_classes",
    )


def _pytorchvideo(
    builder: str,
    file: str,
    accuracy: tuple[float, float],
    recipe: Recipe,
    smallest_clip: tuple[int, int, int],
    *,
    views: str = "10 x 3",
    frames_multiple: int = 1,
    positions: tuple[str, ...] = ("before:res4.-1",),
    layout: BlockLayout = "channels_first",
    exact: bool = False,
    resnet: bool = False,
) -> VideoBackbone:
    """Describe a network of pytorchvideo's model zoo, with the accuracy that it states."""
    weights = {"kinetics": f"https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/{file}"}
    return VideoBackbone(
        builder=f"video_snl.models.{builder}",
        smallest_clip=smallest_clip,
        exact=exact,
        frames_multiple=frames_multiple,
        weights=weights | IMAGENET if resnet else weights,
        positions=positions,
        layout=layout,
        resnet=resnet,
        recipe=recipe,
        published=_kinetics_400(accuracy, views, "Apache-2.0"),
    )


def _x3d(size: str, accuracy: tuple[float, float], recipe: Recipe) -> VideoBackbone:
    file = f"X3D_{size.upper()}.pyth"
    return _pytorchvideo(f"x3d:x3d_{size}", file, accuracy, recipe, (1, 32, 32))


def _torchvision(
    name: str,
    file: str,
    accuracy: tuple[float, float],
    recipe: Recipe,
    smallest_clip: tuple[int, int, int],
    statistics: str,
    positions: tuple[str, ...],
    *,
    layout: BlockLayout = "channels_first",
    exact: bool = False,
) -> VideoBackbone:
    """Describe a network of torchvision, with the accuracy that it states."""
    return VideoBackbone(
        builder=f"video_snl.models.torchvision_video:{name}",
        smallest_clip=smallest_clip,
        exact=exact,
        weights={"kinetics": f"https://download.pytorch.org/models/{file}"},
        statistics=statistics,
        positions=positions,
        layout=layout,
        recipe=recipe,
        published=_kinetics_400(accuracy, f"{recipe.clips} x 1", "BSD-3-Clause"),
    )


def _resnet_18(name: str, file: str, accuracy: tuple[float, float]) -> VideoBackbone:
    recipe = Recipe(frames=16, seconds=1 / 15, resize=(128, 171), crop=112, clips=5)
    place = ("before:layer3.-1",)
    return _torchvision(name, file, accuracy, recipe, (1, 16, 16), "torchvision", place)


def _swin(name: str, file: str, accuracy: tuple[float, float]) -> VideoBackbone:
    recipe = Recipe(frames=32, seconds=1 / 15, resize=256, crop=224, clips=12)
    place = ("before:features.4.-1",)
    return _torchvision(
        name, file, accuracy, recipe, (2, 32, 32), "imagenet", place, layout="channels_last"
    )


def _mvit(name: str, file: str, accuracy: tuple[float, float]) -> VideoBackbone:
    return _torchvision(
        name,
        file,
        accuracy,
        _MVIT,
        (16, 224, 224),
        "kinetics",
        ("before:blocks.13",),
        layout="tokens",
        exact=True,
    )


_MVIT = Recipe(frames=16, seconds=4 / 30, resize=256, crop=224, clips=5)
# The frames of pytorchvideo's networks are counted at 30 frames a second.
_8X8 = Recipe(frames=8, seconds=8 / 30, resize=256, crop=256, clips=10, crops=3)

VIDEO_BACKBONES: dict[str, VideoBackbone] = {
    "i3d_r50": _hara("i3d_r50", 50, weights=IMAGENET),  # the paper's
    "i3d_small": VideoBackbone(  # for short clips on a CPU
        builder="video_snl.models.i3d:i3d_small", smallest_clip=(4, 32, 32), resnet=True
    ),
    "hara_r3d18": _hara("hara_r3d18", 18),
    "hara_r3d34": _hara("hara_r3d34", 34),
    "hara_r3d101": _hara("hara_r3d101", 101),
    "hara_r3d152": _hara("hara_r3d152", 152),
    "hara_r3d200": _hara("hara_r3d200", 200),
    "pytorchvideo_i3d_r50": _pytorchvideo(
        "i3d:pytorchvideo_i3d_r50",
        "I3D_8x8_R50.pyth",
        (73.27, 90.70),
        _8X8,
        (2, 16, 16),
        resnet=True,
    ),
    "slow_r50": _pytorchvideo(
        "i3d:slow_r50", "SLOW_8x8_R50.pyth", (74.58, 91.63), _8X8, (1, 16, 16), resnet=True
    ),
    "slowfast_r50": _pytorchvideo(
        "slowfast:slowfast_r50",
        "SLOWFAST_8x8_R50.pyth",
        (76.94, 92.69),
        Recipe(frames=32, seconds=2 / 30, resize=256, crop=256, clips=10, crops=3),
        (4, 32, 32),
        frames_multiple=4,
        positions=("before:slow.res4.-1",),
    ),
    "x3d_xs": _x3d(
        "xs",
        (69.12, 88.63),
        Recipe(frames=4, seconds=12 / 30, resize=182, crop=160, clips=3),
    ),
    "x3d_s": _x3d(
        "s",
        (73.33, 91.27),
        Recipe(frames=13, seconds=6 / 30, resize=182, crop=182, clips=10, crops=3),
    ),
    "x3d_m": _x3d(
        "m",
        (75.94, 92.72),
        Recipe(frames=16, seconds=5 / 30, resize=256, crop=256, clips=10, crops=3),
    ),
    "x3d_l": _x3d(
        "l",
        (77.44, 93.31),
        Recipe(frames=16, seconds=5 / 30, resize=356, crop=356, clips=10, crops=3),
    ),
    "mvit_base_16x4": _pytorchvideo(
        "mvit:mvit_base_16x4",
        "MVIT_B_16x4.pyth",
        (78.85, 93.85),
        _MVIT,
        (16, 224, 224),
        views="5 x 1",
        positions=("before:blocks.13",),
        layout="tokens",
        exact=True,
    ),
    "r3d_18": _resnet_18("r3d_18", "r3d_18-b3b3357e.pth", (63.200, 83.479)),
    "mc3_18": _resnet_18("mc3_18", "mc3_18-a90a0ba3.pth", (63.960, 84.130)),
    "r2plus1d_18": _resnet_18("r2plus1d_18", "r2plus1d_18-91a641e6.pth", (67.463, 86.175)),
    "s3d": _torchvision(
        "s3d",
        "s3d-d76dad2f.pth",
        (68.368, 88.050),
        Recipe(frames=128, seconds=1 / 15, resize=(256, 256), crop=224, clips=1),
        (14, 224, 224),
        "torchvision",
        ("before:features.12",),
    ),
    "mvit_v1_b": _mvit("mvit_v1_b", "mvit_v1_b-dbeb1030.pth", (78.477, 93.582)),
    "mvit_v2_s": _mvit("mvit_v2_s", "mvit_v2_s-ae3be167.pth", (80.757, 94.665)),
    "swin3d_t": _swin("swin3d_t", "swin3d_t-7615ae03.pth", (77.715, 93.519)),
    "swin3d_s": _swin("swin3d_s", "swin3d_s-da41c237.pth", (79.521, 94.158)),
    "swin3d_b": _swin("swin3d_b", "swin3d_b_1k-24f7c7c6.pth", (79.427, 94.386)),
}
"""Networks of clips by name."""

PRETRAINED: dict[str, VideoBackbone] = {
    name: entry
    for name, entry in VIDEO_BACKBONES.items()
    if entry.recipe is not None and entry.published is not None
}
"""Networks of clips with published weights that a command can use by name."""

# Type checkers know no types that are computed.
if TYPE_CHECKING:
    VideoBackboneName = str
else:
    VideoBackboneName = Literal[tuple(VIDEO_BACKBONES)]
