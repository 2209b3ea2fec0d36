"""Blocks among the single frames of tracklets: what they see, and what they leave as it is."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch

from reid.config import HeadName
from reid.models.network import TrackletOutput
from tests.reid.networks import OSNET_PLACES, clips, network
from video_snl.blocks.insertion import inserted_blocks


@pytest.fixture(scope="module")
def bare_output() -> TrackletOutput:
    with torch.no_grad():
        return network()(clips())


NONLOCAL = ("nl", "ns", "a2", "cgnl", "cc", "dnl", "snl", "snl_a1", "snl_a2", "gsnl", "cayley")


@pytest.mark.parametrize("block", [*NONLOCAL, "gc"])
def test_a_block_changes_nothing_at_first_and_trains(
    bare_output: TrackletOutput, block: str
) -> None:
    net = network(block=block)
    blocks = inserted_blocks(net.trunk)
    assert list(blocks) == OSNET_PLACES
    with torch.no_grad():
        for theirs, ours in zip(bare_output, net(clips()), strict=True):
            assert torch.equal(theirs, ours)
    parameters = [p for inserted in blocks.values() for p in inserted.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        net(clips()).raw.square().sum().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in parameters)


@pytest.mark.parametrize("block", [*NONLOCAL, "se", "ge", "gc", "cgd"])
def test_a_block_sees_all_frames_of_its_tracklet_and_no_others(block: str) -> None:
    options = {} if block in ("se", "ge", "gc", "cgd") else {"inter_channels": 8}
    net = network(block=block, zero_init=False, **options)
    before = clips()
    after = before.clone()
    after[1, :, 3] += 1  # the last frame of the second tracklet
    with torch.no_grad():
        change = (net.feature_maps(after) - net.feature_maps(before)).abs().amax((1, 3, 4))
    assert torch.equal(change[0], torch.zeros(4))
    assert (change[1] > 0).all()


def test_without_a_block_no_frame_sees_another() -> None:
    net = network()
    after = clips().clone()
    after[1, :, 3] += 1
    with torch.no_grad():
        change = (net.feature_maps(after) - net.feature_maps(clips())).abs().amax((1, 3, 4))
    assert (change > 0).tolist() == [[False] * 4, [False] * 3 + [True]]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_block_is_the_3d_block_of_the_frames_in_their_order(layout: torch.memory_format) -> None:
    net = network(block="snl", zero_init=False).double()
    wrapper = net.trunk.get_submodule("conv3")
    maps = torch.randn(6, 96, 4, 2, dtype=torch.float64).to(memory_format=layout)
    net.frames.count = 3
    with torch.no_grad():
        found = wrapper.apply_block(maps)
        for tracklet in range(2):
            frames = [maps[3 * tracklet + t] for t in range(3)]
            expected = wrapper.block(torch.stack(frames, 1).unsqueeze(0)).squeeze(0)
            for t in range(3):
                torch.testing.assert_close(found[3 * tracklet + t], expected[:, t])


def test_frames_that_lie_one_after_another_are_not_copied() -> None:
    net = network()
    lying = clips().permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    net.frames.count = 4
    frames = net.frames.split(lying)
    assert frames.data_ptr() == lying.data_ptr()
    assert frames.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(net.frames.join(frames), lying)


@pytest.mark.parametrize("head", get_args(HeadName))
def test_any_number_of_frames_and_tracklets(head: str) -> None:
    net = network(head=head, block="snl", zero_init=False)
    with torch.no_grad():
        for frames in (1, 3, 7):
            together = net(clips(3, frames)).features
            alone = [net(clips(3, frames)[i : i + 1]).features for i in range(3)]
            torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_a_copy_keeps_its_own_number_of_frames() -> None:
    net = network(block="snl", zero_init=False)
    twin = copy.deepcopy(net)
    net.frames.count = 99
    with torch.no_grad():
        expected = twin(clips(1, 2)).features
        net(clips(1, 5))
        assert torch.equal(twin(clips(1, 2)).features, expected)
    assert (net.frames.count, twin.frames.count) == (5, 2)


@pytest.mark.slow
def test_exported_and_compiled_for_any_number_of_frames() -> None:
    net = network(block="snl", zero_init=False)
    sizes = {0: torch.export.Dim("B", max=64), 2: torch.export.Dim("T", max=64)}
    program = torch.export.export(net, (clips(),), dynamic_shapes={"clips": sizes}).module()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    with torch.no_grad():
        for other in (clips(3, 2), clips(1, 6)):
            for run in (program, compiled):
                torch.testing.assert_close(run(other)[1], net(other).features)
