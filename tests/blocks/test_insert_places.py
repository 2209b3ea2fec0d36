"""Positions by other names, and what is said that does not fit the network."""

from __future__ import annotations

import warnings

import pytest
import torch
import torchvision
from torch import nn

from video_snl.blocks import make_block
from video_snl.blocks.insertion import insert_blocks, inserted_blocks


def vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 128)


IMAGE = torch.randn(1, 3, 32, 32)


@pytest.mark.parametrize(
    ("build", "given", "found"),
    [
        (torchvision.models.resnet18, "after:layer3.-1", "after:layer3.1"),
        (torchvision.models.resnet18, "after:res4.-1", "after:layer3.1"),
        (torchvision.models.resnet18, "before:res5", "before:layer4"),
        (torchvision.models.convnext_tiny, "after:features.5.-2", "after:features.5.7"),
        (vit, "after:encoder.layers.-1", "after:encoder.layers.encoder_layer_1"),
    ],
)
def test_places_from_the_end_and_by_the_name_of_the_stage(build, given: str, found: str) -> None:
    network = build()
    options = {"prefix_tokens": 1, "grid": (4, 4)} if build is vit else {}
    insert_blocks(network, "snl", [given], example=IMAGE, **options)
    assert list(inserted_blocks(network)) == [found]


def test_the_default_position_is_there_in_a_resnet() -> None:
    network = torchvision.models.resnet50()
    insert_blocks(network)
    assert list(inserted_blocks(network)) == ["before:layer3.5"]


def test_a_block_that_is_made_already_is_refused() -> None:
    block = make_block("snl", 256, ndim=2)
    with pytest.raises(ValueError, match="block is a SNL2d that is made already.*into="):
        insert_blocks(torchvision.models.resnet18(), block, ["after:layer3"])


def test_channels_that_the_layers_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="in_channels=64, but the layers have 256 at .*layer3"):
        insert_blocks(torchvision.models.resnet18(), "snl", ["after:layer3"], in_channels=64)


@pytest.mark.parametrize(
    ("build", "place", "layout"),
    [
        (torchvision.models.swin_t, "after:features.5", "channels_first"),
        (torchvision.models.resnet18, "after:layer3", "channels_last"),
    ],
)
def test_a_layout_that_the_layers_contradict_is_refused(build, place: str, layout: str) -> None:
    with pytest.raises(ValueError, match=f"layout='{layout}' makes .* the channels, and the lay"):
        insert_blocks(build(), "snl", [place], layout=layout, example=torch.randn(1, 3, 64, 64))


def test_a_class_token_among_the_positions_is_said() -> None:
    place = ["after:encoder.layers.encoder_layer_0"]
    with pytest.warns(UserWarning, match="class token.*prefix_tokens=1"):
        insert_blocks(vit(), "snl", place, example=IMAGE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        insert_blocks(vit(), "snl", place, example=IMAGE, prefix_tokens=1, grid=(4, 4))
