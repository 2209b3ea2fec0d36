"""SpectralAttention: its equation, padding, and its place in the transformers of torch."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models import VisionTransformer

from tests import naive
from tests.blocks.cases import EXACT, assert_same_with_gradients, features
from tests.blocks.operators import both_orders, choose_order
from tests.blocks.test_cost import Recorder
from tests.pages import REPOSITORY
from video_snl.blocks import SpectralAttention

DIM, HEADS = 6, 2
IGNORED = torch.tensor([[False, True, False, True, False], [False, False, False, False, True]])


def made(dim: int = DIM, heads: int = HEADS, order: int = 1, **options: Any) -> SpectralAttention:
    """A module in float64 whose biases are not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = SpectralAttention(dim, heads, order, **options).double()
        for name, parameter in attention.named_parameters():
            if name.endswith("bias"):
                nn.init.uniform_(parameter, -0.5, 0.5)
    return attention


def attend(attention: nn.Module, x: Tensor, **more: Any) -> Tensor:
    out, weights = attention(x, x, x, **more)
    assert weights is None
    return out


def by_the_equation(attention: SpectralAttention, x: Tensor) -> Tensor:
    """sum_k concat_h(A_h^k Z_h) W_k + b by plain loops over the positions."""
    heads, dim = attention.num_heads, attention.embed_dim
    bias = attention.in_proj.bias
    theta, phi, z = (
        naive.linear(attention.in_proj.weight, x) + (0 if bias is None else bias)
    ).split(dim, -1)
    width = dim // heads
    powers: list[list[Tensor]] = [[] for _ in range(attention.filter.count)]
    for h in range(heads):
        own = slice(h * width, (h + 1) * width)
        rectified = theta[..., own].clamp(min=0), phi[..., own].clamp(min=0)
        matrix = naive.normalized(naive.symmetrized(naive.pairwise(*rectified)), "sym")
        signal = z[..., own]
        for power in powers:
            power.append(signal)
            signal = naive.product(matrix, signal)
    weights = attention.out_proj.weight.split(dim, 1)
    terms = [
        naive.linear(weight, torch.cat(power, -1))
        for weight, power in zip(weights, powers, strict=True)
    ]
    return sum(terms) + (0 if attention.out_proj.bias is None else attention.out_proj.bias)


@both_orders
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("heads", "order"), [(1, 1), (2, 1), (3, 2), (2, 3)])
def test_it_is_the_equation(
    heads: int, order: int, bias: bool, dense_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_order(monkeypatch, dense_order)
    attention, x = made(heads=heads, order=order, bias=bias), features(2, 5, DIM).requires_grad_()
    leaves = [x, *attention.parameters()]
    assert len(leaves) == (5 if bias else 3)
    assert_same_with_gradients(attend(attention, x), by_the_equation(attention, x), leaves)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    order=st.integers(1, 3),
    seed=st.integers(0, 999),
)
@settings(max_examples=25, deadline=None)
def test_padding_is_as_if_it_were_not_there(lengths: list[int], order: int, seed: int) -> None:
    attention = made(order=order)
    x = features(len(lengths), max(lengths), DIM, seed=seed)
    ignored = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
    y = attend(attention, x.masked_fill(ignored[..., None], torch.nan), key_padding_mask=ignored)
    for sample, length, output in zip(x, lengths, y, strict=True):
        alone = attend(attention, sample[None, :length])[0]
        assert (output[:length] - alone).abs().max() <= 1e-12 * alone.abs().max()
        assert (output[length:] == 0).all()


