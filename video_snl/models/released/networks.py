"""Networks of the code that the paper's authors released, from their checkpoints.

:func:`load_reference_network` makes a network of a file alone, in the file's own layout.
:func:`released_config` reads the configuration off a file, of which
:func:`~video_snl.models.image.build_image_model` makes the same network in our layout, to be
trained, stored and rebuilt. Both find blocks at the places that
:data:`video_snl.config.backbones.IMAGE_BACKBONES` names.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from video_snl.config.backbones import (
    IMAGE_BACKBONES,
    AffinityName,
    ImageBackboneName,
    ReleasedPlace,
    WeightsLayout,
)
from video_snl.config.image import ImageModelConfig
from video_snl.config.video import OptionValue
from video_snl.errors import UserError
from video_snl.models.preresnet import PreActBasic, PreActBottleneck, PreActUnit, PreResNet
from video_snl.models.released.blocks import reference_block
from video_snl.models.released.state_dicts import (
    FileBlocks,
    Kind,
    StateDictError,
    Tensors,
    block_kind,
    block_layout,
    released_blocks,
)
from video_snl.models.weights.image import parts_of
from video_snl.models.weights.sources import locate, read_checkpoint
from video_snl.utils.finite import check_weights

__all__ = ["Arch", "load_reference_network", "released_config"]

Arch = Literal["preresnet20", "preresnet56", "preresnet110", "resnet50", "resnet101", "resnet152"]


@dataclass(frozen=True)
class _Network:
    """A network as it was released.

    Attributes:
        build: Builds the network without inserted blocks, for a file and a size of the average
            pooling.
        layout: Names of its tensors, and places of its blocks.
        affinity: Affinity of its blocks; None for that of each kind.
    """

    build: Callable[[Tensors, int | None], nn.Module]
    layout: WeightsLayout
    affinity: AffinityName | None = None


def _preresnet(arch: str, unit: PreActUnit) -> _Network:
    known = IMAGE_BACKBONES[f"{arch}_snl"]
    units = known.layout.places[0].units

    def build(tensors: Tensors, pool_size: int | None) -> nn.Module:
        return PreResNet(unit, units, _classes(tensors, "fc2.weight"), pool_size=pool_size or 8)

    return _Network(build, known.layout, known.affinity)


def _resnet(arch: str, units: int) -> _Network:
    """Describe torchvision's ResNet with a dropout, fixed pooling and, for CIFAR, a 3x3 stem."""

    def build(tensors: Tensors, pool_size: int | None) -> nn.Module:
        import torchvision  # takes a second

        network = getattr(torchvision.models, arch)(num_classes=_classes(tensors, "fc.weight"))
        small = tensors["conv1.weight"].shape[2:] == (3, 3)
        if small:
            network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            network.maxpool = nn.Identity()
        pool = nn.AvgPool2d(pool_size or (4 if small else 7), stride=1)
        network.avgpool = nn.Sequential(pool, nn.Dropout(0.5))
        return network

    place = ReleasedPlace("layer3", units - 1, units, f"before:layer3.{units - 1}")
    return _Network(build, WeightsLayout("conv1.weight", ("fc.",), places=(place,)))


def _classes(tensors: Tensors, name: str) -> int:
    shape = tuple(tensors[name].shape)
    if len(shape) != 2:
        raise StateDictError(f"{name} is {shape}, not (classes, channels).")
    return shape[0]


_NETWORKS: dict[Arch, _Network] = {
    "preresnet20": _preresnet("preresnet20", PreActBasic),
    "preresnet56": _preresnet("preresnet56", PreActBottleneck),
    "preresnet110": _preresnet("preresnet110", PreActBottleneck),
    "resnet50": _resnet("resnet50", 6),
    "resnet101": _resnet("resnet101", 23),
    "resnet152": _resnet("resnet152", 36),
}


def load_reference_network(
    source: str | os.PathLike[str] | Mapping[str, Any],
    arch: Arch,
    *,
    kind: Kind | None = None,
    affinity: AffinityName | None = None,
    pool_size: int | None = None,
) -> nn.Module:
    """Build a network of the released code with its trained blocks, in evaluation mode.

    Args:
        source: a file, a checkpoint with ``state_dict``, or a state dict; from a file only tensors
            and plain values are read, no code.
        arch: ``preresnet20``, ``preresnet56``, ``preresnet110``, whose blocks are ``layerK.2``, or
            ``resnet50``, ``resnet101``, ``resnet152``, before the last unit of ``layer3``. Classes
            and, for ResNets on CIFAR, the stem are read off the shapes.
        kind, affinity: kind and affinity of the blocks, as
            :func:`~video_snl.models.released.blocks.load_reference_block` takes them; by default
            the affinity is ``relu_sym`` in a PreResNet, in which "a2" is the same as "nl".
        pool_size: side of the average pooling; by default 8 for PreResNets (32 x 32 images), 7 for
            ResNets (224 x 224), 4 for those on CIFAR.

    Warns:
        UserWarning: naming tensors in PreResNet checkpoints that are not part of the network.

    Raises:
        UserError: for a file that is not there or cannot be read.
        StateDictError: (a UserError and ValueError) naming unknown, missing and misshapen tensors.
        UserError: for weights that are not finite.
        ValueError: for an unknown arch, or as :func:`load_reference_block`.
    """
    if arch not in _NETWORKS:
        raise ValueError(f"arch={arch!r} is unknown; choose from: {', '.join(_NETWORKS)}.")
    released, tensors = _NETWORKS[arch], Tensors.of(_checkpoint(source))
    network = released.build(tensors, pool_size)
    blocks = released_blocks(tensors.named, released.layout)
    paths = []
    for place in released.layout.places:
        if place.position in blocks:
            layer = network.get_submodule(place.layer)
            assert isinstance(layer, nn.Sequential)
            layer.insert(place.index, _block(blocks[place.position], released, kind, affinity))
            paths.append(f"{place.layer}.{place.index}")
    _load_rest(network, tensors, paths, released, arch)
    if (kind or affinity) and not paths:
        raise StateDictError(f"kind={kind!r}, affinity={affinity!r}, but the file has no block.")
    check_weights(network.state_dict(), source if isinstance(source, str) else f"the {arch}")
    return network.eval()


