"""Weights and outputs that are not finite are refused by name."""

from __future__ import annotations

import pytest
import torch

from video_snl.errors import UserError
from video_snl.utils.finite import check_scores, check_weights, class_scores


def test_weights_are_named() -> None:
    weights = {"a": torch.ones(3), "count": torch.tensor(7), "b": torch.ones(2, 2)}
    check_weights(weights, "best.ckpt")
    weights["b"][1, 0] = torch.nan
    weights["a"][2] = -torch.inf
    with pytest.raises(UserError, match=r"^best\.ckpt: 1 of the 3 weights of a.*1 more"):
        check_weights(weights, "best.ckpt")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_logit_that_is_not_finite_leaves_no_score(value: float) -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [0.0, value, 2.0]]).half()
    scores = class_scores(logits)
    torch.testing.assert_close(scores[0], logits[0].float().softmax(-1))
    assert scores.dtype == torch.float32 and scores[1].isnan().all()
    with pytest.raises(UserError, match="^b.avi: .*not finite"):
        check_scores(scores, ["a.avi", "b.avi"], "test videos")
    check_scores(scores[:1], ["a.avi"], "test videos")


def test_a_variance_below_zero_is_refused() -> None:
    weights = {"norm.running_var": torch.ones(3), "norm.weight": -torch.ones(3)}
    check_weights(weights, "best.ckpt")
    weights["norm.running_var"][1] = -1e-3
    with pytest.raises(UserError, match=r"^best\.ckpt: .*norm\.running_var are negative"):
        check_weights(weights, "best.ckpt")