@pytest.mark.parametrize("bias", [True, False])
def test_what_is_ignored_changes_no_gradient(bias: bool) -> None:
    """In the middle, too, for any content, and whatever gradient reaches the outputs there."""
    attention = made(bias=bias)
    found = []
    for content in (0.0, 1e300, torch.inf, torch.nan):
        x = features(2, 5, DIM).masked_fill(IGNORED[..., None], content).requires_grad_()
        y = attend(attention, x, key_padding_mask=IGNORED)
        assert (y[IGNORED] == 0).all()
        upstream = features(2, 5, DIM, seed=2).masked_fill(IGNORED[..., None], content)
        gradients = torch.autograd.grad(y, [x, *attention.parameters()], upstream)
        assert (gradients[0][IGNORED] == 0).all()
        found.append((y, *gradients))
    kept = attend(attention, features(2, 5, DIM)[:1, ~IGNORED[0]])
    assert_close(found[0][0][0][~IGNORED[0]], kept[0], **EXACT)
    for other in found[1:]:
        assert_close(other, found[0], rtol=0, atol=0)


def test_forms_of_input_and_mask() -> None:
    attention, x = made(), features(2, 5, DIM)
    y = attend(attention, x, key_padding_mask=IGNORED)
    infinite = torch.zeros(2, 5).masked_fill(IGNORED, -torch.inf)
    assert_close(attend(attention, x, key_padding_mask=infinite), y, rtol=0, atol=0)
    one = attend(attention, x[1], key_padding_mask=IGNORED[1])
    assert_close(one, y[1], **EXACT)
    attention.batch_first = False
    assert_close(attend(attention, x.transpose(0, 1), key_padding_mask=IGNORED).transpose(0, 1), y)
    assert attend(attention, x[0]).shape == (5, DIM)
    attention.batch_first = True
    assert attend(attention, x[:0]).shape == (0, 5, DIM)
    views = attention(x, x.view(2, 5, DIM), x[:], average_attn_weights=False)[0]
    assert_close(views, attend(attention, x), rtol=0, atol=0)


def test_the_affinity_has_the_weights() -> None:
    attention, x = made(), features(2, 5, DIM)
    matrix = attention.affinity(x, IGNORED).to_dense().unflatten(0, (2, HEADS))
    assert_close(matrix, matrix.mT)
    assert (matrix.movedim(1, -1)[IGNORED] == 0).all() and (matrix >= 0).all()
    z = attention.in_proj(x)[..., 2 * DIM :].unflatten(-1, (HEADS, -1)).transpose(1, 2)
    terms = [z, matrix @ z]
    joined = torch.cat([term.transpose(1, 2).flatten(2) for term in terms], -1)
    y = attend(attention, x, key_padding_mask=IGNORED)
    assert_close(attention.out_proj(joined)[~IGNORED], y[~IGNORED], **EXACT)


def _refusals() -> Iterator[Any]:
    x = features(2, 5, DIM)
    all_of_one = IGNORED | torch.tensor([[False], [True]])
    for name, changed, message in (
        ("other key", {"key": x.clone()}, "must be one tensor"),
        ("other value", {"value": x + 1}, "must be one tensor"),
        ("a part of it", {"key": x[:, :4]}, "must be one tensor"),
        ("weights", {"need_weights": True}, r"never forms the N x N .* affinity\(x\).rows"),
        ("mask of pairs", {"attn_mask": torch.zeros(5, 5)}, "attn_mask: .* no pair can be masked"),
        ("causal", {"is_causal": True}, "is_causal=True: .* no pair can be masked"),
        ("mask of N", {"key_padding_mask": IGNORED[0]}, r"shape \(5,\), .* need \(2, 5\)"),
        ("swapped mask", {"key_padding_mask": IGNORED.T}, r"shape \(5, 2\), .* need \(2, 5\)"),
        ("integers", {"key_padding_mask": IGNORED.long()}, "type torch.int64; give torch.bool"),
        ("a list", {"key_padding_mask": IGNORED.tolist()}, "is a builtins.list; give a tensor"),
        ("an array", {"key_padding_mask": IGNORED.numpy()}, "is a numpy.ndarray; give a tensor"),
        ("biases", {"key_padding_mask": -1.0 * IGNORED}, "values other than -inf"),
        ("NaN", {"key_padding_mask": torch.full((2, 5), torch.nan)}, "values other than -inf"),
        ("nothing", {"key_padding_mask": all_of_one}, "all positions of sample 1"),
    ):
        yield pytest.param({"query": x, "key": x, "value": x, **changed}, message, id=name)
    for name, shape, message in (
        ("channels", (2, 5, 4), r"tokens \(B, N, 6\) or \(N, 6\), got \(2, 5, 4\)"),
        ("axes", (2, 5, 1, DIM), r"got \(2, 5, 1, 6\)"),
        ("no token", (2, 0, DIM), "at least one token"),
        ("no token at all", (0, DIM), "at least one token"),
    ):
        x = torch.zeros(shape, dtype=torch.float64)
        yield pytest.param({"query": x, "key": x, "value": x}, message, id=name)


