"""Losses against plain loops, and in batches that miss something."""

from __future__ import annotations

import math
import multiprocessing
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from reid.config import ReidOptimizerConfig
from reid.models.losses import CenterLoss, TrackletLoss, batch_hard_triplet_loss
from reid.models.network import TrackletOutput

margins = st.sampled_from([None, 0.0, 0.3, 2.0])
identities = st.lists(st.integers(0, 3), min_size=1, max_size=9)


def naive_triplet(vectors: Tensor, labels: list[int], margin: float | None) -> float:
    losses = []
    for a, person in enumerate(labels):
        near, far = [], []
        for b, other in enumerate(labels):
            pair = zip(*vectors[[a, b]].tolist(), strict=True)
            distance = math.sqrt(sum((u - v) ** 2 for u, v in pair))
            if b != a:
                (near if other == person else far).append(distance)
        if near and far:
            gap = max(near) - min(far)
            losses.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin))
    return sum(losses) / len(losses) if losses else 0.0


def some_vectors(count: int, seed: int = 0, width: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator).requires_grad_()


@settings(max_examples=60, deadline=None)
@given(identities, margins, st.integers(0, 99))
def test_triplet_is_that_of_plain_loops(labels: list[int], margin: float | None, seed: int) -> None:
    vectors = some_vectors(len(labels), seed)
    found = batch_hard_triplet_loss(vectors, torch.tensor(labels), margin)
    assert found.item() == pytest.approx(naive_triplet(vectors, labels, margin), abs=1e-5)
    found.backward()
    assert vectors.grad.isfinite().all()


def test_triplet_is_torchreids_where_every_person_is_twice() -> None:
    from torchreid.reid.losses import TripletLoss

    vectors, labels = some_vectors(12, width=16), torch.arange(4).repeat_interleave(3)
    ours = batch_hard_triplet_loss(vectors, labels, 0.3)
    theirs = TripletLoss(0.3)(vectors, labels)
    torch.testing.assert_close(ours, theirs)
    pair = [torch.autograd.grad(loss, vectors)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*pair)


@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 1, 1], [4]])
def test_without_any_triplet_the_loss_is_zero_with_a_gradient_of_zeros(labels: list[int]) -> None:
    vectors = some_vectors(len(labels))
    loss = batch_hard_triplet_loss(vectors, torch.tensor(labels), None)
    loss.backward()
    assert loss.item() == 0 and torch.equal(vectors.grad, torch.zeros_like(vectors))


def test_equal_vectors_have_a_finite_gradient() -> None:
    vectors = torch.ones(4, 3, requires_grad=True)
    loss = batch_hard_triplet_loss(vectors, torch.tensor([0, 0, 1, 1]), 0.3)
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert vectors.grad.isfinite().all()


def test_small_distances_of_long_vectors_are_exact() -> None:
    far = 1000 + 0.01 * some_vectors(6, width=64).detach()
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    exact = naive_triplet(far.double(), labels.tolist(), None)
    assert batch_hard_triplet_loss(far, labels, None).item() == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_are_computed_in_float32(dtype: torch.dtype) -> None:
    raw = (300 * some_vectors(6)).detach().to(dtype)  # their squares are beyond float16
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    config = ReidOptimizerConfig(center_weight=0.1)
    losses, wide = (TrackletLoss(config, 3, 3).eval() for _ in range(2))
    with torch.autocast("cpu", dtype=dtype):
        found = losses(TrackletOutput(raw, raw, raw), labels)
    expected = wide(TrackletOutput(raw.float(), raw.float(), raw.float()), labels)
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert value.isfinite() and value.item() == expected[name].item()


def test_centres_move_as_in_the_paper() -> None:
    loss, labels = CenterLoss(4, 3, rate=0.5), torch.tensor([2, 0, 2, 2])
    centers = {person: [0.0] * 3 for person in range(4)}
    for step in range(3):
        vectors = some_vectors(4, seed=step)
        found = loss(vectors, labels)
        rows = [(label, row) for label, row in zip(labels.tolist(), vectors.tolist(), strict=True)]
        away = [[x - c for x, c in zip(row, centers[label], strict=True)] for label, row in rows]
        expected = sum(a * a for row in away for a in row) / (2 * len(rows))
        assert found.item() == pytest.approx(expected, rel=1e-5)
        found.backward()
        torch.testing.assert_close(vectors.grad, torch.tensor(away) / len(rows))
        for person in (0, 2):
            mine = [a for (label, _), a in zip(rows, away, strict=True) if label == person]
            for d in range(3):
                centers[person][d] += 0.5 * sum(a[d] for a in mine) / (1 + len(mine))
        torch.testing.assert_close(loss.centers, torch.tensor([centers[p] for p in range(4)]))


def test_centres_stay_in_evaluation_and_are_stored() -> None:
    loss = CenterLoss(2, 3)
    loss(some_vectors(2), torch.tensor([0, 1]))
    stored = loss.state_dict()["centers"].clone()
    assert stored.abs().min() > 0
    loss.eval()(some_vectors(2, seed=5), torch.tensor([0, 1]))
    assert torch.equal(loss.centers, stored)
    assert list(loss.parameters()) == []


def _one_of_two(rank: int, store: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    loss = CenterLoss(3, 3)
    loss(some_vectors(4)[2 * rank : 2 * rank + 2], torch.tensor([0, 1, 1, 2])[2 * rank :][:2])
    torch.save(loss.centers, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_move_the_centres_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    arguments = [(rank, str(tmp_path / "store"), str(tmp_path)) for rank in range(2)]
    processes = [context.Process(target=_one_of_two, args=args) for args in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    alone = CenterLoss(3, 3)
    alone(some_vectors(4), torch.tensor([0, 1, 1, 2]))
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), alone.centers)


def test_the_weighted_sum() -> None:
    config = ReidOptimizerConfig(
        label_smoothing=0.1, triplet_weight=0.5, triplet_margin=None, center_weight=0.01
    )
    raw, logits, labels = some_vectors(6), some_vectors(6, seed=1), torch.tensor([0, 0, 1, 1, 2, 2])
    found = TrackletLoss(config, 3, 3)(TrackletOutput(raw, raw, logits), labels)
    shares = torch.full((6, 3), 0.1 / 3).scatter_add_(1, labels[:, None], torch.full((6, 1), 0.9))
    entropy = -(shares * F.log_softmax(logits, 1)).sum(1).mean()
    torch.testing.assert_close(found["cross_entropy"], entropy)
    torch.testing.assert_close(found["triplet"], batch_hard_triplet_loss(raw, labels, None))
    torch.testing.assert_close(found["center"], raw.square().sum(1).mean() / 2)
    total = entropy + 0.5 * found["triplet"] + 0.01 * found["center"]
    torch.testing.assert_close(found["loss"], total)


def test_a_weight_of_zero_leaves_a_loss_out() -> None:
    config = ReidOptimizerConfig(triplet_weight=0.0, center_weight=0.0, label_smoothing=0.0)
    raw, labels = some_vectors(4), torch.tensor([0, 1, 2, 0])
    found = TrackletLoss(config, 3, 3)(TrackletOutput(raw, raw, raw), labels)
    assert list(found) == ["loss", "cross_entropy"]
    torch.testing.assert_close(found["loss"], F.cross_entropy(raw, labels))
