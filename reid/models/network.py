"""The network of a tracklet: trunk, temporal head, BN-neck and classifier."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reid.config import ReidModelConfig
from reid.models.backbones import Trunk, build_trunk, default_positions
from reid.models.frames import Frames, WithTrackletBlock
from reid.models.heads import AttentionHead, MeanHead, NonlocalHead, RecurrentHead
from reid.models.weights import load_trunk_weights
from video_snl.blocks.insertion import WithBlock, Wrapper, insert_blocks
from video_snl.blocks.zoo import make_block
from video_snl.errors import UserError
from video_snl.models.weights.loading import LoadReport

__all__ = ["TrackletNet", "TrackletOutput", "build_network"]

_CLASSIFIER_STD = 0.001


class TrackletOutput(NamedTuple):
    """What a network says of a batch of tracklets.

    raw: (B, D) what the triplet and the centre loss are of. features: (B, D) what is compared,
    behind the neck. logits: (B, people).
    """

    raw: Tensor
    features: Tensor
    logits: Tensor


class TrackletNet(nn.Module):
    """One vector for a tracklet, and whose it is.

    raw = head(trunk(clips)); features = BN(raw); logits = W features. The BN-neck of Luo et al.
    ("Bag of Tricks", CVPRW 2019): its bias stays zero, and the classifier has none, so that the
    features of the two losses differ by a scale for each dimension, which suits both. Without the
    neck, features = raw, and the classifier has a bias.

    Args:
        trunk: a network without pooling and classifier, see :mod:`reid.models.backbones`.
        head: (B, C, T, h, w) -> (B, D), with ``feature_dim``.
        num_people: size of the classifier.
        neck: whether there is a BN-neck.
        dropout: probability of dropout before the classifier.

    Shapes:
        clips: float (B, 3, T, H, W), normalised. Any T, H, W from ``smallest`` on.

    Raises:
        UserError: from forward, for a clip of other axes or smaller than ``smallest``.
    """

    def __init__(
        self, trunk: Trunk, head: nn.Module, num_people: int, *, neck: bool, dropout: float
    ) -> None:
        super().__init__()
        self.trunk, self.head = trunk.network, head
        self.over_time, self.smallest = trunk.over_time, trunk.smallest
        self.num_people = num_people
        self.feature_dim = int(head.feature_dim)  # type: ignore[arg-type]
        self.neck = nn.BatchNorm1d(self.feature_dim) if neck else nn.Identity()
        if isinstance(self.neck, nn.BatchNorm1d):
            self.neck.bias.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.feature_dim, num_people, bias=not neck)
        nn.init.normal_(self.classifier.weight, std=_CLASSIFIER_STD)
        self.frames = Frames()

    def forward(self, clips: Tensor) -> TrackletOutput:
        raw = self.head(self.feature_maps(clips))
        features = self.neck(raw)
        return TrackletOutput(raw, features, self.classifier(self.dropout(features)))

    def feature_maps(self, clips: Tensor) -> Tensor:
        """The last feature map of the trunk. (B, 3, T, H, W) -> (B, C, t, h, w)."""
        _check_clip(tuple(clips.shape), self.smallest)
        if self.over_time:
            return self.trunk(clips)
        self.frames.count = clips.shape[2]
        maps = self.trunk.featuremaps(self.frames.split(clips))  # type: ignore[operator]
        return self.frames.join(maps)


def build_network(
    config: ReidModelConfig,
    num_people: int,
    *,
    seed: int = 0,
    frames: int = 4,
    size: tuple[int, int] = (64, 32),
    progress: bool = True,
) -> tuple[TrackletNet, LoadReport | None]:
    """The network of ``config``, and what was loaded into it where weights were asked for.

    The initial weights are a function of ``seed``; those of trunk, head and classifier do not
    depend on whether blocks are inserted. The global random state is left as it was.

    Args:
        frames, size: T and (H, W) of the clips it is for; it takes others, too.

    Raises:
        UserError: for a backbone that is not known, clips that are too small for it, positions
            that do not exist, options that exclude each other, or weights that cannot be had or do
            not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = build_trunk(config.backbone, size)
        _check_clip((1, 3, frames, *size), trunk.smallest)
        report = None
        if config.weights is not None:
            report = load_trunk_weights(
                trunk,
                config.weights,
                backbone=config.backbone,
                num_people=num_people,
                allow_partial=config.allow_partial_weights,
                progress=progress,
            )
        head = _head(config, trunk.channels)
        model = TrackletNet(trunk, head, num_people, neck=config.neck, dropout=config.dropout)
        if config.block != "none":
            _insert(model, config)
    return model, report


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
    heads = {"mean": MeanHead, "attention": AttentionHead, "rnn": RecurrentHead}
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
