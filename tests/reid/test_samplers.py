"""Batches of P identities with K tracklets each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.data.samplers import IdentitySampler, _choices
from tests.reid.little import tracklets
from video_snl.data.loading.samplers import Key
from video_snl.errors import UserError

IDENTITIES = st.dictionaries(
    st.integers(1, 50), st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=4, max_size=9
)


def batches(sampler: IdentitySampler, epoch: int = 0) -> list[list[Key]]:
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(keys) == len(sampler)
    size = sampler.identities * sampler.per_person // sampler.world_size
    return [keys[first : first + size] for first in range(0, len(keys), size)]


@given(
    cameras=IDENTITIES,
    identities=st.integers(2, 4),
    per_person=st.integers(1, 5),
    epoch=st.integers(0),
)
def test_every_batch_has_people_of_which_each_has_its_tracklets(
    cameras: dict[int, list[int]], identities: int, per_person: int, epoch: int
) -> None:
    listed = tracklets(cameras)
    sampler = IdentitySampler(listed, 3, identities=identities, per_person=per_person)
    epoch %= 2**32
    for batch in batches(sampler, epoch):
        shown = [listed[key[1]] for key in batch]
        groups = [shown[i : i + per_person] for i in range(0, len(shown), per_person)]
        assert all(len({tracklet.person_id for tracklet in group}) == 1 for group in groups)
        assert len({group[0].person_id for group in groups}) == identities
        for group in groups:
            available = len(cameras[group[0].person_id])
            assert len(set(group)) == min(per_person, available)
    keys = [key for batch in batches(sampler, epoch) for key in batch]
    assert len(set(keys)) == len(keys), "a tracklet shown twice draws other frames"
    assert {key[0] for key in keys} == {epoch}


@given(cameras=IDENTITIES, identities=st.integers(2, 4), per_person=st.integers(1, 5))
def test_there_are_as_many_batches_as_the_groups_can_fill(
    cameras: dict[int, list[int]], identities: int, per_person: int
) -> None:
    groups = [-(-len(mine) // per_person) for mine in cameras.values()]
    most = max(b for b in range(1, 100) if sum(min(count, b) for count in groups) >= identities * b)
    sampler = IdentitySampler(tracklets(cameras), 0, identities=identities, per_person=per_person)
    assert len(batches(sampler)) == most


def test_an_epoch_shows_every_tracklet_where_the_groups_fill_the_batches() -> None:
    listed = tracklets({person: [0, 0, 1, 1, 2, 2, 3, 3] for person in range(1, 9)})
    sampler = IdentitySampler(listed, 0, identities=4, per_person=4)
    assert len(sampler) == 64
    sampler.set_epoch(2)
    assert sorted(key[1] for key in sampler) == list(range(64))


def test_tracklets_of_every_camera_are_spread_over_the_groups() -> None:
    listed = tracklets({person: [0] * 4 + [1] * 2 + [2] * 2 for person in range(1, 5)})
    sampler = IdentitySampler(listed, 0, identities=2, per_person=4)
    for epoch in range(5):
        found = batches(sampler, epoch)
        assert [len(batch) for batch in found] == [8] * 4
        for batch in found:
            for group in (batch[:4], batch[4:]):
                cameras = Counter(listed[key[1]].camera_id for key in group)
                assert cameras == {0: 2, 1: 1, 2: 1}


def test_a_group_is_filled_with_cameras_it_lacks() -> None:
    listed = tracklets({1: [0, 0, 0, 1], 2: [0, 0, 0, 1]})
    sampler = IdentitySampler(listed, 0, identities=2, per_person=3)
    for epoch in range(5):
        found = batches(sampler, epoch)
        assert found and all(len(batch) == 6 for batch in found)
        for batch in found:
            for group in (batch[:3], batch[3:]):
                assert {listed[key[1]].camera_id for key in group} == {0, 1}


def test_epochs_differ_and_are_a_function_of_the_seed() -> None:
    listed = tracklets({person: [0, 1, 2] for person in range(1, 9)})
    first, second = (IdentitySampler(listed, 7, identities=4, per_person=2) for _ in range(2))
    assert batches(first, 5) == batches(second, 5)
    order = [key[1] for key in first]
    first.set_epoch(6)
    assert [key[1] for key in first] != order
    other = IdentitySampler(listed, 8, identities=4, per_person=2)
    other.set_epoch(5)
    assert [key[1] for key in other] != order


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_people_of_a_batch(world_size: int) -> None:
    listed = tracklets({person: [0, 1, 1][: 1 + person % 3] for person in range(1, 20)})
    whole = batches(IdentitySampler(listed, 1, identities=4, per_person=2), 3)
    shares = [
        batches(
            IdentitySampler(
                listed, 1, identities=4, per_person=2, rank=rank, world_size=world_size
            ),
            3,
        )
        for rank in range(world_size)
    ]
    for k, batch in enumerate(whole):
        parts = [share[k] for share in shares]
        assert [key for part in parts for key in part] == batch
        identities = [{listed[key[1]].person_id for key in part} for part in parts]
        assert sum(map(len, identities)) == len(set.union(*identities)), "a person is on one device"


@pytest.mark.parametrize(
    ("identities", "per_person", "world_size", "message"),
    [
        (6, 2, 1, "the training list has 5: lower data.identities"),
        (1, 2, 1, "data.identities=1 must be at least 2"),
        (2, 0, 1, "data.tracklets=0 at least 1"),
        (3, 2, 2, "cannot be divided over 2 devices"),
    ],
)
def test_batches_that_cannot_be_are_refused(
    identities: int, per_person: int, world_size: int, message: str
) -> None:
    listed = tracklets({person: [0, 1] for person in range(1, 6)})
    with pytest.raises(UserError, match=message):
        IdentitySampler(
            listed, 0, identities=identities, per_person=per_person, world_size=world_size
        )


def test_many_tracklets_of_few_identities() -> None:
    """50,000 tracklets of four identities: each is shown about once."""
    listed = tracklets({person: [0, 1] * 6250 for person in range(1, 5)})
    sampler = IdentitySampler(listed, 0, identities=4, per_person=4)
    [*shown] = sampler
    assert len(shown) == len({key[1] for key in shown}) == 50_000


def _naive_choices(
    left: np.ndarray, batches: int, identities: int, random: np.random.Generator
) -> Iterator[list[int]]:
    for batch in range(batches, 0, -1):
        needed = np.flatnonzero(left == batch)
        rest = np.flatnonzero((left > 0) & (left < batch))
        if wanted := identities - len(needed):
            share = left[rest] / left[rest].sum()
            drawn = random.choice(rest, wanted, replace=False, p=share)
            needed = np.concatenate([needed, drawn])
        chosen = random.permutation(needed)
        left[chosen] -= 1
        yield chosen.tolist()


@given(seed=st.integers(0, 2**32), batches=st.integers(1, 30), identities=st.integers(1, 6))
def test_choices_are_those_of_a_draw_among_all(seed: int, batches: int, identities: int) -> None:
    random = np.random.default_rng(seed)
    left = np.zeros(identities + int(random.integers(20)), np.int64)
    for _ in range(identities * batches):
        left[random.choice(np.flatnonzero(left < batches))] += 1
    wanted = _naive_choices(left.copy(), batches, identities, np.random.default_rng(seed))
    found = _choices(left, batches, identities, np.random.default_rng(seed))
    assert [*found] == [*wanted]
