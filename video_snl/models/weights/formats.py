"""The formats weights come in, recognised by their names and put into a backbone's own names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import Tensor, nn

from video_snl.config.statistics import STATISTICS
from video_snl.errors import UserError

__all__ = [
    "Layout",
    "Statistics",
    "Translated",
    "network_tensors",
    "other_parts",
    "translate",
    "unwrapped",
]

Statistics = Literal["kinetics", "imagenet", "torchvision", "hara", "unknown"]

# Wrappers leave their attribute's name in the names of what they wrap: DataParallel and an
# inserted block's WithBlock ("module"), torch.compile, activation checkpointing.
_WRAPPED, _INSERTED = "module", "block"
_WRAPPERS = frozenset({_WRAPPED, "_orig_mod", "_checkpoint_wrapped_module"})
_OWN_PREFIX = "model."

_STEM = {"conv1": "conv", "bn1": "norm"}
# A bottleneck has three convolutions, a basic unit the first two.
_UNIT = {
    "conv1": "branch2.conv_a",
    "bn1": "branch2.norm_a",
    "conv2": "branch2.conv_b",
    "bn2": "branch2.norm_b",
    "conv3": "branch2.conv_c",
    "bn3": "branch2.norm_c",
    "downsample.0": "branch1_conv",
    "downsample.1": "branch1_norm",
}
# Parts of few parameters that make a ResNet another network, by how their tensors are called.
_OTHER_PARTS = {
    "instance normalisation, as IBN": r"\.IN\.",
    "non-local blocks": r"(^|\.)NL_\d\.",
    "squeeze-and-excitation": r"\.(se|se_module)\.",
}
_UNIT_NAME = re.compile(r"layer([1-4])\.(\d+)\.((?:conv|bn)\d|downsample\.[01])\.(\w+)")


@dataclass(frozen=True)
class Layout:
    """Places of the parts of a pytorchvideo network: indices into ``model.blocks``.

    The stages are not always 1-4: pytorchvideo's i3d_r50 has a pooling layer between them.
    """

    stages: tuple[int, ...]
    head: int

    @classmethod
    def of(cls, model: nn.Module) -> Layout:
        """Read the layout off ``model``; TypeError for one without pytorchvideo's ``blocks``."""
        blocks = getattr(model, "blocks", None)
        if not isinstance(blocks, nn.ModuleList):
            raise TypeError(f"{type(model).__name__} is not a backbone: it has no list 'blocks'.")
        stages = tuple(i for i, part in enumerate(blocks) if hasattr(part, "res_blocks"))
        return cls(stages, len(blocks) - 1)


@dataclass(frozen=True)
class Translated:
    """Tensors under the names of the network they are for.

    ``left_out`` names what the file holds besides its network: inserted blocks, average models.
    ``lacking`` names parts of few parameters that its network has not, and ours have.
    """

    format: str
    statistics: Statistics
    tensors: dict[str, Tensor]
    left_out: tuple[str, ...] = ()
    note: str | None = None
    lacking: tuple[str, ...] = ()


def translate(checkpoint: Mapping[str, Any], layout: Layout, source: str) -> Translated:
    """Recognise the format of a checkpoint and rename its tensors.

    =============================  ==============================  =====================
    format                         recognised by                   statistics
    =============================  ==============================  =====================
    video-snl checkpoint           ``model.blocks.0.conv.``        its mean and std
    pytorchvideo                   ``blocks.0.conv.``              kinetics
    3D-ResNets-PyTorch (Hara)      ``conv1.weight``, 5 axes        hara
    torchvision ResNet (2D)        ``conv1.weight``, 4 axes        imagenet
    =============================  ==============================  =====================

    The tensors may stand in ``state_dict``, ``model_state`` or ``model``, or at the top, their
    names with or without ``module.``.

    Raises:
        UserError: for none of these.
    """
    tensors = _tensors(checkpoint)
    bare = {_bare(name): tensor for name, tensor in tensors.items()}
    stem = bare.get("conv1.weight")
    # The stem of X3D is two convolutions: blocks.0.conv.conv_t and blocks.0.conv.conv_xy.
    if any(name.startswith(f"{_OWN_PREFIX}blocks.0.conv.") for name in bare):
        return _from_own(tensors, checkpoint)
    if any(name.startswith("blocks.0.conv.") for name in bare):
        return Translated("pytorchvideo", "kinetics", bare)
    if stem is not None and "layer1.0.conv1.weight" in bare and stem.ndim in (4, 5):
        return _from_resnet(bare, layout, inflate=stem.ndim == 4)
    names = ", ".join(list(tensors or checkpoint)[:3]) or "nothing"
    raise UserError(
        f"weights {source!r} hold no network that is known here: they start with {names}. Known "
        "are 3D-ResNets-PyTorch (conv1.weight, layer1.0.conv1.weight, ...), pytorchvideo "
        "(blocks.0.conv.weight, ...), torchvision's ResNet-50 and video-snl's own checkpoints."
    )


def own_names(checkpoint: Mapping[str, Any], statistics: str) -> Translated:
    """Read a checkpoint of a network whose tensors have their own names in all files.

    That is a ``state_dict`` of the network, or a checkpoint of ``video-snl train``.

    Args:
        checkpoint: Contents of the file.
        statistics: Key of the input statistics of its published weights.
    """
    tensors = _tensors(checkpoint)
    if all(name.startswith(_OWN_PREFIX) for name in tensors):
        return _from_own(tensors, checkpoint)
    bare = {_bare(name): tensor for name, tensor in tensors.items()}
    return Translated("names of the network", cast(Statistics, statistics), bare)


