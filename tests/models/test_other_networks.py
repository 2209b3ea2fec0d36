"""One line puts a block into networks that are not ours."""

from __future__ import annotations

from typing import Any

import pytest
import pytorchvideo.models.slowfast
import pytorchvideo.models.x3d
import timm
import torch
import torchvision
from torch import nn

from video_snl.blocks.insertion import insert_blocks, inserted_blocks


def _slowfast() -> nn.Module:
    # The head pools what is left of the small clips here.
    return pytorchvideo.models.slowfast.create_slowfast(
        model_depth=50, head_pool_kernel_sizes=((4, 2, 2), (16, 2, 2))
    )


def _x3d() -> nn.Module:
    return pytorchvideo.models.x3d.create_x3d(input_clip_length=4, input_crop_size=64)


OTHERS: dict[str, tuple[Any, str, list[tuple[int, ...]]]] = {
    "torchvision r3d_18": (
        torchvision.models.video.r3d_18,
        "after:layer3.1",
        [(1, 3, 4, 32, 32)],
    ),
    "pytorchvideo x3d_m": (_x3d, "before:blocks.3.res_blocks.2", [(1, 3, 4, 64, 64)]),
    "pytorchvideo slowfast_r50": (
        _slowfast,
        "before:blocks.3.multipathway_blocks.0.res_blocks.5",
        [(1, 3, 4, 64, 64), (1, 3, 16, 64, 64)],
    ),
    "timm resnet50": (
        lambda: timm.create_model("resnet50", pretrained=False),
        "before:layer3.5",
        [(1, 3, 64, 64)],
    ),
}


@pytest.mark.parametrize("name", list(OTHERS))
@pytest.mark.parametrize(
    "block", ["snl", "gc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("nl", "cc"))]
)
def test_one_line_inserts_into_networks_of_others(name: str, block: str) -> None:
    build, position, shapes = OTHERS[name]
    torch.manual_seed(0)
    network = build().eval()
    inputs: Any = [torch.randn(shape) for shape in shapes]
    inputs = inputs[0] if len(inputs) == 1 else inputs
    called = []
    with torch.no_grad():
        before = network(list(inputs) if isinstance(inputs, list) else inputs)
        (new,) = insert_blocks(network, block, [position])
        new.register_forward_hook(lambda module, args, output: called.append(output.shape))
        after = network(list(inputs) if isinstance(inputs, list) else inputs)
    torch.testing.assert_close(after, before)
    assert len(called) == 1
    assert list(inserted_blocks(network).values()) == [new]