@pytest.mark.parametrize(("arguments", "message"), _refusals())
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        made()(**arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (None, r"expects tokens \(B, N, 6\) or \(N, 6\), got a NoneType"),
        (np.zeros((2, 5, DIM)), "got a numpy.ndarray; torch.as_tensor makes"),
        ([[0.0] * DIM], "got a list"),
        (torch.eye(DIM).to_sparse(), "got a tensor in the layout torch.sparse_coo"),
        (
            torch.ones(2, 5, DIM),
            r"in torch.float64, .* got torch.float32: give x.to\(torch.float64",
        ),
        (torch.ones(2, 5, DIM).half(), "got torch.float16"),
        (torch.ones(2, 5, DIM).long(), "got torch.int64"),
        (torch.ones(2, 5, DIM).cfloat(), "got torch.complex64"),
    ],
)
def test_what_is_no_tokens(x: Any, message: str) -> None:
    for call in (lambda: made()(x, x, x), lambda: made().affinity(x)):
        with pytest.raises(ValueError, match=message.replace(r" or \(N, 6\)", ".*")):
            call()
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="SpectralAttent"):
        made()(x, x, x)


def test_autocast_takes_the_types_that_it_converts() -> None:
    attention = made().float()
    x = features(2, 5, DIM).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert attend(attention, x).shape == x.shape
        with pytest.raises(ValueError, match="in torch.float32, .* got torch.float64"):
            attend(attention, x.double())


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_affinity_takes_a_batch_that_comes_first(batch_first: bool) -> None:
    attention = made(batch_first=batch_first)
    x = features(2, 5, DIM)
    assert attention.affinity(x).to_dense().shape == (2 * HEADS, 5, 5)
    assert attention.affinity(x[:0]).to_dense().shape == (0, 5, 5)
    with pytest.raises(ValueError, match=r"tokens \(B, N, 6\), got \(5, 6\)"):
        attention.affinity(x[0])
    with pytest.raises(ValueError, match="at least one token"):
        attention.affinity(x[:, :0])


def test_a_detached_key_is_another_tensor() -> None:
    x = features(2, 5, DIM).requires_grad_()
    with pytest.raises(ValueError, match="must be one tensor"):
        made()(x, x.detach(), x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1), "dim=0 must be at least 1"),
        ((6, 0), "heads=0 must be at least 1"),
        ((6, 2, 0), "order=0 must be at least 1"),
        ((6, 4), "heads=4 must divide dim=6"),
        ((6, 2.0), "heads=2.0 must be a whole number"),
        ((6, True), "heads=True must be a whole number"),
        (("6", 2), "dim='6' must be a whole number"),
        ((6, 2, 0.1), "order=0.1 must be a whole number"),  # torch's third one is dropout
        ((6, 2, 1, "x"), "batch_first='x' must be True or False"),
        ((6, 2, 1, 0), "batch_first=0 must be True or False"),
    ],
)
def test_sizes_that_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpectralAttention(*arguments)


def test_cost_is_linear() -> None:
    positions = 521
    attention = SpectralAttention(32, 4, order=2)
    x = torch.randn(2, positions, 32, requires_grad=True)
    with Recorder() as recorder:
        attend(
            attention, x, key_padding_mask=torch.zeros(2, positions, dtype=torch.bool)
        ).sum().backward()
    largest = max(torch.Size(shape).numel() for shape in recorder.shapes)
    assert largest == 2 * positions * 3 * 32  # the projection, and the terms
    assert all(shape.count(positions) < 2 for shape in recorder.shapes)


