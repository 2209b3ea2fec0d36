"""Network of a tracklet: backbone, temporal head, BN-neck and classifier, and blocks in it.

A backbone of frames (2D) sees the frames of a batch one after another, (B T, 3, H, W). A block in
it is wrapped so that it sees the T x H x W positions of whole tracklets. In checkpoints the
backbone is called ``trunk``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from reid.config import ReidModelConfig
from reid.models.backbones import Backbone, build_backbone, default_positions
from reid.models.heads import (
    AttentionHead,
    MeanHead,
    NonlocalHead,
    NormalisedMeanHead,
    RecurrentHead,
)
from reid.models.torchreid_models import EMBEDDING
from reid.models.weights import load_backbone_weights, load_published
from video_snl.blocks.insertion import Where, WithBlock, Wrapper, block_places, insert_blocks
from video_snl.blocks.layouts import resized_mask
from video_snl.blocks.masks import takes_mask
from video_snl.blocks.zoo import make_block
from video_snl.errors import UserError
from video_snl.models.weights.loading import LoadReport

__all__ = [
    "TrackletNet",
    "TrackletOutput",
    "build_network",
    "head_parameters",
    "stage_layers",
]

_CLASSIFIER_STD = 0.001
_STEM = ("conv1", "bn1", "layer0", "blocks.0")  # of torchvision, torchreid, pytorchvideo


class TrackletOutput(NamedTuple):
    """Outputs of a network for a batch of tracklets.

    Attributes:
        raw: Vectors of the triplet and the centre loss, (B, D).
        features: Vectors that are compared, after the neck, (B, D).
        logits: Scores of the training identities, (B, identities).
    """

    raw: Tensor
    features: Tensor
    logits: Tensor


class TrackletNet(nn.Module):
    """Network that maps a tracklet to one vector, and to scores of the training identities.

    raw = head(backbone(clips)); features = BN(raw); logits = W features. The BN-neck of Luo et al.
    ("Bag of Tricks", CVPRW 2019): its bias stays zero, and the classifier has none, so that the
    features of the two losses differ by a scale for each dimension, which suits both. Without the
    neck, features = raw, and the classifier has a bias.

    Args:
        backbone: Network without pooling and classifier, see :mod:`reid.models.backbones`.
        head: (B, C, T, h, w) -> (B, D), with ``feature_dim``.
        num_people: Number of training identities, size of the classifier.
        neck: Insert a BN-neck.
        dropout: Probability of dropout before the classifier.

    Shapes: clips are float (B, 3, T, H, W), normalised, of any T, H, W from ``smallest`` on. The
    mask is bool (B, T), True for the frames that exist, which come first in every tracklet; None
    where all do. The features of a tracklet are then those of its existing frames alone (in
    evaluation mode), whatever stands in the place of the others. The backbone sees the existing
    frames again there, also in its BatchNorm statistics in training.

    Raises:
        UserError: From forward, for a clip of other axes or smaller than ``smallest``; a mask of
            another type or shape, without a first frame or with a gap; and a backbone of clips,
            whose convolutions over time would see frames that do not exist, or a block that takes
            no mask.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        num_people: int,
        *,
        neck: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.trunk, self.head = backbone.network, head  # checkpoints have these names
        self.over_time, self.smallest = backbone.over_time, backbone.smallest
        self.embeds = backbone.embeds
        self.num_people = num_people
        self.feature_dim = int(head.feature_dim)  # type: ignore[arg-type]
        self.neck = nn.BatchNorm1d(self.feature_dim) if neck else nn.Identity()
        if isinstance(self.neck, nn.BatchNorm1d):
            self.neck.bias.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.feature_dim, num_people, bias=not neck)
        nn.init.normal_(self.classifier.weight, std=_CLASSIFIER_STD)
        self.frames = Frames()

    def forward(self, clips: Tensor, mask: Tensor | None = None) -> TrackletOutput:
        mask = self._to_leave_out(clips, mask)
        raw = self.head(self.feature_maps(clips, mask), mask)
        features = self.neck(raw)
        return TrackletOutput(raw, features, self.classifier(self.dropout(features)))

    def feature_maps(self, clips: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the last feature map of the backbone. (B, 3, T, H, W) -> (B, C, t, h, w).

        That of a backbone with an embedding layer is the layer's output: (B, C, T, 1, 1). With a
        mask, what it has where a frame does not exist is of no meaning.
        """
        _check_clip(tuple(clips.shape), self.smallest)
        if self.over_time and mask is not None:
            raise UserError(
                "a backbone of clips looks at all frames, and so at those that do not exist: use "
                "data.short_tracklets=repeat, or clips of the frames that exist."
            )
        if self.over_time:
            return self.trunk(clips)
        if mask is not None:
            clips = _repeated(clips, mask)
        self.frames.count, self.frames.mask = clips.shape[2], mask
        maps = self.trunk.featuremaps(self.frames.split(clips))  # type: ignore[operator]
        if self.embeds:
            maps = self.trunk.get_submodule(EMBEDDING)(maps.mean((2, 3)))[..., None, None]
        return self.frames.join(maps)

    @property
    def takes_masks(self) -> bool:
        """Tell whether frames can be left out: it is one of frames, and its blocks take masks."""
        return not self.over_time and self._block_without_mask() is None

    def _to_leave_out(self, clips: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return a valid mask on the device of the clips; None where all frames exist.

        A mask on the host is read without waiting for the work queued on a GPU.
        """
        if mask is None:
            return None
        _check_clip(tuple(clips.shape), self.smallest)
        expected = clips.shape[0], clips.shape[2]
        if mask.dtype != torch.bool or tuple(mask.shape) != expected:
            raise UserError(
                f"a mask of frames is boolean, of the shape (B, T) = {expected}; found "
                f"{mask.dtype} {tuple(mask.shape)}."
            )
        if mask.all():
            return None
        if not mask[:, 0].all() or (mask[:, 1:] & ~mask[:, :-1]).any():
            raise UserError("the frames of a tracklet that exist come first, and one always does.")
        self._check_blocks()
        return mask.to(clips.device, non_blocking=True)

    def _check_blocks(self) -> None:
        """Refuse a mask where a block takes none.

        Raises:
            UserError: It names the block.
        """
        block = self._block_without_mask()
        if block is not None:
            raise UserError(
                f"{type(block).__name__}.forward takes no mask=, so that it would look at frames "
                "that do not exist: use data.short_tracklets=repeat, or clips of the frames that "
                "exist."
            )

    def _block_without_mask(self) -> nn.Module | None:
        blocks = (m.block for m in self.modules() if isinstance(m, WithBlock | NonlocalHead))
        return next((block for block in blocks if not takes_mask(block)), None)


def _repeated(clips: Tensor, mask: Tensor) -> Tensor:
    """Put frame t mod n, of the n that exist, in the place of frame t. Same memory layout."""
    place = torch.arange(clips.shape[2], device=clips.device) % mask.sum(1, keepdim=True)
    row = torch.arange(clips.shape[0], device=clips.device)[:, None]
    return torch.empty_like(clips).copy_(clips.transpose(1, 2)[row, place].transpose(1, 2))


@dataclass
class Frames:
    """The tracklets that are now in a backbone of frames.

    The network sets it before its backbone runs, and all blocks in the backbone look it up, also
    where a part is computed again in the backward pass.

    Attributes:
        count: Number of frames T.
        mask: bool (B, T), True for those that exist; None where all do.
    """

    count: int = 1
    mask: Tensor | None = None

    def split(self, clips: Tensor) -> Tensor:
        """Lay frames out one after another, copying as little as possible.

        (B, C, T, h, w) -> (B T, C, h, w).
        """
        return clips.transpose(1, 2).flatten(0, 1)

    def join(self, frames: Tensor) -> Tensor:
        """Invert :meth:`split`, as a view. (B T, C, h, w) -> (B, C, T, h, w)."""
        clips = frames.unflatten(0, (-1, self.count)).transpose(1, 2)
        # The ONNX exporter views masked maps by strides that they do not have there.
        return clips.contiguous() if torch.compiler.is_exporting() else clips


class WithTrackletBlock(WithBlock):
    """Module of a backbone of frames, and a 3D block over the T x h x w positions of tracklets."""

    def __init__(self, module: nn.Module, block: nn.Module, where: Where, frames: Frames) -> None:
        super().__init__(module, block, where)
        self.frames = frames

    def apply_block(self, x: Tensor) -> Tensor:
        maps = self.frames.join(x)
        # By mask_blocks, which ends before a part is computed again; else the network's own.
        mask = self.frames.mask if self.mask is None else resized_mask(self.mask, maps.shape[2:])
        return self.frames.split(self.block(maps) if mask is None else self.block(maps, mask=mask))


def build_network(
    config: ReidModelConfig,
    num_people: int,
    *,
    seed: int = 0,
    frames: int = 4,
    size: tuple[int, int] = (64, 32),
    progress: bool = True,
    published: Path | None = None,
) -> tuple[TrackletNet, LoadReport | None]:
    """Build the network of a configuration, and report what was loaded into it, if anything.

    The initial weights are a function of ``seed``; those of backbone, head and classifier do not
    depend on whether blocks are inserted. The global random state is left as it was.

    Args:
        config: Section ``model`` of the configuration.
        num_people: Number of training identities.
        seed: Seed of the initial weights.
        frames: T of the clips it is for; it takes others, too.
        size: (H, W) of these clips, likewise.
        progress: Show the progress of a download.
        published: File of exactly this backbone, see :func:`reid.models.weights.load_published`.

    Raises:
        UserError: A backbone that is not known, clips that are too small for it, positions that do
            not exist, options that exclude each other, or weights that cannot be had or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_backbone(config.backbone, size)
        _check_clip((1, 3, frames, *size), backbone.smallest)
        report = None
        if published is not None:
            load_published(backbone, published)
        if config.weights is not None:
            report = load_backbone_weights(
                backbone,
                config.weights,
                num_people=num_people,
                allow_partial=config.allow_partial_weights,
                progress=progress,
            )
        head = _head(config, backbone.channels)
        model = TrackletNet(backbone, head, num_people, neck=config.neck, dropout=config.dropout)
        if config.block != "none":
            _insert(model, config)
    return model, report


def head_parameters(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters of temporal head, neck and classifier."""
    net = cast(TrackletNet, model)
    return {p for part in (net.head, net.neck, net.classifier) for p in part.parameters()}


def stage_layers(backbone: nn.Module, stage: str) -> list[nn.Module]:
    """Return the layers of a stage of a backbone that hold parameters themselves.

    Args:
        backbone: ``trunk`` of a :class:`TrackletNet`.
        stage: ``stem``, one of the position grammar (``layer1``, ``res2``), or any module of the
            backbone by its dotted path.

    Raises:
        UserError: A stage that the backbone does not have.
    """
    modules = dict(backbone.named_modules())
    places = {
        place.rpartition(".")[0]: path.rpartition(".")[0]
        for place, path in block_places(backbone).items()
    }
    if stage == "stem" and "stem" not in modules:
        found = [modules[name] for name in _STEM if name in modules]
    else:
        path = places.get(stage, stage)
        found = [modules[path]] if path in modules and path else []
    if not found:
        known = ["stem", *dict.fromkeys([*places, *dict(backbone.named_children())])]
        raise UserError(
            f"optimizer.frozen_stages names {stage!r}; this network has: {', '.join(known)}."
        )
    layers = [layer for part in found for layer in part.modules()]
    return [layer for layer in layers if next(layer.children(), None) is None]


def _check_clip(shape: tuple[int, ...], smallest: tuple[int, int, int]) -> None:
    if len(shape) != 5 or shape[1] != 3:
        raise UserError(f"a batch of tracklets (B, 3, T, H, W) was expected, found {shape}.")
    if any(found < least for found, least in zip(shape[2:], smallest, strict=True)):
        raise UserError(
            f"clips of (T, H, W) = {shape[2:]} are too small for this backbone, which needs at "
            f"least {smallest}; raise data.frames, data.height or data.width."
        )


def _head(config: ReidModelConfig, channels: int) -> nn.Module:
    if config.head == "nonlocal3d":
        name = "snl" if config.block == "none" else config.block
        return NonlocalHead(channels, _block(config, name, channels))
    heads = {
        "mean": MeanHead,
        "attention": AttentionHead,
        "rnn": RecurrentHead,
        "normalised_mean": NormalisedMeanHead,
    }
    return heads[config.head](channels)


def _block(config: ReidModelConfig, name: str, channels: int) -> nn.Module:
    try:
        return make_block(
            name,
            channels,
            ndim=3,
            inter_channels=config.inter_channels,
            num_units=config.num_units,
            zero_init=config.zero_init,
            activation=config.activation,
            **config.block_options,  # type: ignore[arg-type]  # the block checks them
        )
    except ValueError as error:
        raise UserError(f"model: {error}") from error


def _insert(model: TrackletNet, config: ReidModelConfig) -> None:
    positions = config.positions
    if positions is None:
        positions = default_positions(config.backbone, model.trunk)
    wrapper: Wrapper = WithBlock
    if not model.over_time:
        wrapper = functools.partial(WithTrackletBlock, frames=model.frames)

    def block(channels: int, **_: object) -> nn.Module:
        return _block(config, config.block, channels)

    try:
        insert_blocks(model.trunk, block, positions, wrapper=wrapper)
    except ValueError as error:
        raise UserError(f"model: {error}") from error
