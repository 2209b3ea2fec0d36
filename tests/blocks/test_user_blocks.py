"""Blocks, kernels and filters of a user's own, by class and by dotted path."""

from __future__ import annotations

import copy
import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.naive import normalized, symmetrized
from tests.user_package import forget_package, importable, is_imported, write_package
from video_snl import insert_blocks, make_block, mask_blocks, remove_blocks
from video_snl.blocks import NonlocalBlock, SNL2d
from video_snl.blocks.user_blocks import check_pairs, pairs_of
from video_snl.errors import UserError
from video_snl.models.released.other_code import load_block

MEAN = "own_parts.blocks.MeanBlock"
SQUARE = "own_parts.parts.square"
CHEBYSHEV = "own_parts.parts.Chebyshev"


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with importable(write_package(tmp_path_factory.mktemp("package"))):
        yield importlib.import_module("own_parts.blocks")


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=3).eval()


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_block_by_path_and_by_class_are_the_same(package: Any, ndim: int) -> None:
    by_path = make_block(MEAN, 8, ndim=ndim, gain=2.0, zero_init=False)
    by_class = make_block(package.MeanBlock, 8, ndim=ndim, gain=2.0, zero_init=False)
    assert type(by_path) is type(by_class) is package.MeanBlock
    x = torch.randn(2, 8, *(3, 4, 5)[:ndim], dtype=torch.float64)
    for block in (by_path.double(), by_class.double()):
        out = torch.empty_like(x)
        for sample in range(2):
            for channel in range(8):
                values = x[sample, channel]
                out[sample, channel] = values + 2 * values.sum() / values.numel()
        torch.testing.assert_close(block(x), out, rtol=1e-12, atol=1e-12)


def test_it_is_made_on_the_device_and_of_the_type_that_are_asked_for() -> None:
    assert make_block(MEAN, 8, dtype=torch.float64).weight.dtype == torch.float64
    assert make_block(MEAN, 8, dtype=torch.float16).weight.dtype == torch.float16
    assert make_block(MEAN, 8, device="meta").weight.is_meta
    with torch.device("meta"):
        assert make_block(MEAN, 8).weight.is_meta


def test_the_trial_changes_neither_the_block_nor_the_random_state() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    block = make_block(MEAN, 8)
    assert block.training
    assert block.weight.grad is None
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        make_block(MEAN, 8)
    with torch.inference_mode():
        make_block(MEAN, 8)


def test_the_trial_leaves_the_settings_of_torch() -> None:
    make_block("own_parts.wrong.Unsettles", 8)
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    with torch.no_grad():
        make_block("own_parts.wrong.Unsettles", 8)
        assert not torch.is_grad_enabled()


