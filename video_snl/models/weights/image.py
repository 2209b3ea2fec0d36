"""Start a network of images from weights trained elsewhere, and say what was taken over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.image import ImageModelConfig
from video_snl.errors import UserError
from video_snl.models.released.new_blocks import ReleasedBlock
from video_snl.models.released.state_dicts import Tensors
from video_snl.models.weights.formats import Translated, network_tensors
from video_snl.models.weights.loading import LoadReport, load_translated
from video_snl.models.weights.sources import fetch, locate, read_checkpoint
from video_snl.utils.finite import check_weights

__all__ = [
    "FileBlocks",
    "Layout",
    "ReleasedPlace",
    "load_blocks",
    "load_image_weights",
    "parts_of",
    "released_blocks",
]

FileBlocks = dict[str, Tensors]  # released blocks of a file, by the position they stand at here
_IMAGENET = "imagenet"


@dataclass(frozen=True)
class ReleasedPlace:
    """Where the released code has a block: as module ``index`` of a layer of ``units`` others."""

    layer: str
    index: int
    units: int
    position: str


@dataclass(frozen=True)
class Layout:
    """How a network's tensors are called, here and in files.

    Attributes:
        stem: its first tensor.
        head: how the names of the classifier begin.
        imagenet: torchvision's ResNet-50 fits it.
        places: of blocks in files of the released code.
        named: how the names of blocks with a name of their own begin there, and their positions.
        left_over: tensors in those files that the outputs do not depend on.
        foreign: tensors that only files for another backbone have, and which that is.
        required: tensors that the right files have, and what the others are for.
        inside: where the trunk is, if a file of a trunk alone may be loaded, too.
        heads: how the names of all that is no trunk begin, in such a file or here.
    """

    stem: str
    head: tuple[str, ...]
    imagenet: bool = False
    places: tuple[ReleasedPlace, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    left_over: tuple[str, ...] = ()
    foreign: Mapping[str, str] = field(default_factory=dict)
    required: Mapping[str, str] = field(default_factory=dict)
    inside: str = ""
    heads: tuple[str, ...] = ()


def load_image_weights(
    model: nn.Module, config: ImageModelConfig, layout: Layout, *, progress: bool = True
) -> tuple[LoadReport, FileBlocks]:
    """Load ``config.weights`` into a network without blocks, in place.

    ``imagenet`` is torchvision's ResNet-50. A file or URL may hold torchvision's, mmsegmentation's
    (``backbone.``, ``decode_head.``, or a trunk alone), the released code's or our own tensors, in
    ``state_dict``, ``model_state`` or ``model``, or at the top, under names with any common
    beginning.
    Inserted blocks are left out; those of the released code are returned for :func:`load_blocks`.

    Raises:
        UserError: for weights that cannot be had or read, are made for another backbone, or of
            which less than 95 % match; the network is then as it was.
    """
    source = str(config.weights)
    checkpoint = _checkpoint(source, config.backbone, layout, progress)
    tensors, own_blocks, trunk_only = parts_of(checkpoint, layout, source, config.backbone)
    blocks = released_blocks(tensors, layout)
    bare = _without(tensors, layout, blocks)
    names = [f"{part.where}{name}" for part in blocks.values() for name in part.named]
    kept = config.block == "released"
    left_out = (*(n for n in layout.left_over if n in bare), *([] if kept else names), *own_blocks)
    translated = Translated(
        _format(checkpoint, layout, blocks, trunk_only),
        "imagenet" if source == _IMAGENET else "unknown",
        {name: t for name, t in bare.items() if name not in layout.left_over},
        left_out,
        None if kept or not blocks else "Its blocks are left out; block: released has them.",
    )
    report = load_translated(
        model,
        translated,
        source,
        backbone=config.backbone,
        head=(*layout.head, *layout.heads) if trunk_only else layout.head,
        allow_partial=config.allow_partial_weights,
    )
    return report, blocks


def parts_of(
    checkpoint: Mapping[str, Any], layout: Layout, source: str, backbone: str
) -> tuple[dict[str, Tensor], tuple[str, ...], bool]:
    """A file's tensors under a network's names, its inserted blocks, and whether it is a trunk.

    Raises:
        UserError: for a file that holds no network of this layout.
    """
    tensors, blocks = network_tensors(checkpoint)
    stems = {layout.stem: ""}
    if layout.inside:
        stems |= {layout.stem.removeprefix(layout.inside): layout.inside}
        stems |= {"conv1.weight": layout.inside}
    for stem, inside in stems.items():
        beginnings = [n.removesuffix(stem) for n in tensors if f".{n}".endswith(f".{stem}")]
        if not beginnings:
            continue
        beginning = max(beginnings, key=lambda text: sum(n.startswith(text) for n in tensors))
        cut = len(beginning)
        named = {n[cut:]: t for n, t in tensors.items() if n.startswith(beginning)}
        _check_network(named, layout, source, backbone)
        trunk_only = bool(inside)
        if trunk_only:
            named = {n if n.startswith(layout.heads) else inside + n: t for n, t in named.items()}
        beside = [n for n in tensors if not n.startswith(beginning)]
        return named, (*beside, *blocks), trunk_only
    raise UserError(
        f"weights {source!r} hold no network that fits backbone {backbone}: none of their tensors "
        f"is called {layout.stem}; they start with {', '.join(list(tensors)[:3]) or 'nothing'}. "
        "Choose the backbone they were made for."
    )


def _check_network(named: Mapping[str, Tensor], layout: Layout, source: str, backbone: str) -> None:
    for name, advice in layout.foreign.items():
        if name in named:
            raise UserError(
                f"weights {source!r} have {name}, which backbone {backbone} has not: {advice}."
            )
    for name, advice in layout.required.items():
        if name not in named:
            raise UserError(
                f"weights {source!r} lack {name}, which backbone {backbone} has: {advice}."
            )


def load_blocks(
    model: nn.Module, report: LoadReport, blocks: FileBlocks, block: ReleasedBlock
) -> LoadReport:
    """Load the blocks of a released file into those of ``model``, and put them into the report.

    Raises:
        UserError: when they stand elsewhere, have other sizes or are not finite, or the file has
            none.
    """
    inserted = inserted_blocks(model)
    if inserted.keys() != blocks.keys():
        raise UserError(
            f"weights {report.source!r} have blocks at {', '.join(blocks) or 'no place'}; the "
            f"network has them at {', '.join(inserted)}: give model.stages or model.positions of "
            "the file, or another block."
        )
    filled = {place: block.filled(tensors).state_dict() for place, tensors in blocks.items()}
    for place, state in filled.items():
        _check_shapes(inserted[place], state, place, report.source)
        check_weights(state, f"weights {report.source!r}, block {place}")
    paths = {module: path for path, module in model.named_modules()}
    names = []
    for place, state in filled.items():
        inserted[place].load_state_dict(state)
        names += [f"{paths[inserted[place]]}.{name}" for name in state]
    return replace(report, matched=(*report.matched, *names))


def _check_shapes(module: nn.Module, state: Mapping[str, Tensor], place: str, source: str) -> None:
    mine = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    theirs = {name: tuple(t.shape) for name, t in state.items()}
    differing = sorted(n for n in mine.keys() | theirs.keys() if mine.get(n) != theirs.get(n))
    if differing:
        name = differing[0]
        raise UserError(
            f"weights {source!r}: the block {place} has {name} {theirs.get(name, 'not at all')}, "
            f"the network's {mine.get(name, 'not at all')}; give the file's kind and groups in "
            "model.block_options, and its model.inter_channels (or reduction) and num_units."
        )


def _checkpoint(source: str, backbone: str, layout: Layout, progress: bool) -> Mapping[str, Any]:
    if source != _IMAGENET:
        return read_checkpoint(locate(source, backbone, progress=progress))
    if not layout.imagenet:
        raise UserError(
            f"weights 'imagenet' are a ResNet-50's, which do not fit backbone {backbone!r}; they "
            "fit resnet50, fcn_r50_d8 (all but the stem) and resnet50_cifar (likewise)."
        )
    from torchvision.models import ResNet50_Weights

    return read_checkpoint(fetch(ResNet50_Weights.IMAGENET1K_V1.url, progress=progress))


def released_blocks(tensors: dict[str, Tensor], layout: Layout) -> FileBlocks:
    """The blocks in a file of the released code.

    They have a name of their own, or are in layers with one module more than there are units.
    """
    whole = Tensors(tensors)
    parts = {position: whole.below(prefix) for prefix, position in layout.named.items()}
    return {position: part for position, part in parts.items() if part.named} | {
        place.position: whole.below(f"{place.layer}.{place.index}.")
        for place in layout.places
        if whole.numbered(f"{place.layer}.") == place.units + 1
    }


def _without(tensors: dict[str, Tensor], layout: Layout, blocks: FileBlocks) -> dict[str, Tensor]:
    """A file's tensors without its blocks, the units behind them numbered as without them."""
    whole, named = Tensors(tensors), tuple(layout.named)
    bare = {n: t for n, t in tensors.items() if not (named and n.startswith(named))}
    for place in layout.places:
        if place.position not in blocks:
            continue
        for number in range(place.index, place.units + 1):
            unit = f"{place.layer}.{number}."
            moved = whole.below(unit).named
            for name in moved:
                del bare[unit + name]
            if number > place.index:
                bare |= {f"{place.layer}.{number - 1}.{name}": t for name, t in moved.items()}
    return bare


def _format(
    checkpoint: Mapping[str, Any], layout: Layout, blocks: FileBlocks, trunk_only: bool
) -> str:
    if "video_snl" in checkpoint:
        return "video-snl checkpoint"
    if blocks or layout.required:
        return "released code (SNL_ICCV2021)"
    return "trunk of images" if trunk_only else "network of images"
