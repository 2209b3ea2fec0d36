"""Schedules, learning-rate factors and frozen parts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.tiny_images import experiment
from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.image import ImageModelConfig, ImageOptimizerConfig
from video_snl.config.video import ModelConfig, OptimizerConfig
from video_snl.errors import UserError
from video_snl.models.image import build_image_model
from video_snl.models.video import build_model, recompute_units, stage_modules
from video_snl.tasks.images import Segmentation
from video_snl.tasks.optimization import (
    freeze,
    image_rate_factor,
    keep_frozen_layers_in_eval,
    learning_rate_factor,
    parameter_groups,
)


@pytest.fixture()
def model() -> nn.Module:
    return build_model(ModelConfig(), 4)[0]


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 1), (39.9, 1), (40, 0.1), (79.99, 0.1), (80, 0.01), (99, 0.01)]
)
def test_step_schedule_divides_by_ten_every_40_epochs(epoch: float, expected: float) -> None:
    config = OptimizerConfig(epochs=100, schedule="step", step_epochs=40)
    assert learning_rate_factor(config, epoch) == pytest.approx(expected)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 1), (5, 0.5), (10, 0)])
def test_cosine_schedule_falls_to_zero(epoch: float, expected: float) -> None:
    config = OptimizerConfig(epochs=10, schedule="cosine")
    assert learning_rate_factor(config, epoch) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0.1), (1, 0.55), (2, 1.0), (3, 1.0)])
def test_warmup_rises_from_a_tenth(epoch: float, expected: float) -> None:
    config = OptimizerConfig(epochs=100, schedule="step", step_epochs=40, warmup_epochs=2)
    assert learning_rate_factor(config, epoch) == pytest.approx(expected)


def test_milestones_of_the_paper_on_cifar() -> None:
    config = ImageOptimizerConfig(
        epochs=300, learning_rate=0.1, schedule="milestones", milestones=[150, 250]
    )
    for epoch, rate in ((0, 0.1), (149.9, 0.1), (150, 0.01), (249, 0.01), (250, 1e-3), (300, 1e-3)):
        assert config.learning_rate * image_rate_factor(config, epoch) == pytest.approx(rate)


def test_poly_schedule_of_cityscapes() -> None:
    """Compute mmsegmentation's rate: (lr - least) (1 - step / steps)^0.9 + least."""
    config = ImageOptimizerConfig(
        epochs=40, learning_rate=0.01, schedule="poly", least_learning_rate=1e-4
    )
    for step in (0, 1, 12_345, 39_999, 40_000):
        wanted = (0.01 - 1e-4) * (1 - step / 40_000) ** 0.9 + 1e-4
        found = config.learning_rate * image_rate_factor(config, step / 1000)
        assert found == pytest.approx(wanted, rel=1e-6)


def test_groups_hold_every_parameter_once_with_its_rate(model: nn.Module) -> None:
    config = OptimizerConfig(
        learning_rate=0.1, backbone_lr_factor=0.5, block_lr_factor=2.0, head_lr_factor=3.0
    )
    groups = {group["name"]: group for group in parameter_groups(model, config)}
    assert {name: group["lr"] for name, group in groups.items()} == pytest.approx(
        {"backbone": 0.05, "blocks": 0.2, "head": 0.3}
    )
    listed = [p for group in groups.values() for p in group["params"]]
    assert len(listed) == len(set(listed)) == len(list(model.parameters()))
    block = next(iter(inserted_blocks(model).values()))
    assert set(groups["blocks"]["params"]) == set(block.parameters())


def test_frozen_stages_keep_weights_and_statistics_but_blocks_in_them_train(
    model: nn.Module,
) -> None:
    config = OptimizerConfig(frozen_stages=["stem", "res2", "res4"])
    freeze(model, config)
    model.train()
    keep_frozen_layers_in_eval(model, config)
    for stage in config.frozen_stages:
        layers = list(stage_modules(model, stage))
        assert any(list(layer.parameters()) for layer in layers)
        for layer in layers:
            inside = any(layer in set(b.modules()) for b in inserted_blocks(model).values())
            assert layer.training is inside
            assert all(p.requires_grad is inside for p in layer.parameters())
    trained = [p for layer in stage_modules(model, "res3") for p in layer.parameters()]
    assert trained and all(p.requires_grad for p in trained)


def test_frozen_batchnorm_leaves_convolutions_training(model: nn.Module) -> None:
    config = OptimizerConfig(frozen_batchnorm=True)
    freeze(model, config)
    model.train()
    keep_frozen_layers_in_eval(model, config)
    stem = model.get_submodule("blocks.0")
    assert not stem.norm.training and not stem.norm.weight.requires_grad
    assert stem.conv.weight.requires_grad
    block = next(iter(inserted_blocks(model).values()))
    norm = block.sub_blocks[0].norm
    assert norm.training and norm.weight.requires_grad


def test_frozen_batchnorm_leaves_the_heads_of_segmentation_training() -> None:
    with torch.device("meta"):
        net = build_image_model(ImageModelConfig(backbone="fcn_r50_d8", block="none"), 19)[0]
    task = Segmentation(
        experiment(
            data={"dataset": "cityscapes"},
            model={"backbone": "fcn_r50_d8"},
            optimizer={"frozen_batchnorm": True},
        ),
        net,
        list(map(str, range(19))),
        ((0.5,) * 3, (0.5,) * 3),
    )
    for mode in (False, True):
        task.train(mode)
    norms = {n: m for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    training = {name for name, norm in norms.items() if norm.training}
    assert training == {n for n in norms if n.startswith(("decode_head.", "auxiliary_head."))}
    assert len(training) == 4 and len(norms) > 50
    for name, norm in norms.items():
        assert all(p.requires_grad is (name in training) for p in norm.parameters())


def test_unknown_stage_is_named_with_the_stages_there_are(model: nn.Module) -> None:
    with pytest.raises(UserError, match=r"'res6'.*res2, res3, res4, res5, stem"):
        freeze(model, OptimizerConfig(frozen_stages=["res6"]))


def test_initial_weights_are_a_function_of_the_seed_and_leave_the_global_state() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, again = (build_model(ModelConfig(), 4, seed=5)[0].state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[name], again[name]) for name in one)
    other = build_model(ModelConfig(), 4, seed=6)[0].state_dict()
    assert not torch.equal(one["blocks.0.conv.weight"], other["blocks.0.conv.weight"])


def test_backbone_weights_do_not_depend_on_the_block() -> None:
    bare = build_model(ModelConfig(block="none"), 4, seed=5)[0]
    with_block = build_model(ModelConfig(), 4, seed=5)[0]
    shared = set(bare.state_dict()) & set(with_block.state_dict())
    assert len(shared) > 50
    for name in shared:
        assert torch.equal(bare.state_dict()[name], with_block.state_dict()[name])


def test_recomputed_units_give_the_same_gradients() -> None:
    clip = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    gradients = []
    for recompute in (False, True):
        model = build_model(ModelConfig(), 4, seed=0)[0].train()
        if recompute:
            recompute_units(model)
        model(clip).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)
