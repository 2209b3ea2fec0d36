"""The zoo: options, sub-blocks, recurrence, sub-sampled keys, names, the table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import video_snl
from tests.blocks.cases import (
    CASES,
    EXACT,
    GATES,
    GRIDS,
    all_cases,
    by_the_equation,
    features,
    made,
    new,
)
from video_snl.blocks import BLOCKS, NAMES, BlockConfig, NonlocalBlock, Recipe, make_block
from video_snl.blocks.gates import GATES as GATE_CLASSES
from video_snl.blocks.table import blocks_table, with_table
from video_snl.config.video import BlockName

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_block_is_in_the_conformance_suite() -> None:
    assert {name for name, _ in CASES.values()} == set(BLOCKS)
    assert {name for name, _ in GATES.values()} == set(GATE_CLASSES)
    assert set(BlockName.__args__) == {"none", *NAMES}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["NL", "NS", "A2", "CGNL", "CC", "DNL", "SNL", "GSNL", "CayleySNL"]
)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_classes_of_the_package(name: str, ndim: int) -> None:
    block = getattr(video_snl, f"{name}{ndim}d")(16)
    x = torch.randn(2, 16, *GRIDS[ndim])
    assert torch.equal(block(x), x)
    assert type(block).__name__ == f"{name}{ndim}d"
    assert "Y = X + norm(" in type(block).__doc__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "spectral"}, "block='spectral' is unknown; choose from: nl, ns, a2, "),
        ({"name": "snl", "in_channels": 1}, "inter_channels=0"),
        ({"name": "snl", "activation": "gelu"}, "'gelu' is unknown; choose 'relu' or None"),
        ({"name": "snl", "ndim": 4}, "ndim=4 must be 1, 2 or 3"),
        ({"name": "snl", "activation": "relu"}, "zero_init=True with activation='relu'"),
        ({"name": "snl", "num_units": 0}, "num_units=0 must be at least 1"),
        ({"name": "snl", "order": 3}, "order=3 with block='snl': its options are: kernel, scaled"),
        (
            {"name": "a2", "kernel": "dot"},
            "kernel='dot' with block='a2': its options are: descriptors, bias, norm, norm_groups",
        ),
        ({"name": "nl", "kernel": "dot", "normalization": "rw"}, "kernel='dot' with normal.*'rw'"),
        ({"name": "gsnl", "kernel": "dot"}, "kernel='dot' with normalization='sym'"),
        ({"name": "nl", "normalization": None}, "kernel='embedded_gaussian' with normalization="),
        (
            {"name": "nl", "kernel": "relu_dot", "scaled": True},
            "scaled=True with kernel='relu_dot'",
        ),
        ({"name": "nl", "kernel": "cosine"}, "'cosine' is unknown; choose from: relu_dot, dot"),
        ({"name": "nl", "pool": 2, "normalization": "sym"}, "pool=2 with normalization='sym'"),
        ({"name": "nl", "pool": 0}, "pool=0 must be at least 1"),
        ({"name": "nl", "normalization": "max"}, "'max' is unknown; choose 'sym', 'rw' or None"),
        ({"name": "cgnl", "groups": 3}, "groups=3 must divide in_channels=8 and inter_channels=4"),
        ({"name": "cgnl", "groups": 0}, "groups=0 must be at least 1"),
        ({"name": "cc", "recurrence": 0}, "recurrence=0 must be at least 1"),
        ({"name": "gsnl", "order": "3"}, "order='3' with block='gsnl' is a str; expected: int"),
        ({"name": "gsnl", "order": 1.5}, "order=1.5 with block='gsnl' is a float; expected: int"),
        ({"name": "nl", "scaled": 1}, "scaled=1 with block='nl' is a int; expected: bool"),
        ({"name": "gsnl", "order": -1}, "order=-1 must be 0 to 100"),
        ({"name": "cayley", "order": 0}, "order=0 of a Cayley filter must be at least 1"),
    ],
)
def test_bad_options(arguments: dict[str, Any], message: str) -> None:
    arguments = {"in_channels": 8, **arguments}
    with pytest.raises(ValueError, match=message):
        make_block(**arguments)(features(1, 8, 1, 2, 2).float())


@pytest.mark.parametrize(
    ("ndim", "shape", "expected"),
    [
        (1, (2, 8, 3, 4), "(B, 8, L)"),
        (2, (2, 8, 3), "(B, 8, H, W)"),
        (3, (2, 5, 2, 3, 4), "(B, 8, T, H, W)"),
        (3, (8, 2, 3, 4), "(B, 8, T, H, W)"),
    ],
)
def test_a_wrong_feature_map(ndim: int, shape: tuple[int, ...], expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        made("snl", ndim)(features(*shape))
    assert f"expects a {expected} feature map, got {shape}" in str(caught.value)


@all_cases
@pytest.mark.parametrize(
    "shape",
    [(2, 9, 2, 3, 4), (2, 8, 3, 4), (2, 8, 1, 2, 3, 4), (8,), (2, 8, 0, 3, 4), (2, 8, 2, 3, 0)],
)
def test_every_block_says_what_it_expects(case: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        made(case)(features(*shape))
    assert "this block expects a (B, 8, T, H, W) feature map" in str(caught.value)
    assert str(shape) in str(caught.value) and "\n" not in str(caught.value)


@all_cases
def test_what_is_no_dense_tensor(case: str) -> None:
    shape, block = (2, 8, 2, 3, 4), made(case)
    for x, said in (
        (None, "got a NoneType."),
        (np.zeros(shape), "got a numpy.ndarray; torch.as_tensor makes"),
        (features(*shape).to_sparse(), "got a tensor in the layout torch.sparse_coo"),
        (torch.nested.nested_tensor(list(features(*shape))), "got a nested tensor"),
    ):
        with pytest.raises(
            ValueError, match=r"expects a \(B, 8, T, H, W\) feature map, "
        ) as caught:
            block(x)
        assert said in str(caught.value)


@all_cases
def test_features_of_another_type_than_the_weights(case: str) -> None:
    block, x = new(case).eval(), features(2, 8, 2, 3, 4)
    whole = torch.ones(2, 8, 2, 3, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="expects features in .*, got torch.int64"):
        block(whole)
    if list(block.parameters()):
        for other in (x, x.half()):
            with pytest.raises(ValueError, match=f"features in torch.float32.*{other.dtype}: give"):
                block(other)
    with torch.autocast("cpu", torch.bfloat16):
        assert block(x.bfloat16()).shape == x.shape


@pytest.mark.parametrize("gate", GATE_CLASSES.values())
def test_gates_take_a_device_and_a_type(gate: Any) -> None:
    for parameter in gate(8, ndim=2, device="meta", dtype=torch.float64).parameters():
        assert parameter.is_meta and parameter.dtype == torch.float64
    with pytest.raises(ValueError, match="ndim=4 must be 1, 2 or 3"):
        gate(8, ndim=4)


@pytest.mark.parametrize("name", ["ns", "snl", "cgnl", "cc"])
def test_sub_blocks_share_the_affinity_of_the_first_input(name: str) -> None:
    stage, x = made(name, num_units=3), features(2, 8, 2, 3, 2)
    assert isinstance(stage, NonlocalBlock)
    affinity, z = stage.affinity(x), None
    y = x
    for number, sub_block in enumerate(stage.sub_blocks):
        graph = stage.as_graph_filter(x, unit=number)
        z = graph.signal
        y = y + graph.output().mT.reshape(y.shape)
        if number > 0 and name != "cgnl":
            rows = y.flatten(2).mT if sub_block.transfer is None else None
            assert rows is None or z.shape == rows.shape
        assert_close(graph.affinity.matmul(z), _apply(affinity, z, graph.groups), **EXACT)
    assert_close(stage(x), y, **EXACT)
    assert_close(stage.fuse()(x), y, **EXACT)


def _apply(affinity: Any, z: Tensor, groups: int | None) -> Tensor:
    if groups is None:
        return affinity.matmul(z)
    return (
        affinity.matmul(z.unflatten(1, (groups, -1)).flatten(0, 1))
        .unflatten(0, (-1, groups))
        .flatten(1, 2)
    )


def test_criss_cross_twice_is_the_block_applied_twice() -> None:
    once, twice = made("cc"), new("cc", zero_init=False, recurrence=2).double().eval()
    twice.load_state_dict(once.state_dict())
    x = features(2, 8, 2, 3, 2)
    assert_close(twice(x), once(once(x)), **EXACT)
    assert twice.affinity_multiply_adds(x) == 2 * once.affinity_multiply_adds(x)
    with pytest.raises(ValueError, match="recurrence"):
        twice.as_graph_filter(x)


@pytest.mark.parametrize("kernel", ["embedded_gaussian", "gaussian", "dot", "relu_dot"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_sub_sampled_keys_are_the_largest_of_their_window(kernel: Any, ndim: int) -> None:
    """Keys and values max-pooled, as arXiv:1711.07971 has it; an odd rest is a window, too."""
    block = made("nl", ndim)
    pooled = (
        make_block("nl", 8, ndim=ndim, inter_channels=4, zero_init=False, kernel=kernel, pool=2)
        .double()
        .eval()
    )
    assert isinstance(pooled, NonlocalBlock) and isinstance(block, NonlocalBlock)
    grid = {1: (5,), 2: (3, 4), 3: (2, 3, 4)}[ndim]
    x = features(2, 8, *grid)
    affinity, z = pooled._graph_and_signal(x)
    keys = {1: 3, 2: 2 * 2, 3: 2 * 2 * 2}[ndim]
    assert z.shape == (2, keys, 4)
    assert affinity.to_dense().shape == (2, x[0, 0].numel(), keys)
    projected = pooled.project(x.flatten(2).mT)[..., -4:]
    first = projected.mT.unflatten(2, grid)
    window = first[:, :, :2, :2, :2] if ndim == 3 else first[(..., *[slice(0, 2)] * ndim)]
    if ndim == 3:
        window = first[:, :, :1, :2, :2]
    assert_close(z[:, 0], window.flatten(2).amax(2), **EXACT)
    assert_close(affinity.matmul(z), affinity.to_dense() @ z, **EXACT)
    assert pooled(x).shape == x.shape


def test_a_general_block_of_order_one_is_snl() -> None:
    snl, general = made("snl"), made("gsnl", width=4)
    general = make_block("gsnl", 8, inter_channels=4, zero_init=False, order=1).double().eval()
    general.load_state_dict(snl.state_dict())
    x = features(2, 8, 2, 3, 2)
    assert torch.equal(general(x), snl(x))


@pytest.mark.parametrize("case", ["snl", "nl"])
def test_a_relu_after_the_norm(case: str) -> None:
    plain, x = made(case), features(2, 8, 2, 3, 2)
    rectified = new(case, zero_init=False, activation="relu").double().eval()
    rectified.load_state_dict(plain.state_dict())
    assert_close(rectified(x) - x, (by_the_equation(case, plain, x) - x).clamp(min=0), **EXACT)
    with pytest.raises(ValueError, match="activation is not linear"):
        rectified.as_graph_filter(x)


def test_the_documentation_has_the_table_of_the_code() -> None:
    text = (REPOSITORY / "docs" / "blocks.md").read_text(encoding="utf-8")
    assert with_table(text) == text, "run: python -m video_snl.blocks.table docs/blocks.md"
    assert len(re.findall(r"^\| `", blocks_table(), re.MULTILINE)) == len(NAMES)
    with pytest.raises(ValueError, match="lacks the marks"):
        with_table("no marks")


def test_former_names_work_with_a_warning() -> None:
    block = make_block("snl", 8)
    assert isinstance(block, NonlocalBlock) and Recipe is BlockConfig
    with pytest.warns(DeprecationWarning, match="recipe of a NonlocalBlock has become config"):
        assert block.recipe is block.config
    with pytest.warns(DeprecationWarning, match="stage of a NonlocalBlock has become sub_blocks"):
        assert block.stage == block.sub_blocks
    with pytest.warns(DeprecationWarning, match="has become config"):
        again = NonlocalBlock(8, ndim=3, recipe=block.config)
    assert again.config is block.config
    with pytest.raises(TypeError, match="needs a config"):
        NonlocalBlock(8, ndim=3)