def test_the_trial_takes_no_part_in_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert make_block("own_parts.blocks.Convolution", 8, ndim=2).conv.weight.dim() == 4


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("own_partz.blocks.MeanBlock", "there is no module own_partz: .* on PYTHONPATH"),
        ("own_parts.blockz.MeanBlock", "there is no module own_parts.blockz"),
        ("own_parts.needy.Block", "the module own_parts.needy needs not_installed_anywhere"),
        ("own_parts.leaving.Block", "importing own_parts.leaving fails: SystemExit: 3"),
        ("own_parts.broken.Block", "importing own_parts.broken fails: ZeroDivisionError"),
        ("own_parts.blocks.MeenBlock", "has no MeenBlock; the nearest is MeanBlock"),
        ("own_parts.wrong.NUMBER", "expected a class of torch.nn.Module, found a int"),
        ("own_parts.wrong.threading", "expected a class of torch.nn.Module, found a module"),
        ("own_parts.parts.square", "expected a class of torch.nn.Module, found a function"),
        ("subprocess.Popen", "expected a class of .*, found a class subprocess.Popen"),
        ("own_parts..blocks", "expected a dotted path such as my_package.MyBlock"),
        (".", "expected a dotted path such as"),
        ("own_parts.wrong.WithoutAxes", "takes no ndim"),
        ("own_parts.wrong.Fails", "cannot be made: RuntimeError: no block today"),
        ("own_parts.wrong.Exits", "cannot be made: SystemExit: 3"),
        ("own_parts.wrong.ExitsLater", "fails on an input of .*: SystemExit: 3"),
        ("own_parts.wrong.ExitsInCopies", r"cannot be copied \(copy.deepcopy\): SystemExit: 3"),
        ("own_parts.wrong.NotSetUp", r"wrong.NotSetUp does not call super\(\).__init__\(\)"),
        ("own_parts.wrong.Widens", "in the input's torch.float32 on cpu, found torch.float64 on"),
        ("own_parts.wrong.Meta", "found torch.float32 on meta"),
        ("own_parts.wrong.Halves", r"expected .* shape \(2, 8, 4, 6, 8\), found \(2, 8, 4, 6, 4\)"),
        ("own_parts.wrong.Pair", "found a tuple"),
        ("own_parts.wrong.Infinite", "its output is not finite"),
        ("own_parts.wrong.Steep", "its gradient is not finite"),
        ("own_parts.wrong.Detached", "no gradient reaches its input"),
        ("own_parts.wrong.Stumbles", r"fails on an input of .*: RuntimeError: no forward today"),
        ("own_parts.wrong.Locked", r"cannot be copied \(copy.deepcopy\): TypeError"),
    ],
)
def test_what_is_no_block_is_said(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        make_block(path, 8)
    assert path in str(raised.value)


def test_a_class_that_is_no_module_is_said() -> None:
    with pytest.raises(ValueError, match="expected a class of torch.nn.Module, or a name"):
        make_block(dict, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gian": 2}, "gian=2 with block own_parts.blocks.MeanBlock: its options are: gain"),
        ({"num_units": 2}, "num_units=2 with block"),
        ({"inter_channels": 4}, "inter_channels=4 with block"),
        ({"activation": "relu"}, "activation='relu' with block"),
    ],
)
def test_options_that_it_does_not_have_are_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_block(MEAN, 8, **options)


@pytest.mark.parametrize("as_class", [False, True])
def test_insertion_removal_copy_and_state(network: nn.Module, package: Any, as_class: bool) -> None:
    image = torch.randn(1, 3, 64, 64)
    before, names = network(image), list(network.state_dict())
    places = ["after:layer2.0", "before:layer4.1"]
    blocks = insert_blocks(network, package.MeanBlock if as_class else MEAN, places, gain=3.0)
    assert [block.weight.numel() for block in blocks] == [128, 512]
    torch.testing.assert_close(network(image), before)  # it starts as the identity
    with torch.no_grad():
        for block in blocks:
            block.weight.fill_(1)
    changed = network(image)
    assert not torch.allclose(changed, before)
    twin = copy.deepcopy(network)
    torch.testing.assert_close(twin(image), changed)
    stored = io.BytesIO()
    torch.save(network.state_dict(), stored)
    stored.seek(0)
    fresh = torchvision.models.resnet18(num_classes=3).eval()
    insert_blocks(fresh, MEAN, places, gain=3.0)
    fresh.load_state_dict(torch.load(stored, weights_only=True))
    torch.testing.assert_close(fresh(image), changed)
    exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image), changed)
    assert list(remove_blocks(network)) == places
    assert list(network.state_dict()) == names
    torch.testing.assert_close(network(image), before)


def test_masks_are_refused_by_a_block_without_one(network: nn.Module) -> None:
    insert_blocks(network, MEAN, ["after:layer2.0"])
    mask = torch.ones(1, 64, 64, dtype=torch.bool)
    with (
        pytest.raises(ValueError, match="MeanBlock.forward takes no mask="),
        mask_blocks(network, mask),
    ):
        pass


def test_masks_reach_a_block_that_takes_one() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    insert_blocks(network, "own_parts.blocks.MaskedBlock", ["after:0"], zero_init=False)
    x = torch.randn(1, 3, 6, 6)
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    mask[:, :4, :3] = True
    with mask_blocks(network, mask):
        out = network(x)
    torch.testing.assert_close(out[..., :4, :3], network(x[..., :4, :3]))


def naive_matrix(theta: Tensor, phi: Tensor) -> Tensor:
    """M_ij = <theta_i, phi_j>^2 by loops."""
    matrix = theta.new_empty(len(theta), theta.shape[1], phi.shape[1])
    for b in range(len(theta)):
        for i in range(theta.shape[1]):
            for j in range(phi.shape[1]):
                matrix[b, i, j] = sum(theta[b, i] * phi[b, j]) ** 2
    return matrix


