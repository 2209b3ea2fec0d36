"""The processes and the thread of a loader: killed, stuck, abandoned, begun anew."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.misbehaving import CONFIG, bad, loader_of
from tests.processes import gone, open_files, shared_memory
from video_snl.data.loading import loader as loading
from video_snl.data.loading.collate import Batch, Collator
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.video.records import Video
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("training", [True, False])
def test_workers_killed_from_outside_change_nothing(good: list[Video], training: bool) -> None:
    videos = [replace(v, path=v.path) for v in good] * 20
    expected = list(loader_of(videos, 0, training=training))
    loader = loader_of(videos, quarantine=Quarantine(None, 0), training=training)
    found = []
    for number, batch in enumerate(loader):
        found.append(batch)
        if number % 5 == 0:
            os.kill(loader.pids()[0], signal.SIGKILL)
            time.sleep(0.1)
    loader.close()
    assert len(found) == len(expected) == 30
    name = "video" if training else "centre"
    assert all(torch.equal(a[name], b[name]) for a, b in zip(found, expected, strict=True))
    assert loader.profile.replaced >= 3 and not loader.quarantine.bad


def test_a_deadline_passes_while_nobody_asks_for_a_batch(good: list[Video], tmp_path: Path) -> None:
    videos = [*good[:2], bad(tmp_path, "stuck.avi", 0), *good[2:]]
    quarantine = Quarantine(None, 0.05)
    loader = loader_of(videos, 2, quarantine, training=False, batch_size=1)
    batches = iter(loader)
    next(batches)
    end = time.monotonic() + 20
    while videos[2].path not in quarantine and time.monotonic() < end:
        time.sleep(0.1)
    assert quarantine.bad[videos[2].path].kind == "timeout"
    began = time.monotonic()
    assert [batch["unreadable"].tolist() for batch in batches] == [[], [2], *[[]] * 4]
    assert time.monotonic() - began < 2
    loader.close()


@pytest.mark.parametrize("option", [{"deadline": 0.0}, {"num_workers": -1}, {"max_failures": 5}])
def test_options_out_of_range(good: list[Video], option: dict[str, float]) -> None:
    config = replace(CONFIG, **option)
    with pytest.raises(UserError, match="must be 0 or more, data.deadline"):
        loader_of(good, int(config.num_workers), config=config)


def test_nothing_is_left_behind(good: list[Video], tmp_path: Path) -> None:
    """After closing, an exception in the loop, an abandoned loader, and a stuck reader."""
    list(loader_of(good))  # the forkserver stays
    gc.collect()
    before, shared, threads = open_files(), shared_memory(), threading.active_count()
    pids: list[int] = []
    stuck = [*good, bad(tmp_path, "stuck.avi", 0)]
    config = replace(CONFIG, deadline=1000.0)

    closed = loader_of(stuck, quarantine=Quarantine(None, 0.05), training=False, config=config)
    next(iter(closed))
    pids += closed.pids()
    closed.close()

    with pytest.raises(ZeroDivisionError):
        failing = loader_of(stuck, training=False, config=config)
        for _ in failing:
            pids += failing.pids()
            raise ZeroDivisionError
    del failing

    abandoned = loader_of(good * 10)
    batches = iter(abandoned)
    next(batches)
    pids += abandoned.pids()
    del abandoned, batches
    gc.collect()
    assert len(pids) == 6 and all(gone(pid) for pid in pids)
    assert (open_files(), shared_memory()) == (before, shared)
    assert threading.active_count() == threads


def test_an_iteration_that_begins_ends_the_one_before(good: list[Video]) -> None:
    loader = loader_of(good * 10)
    first = iter(loader)
    next(first)
    pids = loader.pids()
    assert len(list(loader)) == 15 and loader.pids() == pids
    with pytest.raises(RuntimeError, match="closed or begun anew"):
        list(first)
    loader.close()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_profile_of_an_epoch(good: list[Video], tmp_path: Path, num_workers: int) -> None:
    loader = loader_of([*good, bad(tmp_path, "slow.avi", 0)], num_workers, batch_size=2)
    for _ in range(2):
        list(loader)
        profile = loader.profile
        assert profile.clips == 7
        assert 0.25 < profile.waited <= profile.seconds < 30
    loader.close()


def test_a_thread_that_does_not_end_keeps_its_pool_and_closes_it(
    good: list[Video], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_STOP_TIMEOUT", 0.1)
    step, held, go = Collator.step, threading.Event(), threading.Event()

    def slow(self: Collator, limit: int) -> list[Batch]:
        held.set()
        go.wait(60)
        return step(self, limit)

    loader = loader_of(good * 10)
    first = iter(loader)
    next(first)
    pids = loader.pids()
    with monkeypatch.context() as patch:
        patch.setattr(Collator, "step", slow)
        assert held.wait(60)
    assert len(list(loader)) == 15 and pids and not set(pids) & set(loader.pids())
    go.set()
    assert all(gone(pid) for pid in pids)
    with pytest.raises(RuntimeError, match="closed or begun anew"):
        list(first)
    loader.close()


def test_a_loader_may_be_collected_in_its_own_thread(
    good: list[Video], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, kept, collected = Collator.step, [], threading.Event()

    def collecting(self: Collator, limit: int) -> list[Batch]:
        if kept and not collected.is_set():
            kept.clear()
            gc.collect()
            collected.set()
        return step(self, limit)

    loader = loader_of(good * 10)
    batches = iter(loader)
    next(batches)
    pids = loader.pids()
    monkeypatch.setattr(Collator, "step", collecting)
    kept += [loader, batches]
    del loader, batches
    assert collected.wait(60) and all(gone(pid) for pid in pids)
