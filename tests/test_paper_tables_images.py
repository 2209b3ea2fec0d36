"""The sizes printed in Tables 6 and 8 of arXiv:2108.02451, from descriptions of whole networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from video_snl.blocks.insertion import insert_blocks
from video_snl.commands.describe import description, image_description, image_table
from video_snl.config.image import ImageModelConfig
from video_snl.errors import UserError
from video_snl.models.fcn import FCNHead

# At 512 x 1024 the feature map of the head has 64 x 128 positions. Convolutions and norms cost the
# same at each of them, so that a small map, which is quick to trace, tells the large one's figures.
SMALL, TIMES = (4, 8), 256


def cityscapes_block(name: str, **options: Any) -> tuple[int, float, float]:
    """Parameters, multiply-adds in G at 512 x 1024, those with W applied to every A^k Z."""
    head = FCNHead(8, 512, 19, num_convs=2, concat_input=False, dropout=0.0).eval()
    insert_blocks(head, name, ["after:convs.0"], **options)
    (block,) = description(head, (8, *SMALL))["blocks"]
    counted = (TIMES * block[key] / 1e9 for key in ("multiply_adds", "multiply_adds_separate"))
    return (block["parameters"], *counted)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "options", "parameters", "multiply_adds"),
    [
        ("nl", {}, 525_312, 4.3034),
        ("ns", {}, 525_312, 4.3034),
        ("a2", {}, 525_312, 4.3034),
        ("snl_a1", {}, 525_312, 4.3034),
        ("cgnl", {}, 525_312, 4.3159),
        ("dnl", {}, 525_824, 4.3076),
        ("cc", {"recurrence": 2}, 328_704, 5.3855),
        ("snl", {}, 656_384, 5.3771),
        ("snl_a2", {}, 656_384, 5.3771),
        ("gsnl", {"order": 2}, 787_456, 6.4508),
    ],
)
def test_table_8(name: str, options: dict[str, Any], parameters: int, multiply_adds: float) -> None:
    count, fused, separate = cityscapes_block(name, **options)
    assert count == parameters
    assert fused == pytest.approx(multiply_adds, abs=5e-5)
    if name == "nl":  # printed with the output bias of its convolution, which fvcore leaves out
        assert abs(fused - 4.31) < 0.01
        assert f"{fused + 512 * TIMES * 32 / 1e9:.2f}" == "4.31"
    if name == "snl":
        assert abs(fused - 5.37) < 0.01
        assert (fused - 2 * 512 * TIMES * 32 / 1e9) == pytest.approx(5.3687, abs=5e-5)  # no norm
    if name == "ns":
        assert separate == pytest.approx(5.3771, abs=5e-5)


def test_the_network_of_table_8() -> None:
    facts = image_description(ImageModelConfig("fcn_r50_d8", "snl"), 19, (32, 64))
    assert facts["parameters"] == 47_133_043 + 656_384
    assert facts["auxiliary_parameters"] == 2_364_691
    (block,) = facts["blocks"]
    assert block["position"] == "after:decode_head.convs.0"
    bare = facts["multiply_adds"] - block["multiply_adds"]
    assert TIMES * bare / 1e9 == pytest.approx(395.804, abs=5e-4)


def test_the_network_of_table_6() -> None:
    facts = image_description(ImageModelConfig("resnet50", "snl"), 1000, (224, 224))
    (block,) = facts["blocks"]
    assert (block["position"], block["parameters"]) == ("before:layer3.5", 2_623_488)
    assert f"{block['multiply_adds'] / 1e9:.2f}" == "0.51"
    assert facts["parameters"] == 25_557_032 + 2_623_488
    bare = facts["multiply_adds"] - block["multiply_adds"]
    assert bare / 1e9 == pytest.approx(4.1115, abs=5e-5)


def test_what_adding_blocks_costs_on_cifar() -> None:
    """x3 of Table 5, stages of Table 3 and reductions of Table 2, from the formula of SNL's size.

    Three embeddings and two outputs of C Cs weights, and 2 C of the norm.
    """

    def added(stages: list[int], reduction: int) -> int:
        config = ImageModelConfig("preresnet20", "snl", stages=stages, reduction=reduction)
        return image_description(config, 10, (8, 8))["parameters"] - 272_282

    for stages, reduction in (([1], 1), ([2], 2), ([3], 4), ([1, 2, 3], 2)):
        channels = [8 * 2**stage for stage in stages]
        assert added(stages, reduction) == sum(5 * c * c // reduction + 2 * c for c in channels)


def test_a_description_for_people() -> None:
    text = image_table(ImageModelConfig("preresnet20", "snl"), 10, (32, 32))
    assert "preresnet20, 10 classes; image (channels, H, W) = (3, 32, 32)" in text
    assert "output (C, H, W)" in text
    assert "after:layer1.1: 672 parameters" in text
    assert [line for line in text.splitlines() if line.startswith("layer2 ")][0].split()[1:4] == [
        "(32,",
        "16,",
        "16)",
    ]


def test_images_that_are_too_small() -> None:
    with pytest.raises(UserError, match=r"\(H, W\) = \(16, 64\) are too small for .* 32 pixels"):
        image_description(ImageModelConfig("resnet50"), 10, (16, 64))
    with torch.device("meta"), pytest.raises(UserError, match="too small for backbone fcn_r50_d8"):
        image_description(ImageModelConfig("fcn_r50_d8"), 19, (8, 8))
