"""Networks of clips, from a configuration: backbone, weights, then blocks.

Also what a training asks of such a network: the clips it takes, its classifier, its stages, and
recomputed residual units.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from video_snl.blocks.insertion import WithBlock, block_places, insert_blocks, inserted_blocks
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.config.validation import Range, check_ranges
from video_snl.config.video import Experiment, ModelConfig
from video_snl.errors import UserError
from video_snl.models.weights.loading import LoadReport, classifier, load_backbone_weights

__all__ = [
    "build_model",
    "check_clips",
    "classifier_input",
    "head_parameters",
    "recompute_units",
    "stage_modules",
]

_CLIP_RANGES = {
    "clip_frames": Range(1),
    "frame_stride": Range(1),
    "short_side": Range(1),
    "crop": Range(1),
    "num_workers": Range(),
    "deadline": Range(open=True),
    "max_failures": Range(0, 1),
}


def build_model(
    config: ModelConfig, num_classes: int, *, seed: int = 0, progress: bool = True
) -> tuple[nn.Module, LoadReport | None]:
    """Build the network of ``config``, and load the weights that it asks for.

    The initial weights are a function of ``seed``; those of the backbone do not depend on whether
    blocks are inserted. The global random state is left as it was.

    Returns:
        The network, and what was loaded into it where weights were asked for.

    Raises:
        UserError: for positions that do not exist, options that exclude each other, or weights
            that cannot be had or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VIDEO_BACKBONES[config.backbone].build(num_classes, config.dropout)
        report = None
        if config.weights is not None:
            report = load_backbone_weights(
                model,
                config.weights,
                backbone=config.backbone,
                allow_partial=config.allow_partial_weights,
                progress=progress,
            )
        if config.block != "none":
            _insert(model, config)
    return model, report


def _grid_of_tokens(_: Tensor, grid: Sequence[int]) -> Sequence[int]:
    """Return the (T, H, W) that a unit of MViT gets, and returns, beside its tokens."""
    return grid


def _insert(model: nn.Module, config: ModelConfig) -> None:
    layout = VIDEO_BACKBONES[config.backbone].layout
    tokens = {"prefix_tokens": 1, "grid": _grid_of_tokens} if layout == "tokens" else {}
    positions = config.positions
    if positions is None:
        positions = list(VIDEO_BACKBONES[config.backbone].positions)
    try:
        insert_blocks(
            model,
            config.block,
            positions,
            inter_channels=config.inter_channels,
            num_units=config.num_units,
            zero_init=config.zero_init,
            activation=config.activation,
            layout=layout,
            **tokens,  # type: ignore[arg-type]
            **config.block_options,  # type: ignore[arg-type]  # the block checks them
        )
    except ValueError as error:
        raise UserError(f"model: {error}") from error


def check_clips(experiment: Experiment) -> None:
    """Refuse clips that cannot be cut, or that the network cannot take.

    Raises:
        UserError: naming the option and what it should be.
    """
    data, name = experiment.data, experiment.model.backbone
    check_ranges("data", data, _CLIP_RANGES)
    backbone = VIDEO_BACKBONES[name]
    least_time, least_side, _ = backbone.smallest_clip
    given = f"data.clip_frames={data.clip_frames}, data.crop={data.crop}"
    if backbone.exact and (data.clip_frames, data.crop) != (least_time, least_side):
        raise UserError(
            f"{name} takes clips of just {least_time} frames and {least_side} pixels; {given}."
        )
    if data.clip_frames < least_time or data.crop < least_side:
        raise UserError(
            f"{name} needs clips of at least {least_time} frames and {least_side} pixels; {given}."
        )
    if data.clip_frames % backbone.frames_multiple:
        raise UserError(
            f"{name} takes clips of a multiple of {backbone.frames_multiple} frames; "
            f"data.clip_frames={data.clip_frames}."
        )
    data.check_frames()


def stage_modules(model: nn.Module, stage: str) -> list[nn.Module]:
    """Return the layers of a stage that hold parameters.

    The stages are ``stem`` and those of :func:`~video_snl.blocks.insertion.block_places`, and of
    SlowFast ``res2`` ... ``res5`` of both pathways.

    Raises:
        UserError: when the network has no such stage.
    """
    paths = {
        place.rpartition(".")[0]: path.rpartition(".")[0]
        for place, path in block_places(model).items()
    }
    for name, path in list(paths.items()):
        if name.startswith("slow."):  # both pathways, and what joins them
            paths[name.removeprefix("slow.")] = path.partition(".multipathway_blocks")[0]
    stems = ["blocks.0"] if "blocks" not in paths and hasattr(model, "blocks") else []
    for stem in [*stems, "stem", "conv_proj", "patch_embed"]:
        if hasattr(model, stem.partition(".")[0]):
            paths["stem"] = stem
            break
    if stage not in paths:
        raise UserError(
            f"optimizer.frozen_stages names {stage!r}; this network has: {', '.join(paths)}."
        )
    layers = model.get_submodule(paths[stage]).modules()
    return [layer for layer in layers if next(layer.children(), None) is None]


def head_parameters(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters of the classifier, or of the heads of segmentation, without blocks.

    The classifier is the last linear layer (:func:`~video_snl.models.weights.loading.classifier`).
    """
    blocks = {m for block in inserted_blocks(model).values() for m in block.modules()}
    heads = [m for name, m in model.named_children() if name in ("decode_head", "auxiliary_head")]
    if not heads:
        heads = [model.get_submodule(classifier(model))]
    layers = (layer for head in heads for layer in head.modules() if layer not in blocks)
    return {p for layer in layers for p in layer.parameters(recurse=False)}


def classifier_input(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what computes the features of clips: the input of the network's classifier.

    Of a classifier that is applied at each position, as X3D's, it is the mean over the positions.

    Args:
        model: Network in evaluation mode, where dropout before the classifier changes nothing.

    Returns:
        A function, normalised clips (B, 3, T, H, W) -> (B, D).
    """
    layer = model.get_submodule(classifier(model))

    def compute(clips: Tensor) -> Tensor:
        inputs: list[Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        try:
            model(clips)
        finally:
            handle.remove()
        [features] = inputs
        if isinstance(layer, nn.Linear):  # channels last, else first
            features = features.movedim(-1, 1)
        return features.flatten(2).mean(2) if features.ndim > 2 else features

    return compute


def recompute_units(model: nn.Module) -> None:
    """Keep only the inputs of the residual units, and recompute the rest in the backward pass.

    Raises:
        UserError: The network has no residual units, so that nothing would be saved.
    """
    units = list(_units(model))
    if not units:
        raise UserError(
            "trainer.activation_checkpointing recomputes the residual units of a ResNet, and this "
            "network has none: leave it out, or take a ResNet such as resnet50."
        )
    for unit in units:
        unit.forward = functools.partial(  # type: ignore[method-assign]
            checkpoint, unit.forward, use_reentrant=False
        )


def _units(model: nn.Module) -> Iterator[nn.Module]:
    for path in block_places(model).values():
        unit = model.get_submodule(path)
        while isinstance(unit, WithBlock):
            unit = unit.module
        yield unit
