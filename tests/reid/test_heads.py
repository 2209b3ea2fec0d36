"""Temporal heads against plain loops, in float64."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from reid.models.heads import (
    AttentionHead,
    MeanHead,
    NonlocalHead,
    NormalisedMeanHead,
    RecurrentHead,
)
from video_snl.blocks import make_block

sizes = st.tuples(*(st.integers(1, 4) for _ in range(5)))


def feature_maps(shape: tuple[int, ...]) -> Tensor:
    torch.manual_seed(sum(shape))
    return torch.randn(shape, dtype=torch.float64)


def vectors(maps: Tensor) -> Tensor:
    """Mean of every frame, one number at a time. (B, C, T, h, w) -> (B, T, C)."""
    batch, channels, frames, height, width = maps.shape
    found = torch.zeros(batch, frames, channels, dtype=maps.dtype)
    for b in range(batch):
        for c in range(channels):
            for t in range(frames):
                grid = [maps[b, c, t, i, j].item() for i in range(height) for j in range(width)]
                found[b, t, c] = sum(grid) / len(grid)
    return found


def nonzero(head: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    return head.double()


@settings(max_examples=15, deadline=None)
@given(sizes)
def test_mean(shape: tuple[int, ...]) -> None:
    maps = feature_maps(shape)
    expected = vectors(maps).sum(1) / shape[2]
    torch.testing.assert_close(MeanHead(shape[1])(maps), expected)


@settings(max_examples=15, deadline=None)
@given(sizes)
def test_mean_of_vectors_of_norm_one(shape: tuple[int, ...]) -> None:
    maps, frames = feature_maps(shape).float(), shape[2]
    found = NormalisedMeanHead(shape[1])(maps)
    for b, x in enumerate(vectors(maps.double())):
        norms = [math.sqrt(sum(value.item() ** 2 for value in x[t])) for t in range(frames)]
        expected = sum(x[t] / norms[t] for t in range(frames)) / frames
        torch.testing.assert_close(found[b].double(), expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(sizes)
def test_attention(shape: tuple[int, ...]) -> None:
    maps, frames = feature_maps(shape), shape[2]
    head = nonzero(AttentionHead(shape[1]))
    x, kernel = vectors(maps), head.score.weight[0].detach()
    found = head(maps)
    embed = head.embed.requires_grad_(False)
    for b in range(shape[0]):
        seen = [(embed.weight @ x[b, t] + embed.bias).clamp(min=0) for t in range(frames)]
        scores = []
        for t in range(frames):
            near = [(s, t + s - 1) for s in range(3) if 0 <= t + s - 1 < frames]
            scores.append(sum(float(kernel[:, s] @ seen[at]) for s, at in near))
        weights = [math.exp(score) for score in scores]
        expected = sum(w / sum(weights) * x[b, t] for t, w in enumerate(weights))
        torch.testing.assert_close(found[b], expected)


def test_attention_starts_as_the_mean_and_trains() -> None:
    head, maps = AttentionHead(6).double(), feature_maps((2, 6, 4, 2, 2))
    torch.testing.assert_close(head(maps), MeanHead(6)(maps))
    head(maps).square().sum().backward()
    assert head.score.weight.grad.abs().max() > 0


@settings(max_examples=15, deadline=None)
@given(sizes)
def test_recurrent(shape: tuple[int, ...]) -> None:
    maps = feature_maps(shape)
    head = nonzero(RecurrentHead(shape[1]))
    gru, x, found = head.gru, vectors(maps), head(maps)
    for b in range(shape[0]):
        hidden, steps = torch.zeros(head.feature_dim, dtype=torch.float64), []
        for t in range(shape[2]):
            into = (gru.weight_ih_l0 @ x[b, t] + gru.bias_ih_l0).chunk(3)
            back = (gru.weight_hh_l0 @ hidden + gru.bias_hh_l0).chunk(3)
            reset, update = (into[0] + back[0]).sigmoid(), (into[1] + back[1]).sigmoid()
            new = (into[2] + reset * back[2]).tanh()
            hidden = (1 - update) * new + update * hidden
            steps.append(hidden)
        torch.testing.assert_close(found[b], sum(steps) / len(steps))


def test_recurrent_is_at_most_512_wide() -> None:
    assert RecurrentHead(2048).feature_dim == 512
    assert RecurrentHead(2048)(torch.randn(1, 2048, 2, 1, 1)).shape == (1, 512)


def test_nonlocal_is_the_mean_behind_one_block() -> None:
    maps = feature_maps((2, 8, 3, 2, 2))
    block = make_block("snl", 8, ndim=3, zero_init=False).double()
    expected = vectors(block(maps)).mean(1)
    torch.testing.assert_close(NonlocalHead(8, block)(maps), expected)


def test_means_of_half_precision_are_float32() -> None:
    maps = torch.full((1, 4, 2, 8, 8), 300.0, dtype=torch.float16)
    for head in (MeanHead(4), AttentionHead(4), NonlocalHead(4, nn.Identity())):
        found = head(maps)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, torch.full((1, 4), 300.0))
