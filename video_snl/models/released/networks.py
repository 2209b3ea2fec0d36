"""The image networks of the code that the paper's authors released, from their checkpoints."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import nn

from video_snl.errors import UserError
from video_snl.models.reference_preresnet import (
    PreActBasic,
    PreActBottleneck,
    PreActUnit,
    PreResNet,
)
from video_snl.models.released.blocks import AffinityName, reference_block
from video_snl.models.released.state_dicts import Kind, StateDictError, Tensors, recognized
from video_snl.models.weights.sources import read_checkpoint
from video_snl.utils.finite import check_weights

__all__ = ["Arch", "load_reference_network"]

Arch = Literal["preresnet20", "preresnet56", "preresnet110", "resnet50", "resnet101", "resnet152"]


@dataclass(frozen=True)
class _Network:
    """How a network was released.

    Attributes:
        build: the network without inserted blocks, for a file and a size of the average pooling.
        places: layers that may hold a block: at which index, and of how many residual units.
        affinity: of its blocks, if not that of each kind.
        left_over: tensors in its files that its outputs do not depend on.
    """

    build: Callable[[Tensors, int | None], nn.Module]
    places: Mapping[str, tuple[int, int]]
    affinity: AffinityName | None = None
    left_over: frozenset[str] = frozenset()


def _preresnet(unit: PreActUnit, depth: int) -> _Network:
    def build(tensors: Tensors, pool_size: int | None) -> nn.Module:
        return PreResNet(unit, depth, _classes(tensors, "fc2.weight"), pool_size=pool_size or 8)

    places = {f"layer{number}": (2, depth) for number in (1, 2, 3)}
    # The released training script hangs a ResNet's stem and classifier on every network.
    left_over = frozenset({"conv1.weight", "fc.weight", "fc.bias"})
    return _Network(build, places, "relu_sym", left_over)


def _resnet(name: str, units: int) -> _Network:
    return _Network(partial(_build_resnet, name), {"layer3": (units - 1, units)})


def _build_resnet(name: str, tensors: Tensors, pool_size: int | None) -> nn.Module:
    """torchvision's ResNet with a dropout, fixed pooling and, for CIFAR, a 3x3 stem."""
    import torchvision  # takes a second

    network = getattr(torchvision.models, name)(num_classes=_classes(tensors, "fc.weight"))
    small = tensors["conv1.weight"].shape[2:] == (3, 3)
    if small:
        network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    pool = nn.AvgPool2d(pool_size or (4 if small else 7), stride=1)
    network.avgpool = nn.Sequential(pool, nn.Dropout(0.5))
    return network


def _classes(tensors: Tensors, name: str) -> int:
    shape = tuple(tensors[name].shape)
    if len(shape) != 2:
        raise StateDictError(f"{name} is {shape}, not (classes, channels).")
    return shape[0]


_NETWORKS: dict[Arch, _Network] = {
    "preresnet20": _preresnet(PreActBasic, 3),
    "preresnet56": _preresnet(PreActBottleneck, 9),
    "preresnet110": _preresnet(PreActBottleneck, 18),
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
    """A network of the released code with its trained blocks, in evaluation mode.

    Args:
        source: a file, a checkpoint with ``state_dict``, or a state dict; from a file only tensors
            and plain values are read, no code.
        arch: ``preresnet20``, ``preresnet56``, ``preresnet110``, whose blocks are ``layerK.2``, or
            ``resnet50``, ``resnet101``, ``resnet152``, before the last unit of ``layer3``. Classes
            and, for ResNets on CIFAR, the stem are read off the shapes.
        kind, affinity: of the blocks, as :func:`load_reference_block` takes them; the affinity is
            by default ``relu_sym`` in a PreResNet, in which "a2" is the same as "nl".
        pool_size: of the average pooling; by default 8 for PreResNets (32 x 32 images), 7 for
            ResNets (224 x 224), 4 for those on CIFAR.

    Warns:
        UserWarning: naming tensors in PreResNet checkpoints that are no part of the network.

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
    paths = _block_paths(released, tensors)
    for path in paths:
        name, index = path.split(".")
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Sequential)
        layer.insert(int(index), _block(tensors.below(f"{path}."), released, kind, affinity))
    _load_rest(network, tensors, paths, released, arch)
    if (kind or affinity) and not paths:
        raise StateDictError(f"kind={kind!r}, affinity={affinity!r}, but the file has no block.")
    check_weights(network.state_dict(), source if isinstance(source, str) else f"the {arch}")
    return network.eval()


def _checkpoint(source: str | os.PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint {str(path)!r}: no such file.")
    return read_checkpoint(path)


def _block_paths(released: _Network, tensors: Tensors) -> list[str]:
    """Where the file has blocks: in layers with one module more than residual units."""
    return [
        f"{layer}.{index}"
        for layer, (index, units) in released.places.items()
        if tensors.numbered(f"{layer}.") == units + 1
    ]


def _block(
    tensors: Tensors, released: _Network, kind: Kind | None, affinity: AffinityName | None
) -> nn.Module:
    kind = recognized(tensors) if kind is None else kind
    usual = None if kind in ("cgnl", "cc") else released.affinity
    return reference_block(tensors, kind, affinity=affinity or usual)


def _load_rest(
    network: nn.Module, tensors: Tensors, paths: list[str], released: _Network, arch: Arch
) -> None:
    """Load, and check the names and shapes of, what is no block's."""

    def mine(name: str) -> bool:
        return not any(name.startswith(f"{path}.") for path in paths)

    left_over = sorted(released.left_over & tensors.named.keys())
    rest = {n: t for n, t in tensors.named.items() if mine(n) and n not in left_over}
    shapes = {n: tuple(t.shape) for n, t in network.state_dict().items() if mine(n)}
    Tensors(rest).check(shapes, f"a released {arch}")
    network.load_state_dict(rest, strict=False)
    if left_over:
        warnings.warn(f"no part of {arch}, left out: {', '.join(left_over)}.", stacklevel=3)
