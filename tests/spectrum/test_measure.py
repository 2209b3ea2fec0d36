"""Spectra of blocks against their dense affinities and plain sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.blocks.cases import features, gate_cases, made, new, nonlocal_cases
from tests.blocks.test_spectral import assert_same_values
from video_snl.analysis.spectrum.filters import effective_rank, smooth_and_oscillating
from video_snl.analysis.spectrum.measure import BlockMeasurement, BlockSpectra, NetworkSpectra
from video_snl.analysis.spectrum.report import as_json, mean_and_std, table
from video_snl.errors import UserError


def measured(
    block: torch.nn.Module, *inputs: torch.Tensor, largest: int = 4096, groups: int = 3
) -> BlockSpectra:
    measurement = BlockMeasurement("before:res4.1", "block", block, largest=largest, groups=groups)
    for number, x in enumerate(inputs):
        measurement.add(measurement.measure(f"clip {number}", x))
    return measurement.result()


@nonlocal_cases
def test_eigenvalues_are_those_of_the_dense_matrix(case: str) -> None:
    block = made(case)
    inputs = [features(1, 8, 2, 3, 2, seed=seed) for seed in (1, 2)]
    found = measured(block, *inputs)
    if case == "gsnl 0":  # order 0: F(A, Z) = Z W
        assert not found.graphs and not found.sub_blocks
        assert found.notes == ["no affinity between positions: it has no spectrum"]
        return
    with torch.no_grad():
        dense = torch.cat([block.affinity(x).to_dense() for x in inputs])
    assert len(found.graphs) == len(dense)
    for graph, matrix in zip(found.graphs, dense, strict=True):
        expected = torch.linalg.eigvals(matrix)
        # Equal eigenvalues that are defective are as uncertain as the root of the rounding.
        assert_same_values(torch.from_numpy(graph.eigenvalues)[None], expected[None], 1e-6)
        error = torch.linalg.norm(matrix - matrix.mT) / torch.linalg.norm(matrix)
        assert graph.symmetry_error == pytest.approx(float(error), abs=1e-12)
        share = expected.abs() / expected.abs().sum()
        entropy = -sum(p * math.log(p) for p in share.tolist() if p > 0)
        assert graph.effective_rank == pytest.approx(math.exp(entropy), rel=1e-5)
        assert graph.radius == pytest.approx(float(expected.abs().max()), rel=1e-6)
        assert graph.smooth + graph.null + graph.oscillating == len(matrix)
    assert [g.source for g in found.graphs][:: len(dense) // 2] == ["clip 0", "clip 1"]


@gate_cases
def test_gates_have_no_spectrum(case: str) -> None:
    found = measured(new(case).eval(), features(1, 8, 2, 3, 2).float())
    assert not found.graphs and not found.sub_blocks
    assert found.notes == ["no affinity between positions: it has no spectrum"]


@pytest.mark.parametrize("case", ["snl", "gsnl 8", "ns", "cayley 3", "cgnl grouped"])
def test_gains_are_those_of_an_eigenvector(case: str) -> None:
    """z with A z = mu z leaves the filter and the norm's scale as z G(1 - mu)."""
    block = made(case)
    [unit] = measured(block, features(1, 8, 2, 3, 2)).sub_blocks
    weight = block.units[0].combine.matrix().mT.unflatten(0, (block.filter.count, -1)).detach()
    scale = torch.ones(8, dtype=torch.float64)
    if isinstance(block.units[0].norm, torch.nn.BatchNorm3d):
        norm = block.units[0].norm
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    assert unit.folded == isinstance(block.units[0].norm, torch.nn.BatchNorm3d)
    for at in (0, 17, 40):
        frequency = unit.frequencies[at]
        shares = block.filter.response(frequency[None])[0].detach()
        response = torch.einsum("t,tio->io", shares, weight) * scale
        assert_close(unit.gain.spectral[at], torch.linalg.matrix_norm(response, 2))
        assert_close(unit.gain.frobenius[at], torch.linalg.norm(response))
        for group in unit.groups:
            part = response[:, group.channels]
            expected = torch.linalg.norm(part) * (8 / (len(group.channels) * unit.width)) ** 0.5
            assert group.gain[at] == pytest.approx(float(expected), rel=1e-9)


def test_groups_hold_every_channel_once_from_smoothing_to_sharpening() -> None:
    [unit] = measured(made("gsnl 8"), features(1, 8, 2, 3, 2)).sub_blocks
    assert sorted(c for group in unit.groups for c in group.channels) == list(range(8))
    means = [group.mean_frequency for group in unit.groups]
    assert means == sorted(means) and means[0] < means[-1]
    [unit] = measured(made("cgnl grouped"), features(1, 8, 2, 3, 2)).sub_blocks
    assert [group.channels for group in unit.groups] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_units_share_an_affinity_and_have_their_own_filters() -> None:
    found = measured(made("ns", num_units=2), features(1, 8, 2, 3, 2))
    assert len(found.graphs) == 1 and [unit.unit for unit in found.sub_blocks] == [0, 1]
    assert not torch.allclose(found.sub_blocks[0].gain.spectral, found.sub_blocks[1].gain.spectral)