def test_many_tokens() -> None:
    attention = SpectralAttention(8, 2, device="meta")
    x = torch.empty(1, 200_000, 8, device="meta")
    assert attend(attention, x).shape == x.shape
    real = SpectralAttention(4, 1)
    assert attend(real, torch.randn(1, 200_000, 4)).isfinite().all()


# In the transformers of torch and torchvision.

EVALUATED = pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
MASKS = {
    "none": None,
    "boolean": IGNORED,
    "floating": torch.zeros(2, 5, dtype=torch.float64).masked_fill(IGNORED, -torch.inf),
    "left aligned": torch.tensor([[False] * 5, [False] * 2 + [True] * 3]),
}
every_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=list(MASKS))


def encoder_layer(**options: Any) -> nn.TransformerEncoderLayer:
    """A layer for which torch takes its fast path with softmax attention."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.TransformerEncoderLayer(
            DIM, HEADS, 8, dropout=0.0, batch_first=True, dtype=torch.float64, **options
        )


def with_attention(layer: nn.Module) -> nn.Module:
    layer.self_attn = made()
    return layer


@EVALUATED
@every_mask
@pytest.mark.parametrize("options", [{}, {"norm_first": True, "activation": "gelu"}], ids=str)
def test_an_encoder_layer_evaluates_as_it_trains(
    options: dict[str, Any], mask: Tensor | None, grad: bool
) -> None:
    layer, x = with_attention(encoder_layer(**options)), features(2, 5, DIM)
    trained = layer.train()(x, src_key_padding_mask=mask)
    with torch.set_grad_enabled(grad):
        evaluated = layer.eval()(x, src_key_padding_mask=mask)
    assert_close(evaluated, trained, rtol=0, atol=0)
    own = layer.norm1(x) if layer.norm_first else x
    attended = attend(layer.self_attn, own, key_padding_mask=mask)
    first = x + attended if layer.norm_first else layer.norm1(x + attended)
    fed = layer._ff_block(layer.norm2(first) if layer.norm_first else first)
    expected = first + fed if layer.norm_first else layer.norm2(first + fed)
    assert_close(evaluated, expected, **EXACT)


def test_the_fast_path_would_have_been_taken() -> None:
    """So that the tests here test what they say: softmax attention does take it."""
    layer, called = encoder_layer().eval(), []
    original = layer.self_attn.forward
    # A hook would turn the path off.
    layer.self_attn.forward = lambda *given, **named: called.append(1) or original(*given, **named)
    x = features(2, 5, DIM)
    with torch.no_grad():
        layer(x)
    assert called == []
    layer(x)
    assert called == [1]


@EVALUATED
@every_mask
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("place", ["before", "all", "last"])
def test_an_encoder_evaluates_as_it_trains(
    place: str, frozen: bool, mask: Tensor | None, grad: bool
) -> None:
    """Also where the attention is replaced in an encoder that would have used nested tensors."""
    layer = encoder_layer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch says that it does without them
        if place == "before":
            encoder = nn.TransformerEncoder(with_attention(layer), 2)
        else:
            encoder = nn.TransformerEncoder(layer, 2)
            for chosen in encoder.layers[-1:] if place == "last" else encoder.layers:
                with_attention(chosen)
        encoder.requires_grad_(not frozen)
        x = features(2, 5, DIM)
        trained = encoder.train()(x, src_key_padding_mask=mask)
        with torch.set_grad_enabled(grad):
            evaluated = encoder.eval()(x, src_key_padding_mask=mask)
    if mask is not None and place == "last":
        # A nested tensor, which comes of a mask at the end, has zeros where padding was.
        kept = mask == 0 if mask.is_floating_point() else ~mask
        trained, evaluated = trained[kept], evaluated[kept]
    assert_close(evaluated, trained, rtol=1e-10, atol=1e-11)


def test_nested_tensors() -> None:
    attention = made()
    samples = [features(3, DIM, seed=1), features(5, DIM, seed=2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, about the layout
        nested = torch.nested.nested_tensor(samples, layout=torch.strided)
        outputs = attend(attention, nested).unbind()
        for sample, output in zip(samples, outputs, strict=True):
            assert_close(output, attend(attention, sample[None])[0], **EXACT)
        with pytest.raises(ValueError, match="no padding; leave one out"):
            attend(attention, nested, key_padding_mask=IGNORED)
        with pytest.raises(ValueError, match=r"\(N, 6\) in the layout torch.strided"):
            attend(attention, torch.nested.nested_tensor(samples, layout=torch.jagged))
        for wrong, said in (
            (features(4, DIM - 2), r"\(N, 6\) in a nested tensor, got \(4, 4\)"),
            (features(4, DIM)[:0], "at least one token"),
            (features(4, DIM).float(), "torch.float32"),
        ):
            kept = [sample.to(wrong.dtype) for sample in samples]
            odd = torch.nested.nested_tensor([*kept, wrong], layout=torch.strided)
            with pytest.raises(ValueError, match=said):
                attend(attention, odd)
        with pytest.raises(ValueError, match="got a nested tensor"):
            attention.affinity(nested)


def vision_transformer() -> VisionTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VisionTransformer(
            image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8
        )
        nn.init.normal_(network.heads.head.weight)
        for block in network.encoder.layers:
            block.self_attention = SpectralAttention(8, 2)
    return network.double()


def test_the_vision_transformer_of_torchvision() -> None:
    network, x = vision_transformer(), features(3, 3, 8, 8)
    trained = network.train()(x)
    with torch.no_grad():
        assert_close(network.eval()(x), trained, rtol=0, atol=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    before = copy.deepcopy(network)
    loss = trained[:, 0].logsumexp(0)
    loss.backward()
    optimizer.step()
    attentions = [m for m in network.modules() if isinstance(m, SpectralAttention)]
    assert len(attentions) == 2
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for a in attentions for p in a.parameters()
    )
    assert_close(before(x), trained, rtol=0, atol=0)
    assert not torch.equal(network(x), trained)


# As a module.


def test_copies_and_files() -> None:
    attention, x = made(order=2, batch_first=False), features(5, 2, DIM)
    for other in (copy.deepcopy(attention), pickle.loads(pickle.dumps(attention))):  # noqa: S301
        assert_close(attend(other, x), attend(attention, x), rtol=0, atol=0)
    other = SpectralAttention(DIM, HEADS, 2, batch_first=False, dtype=torch.float64)
    other.load_state_dict(attention.state_dict())
    assert_close(attend(other, x), attend(attention, x), rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="in_proj_weight"):
        other.load_state_dict(nn.MultiheadAttention(DIM, HEADS).state_dict())
    assert "order=2, batch_first=False" in repr(attention)


def test_parameters() -> None:
    attention = SpectralAttention(DIM, HEADS, bias=False, device="meta", dtype=torch.bfloat16)
    assert [(p.device.type, p.dtype) for p in attention.parameters()] == [
        ("meta", torch.bfloat16)
    ] * 2
    attention = SpectralAttention(DIM, HEADS)
    assert (attention.in_proj.bias == 0).all() and (attention.out_proj.bias == 0).all()
    before = copy.deepcopy(attention.state_dict())
    torch.manual_seed(1)
    attention.reset_parameters()
    first = copy.deepcopy(attention.state_dict())
    torch.manual_seed(1)
    attention.reset_parameters()
    assert_close(attention.state_dict(), first, rtol=0, atol=0)
    assert not torch.equal(before["in_proj.weight"], first["in_proj.weight"])


@pytest.mark.parametrize("size", [1.0, 1e4])
@pytest.mark.parametrize("positions", [6, 1024])
@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [
        (torch.bfloat16, True),
        (torch.bfloat16, False),
        (torch.float16, True),
        (torch.float16, False),
    ],
)
def test_half_precision(dtype: torch.dtype, autocast: bool, positions: int, size: float) -> None:
    exact, x = made(16, 2), features(2, positions, 16)
    # Equal tokens are the worst case of the sums over positions.
    x = torch.cat([x.clamp(-1, 1), torch.ones_like(x)])
    with torch.no_grad():
        expected = attend(exact, size * x)
    attention = copy.deepcopy(exact).float() if autocast else copy.deepcopy(exact).to(dtype)
    given = (size * x).to(torch.float32 if autocast else dtype).requires_grad_()
    with torch.autocast("cpu", dtype, enabled=autocast):
        y = attend(attention, given)
    assert y.dtype == dtype
    error = (y.double() - expected).norm() / expected.norm()
    assert error < (0.02 if dtype == torch.bfloat16 else 0.003)
    ((y.float() / size).square().mean() / size).backward()
    for gradient in [given.grad, *(parameter.grad for parameter in attention.parameters())]:
        assert gradient.isfinite().all()


def test_transformations_of_functions() -> None:
    attention, x, v = made(), features(3, 2, 5, DIM), features(2, 5, DIM, seed=3)
    mapped = torch.vmap(lambda x: attend(attention, x))(x)
    assert_close(mapped, torch.stack([attend(attention, part) for part in x]), **EXACT)
    masked = torch.vmap(lambda x, mask: attend(attention, x, key_padding_mask=mask))(
        x, IGNORED.expand(3, -1, -1)
    )
    assert_close(masked[0], attend(attention, x[0], key_padding_mask=IGNORED), **EXACT)
    y, forward = torch.func.jvp(lambda x: attend(attention, x), (x[0],), (v,))
    _, backward = torch.autograd.functional.jvp(lambda x: attend(attention, x), x[0], v)
    assert_close(y, attend(attention, x[0]))
    assert_close(forward, backward, **EXACT)


class Alone(nn.Module):
    """An attention with one input, as it stands in a network."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = made()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return attend(self.attention, x, key_padding_mask=mask)


