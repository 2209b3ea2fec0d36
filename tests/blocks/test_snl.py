"""The spectral nonlocal block: eq. 13 of arXiv:2108.02451, and what makes it usable."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests import naive
from video_snl.blocks import NonlocalBlock, SNL1d, SNL2d, SNL3d, affinity, make_block

EXACT = {"rtol": 1e-12, "atol": 1e-12}
GRIDS = {1: (7,), 2: (3, 4), 3: (2, 3, 2)}
CLASSES = {1: SNL1d, 2: SNL2d, 3: SNL3d}


def made(
    ndim: int = 3, channels: int = 6, width: int | None = None, seed: int = 0, **options: Any
) -> NonlocalBlock:
    """A block in float64 and evaluation mode whose norm is anything but the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        block = CLASSES[ndim](channels, width, **options).double().eval()
        nn.init.uniform_(block.norm.weight, 0.5, 2)
        nn.init.uniform_(block.norm.bias, -1, 1)
        nn.init.uniform_(block.norm.running_mean, -1, 1)
        nn.init.uniform_(block.norm.running_var, 0.5, 2)
    return block


def features(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def by_the_equation(block: NonlocalBlock, x: Tensor) -> Tensor:
    """X + norm(Z W1 + A Z W2) with the block's weights."""
    w_theta, w_phi, w_z = block.project.weight.flatten(1).chunk(3)
    w_1, w_2 = block.combine.weight.flatten(1).chunk(2, dim=1)
    terms = naive.snl_terms(x.flatten(2).mT, w_theta, w_phi, w_z, w_1, w_2)
    norm = block.norm
    normed = (terms - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    return x + (normed * norm.weight + norm.bias).mT.reshape(x.shape)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("dense_order", [False, True], ids=["low rank", "dense"])
def test_the_block_is_the_equation(
    ndim: int, dense_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affinity, "prefers_dense", lambda *sizes: dense_order)
    block, x = made(ndim), features(2, 6, *GRIDS[ndim]).requires_grad_()
    actual, expected = block(x), by_the_equation(block, x)
    assert_close(actual, expected, **EXACT)
    leaves = [x, *block.parameters()]
    weights = torch.linspace(-1, 2, x.numel(), dtype=torch.float64).view(x.shape)
    gradients = [torch.autograd.grad((y * weights).sum(), leaves) for y in (actual, expected)]
    assert_close(*gradients, **EXACT)


def test_the_parameters_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        block = SNL3d(1024)
    assert block.inter_channels == 512
    assert sum(parameter.numel() for parameter in block.parameters()) == 2_623_488


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_block_starts_as_the_identity_and_trains(ndim: int) -> None:
    torch.manual_seed(0)
    block, x = CLASSES[ndim](6).double(), features(3, 6, *GRIDS[ndim])
    assert torch.equal(block(x), x)
    assert torch.equal(block.eval()(x), x)
    block.train()
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        ((block(x) - features(*x.shape, seed=2)) ** 2).mean().backward()
        optimizer.step()
    # Each matrix by itself: theta, phi, Z; W1, W2; then the norm's two vectors.
    gradients = [*block.project.weight.grad.chunk(3), *block.combine.weight.grad.chunk(2, 1)]
    gradients += [block.norm.weight.grad, block.norm.bias.grad]
    assert min(gradient.norm() for gradient in gradients) > 1e-6
    assert (block(x) - x).abs().max() > 1e-3


def test_a_relu_behind_a_zero_norm_is_refused_since_it_never_trains() -> None:
    with pytest.raises(ValueError, match="never trains.*zero_init=False or activation=None"):
        SNL3d(4, zero_init=True, activation="relu")


def test_a_relu_behind_a_norm_that_starts_at_one() -> None:
    block, x = made(activation="relu", zero_init=False), features(2, 6, 2, 3, 2)
    plain = made(zero_init=False)
    assert_close(block(x) - x, (plain(x) - x).clamp(min=0), **EXACT)
    assert (CLASSES[3](4, zero_init=False).norm.weight == 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 1}, "inter_channels=0 must be at least 1"),
        ({"in_channels": 4, "activation": "gelu"}, "'gelu' is unknown; choose 'relu' or None"),
        ({"in_channels": 4, "ndim": 4}, "ndim=4 must be 1, 2 or 3"),
        ({"in_channels": 4, "name": "spectral"}, "'spectral' is unknown; choose from: snl"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_block(arguments.pop("name", "snl"), **arguments)


@pytest.mark.parametrize(
    ("ndim", "shape", "expected"),
    [
        (1, (2, 6, 3, 4), "(B, 6, L)"),
        (2, (2, 6, 3), "(B, 6, H, W)"),
        (3, (2, 5, 2, 3, 4), "(B, 6, T, H, W)"),
        (3, (6, 2, 3, 4), "(B, 6, T, H, W)"),
    ],
)
def test_a_wrong_feature_map(ndim: int, shape: tuple[int, ...], expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        made(ndim)(features(*shape))
    assert f"expects a {expected} feature map, got {shape}" in str(caught.value)


def test_one_frame_in_3d_is_an_image_in_2d() -> None:
    image, video, x = made(2), made(3, seed=5), features(2, 6, 3, 4)
    video.load_state_dict(
        {
            name: value.unsqueeze(2) if value.ndim == 4 else value
            for name, value in image.state_dict().items()
        }
    )
    assert_close(video(x.unsqueeze(2)).squeeze(2), image(x), **EXACT)


def test_permuted_positions_give_a_permuted_output() -> None:
    block, x = made(1), features(2, 6, 9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert_close(block(x[..., order]), block(x)[..., order], **EXACT)


def test_a_batch_is_its_clips_and_an_empty_batch_is_empty() -> None:
    block, x = made(), features(4, 6, 2, 3, 2)
    assert_close(block(x), torch.cat([block(clip) for clip in x.split(1)]), **EXACT)
    assert block(x[:0]).shape == (0, 6, 2, 3, 2)


def test_shapes_may_change_from_call_to_call() -> None:
    block = made()
    for grid in [(2, 3, 2), (1, 1, 1), (3, 2, 2), (2, 3, 2)]:
        x = features(2, 6, *grid)
        assert_close(block(x), by_the_equation(block, x), **EXACT)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_the_memory_format_is_kept(memory_format: torch.memory_format) -> None:
    block, x = made().train(), features(2, 6, 3, 4, 5)
    y = block.to(memory_format=memory_format)(x.to(memory_format=memory_format))
    assert y.is_contiguous(memory_format=memory_format)
    assert_close(y, made().train()(x), **EXACT)


def test_the_spectrum_is_real_and_within_one() -> None:
    x = features(3, 6, 3, 4, 2)
    x[0, :, 0] = -100  # some positions of no degree
    matrix = made().affinity(x).to_dense()
    assert torch.equal(matrix, matrix.mT)
    values = torch.linalg.eigvals(matrix)
    assert values.imag.abs().max() < 1e-12
    assert values.real.abs().max() <= 1 + 1e-12
    assert_close(values.real.amax(1), torch.ones(3, dtype=torch.float64), **EXACT)


def test_positions_without_degree_have_a_finite_gradient() -> None:
    block = made()
    with torch.no_grad():
        block.project.weight.abs_()
    x = features(2, 6, 2, 3, 2)
    x[0] = -1  # a clip all of whose embeddings are rectified to zero
    x[1, :, 0] = -1
    x.requires_grad_()
    assert (block.affinity(x).degree()[0] == 0).all()
    y = block(x)
    assert_close(y, by_the_equation(block, x), **EXACT)
    y.square().sum().backward()
    for gradient in [x.grad, *(parameter.grad for parameter in block.parameters())]:
        assert gradient.isfinite().all()


HALF = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("grid", [(2, 2, 3), (4, 40, 40)], ids=["dense", "low rank"])
@pytest.mark.parametrize("size", [1.0, 1e4])
@pytest.mark.parametrize("dtype", HALF, ids=["bfloat16", "float16"])
@pytest.mark.parametrize("mode", ["autocast", "pure"])
def test_half_precision(mode: str, dtype: torch.dtype, size: float, grid: tuple[int, ...]) -> None:
    block, x = made(channels=32, width=8).float().train(), features(2, 32, *grid).float()
    # Constant feature maps are the worst case of the sums over positions.
    x = size * torch.cat([x.clamp(-1, 1), torch.ones_like(x)])
    added = []
    block.norm.register_forward_hook(lambda module, args, output: added.append(output.float()))
    block(x)
    block, x = (block, x) if mode == "autocast" else (block.to(dtype), x.to(dtype))
    x.requires_grad_()
    with torch.autocast("cpu", dtype=dtype, enabled=mode == "autocast"):
        y = block(x)
    assert y.dtype == x.dtype
    assert y.isfinite().all()
    assert (added[1] - added[0]).norm() < 0.05 * added[0].norm()
    y.square().mean().backward()
    for gradient in [x.grad, *(parameter.grad for parameter in block.parameters())]:
        assert gradient.isfinite().all()
