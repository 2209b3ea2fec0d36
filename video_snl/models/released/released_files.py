"""The configuration that a checkpoint of the paper's released code is of."""

from __future__ import annotations

from video_snl.config.image import ImageBackboneName, ImageModelConfig
from video_snl.config.video import OptionValue
from video_snl.errors import UserError
from video_snl.models.image import IMAGE_BACKBONES
from video_snl.models.released.new_blocks import block_kind, block_layout
from video_snl.models.released.state_dicts import Kind
from video_snl.models.weights.image import FileBlocks, parts_of, released_blocks
from video_snl.models.weights.sources import locate, read_checkpoint

__all__ = ["released_config"]


def released_config(
    source: str, backbone: ImageBackboneName, *, kind: Kind | None = None
) -> ImageModelConfig:
    """How to build the network of a released checkpoint, its blocks and classifier included.

    ``build_image_model(config, config.num_classes)`` then has the weights of the file. Blocks of
    ``preresnet*_snl`` have the affinity of the released network (see
    :func:`~video_snl.models.released.networks.load_reference_network`).

    Args:
        source: a file or an http(s) URL.
        backbone: ``preresnet20_snl``, ``preresnet56_snl``, ``preresnet110_snl``,
            ``resnet50_cifar``, ``resnet50`` or ``fcn_r50_d8``.
        kind: of the blocks, where their keys do not tell it (nl, ns and a2).

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
