"""Start a network of images from weights trained elsewhere, and say what was taken over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.backbones import WeightsLayout
from video_snl.config.image import ImageModelConfig
from video_snl.errors import UserError
from video_snl.models.released.blocks import ReleasedBlock
from video_snl.models.released.state_dicts import (
    FileBlocks,
    released_blocks,
    without_blocks,
)
from video_snl.models.weights.formats import Translated, network_tensors
from video_snl.models.weights.loading import LoadReport, load_translated
from video_snl.models.weights.sources import locate, read_checkpoint
from video_snl.utils.finite import check_weights

__all__ = [
    "load_blocks",
    "load_image_weights",
    "parts_of",
]


def load_image_weights(
    model: nn.Module, config: ImageModelConfig, layout: WeightsLayout, *, progress: bool = True
) -> tuple[LoadReport, FileBlocks]:
    """Load ``config.weights`` into a network without blocks, in place.

    ``imagenet`` is torchvision's ResNet-50. A file or URL may hold torchvision's, mmsegmentation's
    (``backbone.``, ``decode_head.``, or a backbone alone), the released code's or our own tensors,
    in ``state_dict``, ``model_state`` or ``model``, or at the top, under names with any common
    beginning.
    Inserted blocks are left out; those of the released code are returned for :func:`load_blocks`.

    Raises:
        UserError: for weights that cannot be had or read, are made for another backbone, or of
            which less than 95 % match; the network is then as it was.
    """
    source = str(config.weights)
    checkpoint = read_checkpoint(locate(source, config.backbone, progress=progress))
    tensors, own_blocks, backbone_only = parts_of(checkpoint, layout, source, config.backbone)
    blocks = released_blocks(tensors, layout)
    bare = without_blocks(tensors, layout, blocks)
    names = [f"{part.where}{name}" for part in blocks.values() for name in part.named]
    kept = config.block == "released"
    left_out = (*(n for n in layout.left_over if n in bare), *([] if kept else names), *own_blocks)
    translated = Translated(
        _format(checkpoint, layout, blocks, backbone_only),
        "imagenet" if source == "imagenet" else "unknown",
        {name: t for name, t in bare.items() if name not in layout.left_over},
        left_out,
        None if kept or not blocks else "Its blocks are left out; block: released has them.",
    )
    report = load_translated(
        model,
        translated,
        source,
        backbone=config.backbone,
        head=(*layout.head, *layout.heads) if backbone_only else layout.head,
        allow_partial=config.allow_partial_weights,
    )
    return report, blocks


def parts_of(
    checkpoint: Mapping[str, Any], layout: WeightsLayout, source: str, backbone: str
) -> tuple[dict[str, Tensor], tuple[str, ...], bool]:
    """Sort the tensors of a file.

    Returns:
        The tensors under the network's names, the names of inserted blocks and of what is beside
        the network, and True where the file holds a backbone alone.

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
        backbone_only = bool(inside)
        if backbone_only:
            named = {n if n.startswith(layout.heads) else inside + n: t for n, t in named.items()}
        beside = [n for n in tensors if not n.startswith(beginning)]
        return named, (*beside, *blocks), backbone_only
    raise UserError(
        f"weights {source!r} hold no network that fits backbone {backbone}: none of their tensors "
        f"is called {layout.stem}; they start with {', '.join(list(tensors)[:3]) or 'nothing'}. "
        "Choose the backbone they were made for."
    )


def _check_network(
    named: Mapping[str, Tensor], layout: WeightsLayout, source: str, backbone: str
) -> None:
    for name, advice in layout.foreign.items():
        if name in named:
            raise UserError(
                f"weights {source!r} have {name}, and backbone {backbone} does not: {advice}."
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


def _format(
    checkpoint: Mapping[str, Any], layout: WeightsLayout, blocks: FileBlocks, backbone_only: bool
) -> str:
    if "video_snl" in checkpoint:
        return "video-snl checkpoint"
    if blocks or layout.required:
        return "released code (SNL_ICCV2021)"
    return "backbone of images" if backbone_only else "network of images"
