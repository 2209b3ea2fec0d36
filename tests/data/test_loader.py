"""Samples, orders and batches."""

from __future__ import annotations

import pickle
import subprocess
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.videos import write_video
from video_snl.config.video import DataConfig
from video_snl.data.video.dataset import (
    ClipDataset,
    EpochSampler,
    EvaluationDataset,
    collate,
    make_loader,
)
from video_snl.data.video.records import Video
from video_snl.errors import UserError

CONFIG = DataConfig(clip_frames=4, short_side=24, crop=20)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six videos of different lengths, the last one upright."""
    folder = tmp_path_factory.mktemp("videos")
    sizes = [(48, 64)] * 5 + [(96, 80)]
    return [
        Video(str(write_video(folder / f"{i}.avi", 12 + i, size)), i % 3)
        for i, size in enumerate(sizes)
    ]


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_training_sample(videos):
    dataset = ClipDataset(videos, CONFIG, seed=3)
    sample = dataset[7, 5]
    assert {name: (tuple(v.shape), v.dtype) for name, v in sample.items()} == {
        "video": ((4, 29, 24, 3), torch.uint8),
        "size": ((2,), torch.int64),
        "offset": ((2,), torch.float32),
        "flip": ((), torch.bool),
        "label": ((), torch.int64),
        "index": ((), torch.int64),
    }
    assert sample["size"].tolist() == [29, 24]
    assert (int(sample["label"]), int(sample["index"])) == (2, 5)
    grey = sample["video"].float().mean((1, 2, 3))
    torch.testing.assert_close(grey.diff(), torch.full((3,), 10.0), atol=3, rtol=0)


def test_sample_is_a_function_of_seed_epoch_and_index(videos):
    dataset = ClipDataset(videos, CONFIG, seed=3)
    before = torch.random.get_rng_state()
    sample = dataset[1, 2]
    assert torch.equal(torch.random.get_rng_state(), before)
    dataset[0, 0]
    assert_same(dataset[1, 2], sample)
    assert_same(ClipDataset(videos, CONFIG, seed=3)[1, 2], sample)
    others = [dataset[2, 2], dataset[1, 3], ClipDataset(videos, CONFIG, seed=4)[1, 2]]
    assert all(not torch.equal(other["offset"], sample["offset"]) for other in others)


def test_all_starts_crops_and_flips_occur(videos):
    dataset = ClipDataset(videos[:1], CONFIG, seed=0)
    samples = [dataset[epoch, 0] for epoch in range(150)]
    starts = Counter(round(float(s["video"][0].float().mean()) / 10) for s in samples)
    assert set(starts) == set(range(12 - 4 + 1))
    assert 40 < sum(bool(s["flip"]) for s in samples) < 110
    offsets = torch.stack([s["offset"] for s in samples])
    assert 0 <= float(offsets.min()) < 0.1 and 0.9 < float(offsets.max()) < 1


def test_flip_can_be_left_out(videos):
    plain = ClipDataset(videos[:1], replace(CONFIG, flip=False), seed=0)
    flipping = ClipDataset(videos[:1], CONFIG, seed=0)
    assert not any(bool(plain[epoch, 0]["flip"]) for epoch in range(20))
    assert torch.equal(plain[4, 0]["video"], flipping[4, 0]["video"])
    assert torch.equal(plain[4, 0]["offset"], flipping[4, 0]["offset"])


@pytest.mark.parametrize("clips", [0, 1, 3])
def test_evaluation_sample(videos, clips):
    sample = EvaluationDataset(videos, CONFIG, clips)[0, 1]  # of 13 frames
    assert sample["centre"].shape == (4, 24, 32, 3)
    assert sample["views"].shape == (clips, 4, 24, 32, 3)
    first = {0: [], 1: [40], 3: [0, 50, 90]}[clips]
    views = sample["views"][:, 0].float().mean((1, 2, 3))
    torch.testing.assert_close(views, torch.tensor(first).float(), atol=5, rtol=0)
    assert abs(float(sample["centre"][0].float().mean()) - 40) < 3
    assert (sample["size"].tolist(), int(sample["label"])) == ([24, 32], 1)


def test_collate_pads_to_the_largest_frame(videos):
    wide, tall = (EvaluationDataset(videos, CONFIG, 2)[0, i] for i in (4, 5))
    batch = collate([wide, tall])
    assert batch["centre"].shape == (2, 4, 29, 32, 3)
    assert batch["views"].shape == (2, 2, 4, 29, 32, 3)
    assert batch["size"].tolist() == [[24, 32], [29, 24]]
    for b, sample in enumerate((wide, tall)):
        height, width = sample["size"].tolist()
        assert torch.equal(batch["centre"][b, :, :height, :width], sample["centre"])
        assert torch.equal(batch["views"][b, :, :, :height, :width], sample["views"])
    assert not batch["centre"][0, :, 24:].any() and not batch["centre"][1, :, :, 24:].any()


@given(st.integers(1, 60), st.integers(0, 2**40), st.integers(0, 500))
def test_order_of_an_epoch(length, seed, epoch):
    sampler = EpochSampler(length, seed)
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(keys) == len(sampler) == length
    assert sorted(keys) == [(epoch, index) for index in range(length)]
    assert list(sampler) == keys


def test_orders_differ():
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1)):
        sampler = EpochSampler(50, seed)
        sampler.set_epoch(epoch)
        orders.append(tuple(index for _, index in sampler))
    assert len(set(orders)) == 4 and tuple(range(50)) not in orders


def batches(samples, size):
    return [samples[i : i + size] for i in range(0, len(samples), size)]


@given(st.integers(4, 80), st.integers(1, 4), st.integers(1, 5))
def test_ranks_share_the_batches_of_one_process(length, world_size, batch):
    alone = batches(list(EpochSampler(length, 5)), batch * world_size)
    ranks = [
        batches(list(EpochSampler(length, 5, rank, world_size)), batch)
        for rank in range(world_size)
    ]
    assert len({len(part) for part in ranks}) == 1
    assert len({len(list(chain(*part))) for part in ranks}) == 1
    for k, expected in enumerate(alone):
        together = Counter(chain(*(part[k] for part in ranks)))
        extra = together - Counter(expected)
        assert not Counter(expected) - together
        # Only the end of the epoch is filled up, with the first of its order.
        filled = -length % world_size if k == len(alone) - 1 else 0
        assert extra == Counter(list(EpochSampler(length, 5))[:filled])


@given(st.integers(1, 60), st.integers(1, 5))
def test_evaluation_has_every_sample_once_in_order(length, world_size):
    ranks = [EpochSampler(length, 5, r, world_size, shuffle=False) for r in range(world_size)]
    parts = [list(sampler) for sampler in ranks]
    assert [len(sampler) for sampler in ranks] == [len(part) for part in parts]
    assert parts[0] == sorted(parts[0])
    assert sorted(chain(*parts)) == [(0, index) for index in range(length)]


def test_last_batch_can_be_dropped():
    sampler = EpochSampler(23, 0, drop_last_to=8)
    assert len(sampler) == len(list(sampler)) == 16
    full = list(EpochSampler(23, 0))
    assert list(sampler) == full[:16]
    ranks = [EpochSampler(23, 0, rank, 2, drop_last_to=8) for rank in (0, 1)]
    assert [len(list(rank)) for rank in ranks] == [8, 8]
    assert sorted(chain(*ranks)) == sorted(full[:16])


def test_sampler_arguments():
    with pytest.raises(ValueError, match="rank must lie in"):
        EpochSampler(10, 0, rank=2, world_size=2)
    with pytest.raises(UserError, match="7 training videos do not fill one batch of 8"):
        EpochSampler(7, 0, drop_last_to=8)
    with pytest.raises(UserError, match="seed=-1 is negative"):
        list(EpochSampler(7, -1))


def epochs(videos, num_workers):
    dataset, sampler = ClipDataset(videos, CONFIG, seed=1), EpochSampler(len(videos), 1)
    loader = make_loader(dataset, sampler, 4, num_workers, pin_memory=False)
    assert len(loader) == 2
    result = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        result += list(loader)
    return result


def test_batches_do_not_depend_on_the_workers(videos):
    before = torch.random.get_rng_state()
    alone = epochs(videos, 0)
    assert [len(batch["label"]) for batch in alone] == [4, 2, 4, 2]
    assert alone[0]["video"].dtype == torch.uint8
    for a, b in zip(alone, epochs(videos, 2), strict=True):
        assert_same(a, b)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_evaluation_loader(videos):
    dataset = EvaluationDataset(videos, CONFIG, 2)
    sampler = EpochSampler(len(videos), 0, shuffle=False)
    parts = list(make_loader(dataset, sampler, 4, 1, pin_memory=False))
    assert torch.cat([part["index"] for part in parts]).tolist() == list(range(6))
    assert parts[1]["views"].shape == (2, 2, 4, 29, 32, 3)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.timeout(60)
def test_bad_file_is_one_line(videos, tmp_path, num_workers):
    (tmp_path / "bad.avi").write_bytes(b"no video")
    listed = [*videos[:2], Video(str(tmp_path / "bad.avi"), 0)]
    dataset = EvaluationDataset(listed, CONFIG, 0)
    sampler = EpochSampler(3, 0, shuffle=False)
    batches = iter(make_loader(dataset, sampler, 2, num_workers, pin_memory=False))
    assert len(next(batches)["label"]) == 2
    with pytest.raises(UserError, match=r"bad\.avi is not a readable video") as caught:
        next(batches)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is not a readable video"):
        dataset[0, 2]


@pytest.mark.timeout(60)
def test_workers_end_when_their_parent_says_so(videos):
    """A SIGTERM to the whole process group is the main process's to answer."""
    dataset, sampler = EvaluationDataset(videos, CONFIG, 0), EpochSampler(6, 0, shuffle=False)
    loader = make_loader(dataset, sampler, 1, 1, pin_memory=False)
    batches = iter(loader)
    next(batches)
    [worker] = loader.pids()
    for name in ("TERM", "INT"):
        subprocess.run(["kill", f"-{name}", str(worker)], check=True)
    assert [int(batch["index"]) for batch in batches] == [1, 2, 3, 4, 5]
    assert loader.pids() == [worker]
    loader.close()
    assert not Path(f"/proc/{worker}").exists()


def test_crop_larger_than_the_short_side(videos):
    config = replace(CONFIG, crop=25)
    for make in (
        lambda: ClipDataset(videos, config, 0),
        lambda: EvaluationDataset(videos, config, 1),
    ):
        with pytest.raises(UserError, match=r"data\.crop=25 does not fit data\.short_side=24"):
            make()


def test_datasets_can_be_sent_to_a_process(videos):
    dataset = ClipDataset(videos, CONFIG, 0)
    assert_same(pickle.loads(pickle.dumps(dataset))[0, 0], dataset[0, 0])
