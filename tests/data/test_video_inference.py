"""Windows decoded by a process that is killed or stuck."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from torch import Tensor

from tests.processes import descendants
from tests.videos import write_video
from video_snl.config.video import DataConfig
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.video import inference
from video_snl.data.video.inference import read_many_views, read_views, read_windows, value_of
from video_snl.data.video.windows import Length
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(120)

CONFIG = DataConfig(clip_frames=4, short_side=32, crop=32)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(write_video(tmp_path / "a.avi", frames=60))


@pytest.fixture
def others() -> set[int]:
    """Processes that are there before: the forkserver, and what earlier tests have left."""
    start_forkserver()
    return descendants(os.getpid())


def kill_worker(others: set[int]) -> None:
    """End the one process that decodes."""
    [worker] = descendants(os.getpid()) - others
    os.kill(worker, signal.SIGKILL)


def test_killed_idle_worker_is_an_error_and_not_the_end(path: str, others: set[int]) -> None:
    windows = read_windows(path, CONFIG, Length(10, "f"), Length(10, "f"), 1)
    found = [next(windows)]
    time.sleep(1)  # the next one is decoded meanwhile, and the worker waits
    kill_worker(others)
    with pytest.raises(UserError) as caught:
        found += windows
    assert 1 <= len(found) < 6
    assert str(caught.value).startswith(f"{path}: ") and "process" in str(caught.value)
    assert [window.start for window in found] == [0.4 * k for k in range(len(found))]


def test_a_process_that_did_not_read_the_windows_before_says_so(path: str) -> None:
    """The kill above may come exactly between two windows."""
    read = inference._Windows(CONFIG, 1, Length(30, "f"), Length(30, "f"))
    with pytest.raises(UserError, match=r"a\.avi: the process .* was killed after 1 window"):
        read((path, 1))
    assert read((path, 0)) is not None
    for turn in ((path, 2), ("b.avi", 1)):
        with pytest.raises(UserError, match="was killed after"):
            read(turn)
    assert read((path, 1)) is not None and read((path, 2)) is None and read((path, 3)) is None


class StuckReader(PyAVReader):
    """Never returns from the frames from number 30 on."""

    def frames(self, indices: Sequence[int], group: Sequence[int] | None = None) -> Tensor:
        if max(indices) >= 30:
            ctypes.PyDLL(None).sleep(1000)  # PyDLL keeps the GIL: no Python runs
        return super().frames(indices, group)


class StuckWindows(inference._Windows):
    def __call__(self, turn: tuple[str, int]) -> inference.Window | None:
        inference.PyAVReader = StuckReader  # in the process that decodes
        return super().__call__(turn)


def test_window_stuck_in_native_code_is_given_up(
    path: str, others: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_Windows", StuckWindows)
    config = replace(CONFIG, deadline=4)
    found, began = [], time.monotonic()
    with pytest.raises(UserError, match=r"a\.avi: decoding took longer than 4\.8 s"):
        for window in read_windows(path, config, Length(10, "f"), Length(10, "f"), 1):
            found.append(window)
    assert [window.start for window in found] == [0.0, 0.4, 0.8]
    assert 4 < time.monotonic() - began < 60
    assert descendants(os.getpid()) <= others


class CountingReader(PyAVReader):
    """Counts the frames that its decoder gives out, and the files that are opened."""

    decoded = opened = 0

    def __init__(self, path: str, max_pixels: int) -> None:
        CountingReader.opened += 1
        super().__init__(path, max_pixels)

    def _frames(self, packets: Iterable[av.Packet]) -> Iterator[av.VideoFrame]:
        for frame in super()._frames(packets):
            CountingReader.decoded += 1
            yield frame


@pytest.mark.parametrize("gop", [1, 12, 60])
def test_each_frame_of_overlapping_windows_is_decoded_once(
    tmp_path: Path, gop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_video(tmp_path / "a.avi", frames=60, gop=gop))
    monkeypatch.setattr(inference, "PyAVReader", CountingReader)
    monkeypatch.setattr(CountingReader, "decoded", 0)
    monkeypatch.setattr(CountingReader, "opened", 0)
    read = inference._Windows(CONFIG, 2, Length(20, "f"), Length(5, "f"))  # in this process
    windows = 0
    while read((path, windows)) is not None:
        windows += 1
    assert windows == 9 and CountingReader.opened == 1
    assert 40 + CONFIG.clip_frames <= CountingReader.decoded <= 60  # of 9 windows of 20 frames


def test_many_videos_come_in_order_from_one_process_whatever_becomes_of_one(
    tmp_path: Path, others: set[int]
) -> None:
    sound = [str(write_video(tmp_path / f"{n}.avi", frames=8 + n)) for n in range(6)]
    broken = tmp_path / "broken.avi"
    broken.write_bytes(b"no video")
    short = str(write_video(tmp_path / "short.avi", frames=2))
    config = replace(CONFIG, short_videos="error")
    paths = [*sound[:3], str(broken), short, *sound[3:]]
    processes = set[int]()
    found = []
    for result in read_many_views(paths, config, 2):
        processes |= descendants(os.getpid()) - others
        found.append(result)
    assert [result.item for result in found] == paths and len(processes) == 1
    for result in found:
        if result.item in sound:
            alone = read_views(result.item, config, 2)
            assert np.array_equal(value_of(result, result.item, config.deadline), alone)
        else:
            with pytest.raises(UserError, match=Path(result.item).name):
                value_of(result, result.item, config.deadline)
    assert descendants(os.getpid()) <= others
