"""Layers, blocks, parameters and multiply-adds of a network of images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from video_snl.commands.describe import description, layer_rows, table
from video_snl.config.backbones import IMAGE_BACKBONES
from video_snl.config.image import ImageExperiment
from video_snl.config.images import ImageModelConfig
from video_snl.data.image.catalog import image_class_count
from video_snl.errors import UserError
from video_snl.models.image import build_image_model
from video_snl.utils.counts import counts
from video_snl.utils.json_text import to_json

__all__ = ["describe", "image_description", "image_table"]


def describe(experiment: ImageExperiment, *, as_json: bool) -> int:
    """Print the network of ``experiment``, for a picture as it is trained with."""
    data = experiment.data
    classes = experiment.model.num_classes or image_class_count(data)
    size = data.height, data.width
    if as_json:
        print(to_json(image_description(experiment.model, classes, size), indent=2))
    else:
        print(image_table(experiment.model, classes, size))
    return 0


def image_description(
    config: ImageModelConfig, num_classes: int, size: tuple[int, int]
) -> dict[str, Any]:
    """Facts as of ``video-snl describe``, for an image of ``size`` (H, W) in evaluation mode.

    ``parameters`` are those of the network that is evaluated; an auxiliary head, which only
    training has, is in ``auxiliary_parameters``.

    Raises:
        UserError: for an image too small, and as for
            :func:`~video_snl.models.image.build_image_model`.
    """
    return _described(_network(config, num_classes, size), size)


def image_table(config: ImageModelConfig, num_classes: int, size: tuple[int, int]) -> str:
    """:func:`image_description` for people, with a row for each part of the network.

    Raises:
        UserError: as for :func:`image_description`.
    """
    model = _network(config, num_classes, size)
    facts = _described(model, size)
    image = (3, *size)
    parts = [(name, part) for name, part in model.named_children() if name != "auxiliary_head"]
    layers = [(name, part) for name, part in parts if next(part.parameters(), None) is not None]
    inner = [(f"{n}.{i}", m) for n, part in layers if n == "backbone" for i, m in _layers(part)]
    rows = layer_rows(model, inner + [row for row in layers if row[0] != "backbone"], image)
    heading = f"{config.backbone}, {counts(num_classes, 'class')}; image (channels, H, W) = {image}"
    text = table(heading, rows, facts)
    auxiliary = facts["auxiliary_parameters"]
    return f"{text}\nauxiliary head, in training only      {auxiliary:,}" if auxiliary else text


def _network(config: ImageModelConfig, num_classes: int, size: tuple[int, int]) -> nn.Module:
    known = IMAGE_BACKBONES.get(config.backbone)
    if known is not None and min(size) < known.smallest:
        raise UserError(
            f"images of (H, W) = {size} are too small for backbone {config.backbone}, which needs "
            f"at least {known.smallest} pixels a side."
        )
    # Its sizes are the same whatever weights it starts from.
    return build_image_model(replace(config, weights=None), num_classes)[0].eval()


def _described(model: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    facts = description(model, (3, *size))
    head = getattr(model, "auxiliary_head", None)
    auxiliary = sum(p.numel() for p in head.parameters()) if isinstance(head, nn.Module) else 0
    return {
        **facts,
        "parameters": facts["parameters"] - auxiliary,
        "auxiliary_parameters": auxiliary,
    }


def _layers(part: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(n, m) for n, m in part.named_children() if next(m.parameters(), None) is not None]
