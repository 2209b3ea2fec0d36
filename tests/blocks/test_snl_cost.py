"""What SNL costs and how it is compiled, exported and copied."""

from __future__ import annotations

import copy
import io
import math
import pickle

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.blocks.test_snl import EXACT, features, made
from video_snl.blocks import SNL1d, SNL3d, affinity


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


def quadratic_shapes(positions: int, width: int, batch: int = 2) -> list[tuple[int, ...]]:
    """Shapes as large as the affinity's matrix among all that a training step makes."""
    block = SNL1d(2 * width, width, zero_init=False)
    x = torch.randn(batch, 2 * width, positions, requires_grad=True)
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


# Widths of which no sum of a few equals the number of positions.
@pytest.mark.parametrize(("positions", "width"), [(257, 8), (257, 64), (321, 80), (1025, 12)])
def test_no_matrix_of_all_pairs_exists(positions: int, width: int) -> None:
    assert positions > max(4 * width, 256)
    assert quadratic_shapes(positions, width) == []


@pytest.mark.parametrize(("positions", "width"), [(98, 128), (255, 128)])
def test_the_matrix_exists_where_it_is_the_cheaper_way(positions: int, width: int) -> None:
    assert (2, positions, positions) in quadratic_shapes(positions, width)


@pytest.mark.parametrize("grid", [(2, 2, 3), (2, 12, 12)], ids=["dense", "low rank"])
def test_channels_last_features_are_not_copied(grid: tuple[int, ...]) -> None:
    block = made(channels=16).to(memory_format=torch.channels_last_3d)
    x = features(2, 16, *grid).to(memory_format=torch.channels_last_3d)
    with torch.no_grad(), Recorder() as seen:
        block(x)
    assert "convolution" in seen.operations
    assert not {"clone", "copy_", "_to_copy", "contiguous"} & seen.operations


def test_the_cost_of_the_affinity_product() -> None:
    block = SNL3d(8, 4)
    assert block.affinity_multiply_adds(torch.randn(3, 8, 1, 1, 3)) == 3**2 * (4 + 4)
    assert block.affinity_multiply_adds(torch.randn(3, 8, 5, 5, 5)) == 4 * 125 * 4 * 4


def test_compile_without_graph_breaks() -> None:
    torch._dynamo.reset()
    block = made()
    compiled = torch.compile(block, fullgraph=True, backend="eager")
    for grid in [(2, 2, 2), (4, 5, 6), (3, 3, 3)]:
        x = features(2, 6, *grid)
        assert_close(compiled(x), block(x), **EXACT)


@pytest.mark.parametrize("strict", [False, True])
def test_an_export_serves_other_sizes_in_the_low_rank_order(strict: bool) -> None:
    block = made(channels=32)
    dim = torch.export.Dim
    axes = {0: dim("B"), 2: dim("T"), 3: dim("H"), 4: dim("W")}
    small = features(2, 32, 2, 2, 3)
    assert affinity.prefers_dense(12, 16, 16)
    program = torch.export.export(block, (small,), dynamic_shapes=({**axes},), strict=strict)
    exported = program.module()
    for shape in [(2, 32, 2, 2, 3), (3, 32, 4, 5, 6), (1, 32, 2, 9, 8)]:
        x = features(*shape)
        assert_close(exported(x), block(x), **EXACT)
    products = [node for node in program.graph.nodes if "matmul" in str(node.target)]
    assert len(products) == 4
    with Recorder() as seen:
        exported(features(2, 32, 1 + 6, 5, 5))
    assert all(shape.count(175) < 2 for shape in seen.shapes)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_tracing_takes_the_low_rank_order() -> None:
    block = made(channels=32)
    traced = torch.jit.trace(block, features(2, 32, 2, 2, 3), check_trace=False)
    x = features(1, 32, 4, 9, 5)
    assert_close(traced(x), block(x), **EXACT)
    with Recorder() as seen:
        traced(x)
    assert all(shape.count(180) < 2 for shape in seen.shapes)


def test_copies_and_pickles_are_the_block() -> None:
    block, x = made(), features(2, 6, 2, 3, 2)
    file = io.BytesIO()
    torch.save(block, file)
    file.seek(0)
    copies = [copy.deepcopy(block), pickle.loads(pickle.dumps(block))]
    copies.append(torch.load(file, weights_only=False))
    for other in copies:
        assert other.project.weight is not block.project.weight
        assert torch.equal(other(x), block(x))
