"""Mixup and CutMix: what is drawn, what is mixed, and the loss of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from video_snl.config.video import DataConfig, Experiment, OptimizerConfig
from video_snl.data.transforms.mixup import Mix, check_mixing, draw_mix, mix_clips, mix_labels
from video_snl.errors import UserError
from video_snl.tasks.action import ActionRecognition

BOTH = OptimizerConfig(mixup=0.8, cutmix=1.0)
SIDE = 8


def draws(config: OptimizerConfig, count: int = 300, **place: int) -> list[Mix]:
    steps = [
        draw_mix(config, SIDE, **{"seed": 0, "epoch": 1, "rank": 0, "step": step, **place})
        for step in range(count)
    ]
    return [mix for mix in steps if mix is not None]


def test_nothing_by_default() -> None:
    assert draws(OptimizerConfig()) == []


def test_draws_depend_on_seed_epoch_step_and_rank_alone() -> None:
    before = torch.random.get_rng_state()
    first = draws(BOTH)
    assert first == draws(BOTH) and len(set(first)) > 200
    assert torch.equal(torch.random.get_rng_state(), before)
    for place in ({"seed": 1}, {"epoch": 2}, {"rank": 1}):
        assert draws(BOTH, **place) != first


def test_shares_and_boxes() -> None:
    shares = torch.tensor([mix.share for mix in draws(OptimizerConfig(mixup=1.0))])
    assert 0.4 < float(shares.mean()) < 0.6 and shares.min() < 0.1 and shares.max() > 0.9
    narrow = torch.tensor([mix.share for mix in draws(OptimizerConfig(mixup=50.0))])
    assert float((narrow - 0.5).abs().max()) < 0.25
    cuts = draws(OptimizerConfig(cutmix=1.0))
    for mix in cuts:
        top, bottom, left, right = mix.box
        assert 0 <= top <= bottom <= SIDE and 0 <= left <= right <= SIDE
        assert mix.share == pytest.approx(1 - (bottom - top) * (right - left) / SIDE**2)
    assert {mix.box[0] for mix in cuts} == set(range(SIDE))  # type: ignore[index]
    kinds = [mix.box is None for mix in draws(BOTH)]
    assert 100 < sum(kinds) < 200


def test_mixed_clips() -> None:
    clips = torch.rand(3, 3, 2, SIDE, SIDE).to(memory_format=torch.channels_last_3d)
    before = clips.clone()
    mixed = mix_clips(clips, Mix(0.7))
    for b in range(3):  # the partner of the first is the last
        torch.testing.assert_close(mixed[b], 0.7 * before[b] + 0.3 * before[b - 1])
    box = mix_clips(clips, Mix(0.75, (1, 5, 2, 6)))
    for b in range(3):
        expected = before[b].clone()
        expected[:, :, 1:5, 2:6] = before[b - 1][:, :, 1:5, 2:6]
        assert torch.equal(box[b], expected)
    assert torch.equal(clips, before)
    for result in (mixed, box):
        assert result.is_contiguous(memory_format=torch.channels_last_3d)
    for result in (mix_clips(clips.contiguous(), mix) for mix in (Mix(0.7), Mix(1, (0, 1, 0, 1)))):
        assert result.is_contiguous()


def test_mixed_labels() -> None:
    target = mix_labels(torch.tensor([2, 0, 0]), 4, Mix(0.7))
    expected = [[0.3, 0, 0.7, 0], [0.7, 0, 0.3, 0], [1, 0, 0, 0]]
    torch.testing.assert_close(target, torch.tensor(expected))


class _Mean(nn.Module):
    """A network that can be followed by hand: a linear layer on the mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.head(clips.mean((2, 3, 4)))


def task(optimizer: OptimizerConfig, monkeypatch: pytest.MonkeyPatch) -> ActionRecognition:
    # Its parts are not those of a network: nothing of it is frozen.
    for name in ("freeze", "keep_frozen_layers_in_eval"):
        monkeypatch.setattr(f"video_snl.tasks.base.{name}", lambda model, config, *parts: None)
    experiment = Experiment(
        data=DataConfig(crop=SIDE, short_side=SIDE),
        optimizer=replace(optimizer, label_smoothing=0.1),
    )
    torch.manual_seed(0)
    made = ActionRecognition(
        experiment, _Mean(), list("abcd"), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)
    )
    monkeypatch.setattr(made, "log_epoch", lambda metrics, label: None)
    return made


def batch() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    video = torch.randint(256, (4, 2, SIDE, SIDE, 3), generator=random, dtype=torch.uint8)
    return {
        "video": video,
        "size": torch.full((4, 2), SIDE),
        "offset": torch.zeros(4, 2),
        "flip": torch.zeros(4, dtype=torch.bool),
        "label": torch.tensor([0, 3, 1, 3]),
        "index": torch.arange(4),
    }


@pytest.mark.parametrize("option", ["mixup", "cutmix"])
def test_loss_is_the_mixed_loss(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, values = task(OptimizerConfig(**{option: 1.0}), monkeypatch), batch()
    losses = []
    for step in range(3):
        loss = trained.training_step(values, step)
        mix = draw_mix(trained.experiment.optimizer, SIDE, seed=0, epoch=0, step=step, rank=0)
        assert mix is not None and (mix.box is not None) == (option == "cutmix")
        logits = trained.model(mix_clips(trained.training_clips(values), mix))
        own, other = (
            functional.cross_entropy(logits, label, label_smoothing=0.1)
            for label in (values["label"], values["label"].roll(1))
        )
        expected = mix.share * own + (1 - mix.share) * other
        torch.testing.assert_close(loss, expected)
        losses.append(loss.item())
    assert len(set(losses)) == 3


def test_loss_without_mixing_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, values = task(OptimizerConfig(), monkeypatch), batch()
    clips = trained.clips(*(values[name] for name in ("video", "size", "offset", "flip")))
    expected = functional.cross_entropy(trained.model(clips), values["label"], label_smoothing=0.1)
    assert torch.equal(trained.training_step(values, 0), expected)


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_parameters_of_no_distribution(value: float) -> None:
    with pytest.raises(UserError, match=f"optimizer.mixup={value}: give the parameter"):
        check_mixing(OptimizerConfig(mixup=value), 4)


def test_nothing_to_mix_with() -> None:
    with pytest.raises(UserError, match=r"optimizer.cutmix mixes .* raise optimizer.batch_size"):
        check_mixing(OptimizerConfig(cutmix=1.0), 1)
    check_mixing(OptimizerConfig(), 1)
    check_mixing(BOTH, 2)
