"""Cost of the blocks; compiling, tracing and exporting them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.blocks.cases import (
    CASES,
    EXACT,
    GATES,
    all_cases,
    features,
    made,
    new,
    nonlocal_cases,
)
from video_snl.blocks import NonlocalBlock, SNL3d, make_block
from video_snl.blocks.insertion import insert_blocks
from video_snl.models.i3d import i3d_small


class Recorder(TorchDispatchMode):
    """Records every operation, forward and backward, and the shapes of what it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.operations: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        out = func(*args, **(kwargs or {}))
        self.operations.add(func.overloadpacket.__name__)
        self.shapes += [tuple(t.shape) for t in tree_leaves(out) if isinstance(t, Tensor)]
        return out


def quadratic_shapes(block: nn.Module, positions: int, batch: int = 2) -> list[tuple[int, ...]]:
    """Shapes as large as the affinity's matrix among all that a training step makes."""
    x = torch.randn(batch, 32, positions, requires_grad=True)
    with Recorder() as forward:
        loss = block(x).square().sum()
    with Recorder() as backward:
        loss.backward()
    assert tuple(x.shape) in forward.shapes and tuple(x.shape) in backward.shapes
    return [
        shape
        for shape in forward.shapes + backward.shapes
        if shape.count(positions) >= 2 or math.prod(shape) >= batch * positions**2
    ]


# Symmetrised exponentials need their matrix (DESIGN of the affinity: M itself), and so does a
# softmax divided on both sides.
NEED_THE_MATRIX = (
    *("nl sym", "nl gaussian sym", "snl exponential", "snl gaussian"),
    *("gsnl gaussian rw", "gsnl concatenation"),
)


@nonlocal_cases
@pytest.mark.parametrize(("positions", "width"), [(257, 8), (321, 16), (1021, 12)])
def test_no_matrix_of_all_pairs_exists(case: str, positions: int, width: int) -> None:
    block = new(case, 1, channels=32, width=width, zero_init=False)
    found = quadratic_shapes(block, positions)
    # On one axis every position shares its line with all others.
    assert bool(found) == (case in NEED_THE_MATRIX or case.startswith("cc"))


def test_wide_blocks_form_no_matrix_either() -> None:
    """Just above max(4 Cs, 256) positions, for the largest number of products."""
    for name, options in (("snl", {}), ("gsnl", {"order": 3}), ("cayley", {}), ("a2", {})):
        block = make_block(name, 32, ndim=1, inter_channels=80, zero_init=False, **options)
        assert quadratic_shapes(block, 323) == [], name


@pytest.mark.parametrize(("positions", "width"), [(98, 128), (255, 128)])
def test_the_matrix_exists_where_it_is_the_cheaper_way(positions: int, width: int) -> None:
    block = new("snl", 1, channels=32, width=width, zero_init=False)
    assert (2, positions, positions) in quadratic_shapes(block, positions)


