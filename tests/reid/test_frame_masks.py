"""Tracklets shorter than a clip, whose missing frames the network leaves out."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from reid.config import HeadName
from reid.models.heads import AttentionHead
from reid.models.network import TrackletNet, TrackletOutput
from tests.reid.networks import clips, network
from video_snl.blocks.insertion import inserted_blocks, mask_blocks
from video_snl.errors import UserError
from video_snl.models.video import recompute_units

HEADS = get_args(HeadName)
BLOCKS = ("none", "nl", "ns", "a2", "cgnl", "cc", "dnl", "snl", "gsnl", "cayley")
GATES = ("se", "ge", "gc", "cgd")
LENGTHS = (1, 3, 4, 2)


def frames_of(lengths: tuple[int, ...], frames: int) -> Tensor:
    return torch.arange(frames) < torch.tensor(lengths)[:, None]


def made(head: str, block: str, **options: Any) -> TrackletNet:
    """A network whose head and blocks change what they see."""
    more = {} if block in GATES else {"inter_channels": 8}
    net = network(head=head, block=block, zero_init=False, **more, **options)
    if isinstance(net.head, AttentionHead):
        torch.manual_seed(1)
        nn.init.normal_(net.head.score.weight)
    return net


def padded(batch: Tensor, mask: Tensor, value: float) -> Tensor:
    filled = batch.clone()
    filled.transpose(1, 2)[~mask] = value
    return filled


def alone(net: TrackletNet, batch: Tensor, lengths: tuple[int, ...]) -> TrackletOutput:
    """What the network makes of the existing frames of each tracklet."""
    each = [net(batch[i : i + 1, :, :n]) for i, n in enumerate(lengths)]
    return TrackletOutput(*(torch.cat(parts) for parts in zip(*each, strict=True)))


def assert_equal(found: TrackletOutput, expected: TrackletOutput, bound: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() <= bound * theirs.abs().max()


@pytest.mark.parametrize("block", [*BLOCKS, *GATES])
def test_frames_that_do_not_exist_change_nothing(block: str) -> None:
    mask = frames_of(LENGTHS, 4)
    for head in HEADS if block in ("none", "snl") else ("attention",):
        net = made(head, block).double()
        batch = clips(4).double()
        with torch.no_grad():
            expected = alone(net, batch, LENGTHS)
            for value in (float("nan"), 7.0):
                assert_equal(net(padded(batch, mask, value), mask), expected, 1e-12)
            everywhere = net(batch).features
            assert (everywhere - expected.features).abs().max() > 1e-6, "it would see them"


@pytest.mark.parametrize("head", HEADS)
def test_in_single_precision(head: str) -> None:
    net, mask, batch = made(head, "snl"), frames_of(LENGTHS, 4), clips(4)
    with torch.no_grad():
        assert_equal(net(padded(batch, mask, 9.0), mask), alone(net, batch, LENGTHS), 1e-5)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 5).flatmap(lambda t: st.tuples(*[st.integers(1, t)] * 3)))
def test_any_lengths(lengths: tuple[int, ...]) -> None:
    frames = max(lengths)
    net, batch = made("attention", "nl").double(), clips(3, frames).double()
    mask = frames_of(lengths, frames)
    with torch.no_grad():
        assert_equal(net(padded(batch, mask, 1e3), mask), alone(net, batch, lengths), 1e-12)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("backbone", "block", "positions"),
    [("resnet18", "snl", ["after:layer2.1"]), ("osnet_x0_25_msmt17", "none", None)],
)
def test_other_backbones_and_layouts(
    backbone: str, block: str, positions: list[str] | None, channels_last: bool
) -> None:
    net = made("normalised_mean", block, backbone=backbone, positions=positions).double()
    batch, mask = clips(4).double(), frames_of(LENGTHS, 4)
    if channels_last:
        batch = batch.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    given = padded(batch, mask, float("nan"))
    assert given.stride() == batch.stride()
    with torch.no_grad():
        assert_equal(net(given, mask), alone(net, batch, LENGTHS), 1e-12)


def test_where_all_frames_exist_the_bits_are_those_without_a_mask() -> None:
    net = made("attention", "snl")
    with torch.no_grad():
        expected = net(clips())
        for found in (net(clips(), torch.ones(2, 4, dtype=torch.bool)), net(clips(), None)):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert net.frames.mask is None


def test_mask_blocks_reaches_the_blocks_among_single_frames() -> None:
    """Of the network's own head nothing is said: its maps are compared."""
    net, mask, batch = made("mean", "snl").double(), frames_of((3, 4), 4), clips().double()
    with torch.no_grad():
        with mask_blocks(net, mask):
            found = net.feature_maps(padded(batch, mask, 0.0))
        expected = net.feature_maps(batch, mask)
        torch.testing.assert_close(found[0, :, :3], expected[0, :, :3])
        torch.testing.assert_close(found[1], expected[1])