def network_tensors(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return a checkpoint's tensors under their names in no wrapper, without inserted blocks.

    The second value holds the names of the tensors of inserted blocks.
    """
    tensors = _tensors(checkpoint)
    inserted = _inserted(tensors)
    left_out = set(inserted)
    return {_bare(n): t for n, t in tensors.items() if n not in left_out}, inserted


def other_parts(names: Iterable[str]) -> list[str]:
    """Find parts that make two networks different ones, though they have few parameters.

    Args:
        names: Names of tensors that one of a file and a network has, and the other lacks.

    Returns:
        A phrase for each kind of part, with the name of one of its tensors.
    """
    found: dict[str, str] = {}
    for name in names:
        for part, pattern in _OTHER_PARTS.items():
            if re.search(pattern, name):
                found.setdefault(part, name)
    return [f"{part} ({name})" for part, name in found.items()]


def unwrapped(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what stands in ``state_dict``, ``model_state`` or ``model``, or what was given."""
    for key in ("state_dict", "model_state", "model"):
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
    return checkpoint


def _tensors(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    found = unwrapped(checkpoint).items()
    return {str(name): value for name, value in found if isinstance(value, Tensor)}


def _inserted(names: Iterable[str]) -> tuple[str, ...]:
    """Find the tensors of inserted blocks.

    A block is the ``block`` of a wrapper whose ``module`` is the wrapped layer. Other parts may
    have that name, too: X3D's squeeze-and-excitation is ``norm_b.1.block.0``, beside no module.
    """
    names = list(names)
    parts = {name: name.split(".") for name in names}
    wrappers = {
        tuple(path[:place])
        for path in parts.values()
        for place, part in enumerate(path)
        if part == _WRAPPED
    }

    def belongs(path: list[str]) -> bool:
        return any(
            part == _INSERTED and (tuple(path[:place]) in wrappers or not path[place + 1].isdigit())
            for place, part in enumerate(path[:-1])
        )

    return tuple(name for name in names if belongs(parts[name]))


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _from_own(tensors: dict[str, Tensor], checkpoint: Mapping[str, Any]) -> Translated:
    backbone, left_out, inserted = {}, [], set(_inserted(tensors))
    for name, tensor in tensors.items():
        if name in inserted or not name.startswith(_OWN_PREFIX):
            left_out.append(name)
        else:
            backbone[_bare(name).removeprefix(_OWN_PREFIX)] = tensor
    statistics = _own_statistics(checkpoint)
    note = None if statistics else "It does not say its input statistics; kinetics is assumed."
    known = statistics or "kinetics"
    return Translated("video-snl checkpoint", known, backbone, tuple(left_out), note)


def _own_statistics(checkpoint: Mapping[str, Any]) -> Statistics | None:
    """Return the key of the mean and deviation that ``video-snl train`` wrote down."""
    about = checkpoint.get("video_snl", {})
    stored = (tuple(about.get("mean", ())), tuple(about.get("std", ())))
    for key, (mean, std) in STATISTICS.items():
        if stored == (tuple(mean), tuple(std)):
            return cast(Statistics, key)
    return None


def _from_resnet(bare: dict[str, Tensor], layout: Layout, *, inflate: bool) -> Translated:
    rename = _resnet_names(layout)
    tensors = {rename(name): tensor for name, tensor in bare.items()}
    lacking = _without_projections(bare)
    if inflate:
        name = "torchvision ResNet (2D, inflated)"
        return Translated(name, "imagenet", tensors, lacking=lacking)
    note = _first_release(bare)
    return Translated("3D-ResNets-PyTorch", "hara", tensors, note=note, lacking=lacking)


def _without_projections(bare: dict[str, Tensor]) -> tuple[str, ...]:
    """Recognise shortcuts that only pad with zeros (type A), as the first release's of 18 and 34.

    All the rest of such a network fits one with projections, which would start untrained.
    """
    if "layer2.0.conv1.weight" not in bare or "layer2.0.downsample.0.weight" in bare:
        return ()
    return (
        "projection shortcuts (layer2.0.downsample; the first release of 3D-ResNets-PyTorch has "
        "none at depths 18 and 34, r3d18_K_200ep.pth and r3d34_K_200ep.pth do)",
    )


def _first_release(bare: dict[str, Tensor]) -> str | None:
    """Recognise the 2018 release (400 classes), which was fed 0-255 minus a mean."""
    head = bare.get("fc.weight")
    if head is None or head.shape[0] != 400:
        return None
    return (
        "A head of 400 classes points to the authors' first release, trained on values of 0-255 "
        "minus (114.8, 107.7, 99.5) without a division; its BatchNorm statistics fit no other "
        "input, so do not freeze them."
    )


def _resnet_names(layout: Layout) -> Callable[[str], str]:
    """Return what turns torchvision's names, which Hara et al. kept, into pytorchvideo's."""

    def rename(name: str) -> str:
        module, _, tensor = name.rpartition(".")
        if module in _STEM:
            return f"blocks.0.{_STEM[module]}.{tensor}"
        if module == "fc":
            return f"blocks.{layout.head}.proj.{tensor}"
        unit = _UNIT_NAME.fullmatch(name)
        if unit is None or unit[3] not in _UNIT or int(unit[1]) > len(layout.stages):
            return name
        stage = layout.stages[int(unit[1]) - 1]
        return f"blocks.{stage}.res_blocks.{unit[2]}.{_UNIT[unit[3]]}.{unit[4]}"

    return rename
