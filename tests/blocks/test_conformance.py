"""Properties of every block of the zoo; see ``cases.py`` for the blocks."""

from __future__ import annotations

import copy
import io
import pickle
import statistics
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from tests.blocks.cases import (
    CASES,
    EXACT,
    GATES,
    GRIDS,
    all_cases,
    assert_same_with_gradients,
    by_the_equation,
    features,
    made,
    new,
    nonlocal_cases,
)
from video_snl.blocks import NonlocalBlock, filters, gates, operators
from video_snl.blocks.gates import CGD, GC, GE, SE
from video_snl.blocks.layers import LayerNorm, Pointwise

few = settings(max_examples=4, deadline=None)


@pytest.fixture(params=[False, True], ids=["factored", "dense"])
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Either order of the products, whatever they cost."""
    for module in (operators, filters):
        monkeypatch.setattr(module, "prefers_dense", lambda *costs: request.param)
    return request.param


@nonlocal_cases
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_block_is_its_equation(case: str, ndim: int, order: bool) -> None:
    block, x = made(case, ndim), features(2, 8, *GRIDS[ndim]).requires_grad_()
    leaves = [x, *block.parameters()]
    assert_same_with_gradients(block(x), by_the_equation(case, block, x), leaves)


sizes = st.integers(1, 3)


@nonlocal_cases
@few
@given(st.integers(1, 2), st.tuples(sizes, sizes, sizes), sizes, st.booleans(), st.booleans())
def test_a_block_is_its_equation_for_any_shape(
    case: str, batch: int, grid: tuple[int, ...], width: int, strided: bool, constant: bool
) -> None:
    # A GroupNorm wants more than one value: two channels a group at least.
    block = made(case, 3, channels=4 * width, width=2 * width)
    x = features(batch, 4 * width, *grid)
    x = torch.ones_like(x) if constant else x
    x = x.movedim(1, -1).contiguous().movedim(-1, 1) if strided else x
    x.requires_grad_()
    assert_same_with_gradients(block(x), by_the_equation(case, block, x), [x])


@all_cases
def test_one_position_and_no_clip(case: str) -> None:
    block = made(case)
    x = features(2, 8, 1, 1, 1)
    assert block(x).shape == x.shape and block(x).isfinite().all()
    if case in CASES:
        assert_close(block(x), by_the_equation(case, block, x), **EXACT)
    assert block(features(0, 8, 2, 3, 2)).shape == (0, 8, 2, 3, 2)


@all_cases
def test_one_frame_in_3d_is_an_image_in_2d(case: str) -> None:
    if "theta" in case or "plus" in case:
        pytest.skip("a depthwise kernel of 3 x 3 x 3 is none of 3 x 3")
    image, video, x = made(case, 2), made(case, 3), features(2, 8, 3, 4)
    shapes = {name: value.shape for name, value in video.state_dict().items()}
    state = {name: value.reshape(shapes[name]) for name, value in image.state_dict().items()}
    video.load_state_dict(state)
    assert_close(video(x.unsqueeze(2)).squeeze(2), image(x), **EXACT)


@all_cases
def test_permuted_positions_give_a_permuted_output(case: str) -> None:
    if (case.startswith("ge") and case != "ge") or case.startswith("cc"):
        pytest.skip("depends on where a position is")
    block, x = made(case, 2), features(2, 8, 3, 3)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    y = block(x.flatten(2)[..., order].reshape(x.shape))
    assert_close(y.flatten(2), block(x).flatten(2)[..., order], **EXACT)


@all_cases
def test_a_batch_is_its_clips(case: str) -> None:
    block, x = made(case), features(3, 8, 2, 3, 2)
    assert_close(block(x), torch.cat([block(clip) for clip in x.split(1)]), **EXACT)


@all_cases
@pytest.mark.parametrize("training", [False, True])
def test_vmap_is_a_loop(case: str, training: bool) -> None:
    block = made(case).train(training)
    if training and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in block.modules()):
        # One without running statistics of a batch, in its place.
        if case in GATES or "norm" in CASES[case][1] or case.startswith("cgnl grouped"):
            pytest.skip("has no other norm, or has one already")
        block = made(case, norm="layer").train()
    x = features(3, 2, 8, 2, 3, 2)
    expected = torch.stack([block(each) for each in x])
    assert_close(torch.vmap(block)(x), expected, **EXACT)


@all_cases
def test_shapes_may_change_from_call_to_call(case: str) -> None:
    block = made(case)
    for grid in [(2, 3, 2), (1, 2, 2), (3, 2, 2), (2, 3, 2)]:
        x = features(2, 8, *grid)
        assert_close(block(x), copy.deepcopy(made(case))(x), **EXACT)


STARTS = [{"zero_init": True}, {"zero_init": False}]
RELU = [{"zero_init": False, "activation": "relu"}]


@all_cases
@pytest.mark.parametrize("start", [*STARTS, *RELU], ids=str)
def test_every_parameter_trains_within_two_steps(case: str, start: dict[str, object]) -> None:
    if case == "ge" or case == "ge 2" or (case in GATES and "activation" in start):
        pytest.skip("has no parameters, or no such activation")
    errors: dict[str, list[float]] = {}
    for seed in (1, 3, 4):
        exact, rounded = (_gradients_of_two_steps(new(case, **start), d, seed) for d in (F64, F32))
        assert exact.keys() == rounded.keys() > set()
        for name, gradients in exact.items():
            errors.setdefault(name, []).extend(
                float((r - e).norm() / e.norm())
                for e, r in zip(gradients, rounded[name], strict=True)
                if e.norm() > 0
            )
    for name, found in errors.items():
        # Most are what they are, and not what rounding made them. (Not all: GroupNorm cancels all
        # but a thousandth of CGNL's gradient of phi.)
        assert found and statistics.median(found) < 1e-2, (name, found)


F64, F32 = torch.float64, torch.float32


def _gradients_of_two_steps(
    block: nn.Module, dtype: torch.dtype, seed: int
) -> dict[str, list[Tensor]]:
    block, x = block.to(dtype), features(4, 8, 2, 3, 2, seed=seed).to(dtype)
    target = features(*x.shape, seed=2).to(dtype)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    found: dict[str, list[Tensor]] = {}
    for _ in range(2):
        block.zero_grad()
        ((block(x) - target) ** 2).mean().backward()
        for name, gradient in _gradients(block).items():
            found.setdefault(name, []).append(gradient.double().clone())
        optimizer.step()
    return found


def _gradients(block: nn.Module) -> dict[str, Tensor]:
    """Return the gradients of every parameter; of each matrix of a fused weight on its own."""
    found = {}
    for name, parameter in block.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        parts = [gradient]
        if isinstance(block, NonlocalBlock) and name == "project.weight":
            parts = list(gradient.split([w for w in _widths(block) if w]))
        if isinstance(block, NonlocalBlock) and name.endswith("combine.weight"):
            parts = list(gradient.chunk(block.filter.count, 1))
        found |= {f"{name}[{i}]": part for i, part in enumerate(parts)}
    return found


def _widths(block: NonlocalBlock) -> list[int]:
    return [*block.widths, block.project.weight.shape[0] - sum(block.widths)]


@nonlocal_cases
@pytest.mark.parametrize("size", [1.0, 5.0])
def test_float32_is_float64_at_a_usual_width(case: str, size: float) -> None:
    """Exponents of wide features lie further apart than float32 reaches, from row to row."""
    block, x = made(case, 2, channels=256, width=128), size * features(2, 256, 5, 6)
    expected = (block(x) - x).detach()
    found = block.float()(x.float()).double().detach() - x
    assert float((found - expected).norm() / expected.norm()) < 1e-4


@all_cases
def test_a_new_block_is_the_identity(case: str) -> None:
    block, x = new(case).double(), features(2, 8, 2, 3, 2)
    if case.startswith(("se", "ge")):
        halved = case in ("se", "ge plus")
        assert torch.equal(block(x), x / 2) if halved else not torch.equal(block(x), x)
    else:
        assert torch.equal(block(x), x)
        assert torch.equal(block.eval()(x), x)


@nonlocal_cases
def test_positions_without_degree_have_a_finite_gradient(case: str) -> None:
    block = made(case)
    with torch.no_grad():
        block.project.weight.abs_()
    x = features(2, 8, 2, 3, 2)
    x[0] = -1  # a clip all of whose embeddings are rectified to zero
    x[1, :, 0] = -1
    x.requires_grad_()
    y = block(x)
    assert_same_with_gradients(y, by_the_equation(case, block, x), [x])
    block(x).square().sum().backward()
    for gradient in [x.grad, *(parameter.grad for parameter in block.parameters())]:
        assert gradient.isfinite().all()


@nonlocal_cases
def test_the_graph_filter_is_the_block(case: str) -> None:
    block, x = made(case), features(2, 8, 2, 3, 2)
    if case.startswith("cayley"):
        with pytest.raises(ValueError, match=r"not a polynomial of A; see response"):
            block.as_graph_filter(x)
        return
    affinity, signal, weights, bias, _ = graph = block.as_graph_filter(x)
    assert_close(x + graph.output().mT.reshape(x.shape), block(x), **EXACT)
    if graph.groups is None:
        matrix, powers = affinity.to_dense(), [signal]
        for _ in weights[1:]:
            powers.append(matrix @ powers[-1])
        total = sum(z @ w for z, w in zip(powers, weights, strict=True))
        shift = bias if bias.ndim == 1 else bias[:, None]
        assert_close(x + (total + shift).mT.reshape(x.shape), block(x), **EXACT)


@nonlocal_cases
def test_a_fused_block_is_the_block(case: str) -> None:
    block, x = made(case), features(2, 8, 2, 3, 2)
    expected = block(x)
    assert_close(block.fuse()(x), expected, **EXACT)
    batch_norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm3d)]
    assert batch_norms == []
    assert_close(block.fuse()(x), expected, **EXACT)  # again changes nothing
    with pytest.raises(ValueError, match=r"call eval\(\) first"):
        made(case).train().fuse()


@nonlocal_cases
def test_the_response_is_what_happens_to_an_eigenvector(case: str) -> None:
    if "cgnl" in case:
        pytest.skip("its graph has other vertices than the positions")
    block, x = made(case), features(1, 8, 2, 3, 2)
    x.requires_grad_(False)
    matrix = block.affinity(x).to_dense()[0]
    values, vectors = torch.linalg.eig(matrix)
    width = block.units[0].combine.weight.shape[1] // block.filter.count
    amplitudes = features(1, width)
    for value, vector in zip(values, vectors.T, strict=True):
        if value.imag.abs() > 1e-12:
            continue
        z = vector.real[None, :, None] * amplitudes
        filtered = block.filter.terms(block.affinity(x), z) @ block.units[0].combine.matrix().mT
        response = block.response(1 - value.real[None])[0]
        assert_close(
            filtered[0], vector.real[:, None] * (amplitudes @ response), rtol=1e-7, atol=1e-9
        )


@all_cases
def test_copies_and_pickles_are_the_block(case: str) -> None:
    block, x = made(case), features(2, 8, 2, 3, 2)
    file = io.BytesIO()
    torch.save(block, file)
    file.seek(0)
    copies = [copy.deepcopy(block), pickle.loads(pickle.dumps(block))]
    copies.append(torch.load(file, weights_only=False))
    for other in copies:
        assert all(p is not q for p, q in zip(other.parameters(), block.parameters(), strict=True))
        assert torch.equal(other(x), block(x))


_OF_VERSION_0_2 = {
    "in_features": Pointwise,
    "out_features": Pointwise,
    "biased": Pointwise,
    "gamma": NonlocalBlock,
    "in_channels": (SE, GC, GE, CGD),
    "ndim": (GC, CGD),
    "gate": GC,
    "zero_init": CGD,
    "description": (NonlocalBlock, SE, GC, GE, CGD),
}


@all_cases
def test_modules_that_version_0_2_pickled_are_read(case: str) -> None:
    """They lack what has come since, and their gates name the norm otherwise."""
    _, options = {**CASES, **GATES}[case]
    since = {"bias", "norm", "descriptors", "series", "temperature"}
    if since & options.keys() or options.get("kernel") == "concatenation":
        pytest.skip("an option that version 0.2 did not have")
    block, x = made(case), features(2, 8, 2, 3, 2)
    expected = block(x)
    for module in block.modules():
        for name, owners in _OF_VERSION_0_2.items():
            if isinstance(module, owners):
                module.__dict__.pop(name, None)
                module._parameters.pop(name, None)
    again = pickle.loads(pickle.dumps(block))
    assert torch.equal(again(x), expected)
    assert list(again.state_dict()) == list(block.state_dict())
    if isinstance(again, NonlocalBlock):
        assert again.projections().keys() == made(case).projections().keys()
        again.fuse()
        assert_close(again(x), expected, **EXACT)
    again.reset_parameters()
    assert again(x).isfinite().all()
    assert gates._LayerNorm is LayerNorm


@all_cases
def test_recomputed_activations_give_the_same_gradients(case: str) -> None:
    block, x = made(case), features(2, 8, 2, 3, 2).requires_grad_()
    again = checkpoint(block, x, use_reentrant=False)
    assert_same_with_gradients(again, block(x), [x, *block.parameters()], rtol=0, atol=1e-14)


@pytest.fixture(scope="module")
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    file = tmp_path_factory.mktemp("group") / "store"
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@all_cases
def test_distributed_training_has_the_same_gradients(case: str, process_group: None) -> None:
    block, x = made(case).train(), features(2, 8, 2, 3, 2)
    if not list(block.parameters()):
        pytest.skip("has no parameters")
    alone = copy.deepcopy(block)
    alone(x).square().sum().backward()
    # A parameter without a gradient would make this hang or fail.
    DistributedDataParallel(block)(x).square().sum().backward()
    for ours, expected in zip(block.parameters(), alone.parameters(), strict=True):
        assert_close(ours.grad, expected.grad, **EXACT)


@all_cases
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_the_memory_format_is_kept(case: str, memory_format: torch.memory_format) -> None:
    block, x = made(case), features(2, 8, 3, 4, 5)
    y = block.to(memory_format=memory_format)(x.to(memory_format=memory_format))
    assert y.is_contiguous(memory_format=memory_format)
    assert_close(y, made(case)(x), **EXACT)