def test_full_matrices_that_are_too_large_are_left_out() -> None:
    x = features(1, 8, 2, 3, 2)
    found = measured(made("nl"), x, largest=11)
    assert not found.graphs and len(found.sub_blocks) == 1
    assert "12 rows, more than --max_size 11" in found.notes[0]
    # Of rank 8, twice the width of the embeddings.
    assert len(measured(made("snl"), x, largest=7).graphs) == 0
    assert len(measured(made("snl"), x, largest=8).graphs) == 1


def test_pooled_keys_have_no_eigenvalues() -> None:
    found = measured(made("nl", pool=2), features(1, 8, 2, 4, 4))
    assert not found.graphs and len(found.sub_blocks) == 1 and "not square" in found.notes[0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("case", ["snl", "nl", "se"])
def test_features_that_are_not_finite_are_refused(case: str, value: float) -> None:
    block = new(case).eval() if case == "se" else made(case)
    x = features(1, 8, 2, 3, 2).to(next(block.parameters()).dtype)
    measurement = BlockMeasurement("before:res4.1", case, block, largest=4096, groups=3)
    measurement.add(measurement.measure("good", x))
    before = len(measurement.result().graphs)
    x[0, 3, 1, 2, 0] = value
    message = (
        f"1 of the 96 values of the features before {case} before:res4.1 of bad are not finite"
    )
    with pytest.raises(UserError, match=message):
        measurement.measure("bad", x)
    assert len(measurement.result().graphs) == before


def test_what_a_block_makes_of_finite_features_is_looked_at_too() -> None:
    x = features(1, 8, 2, 3, 2).float()
    with pytest.raises(UserError, match="values of the affinity of block before:res4.1 of clip 0"):
        measured(made("nl").float(), x * 1e30)
    block = made("snl")
    block.units[0].combine.weight.data[2, 3] = math.nan
    with pytest.raises(UserError, match="values of the weights of block before:res4.1 are not"):
        measured(block, x.double())


@pytest.mark.parametrize("case", ["snl", "nl"])
def test_a_matrix_is_decomposed_once_for_all_units(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counting(name: str) -> None:
        function = getattr(torch.linalg, name)

        def call(matrix: torch.Tensor) -> object:
            calls.append(name)
            return function(matrix)

        monkeypatch.setattr(torch.linalg, name, call)

    for name in ("eigh", "eigvalsh", "eigvals", "eig"):
        counting(name)
    found = measured(made(case, num_units=3), features(1, 8, 2, 3, 2))
    assert calls == ["eigh" if case == "snl" else "eigvals"]
    assert [unit.parts is not None for unit in found.sub_blocks] == [case == "snl"] * 3


def test_parts_of_every_unit_are_those_of_its_signal() -> None:
    block, x = made("snl", num_units=2), features(1, 8, 2, 3, 2)
    found = measured(block, x)
    assert [unit.unit for unit in found.sub_blocks] == [0, 1]
    for unit in found.sub_blocks:
        expected = smooth_and_oscillating(block.fuse(), x, unit.unit)
        for ours, other in zip(unit.parts, expected, strict=True):
            for value, wanted in zip(ours, other, strict=True):
                assert_close(value, wanted.double() if value.is_floating_point() else wanted)


def test_effective_rank() -> None:
    values = torch.tensor([[1.0, 0, 0, 0], [1, -1, 1, -1], [0, 0, 0, 0], [3, 1, 0, 0]])
    two = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert_close(effective_rank(values), torch.tensor([1.0, 4.0, 0.0, two]))


def test_mean_and_std_over_inputs() -> None:
    inputs = [features(1, 8, 2, 3, 2, seed=seed) for seed in (1, 2, 3)]
    block = measured(made("snl"), *inputs)
    found = as_json(NetworkSpectra("best.ckpt", ["a", "b", "c"], [block]))["blocks"][0]
    ranks = [graph.effective_rank for graph in block.graphs]
    assert found["statistics"]["effective_rank"]["mean"] == pytest.approx(np.mean(ranks), rel=1e-6)
    spread = float(np.std(ranks, ddof=1))
    assert found["statistics"]["effective_rank"]["std"] == pytest.approx(spread, rel=1e-6)
    assert mean_and_std([2.0]) == {"mean": 2.0, "std": None}
    for graph in found["graphs"]:
        assert sum(entry[-1] for entry in graph["eigenvalues"]) == 12
    shares = found["units"][0]["energies"]["output"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
    assert "3 inputs, mean ± standard deviation" in table(
        NetworkSpectra("x", ["a", "b", "c"], [block])
    )
