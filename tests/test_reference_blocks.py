"""Blocks from state dicts of the released code: equal to its equations, in 2d and lifted to 3d."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests import released
from tests.released import KINDS, STAGE_KINDS, assert_equal, double
from tests.released_states import block_state, features
from video_snl.blocks import NonlocalBlock
from video_snl.errors import UserError
from video_snl.models.released.blocks import DisentangledStage
from video_snl.models.weights.loading import load_reference_block

AMBIGUOUS = ("nl", "ns", "a2")
# Channels, transferred channels, units.
SIZES = [(8, 4, 1), (16, 8, 2), (6, 5, 3)]


def units_of(kind: str, units: int) -> int:
    return 1 if kind == "cgnl" else units


# ---- The equations -------------------------------------------------------------------------------


@pytest.mark.parametrize("channels, width, units", SIZES)
@pytest.mark.parametrize(
    "kind, affinity",
    [(kind, None) for kind in KINDS]
    + [(kind, affinity) for kind in STAGE_KINDS for affinity in released.AFFINITIES],
)
def test_outputs_are_the_released_ones(kind, channels, width, units, affinity) -> None:
    state = block_state(kind, channels, width, units_of(kind, units))
    x = features(2, channels, 5, 4)
    expected = released.block(kind, double(state), x.double(), affinity)
    with torch.no_grad():
        flat = load_reference_block(state, kind, affinity=affinity)(x)
        lifted = load_reference_block(state, kind, 3, affinity=affinity)(x.unsqueeze(2))
    assert flat.dtype == torch.float32
    assert_equal(flat, expected)
    assert_equal(lifted.squeeze(2), expected)


@pytest.mark.parametrize("affinity", released.AFFINITIES)
@pytest.mark.parametrize("kind", ["snl", "ns", "cayley"])
def test_many_positions_take_the_order_without_a_matrix(kind, affinity) -> None:
    state, x = block_state(kind, 8, 4), features(1, 8, 12, 10)
    expected = released.block(kind, double(state), x.double(), affinity)
    with torch.no_grad():
        assert_equal(load_reference_block(state, kind, affinity=affinity)(x), expected)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "cc"])
def test_lifted_to_3d_all_positions_of_a_video_see_each_other(kind) -> None:
    state, x = block_state(kind, 8, 4, units_of(kind, 2)), features(2, 8, 3, 2, 4)
    expected = released.block(kind, double(state), x.double().flatten(2, 3))
    with torch.no_grad():
        assert_equal(load_reference_block(state, kind, ndim=3)(x).flatten(2, 3), expected)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_cgnl_reads_its_groups_off_the_shapes(groups) -> None:
    state, x = block_state("cgnl", 8, 4, groups=groups), features(2, 8, 3, 5)
    # Weights this large make all orders of the series count.
    state |= {f"{name}.weight": 30 * state[f"{name}.weight"] for name in "tp"}
    block = load_reference_block(state)
    assert block.config.groups == groups
    with torch.no_grad():
        assert_equal(block(x), released.generalized(double(state), x.double()))


def test_snl_of_the_segmentation_head_has_the_other_sign() -> None:
    state, x = block_state("snl", units=2), features(2, 8, 4, 3)
    with torch.no_grad():
        minus = load_reference_block(state, sign="-")(x)
    assert_equal(minus, released.block("snl", double(state), x.double(), sign=-1))
    assert not torch.allclose(minus, load_reference_block(state)(x), atol=1e-3)


@pytest.mark.parametrize("kind", STAGE_KINDS)
def test_positions_without_a_degree_have_zero_rows(kind) -> None:
    state, x = block_state(kind), features(2, 8, 4, 3)
    x[:, :, 0] = 0  # embeddings of zero
    expected = released.block(kind, double(state), x.double(), "relu_sym")
    block = load_reference_block(state, kind, affinity="relu_sym")
    if kind != "dnl":  # which adds a softmax
        assert not block.affinity(x).to_dense()[:, :3].any()
    with torch.no_grad():
        assert_equal(block(x), expected)


def test_a_single_cc_block_may_stand_without_a_number() -> None:
    state, x = block_state("cc"), features(2, 8, 4, 3)
    bare = released.below(state, "0.")
    with torch.no_grad():
        assert_equal(load_reference_block(bare)(x), released.criss_cross(double(bare), x.double()))


# ---- The modules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_is_a_graph_filter(kind) -> None:
    block = load_reference_block(block_state(kind), kind)
    assert isinstance(block, NonlocalBlock) and not block.training
    x = features(2, 8, 3, 4)
    size = 12 * 4 if kind == "cgnl" else 12
    assert block.affinity(x).to_dense().shape == (2, size, size)
    if kind in STAGE_KINDS:  # the ReLU after the norm is not linear
        with pytest.raises(ValueError, match="activation is not linear"):
            block.as_graph_filter(x)
    else:
        added = block.as_graph_filter(x).output().mT.unflatten(2, (3, 4))
        torch.testing.assert_close(x + added, block(x))


def test_what_several_units_are() -> None:
    assert len(load_reference_block(block_state("snl", units=3)).units) == 3
    stage = load_reference_block(block_state("dnl", units=3))
    assert isinstance(stage, DisentangledStage)
    with pytest.raises(ValueError, match=r"this block expects a \(B, 8, H, W\) feature map, got"):
        stage(torch.ones(2, 9, 3, 4))
    stage = load_reference_block(block_state("cc", units=3))
    assert isinstance(stage, nn.Sequential) and len(stage) == 3


@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_train(kind, units) -> None:
    state, x = block_state(kind, units=units_of(kind, units)), features(4, 8, 4, 3)
    block = load_reference_block(state, kind).train()
    before = {name: value.clone() for name, value in block.named_parameters()}
    y = block(x)
    if kind in STAGE_KINDS:
        expected = released.block(kind, double(state), x.double(), training=True)
        assert_equal(y, expected)
    y.square().mean().backward()
    torch.optim.SGD(block.parameters(), lr=0.1).step()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in block.parameters())
    assert all(not torch.equal(before[name], p) for name, p in block.named_parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_dict_stays_as_it_is(kind) -> None:
    state = block_state(kind)
    block = load_reference_block(state, kind)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
    expected = block_state(kind)
    assert all(torch.equal(state[name], expected[name]) for name in expected)


# ---- Names, kinds and errors ---------------------------------------------------------------------


@pytest.mark.parametrize("wrap", ["", "module."])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in AMBIGUOUS])
def test_kinds_are_recognised(kind, wrap) -> None:
    state, x = block_state(kind), features(1, 8, 3, 3)
    wrapped = {wrap + name: value for name, value in state.items()}
    with torch.no_grad():
        expected = load_reference_block(state, kind)(x)
        for given in (wrapped, {"epoch": 3, "state_dict": wrapped}):
            torch.testing.assert_close(load_reference_block(given)(x), expected)


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_kinds_with_the_same_keys_must_be_given(kind) -> None:
    with pytest.raises(ValueError, match="nl, ns and a2 have the same keys"):
        load_reference_block(block_state(kind))


def test_batch_counters_may_be_missing() -> None:
    state = block_state("snl", units=2)
    old = {n: value for n, value in state.items() if not n.endswith("num_batches_tracked")}
    x = features(1, 8, 3, 3)
    torch.testing.assert_close(load_reference_block(old)(x), load_reference_block(state)(x))


def required_keys(kind: str) -> list[str]:
    return [n for n in block_state(kind, units=2) if not n.endswith("num_batches_tracked")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_missing_key_is_named(kind) -> None:
    for name in required_keys(kind):
        state = block_state(kind, units=2)
        del state[name]
        with pytest.raises(ValueError, match=f"missing key.* {name}"):
            load_reference_block(state, kind)


@pytest.mark.parametrize(
    "reshape",
    [
        lambda t: torch.cat([t, t]),
        lambda t: t[None],
        lambda t: t[..., :0],
        lambda t: t.flatten()[0],
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_wrong_shape_is_named(kind, reshape: Callable[[Tensor], Tensor]) -> None:
    for name in required_keys(kind):
        state = block_state(kind, units=2)
        state[name] = reshape(state[name])
        with pytest.raises(UserError, match=name):
            load_reference_block(state, kind)


@pytest.mark.parametrize("name", ["q.weight", "stages.0.w_3.weight", "stages.2.w_2.weight", "fc"])
def test_unknown_keys_are_named(name) -> None:
    state = block_state("snl", units=2) | {name: torch.zeros(4, 8, 1, 1)}
    with pytest.raises(UserError, match=name):
        load_reference_block(state)


def test_a_kind_that_is_not_the_files_names_the_difference() -> None:
    with pytest.raises(ValueError, match="unknown keys: stages.0.w_1.weight"):
        load_reference_block(block_state("snl"), "nl")
    with pytest.raises(ValueError, match="missing keys: stages.0.w_1.weight"):
        load_reference_block(block_state("nl"), "snl")
    with pytest.raises(
        ValueError, match=r"stages.0.g.weight is \(2, 8, 1, 1\), not \(4, 8, 1, 1\)"
    ):
        load_reference_block(
            {n: v for n, v in block_state("cayley").items() if "w_h" not in n}, "snl"
        )


@pytest.mark.parametrize(
    "state", [{}, {"conv.weight": torch.zeros(1)}, {"layer1.0.w_1": torch.ones(1)}]
)
def test_other_state_dicts_are_refused(state) -> None:
    with pytest.raises(UserError, match="no released block has these keys.*load_reference_network"):
        load_reference_block(state)


def test_values_must_be_tensors() -> None:
    with pytest.raises(UserError, match="'t.weight' is a list"):
        load_reference_block(block_state("snl") | {"t.weight": [1.0]})
    with pytest.raises(UserError, match="'state_dict' is a list"):
        load_reference_block({"state_dict": []})


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("snl", {"kind": "sln"}, "kind='sln' is unknown; choose from: snl, nl"),
        ("snl", {"ndim": 4}, "ndim=4 must be 1, 2 or 3"),
        ("snl", {"affinity": "sigmoid"}, "choose from: softmax, relu, relu_sym"),
        ("snl", {"sign": "*"}, "choose '\\+' or '-'"),
        ("nl", {"kind": "nl", "sign": "-"}, "only snl was released with either sign"),
        ("cgnl", {"affinity": "relu"}, "affinity='relu' with kind='cgnl'"),
        ("cc", {"affinity": "softmax"}, "affinity='softmax' with kind='cc'"),
    ],
)
def test_bad_options_are_refused(kind, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        load_reference_block(block_state(kind), **options)