@pytest.mark.parametrize("case", ["nl", "ns", "nl gaussian", "dnl"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_a_softmax_runs_in_a_fused_kernel(case: str, memory_format: torch.memory_format) -> None:
    block = new(case, 3, channels=32, width=16, zero_init=False)
    x = torch.randn(2, 32, 4, 8, 9).to(memory_format=memory_format).requires_grad_()
    with Recorder() as seen:
        block(x).sum().backward()
    assert "_scaled_dot_product_flash_attention_for_cpu" in seen.operations
    assert "_scaled_dot_product_flash_attention_for_cpu_backward" in seen.operations
    assert "_softmax" not in seen.operations or case == "dnl"


@pytest.mark.parametrize("case", ["nl", "ns", "nl gaussian", "dnl"])
def test_a_softmax_over_few_positions_is_one_small_matrix(case: str) -> None:
    block = new(case, 3, channels=32, width=16, zero_init=False)
    with Recorder() as seen:
        block(torch.randn(2, 32, 4, 8, 8)).sum().backward()
    assert (2, 256, 256) in seen.shapes
    assert "_scaled_dot_product_flash_attention_for_cpu" not in seen.operations


@pytest.mark.parametrize("grid", [(2, 2, 3), (2, 12, 12)], ids=["dense", "low rank"])
def test_channels_last_features_are_not_copied(grid: tuple[int, ...]) -> None:
    block = made("snl", channels=16, width=8).to(memory_format=torch.channels_last_3d)
    x = features(2, 16, *grid).to(memory_format=torch.channels_last_3d)
    with torch.no_grad(), Recorder() as seen:
        block(x)
    assert "native_batch_norm" in seen.operations or "convolution" not in seen.operations
    assert not {"clone", "copy_", "_to_copy", "contiguous"} & seen.operations


def test_the_cost_of_the_affinity_products() -> None:
    """Compare with costs by hand at C = 8, Cs = 4: N = 3 (matrices) and N = 125 (factors)."""
    small, large = torch.randn(3, 8, 1, 1, 3), torch.randn(3, 8, 5, 5, 5)
    expected = {
        "snl": (3**2 * (4 + 4), 4 * 125 * 4 * 4),
        "gsnl": (3**2 * (4 + 2 * 4), 2 * 4 * 125 * 4 * 4),
        "snl_a2": (3**2 * (4 + 4), 2 * 125 * 4 * 4),
        "nl": (3**2 * 8, 125**2 * 8),
        "dnl": (3**2 * 8 + 2 * 3 * 4, 125**2 * 8 + 2 * 125 * 4),
        "cc": (3 * 5 * 8, 125 * 15 * 8),
        "cgnl": (2 * 3 * 4 * 3, 2 * 125 * 4 * 3),
    }
    for name, (few, many) in expected.items():
        block = make_block(name, 8, inter_channels=4)
        assert isinstance(block, NonlocalBlock)
        assert (block.affinity_multiply_adds(small), block.affinity_multiply_adds(large)) == (
            few,
            many,
        ), name
    stage = make_block("ns", 8, inter_channels=4, num_units=3)
    assert isinstance(stage, NonlocalBlock)
    assert stage.affinity_multiply_adds(large) == 3 * 125**2 * 8


# One case of every path through the code: softmax, low rank, lines, a linear system, gates. The
# others are slow tests, as recording takes seconds.
_QUICK = {"nl", "snl", "cc", "cayley 3", "se", "ge theta"}


def _recorded(cases: Iterable[str]) -> pytest.MarkDecorator:
    """The test for these cases, most of them as slow ones."""
    slow = [pytest.mark.slow]
    marked = [pytest.param(c, marks=[] if c in _QUICK else slow) for c in cases]
    return pytest.mark.parametrize("case", marked)


@_recorded([*CASES, *GATES])
def test_compile_without_graph_breaks(case: str) -> None:
    torch._dynamo.reset()
    block = made(case)
    compiled = torch.compile(block, fullgraph=True, backend="eager")
    for grid in [(2, 2, 2), (4, 5, 6), (7, 7, 7)]:  # the last with fused kernels
        x = features(2, 8, *grid)
        assert_close(compiled(x), block(x), **EXACT)


@pytest.mark.slow
@all_cases
def test_compile_with_inductor(case: str) -> None:
    torch._dynamo.reset()
    block = made(case).float()
    compiled = torch.compile(block, fullgraph=True)
    for grid in [(2, 2, 2), (4, 5, 6), (3, 3, 3)]:
        x = features(2, 8, *grid).float()
        assert_close(compiled(x), block(x), rtol=1e-3, atol=1e-4)


# At least 5: what a GE gathers with stride 2, twice, must not shrink to one position.
AXES = {0: torch.export.Dim("B")} | {
    axis: torch.export.Dim(name, min=5) for axis, name in ((2, "T"), (3, "H"), (4, "W"))
}


def exported(block: nn.Module, strict: bool = False) -> torch.export.ExportedProgram:
    return torch.export.export(
        block, (features(2, 8, 6, 10, 7),), dynamic_shapes=(AXES,), strict=strict
    )


@cache
def _exported_case(case: str) -> tuple[nn.Module, nn.Module]:
    """A block, and what its export computes."""
    block = made(case)
    return block, exported(block).module()


@_recorded([*CASES, *GATES])
def test_an_export_serves_other_sizes(case: str) -> None:
    block, served = _exported_case(case)
    for shape in [(2, 8, 6, 10, 7), (3, 8, 5, 5, 6), (4, 8, 8, 9, 5)]:
        x = features(*shape)
        assert_close(served(x), block(x), **EXACT)


# ONNX cannot search, so that a concatenation is exported as its matrix.
@_recorded([case for case in CASES if case not in (*NEED_THE_MATRIX, "cc", "nl concatenation")])
def test_an_export_takes_the_factored_order(case: str) -> None:
    _, served = _exported_case(case)
    with Recorder() as seen:
        served(features(2, 8, 7, 5, 5))
    assert any(175 in shape for shape in seen.shapes)
    assert all(shape.count(175) < 2 for shape in seen.shapes)


def test_an_export_in_strict_mode() -> None:
    block, x = made("snl"), features(3, 8, 7, 5, 6)
    assert_close(exported(block, strict=True).module()(x), block(x), **EXACT)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_tracing_takes_the_low_rank_order() -> None:
    block = made("snl", channels=32, width=16)
    traced = torch.jit.trace(block, features(2, 32, 2, 2, 3), check_trace=False)
    x = features(1, 32, 4, 9, 5)
    assert_close(traced(x), block(x), **EXACT)
    with Recorder() as seen:
        traced(x)
    assert any(180 in shape for shape in seen.shapes)
    assert all(shape.count(180) < 2 for shape in seen.shapes)


def onnx_outputs(network: nn.Module, file: Path, example: Tensor, *others: Tensor) -> list[Tensor]:
    """Run the network in onnxruntime, exported for one of the sizes."""
    import onnxruntime

    axes = {0: torch.export.Dim.DYNAMIC} | dict.fromkeys((2, 3, 4), torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        torch.onnx.export(
            network, (example,), file, dynamo=True, dynamic_shapes=(axes,), verbose=False
        )
    session = onnxruntime.InferenceSession(str(file))
    name = session.get_inputs()[0].name
    return [
        torch.from_numpy(np.asarray(session.run(None, {name: x.numpy()})[0]))
        for x in (example, *others)
    ]


_ONNX_QUICK = ("snl",)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=[] if c in _ONNX_QUICK else [pytest.mark.slow])
        for c in [*CASES, *GATES]
    ],
)
def test_onnx_serves_other_sizes(case: str, tmp_path: Path) -> None:
    if case.startswith("cayley"):
        pytest.skip("ONNX has no operator that solves a linear system: export it as .pt2")
    block = made(case).float()
    sizes = [features(2, 8, 6, 10, 7).float(), features(3, 8, 5, 6, 9).float()]
    for x, y in zip(sizes, onnx_outputs(block, tmp_path / "block.onnx", *sizes), strict=True):
        assert_close(y, block(x), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_onnx_of_a_network_with_a_block(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = i3d_small(5).eval()
    (block,) = insert_blocks(network, "snl", zero_init=False)
    assert isinstance(block, SNL3d)
    sizes = [torch.randn(2, 3, 4, 64, 64), torch.randn(1, 3, 8, 80, 64)]
    outputs = onnx_outputs(network, tmp_path / "network.onnx", *sizes)
    for x, y in zip(sizes, outputs, strict=True):
        assert_close(y, network(x), rtol=1e-3, atol=1e-4)
    program = torch.export.export(network, (sizes[0],), strict=False)
    assert_close(program.module()(sizes[0]), network(sizes[0]), rtol=1e-4, atol=1e-5)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    assert_close(compiled(sizes[1]), network(sizes[1]), rtol=1e-4, atol=1e-5)
