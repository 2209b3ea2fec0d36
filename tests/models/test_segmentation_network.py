"""The segmentation network: sizes of its outputs, what trains, and its loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.image_networks import images, network
from video_snl.models.fcn import FCNHead, SegmentationLogits, segmentation_loss


@pytest.fixture(scope="module")
def fcn() -> Any:
    return network(19, backbone="fcn_r50_d8", block="snl", dropout=0.1)


def test_segmentation_has_the_size_of_the_image(fcn: Any) -> None:
    x = images(2, 3, 32, 48)
    with torch.no_grad():
        stages = fcn.eval().backbone(x)
        assert stages.third.shape == (2, 1024, 4, 6)
        assert stages.fourth.shape == (2, 2048, 4, 6)
        low = fcn.decode_head(stages.fourth)
        logits = fcn(x)
    assert low.shape == (2, 19, 4, 6)
    expected = F.interpolate(low, scale_factor=8, mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, expected)


def test_training_has_an_auxiliary_output_that_trains_too(fcn: Any) -> None:
    labels = torch.randint(0, 19, (2, 32, 32), generator=torch.Generator().manual_seed(0))
    labels[:, :8] = 255
    output = fcn.train()(images(2, 3, 32, 32))
    assert isinstance(output, SegmentationLogits)
    assert output.logits.shape == output.auxiliary.shape == (2, 19, 32, 32)
    segmentation_loss(output, labels).backward()
    assert all(p.grad is not None for p in fcn.parameters())
    assert fcn.auxiliary_head.conv_seg.weight.grad.any()


def test_the_loss_is_that_of_the_labelled_pixels() -> None:
    logits, auxiliary = images(2, 3, 2, 2), images(2, 3, 2, 2, seed=1)
    labels = torch.tensor([[[0, 255], [2, 1]], [[255, 255], [255, 0]]])

    def loss(scores: Tensor) -> float:
        terms = [
            scores[b, :, i, j].logsumexp(0) - scores[b, labels[b, i, j], i, j]
            for b, i, j in (labels != 255).nonzero().tolist()
        ]
        return float(sum(terms) / len(terms))

    both = segmentation_loss(SegmentationLogits(logits, auxiliary), labels)
    assert float(both) == pytest.approx(loss(logits) + 0.4 * loss(auxiliary), rel=1e-5)
    assert float(segmentation_loss(logits, torch.full_like(labels, 255))) == 0


def test_the_head_looks_at_its_input_again() -> None:
    head = FCNHead(6, 4, 3, num_convs=2, concat_input=True, dropout=0.0).eval()
    x = images(1, 6, 5, 5)
    with torch.no_grad():
        inner = head.convs(x)
        expected = head.conv_seg(head.conv_cat(torch.cat([x, inner], 1)))
        torch.testing.assert_close(head(x), expected)
