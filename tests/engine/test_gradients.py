"""The proof that bfloat16 convolutions on a CPU can be trained."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.tiny import only_run, run_here, tiny_options
from tests.videos import write_ucf101
from video_snl.engine import gradients

LAYERS = [
    (nn.Conv1d(4, 6, 3, padding=1), (16,)),
    (nn.Conv2d(3, 16, 7, stride=2, padding=3), (32, 32)),
    (nn.Conv2d(8, 8, 3, groups=8, dilation=2), (12, 9)),
    (nn.Conv3d(8, 4, (1, 3, 3), padding="same"), (4, 8, 8)),
    (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), (8, 8)),
    (nn.Conv3d(16, 16, 1), (2, 2, 2)),
]


@pytest.mark.parametrize(("layer", "grid"), LAYERS, ids=str)
def test_right_gradients_pass_and_random_numbers_stay(
    layer: nn.Module, grid: tuple[int, ...]
) -> None:
    x = torch.randn(3, layer.in_channels, *grid)
    state = torch.random.get_rng_state()
    assert gradients.weight_gradient_error(layer, x) < 0.01
    assert torch.equal(torch.random.get_rng_state(), state)
    # The same of a training step: autograd's gradient in bfloat16 beside that in float32.
    rounded, exact = copy.deepcopy(layer).bfloat16(), copy.deepcopy(layer).bfloat16().float()
    target = torch.randn(layer(x).shape).bfloat16()
    (rounded(x.bfloat16()) * target).sum().backward()
    (exact(x.bfloat16().float()) * target.float()).sum().backward()
    error = (rounded.weight.grad.float() - exact.weight.grad).abs().max()
    assert error < 0.01 * exact.weight.grad.abs().max()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ucf101(tmp_path_factory.mktemp("ucf101"))


def test_a_wrong_gradient_ends_a_training(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "weight_gradient_error", lambda convolution, x: float("inf"))
    mixed = tiny_options(root, tmp_path, trainer__precision="bf16-mixed")
    done = run_here("train", *mixed)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "wrong weight gradient for the convolution model.blocks.0.conv" in done.stderr
    assert "trainer.precision=32-true" in done.stderr
    assert not list(only_run(tmp_path).rglob("*.ckpt"))


def test_two_frames_are_refused_where_the_library_has_the_fault(root: Path, tmp_path: Path) -> None:
    fault = gradients.weight_gradient_error(
        nn.Conv3d(64, 64, 3, padding=1), torch.randn(6, 64, 2, 2, 2)
    )
    mixed = tiny_options(root, tmp_path, trainer__precision="bf16-mixed", optimizer__epochs=1)
    done = run_here("train", *mixed)
    assert done.returncode == (2 if fault > 0.05 else 0), done.stderr
    assert ("on an input of 2 x 2 x 2)" in done.stderr) == (fault > 0.05)