def test_export_with_any_number_of_tokens() -> None:
    module, tokens = Alone().eval(), torch.export.Dim("tokens", max=4096)
    program = torch.export.export(
        module, (features(2, 5, DIM), IGNORED), dynamic_shapes=({1: tokens}, {1: tokens})
    )
    for positions in (5, 300):
        x = features(2, positions, DIM)
        mask = torch.arange(positions).expand(2, -1) >= 4
        assert_close(program.module()(x, mask), module(x, mask), **EXACT)
    # Values are checked in eager mode only: nothing to attend to gives zeros here.
    nothing = torch.tensor([[True] * 5, [False] * 5])
    y = program.module()(features(2, 5, DIM), nothing)
    assert (y[0] == 0).all() and y[1].isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_compile(training: bool) -> None:
    module, x = Alone().train(training), features(2, 5, DIM).requires_grad_()
    compiled = torch.compile(module, fullgraph=True)
    leaves = [x, *module.parameters()]
    assert_same_with_gradients(compiled(x, IGNORED), module(x, IGNORED), leaves)
    layer = with_attention(encoder_layer()).train(training)
    compiled = torch.compile(layer, fullgraph=True)
    for mask in (None, IGNORED):
        expected = layer(x, src_key_padding_mask=mask)
        assert_close(compiled(x, src_key_padding_mask=mask), expected, **EXACT)


@pytest.mark.slow
def test_the_benchmark(tmp_path: Path) -> None:
    words = "--positions 16 32 --dim 8 --heads 2 --orders 1 --epochs 1 --depth 1 --seeds 0 1"
    done = subprocess.run(
        [
            *(sys.executable, REPOSITORY / "scripts" / "benchmarks" / "attention.py"),
            *words.split(),
            *("--json", tmp_path / "report.json"),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["positions"] for row in report["speed"]] == [16, 32]
    assert [row["attention"] for row in report["accuracy"]] == ["softmax", "spectral 1"]
    assert all(len(row["accuracies"]) == 2 for row in report["accuracy"])
    tables = [
        len({line.count("|") for line in part.splitlines()}) for part in done.stdout.split("\n\n")
    ]
    assert tables == [1, 1]