def step(net: TrackletNet, batch: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Gradients and statistics of a training step."""
    net.train().zero_grad()
    torch.manual_seed(0)
    output = net(batch, mask)
    (output.features.square().sum() + output.logits.square().sum()).backward()
    gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return gradients | {name: b for name, b in net.named_buffers() if b.is_floating_point()}


def test_what_stands_for_them_changes_no_gradient_and_no_statistic() -> None:
    batch, mask = clips(4), frames_of(LENGTHS, 4)
    found = [step(made("rnn", "snl"), padded(batch, mask, v), mask) for v in (float("nan"), 0, 9)]
    assert len(found[0]) > 100
    for name, value in found[0].items():
        assert value.isfinite().all(), name
        assert all(torch.equal(value, other[name]) for other in found[1:]), name


def test_the_backbone_trains_on_repeated_frames_and_blocks_on_existing_ones() -> None:
    """BatchNorm of the backbone as without masks, that of a block over what exists."""
    batch, mask = clips(2), frames_of((2, 4), 4)
    batch[0, :, 2:] = batch[0, :, :2]
    nets = made("mean", "snl"), made("mean", "snl")
    found, whole = step(nets[0], batch, mask), step(nets[1], batch, None)
    first = "trunk.conv1.bn.running_mean"
    assert torch.equal(found[first], whole[first])
    # Before any block changes the maps: its input is the same in both.
    [own, *_] = [name for name in found if name.endswith("norm.running_mean") and "conv2" in name]
    assert not torch.allclose(found[own], whole[own], rtol=1e-4, atol=0)


def test_recomputed_activations_see_the_mask() -> None:
    """A block within a unit is run again in the backward pass."""
    batch, mask = clips(2), frames_of((1, 4), 4)
    places = ["after:layer2.0.conv1", "after:layer3.1"]
    nets = [made("mean", "snl", backbone="resnet18", positions=places) for _ in range(2)]
    assert len(inserted_blocks(nets[0].trunk)) == 2
    recompute_units(nets[1].trunk)
    plain, again = (step(net, batch, mask) for net in nets)
    for name, value in plain.items():
        if "running" not in name:  # statistics are taken twice
            torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (torch.ones(2, 4), "boolean"),
        (torch.ones(2, 3, dtype=torch.bool), r"\(2, 4\).*\(2, 3\)"),
        (torch.tensor([[True] * 4, [True, False, True, True]]), "come first"),
        (torch.tensor([[True] * 4, [False] * 4]), "one always does"),
    ],
)
def test_other_masks_are_refused(mask: Tensor, said: str) -> None:
    with pytest.raises(UserError, match=said):
        network()(clips(), mask)


def test_a_backbone_of_clips_takes_none() -> None:
    net = network(backbone="i3d_small", block="none")
    with pytest.raises(UserError, match="short_tracklets=repeat"):
        net(clips(), frames_of((4, 2), 4))
    with torch.no_grad():
        assert torch.equal(net(clips(), frames_of((4, 4), 4)).raw, net(clips()).raw)