def embeddings(block: NonlocalBlock, x: Tensor) -> tuple[Tensor, Tensor]:
    rows = x.flatten(2).mT @ block.project.matrix().mT
    width = block.inter_channels
    return rows[..., :width], rows[..., width : 2 * width]


@given(
    name=st.sampled_from(["nl", "ns", "snl", "gsnl"]),
    kernel=st.sampled_from([SQUARE, "own_parts.parts.Square"]),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 1000),
)
def test_affinity_of_an_own_kernel(
    name: str, kernel: str, grid: tuple[int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    block = make_block(name, 4, ndim=2, kernel=kernel, zero_init=False).double().eval()
    assert isinstance(block, NonlocalBlock)
    x = torch.randn(2, 4, *grid, dtype=torch.float64)
    matrix = naive_matrix(*embeddings(block, x))
    if block.config.symmetric:
        matrix = symmetrized(matrix)
    assert block.config.normalization is not None
    expected = normalized(matrix, block.config.normalization)
    torch.testing.assert_close(block.affinity(x).to_dense(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["nl", "snl", "gsnl"])
def test_mask_with_an_own_function(name: str) -> None:
    torch.manual_seed(0)
    block = make_block(name, 4, ndim=2, kernel=SQUARE, zero_init=False).double().eval()
    x = torch.randn(2, 4, 4, 5, dtype=torch.float64)
    mask = torch.zeros(2, 4, 5, dtype=torch.bool)
    mask[:, :3, :2] = True
    holed = x.masked_fill(~mask[:, None], torch.nan)
    out = block(holed, mask=mask)
    torch.testing.assert_close(out[..., :3, :2], block(x[..., :3, :2]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernel": "own_parts.parts.signed"}, "it has negative values"),
        ({"kernel": "own_parts.parts.of_theta"}, r"expected M \(2, 5, 3\) .*, found \(2, 5, 5\)"),
        ({"kernel": "own_parts.parts.infinite"}, "its values are not finite"),
        ({"kernel": "own_parts.parts.counted"}, "no gradient reaches theta"),
        ({"kernel": "own_parts.parts.failing"}, "RuntimeError: no pairs today"),
        (
            {"kernel": "own_parts.parts.Chebyshev"},
            "expected a function of theta and phi, or",
        ),
        ({"kernel": SQUARE, "scaled": True}, "a function has no scale"),
        ({"kernel": "own_parts.parts.cube"}, "has no cube"),
        ({"kernel": "square"}, "kernel='square' is unknown; .* or a dotted path"),
    ],
)
def test_what_is_no_kernel_is_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_block("nl", 8, **options)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("narrow", r"narrow: expected M \(1, 20, 20\) .*, found \(1, 7, 20\)"),
        ("shifted", "shifted with normalization='rw': it has negative values"),
        ("capped", "capped: its values are not finite"),
    ],
)
def test_a_kernel_that_goes_wrong_after_the_trial(name: str, said: str) -> None:
    how = None if name == "narrow" else "rw"
    options = {"kernel": f"own_parts.parts.{name}", "normalization": how}
    block = make_block("nl", 4, ndim=1, inter_channels=2, **options)
    assert block(torch.randn(1, 4, 5)).shape == (1, 4, 5)
    with pytest.raises(ValueError, match=said):
        block(torch.randn(1, 4, 20))


PAIRS = torch.arange(30.0).reshape(2, 5, 3)


@pytest.mark.parametrize(
    ("function", "normalization", "said"),
    [
        (lambda theta, phi: PAIRS[:1], None, r"expected M \(2, 5, 3\) of .*, found \(1, 5, 3\)"),
        (lambda theta, phi: None, None, "found NoneType"),
        (lambda theta, phi: PAIRS.long(), None, "M in floating point on cpu, found torch.int64"),
        (lambda theta, phi: PAIRS > 2, None, "found torch.bool"),
        (lambda theta, phi: PAIRS.to("meta"), None, "found torch.float32 on meta"),
        (lambda theta, phi: PAIRS / PAIRS, None, "values are not finite, of embeddings of at most"),
        (lambda theta, phi: PAIRS.log(), "rw", "values are not finite"),
        (lambda theta, phi: 3 - PAIRS, "sym", "'sym': it has negative values, such as -26"),
    ],
)
def test_wrong_values_of_a_kernel_are_said_in_every_call(
    function: Any, normalization: str | None, said: str
) -> None:
    with pytest.raises(ValueError, match=f"kernel .*<lambda>.*{said}"):
        pairs_of(function, torch.randn(2, 5, 4), torch.randn(2, 3, 4), normalization)


def test_what_a_kernel_may_return() -> None:
    theta, phi = torch.randn(2, 5, 4), torch.randn(2, 3, 4)
    assert torch.equal(pairs_of(lambda *_: 3 - PAIRS, theta, phi, None), 3 - PAIRS)
    assert pairs_of(lambda *_: PAIRS.double(), theta, phi, "rw").dtype == torch.float32
    # Of pairs that are not there nothing is asked.
    there = PAIRS > 0
    inverse = pairs_of(lambda *_: 1 / PAIRS, theta, phi, "rw", there)
    assert torch.equal(inverse, torch.where(there, 1 / PAIRS, 0))
    # Features that are not finite already are not the kernel's.
    assert pairs_of(lambda t, p: t @ p.mT, theta / 0, phi, None).isnan().any()
    assert pairs_of(lambda t, p: t @ p.mT, theta[:0], phi[:0], "rw").shape == (0, 5, 3)
    meta = (each.to("meta") for each in (theta, phi))
    assert pairs_of(lambda t, p: -(t @ p.mT).square(), *meta, "rw").is_meta


def test_values_of_a_kernel_are_not_read_within_torch_func() -> None:
    theta, phi = torch.randn(3, 2, 5, 4), torch.randn(3, 2, 3, 4)
    negative = torch.func.vmap(lambda t, p: pairs_of(lambda t, p: t @ p.mT - 99, t, p, "rw"))
    torch.testing.assert_close(negative(theta, phi), theta @ phi.mT - 99)


def _leaves(theta: Tensor, phi: Tensor) -> Tensor:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda t, p: (t @ p.mT).detach(), "no gradient reaches theta, which would never train"),
        (lambda t, p: (t @ p.mT > 0).float(), "no gradient reaches theta"),
        (lambda t, p: t @ p.detach().mT, "no gradient reaches phi"),
        (lambda t, p: (t @ p.mT).long(), "in floating point"),
        (lambda t, p: (t @ p.mT * 0).abs().sqrt(), "with respect to theta is not finite"),
        (_leaves, r"fails on theta \(2, 5, 4\) and phi \(2, 3, 4\): SystemExit: 3"),
    ],
)
def test_what_never_trains_is_no_kernel(function: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_pairs(function, None)
    with torch.no_grad(), pytest.raises(ValueError, match=said):
        check_pairs(function, None)


def test_a_softmax_is_a_kernel() -> None:
    check_pairs(lambda theta, phi: (theta @ phi.mT).softmax(-1), "rw")


def test_kernels_are_tried_where_memory_is_not_taken() -> None:
    with torch.device("meta"):
        block = make_block("nl", 8, kernel="own_parts.parts.near")
    assert next(block.parameters()).is_meta


def test_a_block_may_change_its_input_in_place() -> None:
    assert make_block("own_parts.blocks.InPlace", 8)(torch.ones(1, 8, 2, 2, 2)).sum() == 128


def test_signed_kernels_go_without_a_normalisation() -> None:
    block = make_block("nl", 8, ndim=1, kernel="own_parts.parts.signed", normalization=None)
    assert block(torch.randn(1, 8, 5)).shape == (1, 8, 5)


def test_a_kernel_of_its_own_class_takes_the_scale() -> None:
    options = {"kernel": "own_parts.parts.Square", "normalization": None}
    block, scaled = (
        make_block("nl", 8, ndim=1, scaled=scaled, **options) for scaled in (False, True)
    )
    scaled.load_state_dict(block.state_dict())
    x = torch.randn(1, 8, 5)
    torch.testing.assert_close(scaled.affinity(x).to_dense() * 4, block.affinity(x).to_dense())


@pytest.mark.parametrize("order", [1, 2, 4])
def test_own_filter(order: int) -> None:
    torch.manual_seed(order)
    block = make_block("gsnl", 4, ndim=1, order=order, filter=CHEBYSHEV, norm="none")
    block = block.double().eval()
    nn.init.normal_(block.units[0].combine.weight)
    x = torch.randn(2, 4, 6, dtype=torch.float64)
    a = block.affinity(x).to_dense()
    z = (x.mT @ block.project.matrix().mT)[..., -block.inter_channels :]
    terms = [z, a @ z]
    while len(terms) <= order:
        terms.append(2 * a @ terms[-1] - terms[-2])
    added = torch.cat(terms, -1) @ block.units[0].combine.matrix().mT
    torch.testing.assert_close(block(x), x + added.mT, rtol=1e-10, atol=1e-10)
    frequencies = torch.linspace(0, 2, 5, dtype=torch.float64)
    assert block.filter.response(frequencies).shape == (5, order + 1)


@pytest.mark.parametrize(
    ("filter_", "said"),
    [
        ("own_parts.parts.Narrow", "fails on an input"),
        ("own_parts.parts.Uncounted", r"expected whole numbers count, .* found \('two', 'two'\)"),
        (SQUARE, "expected a subclass of video_snl.blocks.Filter, found a function"),
        ("video_snl.blocks.Polynomial", "cannot be made of order=2"),
        ("own_parts.parts.LeavingFilter", "cannot be made of order=2: SystemExit: 3"),
        ("powers", "expected a dotted path"),
    ],
)
def test_what_is_no_filter_is_said(filter_: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_block("gsnl", 8, filter=filter_)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_class_of_kernels_that_exits_is_refused(scaled: bool) -> None:
    with pytest.raises(ValueError, match="Leaving' cannot be made: SystemExit: 3"):
        make_block("nl", 8, kernel="own_parts.parts.Leaving", scaled=scaled)


def test_block_of_an_own_row_is_one_of_the_zoo() -> None:
    path = "own_parts.parts.TwoHop3d"
    block = make_block(path, 8, kernel=SQUARE, num_units=2)
    assert isinstance(block, NonlocalBlock)
    assert len(block.units) == 2
    with pytest.raises(ValueError, match="TwoHop3d in a network of 2 axes, not 3"):
        make_block(path, 8, ndim=2)
    with pytest.raises(ValueError, match="order=2 with block='two_hop': its options are: kernel"):
        make_block(path, 8, order=2)


@pytest.mark.parametrize("block", [SNL2d, "video_snl.blocks.SNL2d"])
def test_classes_of_the_zoo_do_too(network: nn.Module, block: Any) -> None:
    [inserted] = insert_blocks(network, block, ["after:layer2.0"], kernel="gaussian", num_units=2)
    assert type(inserted) is SNL2d
    assert inserted.description is not None
    assert inserted.description["name"] == "snl"
    assert type(load_block(inserted.state_dict())) is SNL2d


@pytest.mark.parametrize(
    ("name", "options"), [("own_parts.parts.TwoHop3d", {}), ("snl", {"kernel": SQUARE})]
)
def test_a_state_dict_imports_nothing_unless_it_is_allowed(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    block = make_block(name, 8, zero_init=False, **options).eval()
    x = torch.randn(1, 8, 2, 3, 4)
    expected = block(x)
    torch.save(block.state_dict(), tmp_path / "block.pt")
    forget_package()
    for into in (None, make_block("snl", 8)):
        with pytest.raises(UserError, match="of the module own_parts.parts, .* allow_code=True"):
            load_block(tmp_path / "block.pt", into=into)
        assert not is_imported()
    loaded = load_block(tmp_path / "block.pt", allow_code=True)
    torch.testing.assert_close(loaded(x), expected)


def test_a_subclass_of_a_block_of_the_zoo_that_exits_is_refused() -> None:
    class Leaves(SNL2d):
        def __init__(self, in_channels: int, **options: Any) -> None:
            raise SystemExit(3)

    with pytest.raises(ValueError, match="Leaves cannot be made: SystemExit: 3"):
        make_block(Leaves, 8, ndim=2)
