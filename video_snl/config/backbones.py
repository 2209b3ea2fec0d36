"""The backbones that configurations can name. Without torch.

Each is one entry with its input size, statistics and weights.

To add a backbone, write a function ``(num_classes, dropout) -> nn.Module`` and an entry in
:data:`VIDEO_BACKBONES` or :data:`IMAGE_BACKBONES`. The names of the entries are the choices of
``model.backbone``; builders are named as ``module:function`` and imported when a network is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from video_snl.config.video_backbones import (
    IMAGENET,
    PRETRAINED,
    VIDEO_BACKBONES,
    Backbone,
    BlockLayout,
    Published,
    Recipe,
    VideoBackbone,
    VideoBackboneName,
)

__all__ = [
    "IMAGE_BACKBONES",
    "VIDEO_BACKBONES",
    "AffinityName",
    "Backbone",
    "BlockLayout",
    "ImageBackbone",
    "ImageBackboneName",
    "PRETRAINED",
    "Published",
    "Recipe",
    "ReleasedPlace",
    "Sign",
    "VideoBackbone",
    "VideoBackboneName",
    "WeightsLayout",
]

AffinityName = Literal["softmax", "relu", "relu_sym"]
"""Affinity of a block of the paper's released code."""
Sign = Literal["+", "-"]
"""Sign of A Z W_2 in such a block."""


@dataclass(frozen=True)
class ReleasedPlace:
    """Place of a block in files of the released code: module ``index`` of a layer.

    Attributes:
        layer: Name of the layer, a sequence of ``units`` residual units and the block.
        index: Place of the block in it.
        units: Number of the residual units.
        position: Position of the block in our network, in the grammar of ``model.positions``.
    """

    layer: str
    index: int
    units: int
    position: str


@dataclass(frozen=True)
class WeightsLayout:
    """Names of a network's tensors, here and in files.

    Attributes:
        stem: Name of the first tensor.
        head: Beginnings of the names of the classifier.
        places: Places of blocks in files of the released code.
        named: Positions of blocks that have a name of their own there, by the beginnings of their
            names.
        left_over: Tensors in those files that the outputs do not depend on.
        foreign: Tensors that only files for another backbone have, each with the advice to give.
        required: Tensors that only the right files have, each with the advice to give.
        inside: Beginning of the backbone's names, where a file may hold that part alone.
        heads: Beginnings of all names outside that part.
    """

    stem: str
    head: tuple[str, ...]
    places: tuple[ReleasedPlace, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    left_over: tuple[str, ...] = ()
    foreign: Mapping[str, str] = field(default_factory=dict)
    required: Mapping[str, str] = field(default_factory=dict)
    inside: str = ""
    heads: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImageBackbone(Backbone):
    """A network of images, (B, 3, H, W) -> (B, num_classes), or (B, num_classes, H, W).

    Attributes:
        layout: Names of its tensors.
        positions: The paper's places of blocks, where a configuration names none.
        stages: The paper's place in each stage.
        smallest: Least height and width of an image.
        segments: It labels pixels, and has an auxiliary output in training.
        affinity: Affinity of blocks of the released code in it; None for that of each kind.
        sign: Sign of such blocks.
    """

    layout: WeightsLayout
    positions: tuple[str, ...]
    stages: Mapping[int, str] = field(default_factory=dict)
    smallest: int = 4
    segments: bool = False
    affinity: AffinityName | None = None
    sign: Sign = "+"


_PRERESNET = {stage: f"after:layer{stage}.1" for stage in (1, 2, 3)}
_RESNET50 = {1: "before:layer1.2", 2: "before:layer2.3", 3: "before:layer3.5", 4: "before:layer4.2"}
_RESNET50_LAYOUT = WeightsLayout(
    "conv1.weight", ("fc.",), places=(ReleasedPlace("layer3", 5, 6, _RESNET50[3]),)
)


def _textbook(name: str) -> ImageBackbone:
    advice = f"it is the released code's: choose backbone {name}_snl"
    return ImageBackbone(
        builder=f"video_snl.models.preresnet:{name}",
        layout=WeightsLayout("conv.weight", ("fc.",), foreign={"fc2.weight": advice}),
        positions=(_PRERESNET[1],),
        stages=_PRERESNET,
    )


def _released(name: str, units: int) -> ImageBackbone:
    layout = WeightsLayout(
        "conv.weight",
        ("fc2.",),
        places=tuple(
            ReleasedPlace(f"layer{stage}", 2, units, place) for stage, place in _PRERESNET.items()
        ),
        # The released training script puts a ResNet's stem and classifier into every network.
        left_over=("conv1.weight", "fc.weight", "fc.bias"),
        required={"fc2.weight": "the textbook's have the backbones preresnet20 and preresnet56"},
    )
    return ImageBackbone(
        builder=f"video_snl.models.preresnet:{name}",
        layout=layout,
        positions=(_PRERESNET[1],),
        stages=_PRERESNET,
        affinity="relu_sym",
    )


IMAGE_BACKBONES: dict[str, ImageBackbone] = {
    "preresnet20": _textbook("preresnet20"),
    "preresnet56": _textbook("preresnet56"),
    "preresnet20_snl": _released("preresnet20_snl", 3),
    "preresnet56_snl": _released("preresnet56_snl", 9),
    "preresnet110_snl": _released("preresnet110_snl", 18),
    "resnet50_cifar": ImageBackbone(
        builder="video_snl.models.resnet:resnet50_cifar",
        weights=IMAGENET,
        layout=_RESNET50_LAYOUT,
        positions=(_RESNET50[3],),
        stages=_RESNET50,
    ),
    "resnet50": ImageBackbone(
        builder="video_snl.models.resnet:resnet50",
        weights=IMAGENET,
        layout=_RESNET50_LAYOUT,
        positions=(_RESNET50[3],),
        stages=_RESNET50,
        smallest=32,
    ),
    "fcn_r50_d8": ImageBackbone(
        builder="video_snl.models.fcn:FCN",
        weights=IMAGENET,
        layout=WeightsLayout(
            "backbone.stem.0.weight",
            ("decode_head.conv_seg.", "auxiliary_head.conv_seg."),
            named={"decode_head.SNL.": "after:decode_head.convs.0"},
            inside="backbone.",
            heads=("decode_head.", "auxiliary_head.", "fc."),
        ),
        positions=("after:decode_head.convs.0",),
        smallest=16,
        segments=True,
        affinity="relu_sym",
        sign="-",
    ),
}
"""Networks of images by name."""

# Type checkers know no types that are computed.
if TYPE_CHECKING:
    ImageBackboneName = str
else:
    ImageBackboneName = Literal[tuple(IMAGE_BACKBONES)]