def released_config(
    source: str, backbone: ImageBackboneName, *, kind: Kind | None = None
) -> ImageModelConfig:
    """Read how to build the network of a released checkpoint, with its blocks and classifier.

    ``build_image_model(config, config.num_classes)`` then has the weights of the file. Blocks of
    ``preresnet*_snl`` have the affinity of the released network (see
    :func:`load_reference_network`).

    Args:
        source: a file or an http(s) URL.
        backbone: ``preresnet20_snl``, ``preresnet56_snl``, ``preresnet110_snl``,
            ``resnet50_cifar``, ``resnet50`` or ``fcn_r50_d8``.
        kind: kind of the blocks, where their keys do not tell it (nl, ns and a2).

    Raises:
        UserError: for a file that cannot be read or is of another network, or blocks that differ
            in more than their channels.
    """
    layout = IMAGE_BACKBONES[backbone].layout
    tensors, _, _ = parts_of(read_checkpoint(locate(source, backbone)), layout, source, backbone)
    classifier = tensors.get(f"{layout.head[0]}weight")
    if classifier is None or classifier.ndim not in (2, 4):
        raise UserError(f"weights {source!r} have no classifier {layout.head[0]}weight.")
    classes = int(classifier.shape[0])
    blocks = released_blocks(tensors, layout)
    if not blocks:
        return ImageModelConfig(backbone, "none", num_classes=classes, weights=source)
    kinds = {block_kind(block, kind) for block in blocks.values()}
    layouts = [block_layout(block, next(iter(kinds))) for block in blocks.values()]
    reductions = {channels // width for channels, width, _ in layouts}
    units = {number for _, _, number in layouts}
    if len(kinds) > 1 or len(reductions) > 1 or len(units) > 1:
        raise UserError(
            f"weights {source!r} have blocks of kinds {sorted(kinds)}, reductions "
            f"{sorted(reductions)} and units {sorted(units)}; one of each was expected."
        )
    (found,) = kinds
    return ImageModelConfig(
        backbone,
        "released",
        block_options=_options(found, blocks, layouts[0][1]),
        positions=list(blocks),
        reduction=reductions.pop(),
        num_units=units.pop(),
        zero_init=False,
        activation=None if found in ("cgnl", "cc") else "relu",
        num_classes=classes,
        weights=source,
    )


def _options(kind: Kind, blocks: FileBlocks, width: int) -> dict[str, OptionValue]:
    options: dict[str, OptionValue] = {"kind": kind}
    if kind == "cgnl":
        _, per_group = next(iter(blocks.values())).convolution("z.weight")
        options["groups"] = width // per_group
    return options


def _checkpoint(source: str | os.PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint {str(path)!r}: no such file.")
    return read_checkpoint(path)


def _block(
    tensors: Tensors, released: _Network, kind: Kind | None, affinity: AffinityName | None
) -> nn.Module:
    kind = block_kind(tensors, kind)
    usual = None if kind in ("cgnl", "cc") else released.affinity
    return reference_block(tensors, kind, affinity=affinity or usual)


def _load_rest(
    network: nn.Module, tensors: Tensors, paths: list[str], released: _Network, arch: Arch
) -> None:
    """Load all that is not a block's; its names and shapes are checked."""

    def mine(name: str) -> bool:
        return not any(name.startswith(f"{path}.") for path in paths)

    left_over = sorted(set(released.layout.left_over) & tensors.named.keys())
    rest = {n: t for n, t in tensors.named.items() if mine(n) and n not in left_over}
    shapes = {n: tuple(t.shape) for n, t in network.state_dict().items() if mine(n)}
    Tensors(rest).check(shapes, f"a released {arch}")
    network.load_state_dict(rest, strict=False)
    if left_over:
        warnings.warn(f"no part of {arch}, left out: {', '.join(left_over)}.", stacklevel=3)
