"""Loaders of files that hang, kill, lie or are no videos."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.processes import gone, open_files, shared_memory
from tests.videos import write_video
from video_snl.config import DataConfig
from video_snl.data.loader import (
    ClipDataset,
    ClipLoader,
    EpochSampler,
    EvaluationDataset,
    make_loader,
)
from video_snl.data.quarantine import Quarantine
from video_snl.data.videos import Video
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(120)
CONFIG = DataConfig(clip_frames=4, short_side=24, crop=20, deadline=2.0)


def misbehave(path: str) -> None:
    """What a reader may do to its process, by the name of the file."""
    name = Path(path).name
    if name.startswith("stuck"):
        ctypes.PyDLL(None).sleep(1000)  # in native code that keeps the GIL
    if name.startswith("killer"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("bug"):
        raise ZeroDivisionError("no exception\nof ours")
    if name.startswith("slow"):
        time.sleep(0.3)


class Training(ClipDataset):
    def sample(self, key, shown):
        misbehave(self.videos[shown].path)
        return super().sample(key, shown)


class Evaluation(EvaluationDataset):
    def sample(self, key, shown):
        misbehave(self.videos[shown].path)
        return super().sample(key, shown)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    """Three videos of each of two classes."""
    folder = tmp_path_factory.mktemp("videos")
    return [Video(str(write_video(folder / f"{i}.avi", 12 + i)), i % 2) for i in range(6)]


def bad(folder: Path, name: str, label: int) -> Video:
    path = folder / name
    if name.startswith("corrupt"):
        path.write_bytes(b"no video")
    else:
        write_video(path, 3 if name.startswith("short") else 12)
    return Video(str(path), label)


def loader_of(
    videos: list[Video],
    num_workers: int = 2,
    quarantine: Quarantine | None = None,
    *,
    training: bool = True,
    config: DataConfig = CONFIG,
    batch_size: int = 4,
) -> ClipLoader:
    dataset = Training(videos, config, 1) if training else Evaluation(videos, config, 0)
    sampler = EpochSampler(len(videos), 1, shuffle=training)
    return make_loader(dataset, sampler, batch_size, num_workers, False, quarantine)


def two_epochs(loader: ClipLoader) -> Iterator[dict[str, torch.Tensor]]:
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        yield from loader


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("stuck.avi", "timeout", "took longer than data.deadline=2 s"),
        ("killer.avi", "died", "its process died: SIGSEGV"),
        ("corrupt.avi", "error", "{path} is no readable video"),
        ("bug.avi", "error", "ZeroDivisionError: no exception of ours (test_bad_files.py:"),
    ],
)
def test_another_video_of_the_class_is_shown(
    good: list[Video], tmp_path: Path, name: str, kind: str, reason: str
) -> None:
    videos = [*good, bad(tmp_path, name, 1)]
    quarantine = Quarantine(tmp_path / "quarantine.jsonl", 0.05)
    loader = loader_of(videos, quarantine=quarantine)
    began = time.monotonic()
    batches = list(two_epochs(loader))
    assert time.monotonic() - began < 30
    labels = torch.cat([batch["label"] for batch in batches]).tolist()
    shown = torch.cat([batch["index"] for batch in batches]).tolist()
    assert sorted(labels) == sorted(2 * [video.label for video in videos])
    assert 6 not in shown and labels == [videos[i].label for i in shown]
    [line] = (tmp_path / "quarantine.jsonl").read_text().splitlines()  # not tried again
    note = json.loads(line)
    assert (note["path"], note["kind"]) == (videos[6].path, kind)
    assert note["reason"].startswith(reason.format(path=videos[6].path))
    loader.close()


def test_the_same_videos_stand_in_whatever_the_workers(good: list[Video], tmp_path: Path) -> None:
    bads = [bad(tmp_path, f"corrupt{i}.avi", i % 2) for i in range(3)]
    found = []
    for num_workers in (0, 1, 3):
        quarantine = Quarantine(None, 0.05)
        loader = loader_of([*bads, *good], num_workers, quarantine)
        found.append(list(two_epochs(loader)))
        loader.close()
        assert set(quarantine.bad) == {video.path for video in bads}
    for alone, few, many in zip(*found, strict=True):
        for name in alone:
            assert torch.equal(alone[name], few[name]), name
            assert torch.equal(alone[name], many[name]), name


def test_a_resumed_run_tries_no_bad_file_again(good: list[Video], tmp_path: Path) -> None:
    videos = [*good, bad(tmp_path, "stuck.avi", 0)]
    file = tmp_path / "quarantine.jsonl"
    first = loader_of(videos, quarantine=Quarantine(file, 0.05))
    whole = list(two_epochs(first))
    first.close()
    assert first.profile.replaced == 0  # in the second epoch
    before = file.read_text()
    again = loader_of(videos, quarantine=Quarantine(file, 0.05))
    again.sampler.set_epoch(1)
    for batch, expected in zip(again, whole[2:], strict=True):
        assert torch.equal(batch["video"], expected["video"])
    assert again.profile.replaced == 0 and file.read_text() == before
    again.close()


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


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_lists_what_it_cannot_read(
    good: list[Video], tmp_path: Path, num_workers: int
) -> None:
    names = ("corrupt0.avi", "corrupt1.avi", "bug.avi")
    videos = [good[0], *(bad(tmp_path, name, 1) for name in names), *good[1:3]]
    quarantine = Quarantine(None, 0.05)
    loader = loader_of(videos, num_workers, quarantine, training=False, batch_size=2)
    for _ in range(2):
        batches = list(loader)
        assert [batch["index"].tolist() for batch in batches] == [[0], [], [4, 5]]
        assert [batch["unreadable"].tolist() for batch in batches] == [[1], [2, 3], []]
        assert batches[0]["centre"].shape == (1, 4, 24, 32, 3) and "centre" not in batches[1]
        assert batches[1]["label"].tolist() == []
        assert loader.profile.clips == 3
    loader.close()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_many_bad_files_stop(good: list[Video], tmp_path: Path, num_workers: int) -> None:
    videos = [*good, *(bad(tmp_path, f"corrupt{i}.avi", 1) for i in range(4))]
    loader = loader_of(videos, num_workers, Quarantine(tmp_path / "q.jsonl", 0.05))
    with pytest.raises(UserError, match=r"4 of 10 training videos cannot be read.*q\.jsonl"):
        list(loader)
    loader.close()
    again = loader_of(videos, num_workers, Quarantine(tmp_path / "q.jsonl", 0.05))
    with pytest.raises(UserError, match="4 of 10 training videos cannot be read"):
        next(iter(again))
    again.close()


def test_one_bad_file_stops_where_none_may_be(good: list[Video], tmp_path: Path) -> None:
    videos = [*good, bad(tmp_path, "corrupt.avi", 1)]
    with pytest.raises(UserError, match=r"1 of 7 training videos .* lets 0 pass: .*corrupt\.avi"):
        list(loader_of(videos, 0, Quarantine(None, 0)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_class_without_readable_videos_stops(
    good: list[Video], tmp_path: Path, num_workers: int
) -> None:
    videos = [*good, bad(tmp_path, "corrupt0.avi", 2), bad(tmp_path, "corrupt1.avi", 2)]
    loader = loader_of(videos, num_workers, Quarantine(None, 0.05))
    with pytest.raises(
        UserError, match=r"none of the 2 training videos of the class of \S*corrupt"
    ):
        list(loader)
    loader.close()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_short_video_is_a_matter_of_options(
    good: list[Video], tmp_path: Path, num_workers: int, training: bool
) -> None:
    videos = [*good, bad(tmp_path, "short.avi", 0)]
    quarantine = Quarantine(None, 0.05)
    loader = loader_of(videos, num_workers, quarantine, training=training)
    with pytest.raises(UserError, match=r"short\.avi has 3 frames, a clip spans 4"):
        list(loader)
    assert not quarantine.bad
    loader.close()


def test_without_a_quarantine_a_deadline_is_an_error(good: list[Video], tmp_path: Path) -> None:
    loader = loader_of([*good, bad(tmp_path, "stuck.avi", 0)], training=False)
    batches = iter(loader)
    assert len(next(batches)["label"]) == 4
    with pytest.raises(UserError, match=r"stuck\.avi: took longer than data\.deadline=2 s"):
        next(batches)
    loader.close()


@pytest.mark.parametrize("option", [{"deadline": 0.0}, {"num_workers": -1}, {"max_failures": 5}])
def test_options_out_of_range(good: list[Video], option: dict[str, float]) -> None:
    config = replace(CONFIG, **option)
    with pytest.raises(UserError, match="must be 0 or more, data.deadline"):
        loader_of(good, int(config.num_workers), config=config)


def test_nothing_is_left_behind(good: list[Video], tmp_path: Path) -> None:
    """After closing, an exception in the loop, an abandoned loader, and a stuck reader."""
    list(loader_of(good))  # the nursery stays
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
