"""mIoU, mAcc and aAcc against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from video_snl.tasks.metrics import PixelConfusion

CLASSES = 5


def naive(predicted: list[int], labels: list[int]) -> tuple[list[float], list[float], float]:
    """IoU and recall of every class and the share of right pixels, pixel by pixel."""
    iou, accuracy = [], []
    pairs = [(p, t) for p, t in zip(predicted, labels, strict=True) if t != 255]
    for c in range(CLASSES):
        both = sum(p == c and t == c for p, t in pairs)
        either = sum(p == c or t == c for p, t in pairs)
        own = sum(t == c for _, t in pairs)
        iou.append(both / either if either else math.nan)
        accuracy.append(both / own if own else math.nan)
    return iou, accuracy, sum(p == t for p, t in pairs) / len(pairs)


def mean(values: list[float]) -> float:
    there = [value for value in values if not math.isnan(value)]
    return sum(there) / len(there)


@pytest.mark.parametrize("missed", [False, True])
def test_scores_are_the_plain_ones(missed: bool) -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES - 1, (3, 6, 7), generator=random, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=random) < 0.2] = 255
    scores = torch.randn(3, CLASSES, 6, 7, generator=random)
    scores[:, 3] -= 9  # never predicted; class 4 is predicted and never there
    metric = PixelConfusion(CLASSES)
    metric.update(scores[:2], labels[:2])
    predicted = scores.argmax(1)
    if missed:
        metric.update_missed(labels[2:])
        predicted[2] = -1
    else:
        metric.update(predicted[2:], labels[2:])
    result = metric.scores()
    iou, accuracy, share = naive(predicted.flatten().tolist(), labels.flatten().tolist())
    expected = torch.tensor([iou, accuracy], dtype=torch.float64)
    torch.testing.assert_close(torch.stack([result.iou, result.accuracy]), expected, equal_nan=True)
    assert math.isclose(result.mean_iou, mean(iou))
    assert math.isclose(result.mean_accuracy, mean(accuracy))
    assert math.isclose(result.accuracy_of_all, share)
    assert math.isnan(result.accuracy[4]) and result.iou[4] == 0


def test_a_class_that_is_nowhere_has_no_score_and_does_not_count() -> None:
    metric = PixelConfusion(3)
    metric.update(torch.tensor([[[0, 1]]]), torch.tensor([[[0, 1]]]))
    result = metric.scores()
    assert result.iou[:2].tolist() == [1, 1] and math.isnan(result.iou[2])
    assert result.mean_iou == result.mean_accuracy == result.accuracy_of_all == 1


def test_nothing_labelled_is_no_score() -> None:
    metric = PixelConfusion(3)
    metric.update(torch.tensor([[[0, 1]]]), torch.tensor([[[255, 255]]]))
    result = metric.scores()
    assert math.isnan(result.mean_iou) and math.isnan(result.accuracy_of_all)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_pixels_whose_scores_are_not_finite_are_wrong_whatever_their_label(value: float) -> None:
    scores = torch.zeros(1, 3, 1, 4)
    scores[:, 1] = 1.0
    scores[0, 0, 0, :2] = value
    metric = PixelConfusion(3)
    labels = torch.tensor([[[0, 1, 1, 1]]])
    metric.update(scores, labels)
    assert metric.predicted(scores).tolist() == [[[4, 4, 1, 1]]]
    assert metric.compute().tolist()[:3] == [[0, 0, 0, 0, 1], [0, 2, 0, 0, 1], [0] * 5]
    assert metric.scores().accuracy_of_all == pytest.approx(0.5)
