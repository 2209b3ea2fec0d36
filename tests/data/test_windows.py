"""Sliding windows: arithmetic, time stamps, and reading their clips in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.videos import write_video
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import CHUNK, CHUNK_BYTES, shrink
from video_snl.data.video.clip_sampling import ClipRule, ShortVideoError
from video_snl.data.video.streaming import frame_times, window_clips
from video_snl.data.video.windows import (
    FrameTimes,
    GrowingWindows,
    Length,
    frame_windows,
    parse_length,
)
from video_snl.errors import UserError


def even(length: int, rate: float = 25) -> FrameTimes:
    return FrameTimes([i / rate for i in range(length)], length / rate)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("2", Length(2, "s")),
        ("2.5s", Length(2.5, "s")),
        ("1e-1", Length(0.1, "s")),
        ("64f", Length(64, "f")),
    ],
)
def test_lengths(text: str, length: Length) -> None:
    assert parse_length("--window", text) == length


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1s", "0f", "1.5f", "2m", "nan", "inf", "f", "s", "1e-9", "1e10s", "9" * 400 + "f"],
)
def test_no_length(text: str) -> None:
    with pytest.raises(UserError, match=r"--hop .*: give seconds, such as 2.5s, or frames"):
        parse_length("--hop", text)


@pytest.mark.parametrize(
    ("length", "window", "hop", "spans"),
    [
        (10, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10)]),
        (10, 4, 4, [(0, 4), (4, 8), (6, 10)]),  # the last one ends at the end
        (10, 5, 5, [(0, 5), (5, 10)]),
        (10, 4, 7, [(0, 4), (6, 10)]),
        (11, 2, 4, [(0, 2), (4, 6), (8, 10), (9, 11)]),  # hops over frames
        (3, 4, 1, [(0, 3)]),  # shorter than a window
        (4, 4, 1, [(0, 4)]),
        (1, 1, 1, [(0, 1)]),
    ],
)
def test_windows(length: int, window: int, hop: int, spans: list[tuple[int, int]]) -> None:
    expected = [range(*span) for span in spans]
    assert frame_windows(even(length), Length(window, "f"), Length(hop, "f")) == expected
    # The same in seconds, at any rate.
    for rate in (25, 30000 / 1001, 7.3):
        seconds = Length(window / rate, "s"), Length(hop / rate, "s")
        assert frame_windows(even(length, rate), *seconds) == expected


def test_windows_by_time_stamps() -> None:
    times = FrameTimes([0, 0.1, 0.2, 1.0, 1.05, 2.9], 3.0)
    second = Length(1, "s")
    assert frame_windows(times, second, second) == [range(0, 3), range(3, 5), range(5, 6)]
    assert [times.of(part) for part in frame_windows(times, second, second)] == [
        *[(0, 1.0), (1.0, 2.9), (2.9, 3.0)]
    ]
    half = frame_windows(times, Length(0.5, "s"), Length(0.5, "s"))
    assert half == [range(0, 3), range(3, 5), range(5, 6)]  # without the gaps


def test_no_window_stands_for_the_last_frames_twice() -> None:
    """The time stamps of a file of 29.97 frames a second are not those of the windows."""
    times = FrameTimes([round(1.0003 * i / 30, 2) for i in range(300)], 10.01)
    windows = frame_windows(times, Length(2, "s"), Length(1, "s"))
    assert len({window.stop for window in windows}) == len(windows) == 9
    assert windows[-1].stop == 300


def test_units_are_not_mixed() -> None:
    with pytest.raises(UserError, match="--window 2s and --hop 8f: give both in seconds or"):
        frame_windows(even(50), Length(2, "s"), Length(8, "f"))


@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 60))
def test_windows_cover_the_video(length: int, window: int, hop: int) -> None:
    parts = frame_windows(even(length), Length(window, "f"), Length(hop, "f"))
    assert (parts[0].start, parts[-1].stop) == (0, length)
    assert all(len(part) == min(window, length) for part in parts)
    steps = [b.start - a.start for a, b in zip(parts, parts[1:], strict=False)]
    assert all(step == hop for step in steps[:-1]) and all(0 < step <= hop for step in steps[-1:])
    if hop <= window:
        assert {i for part in parts for i in part} == set(range(length))


@given(st.lists(st.floats(0.01, 3), min_size=1, max_size=60), st.floats(0.1, 5), st.floats(0.1, 8))
def test_a_stream_keeps_what_its_windows_need(
    steps: list[float], window: float, hop: float
) -> None:
    growing = GrowingWindows(Length(window, "s"), Length(hop, "s"))
    starts = [sum(steps[:count]) for count in range(len(steps))]
    needed = 0
    for index, start in enumerate(starts):
        new = growing.add(start)
        assert all(needed <= part.start and part.stop <= index for part in new)
        assert needed <= growing.needed and start - starts[growing.needed] <= window + hop + 1e-5
        needed = growing.needed
    assert all(needed <= part.start for part in growing.finish(starts[-1] + steps[-1]))


class Counting:
    """Frames that are all of one value; a log of those asked for."""

    frame_bytes = 72

    def __init__(self, length: int) -> None:
        self.length, self.asked = length, list[int]()

    def __len__(self) -> int:
        return self.length

    def frames(self, indices: Sequence[int], group: Sequence[int] | None = None) -> torch.Tensor:
        assert all(i < self.length for i in indices)
        self.asked += indices
        values = torch.tensor(indices, dtype=torch.uint8)
        return values[:, None, None, None].expand(-1, 4, 6, 3)


@given(st.integers(1, 120), st.integers(1, 30), st.integers(1, 30), st.integers(1, 3), st.data())
def test_clips_of_windows(length: int, window: int, hop: int, count: int, data) -> None:
    sampling = data.draw(st.sampled_from(["dense", "uniform"]))
    rule = ClipRule(data.draw(st.integers(1, 8)), 1, sampling, "wrap")
    windows = frame_windows(even(length), Length(window, "f"), Length(hop, "f"))
    reader, seen = Counting(length), []
    choose = lambda n: rule.several(n, count)  # noqa: E731
    for part, clips in window_clips(reader, windows, choose, size=4):
        seen.append(part)
        expected = [[part.start + i for i in clip] for clip in choose(len(part))]
        assert clips.shape == (count, rule.frames, 4, 6, 3)
        assert clips[..., 0, 0, 0].tolist() == expected
        assert (clips == clips[..., :1, :1, :1]).all()
    assert seen == windows
    assert reader.asked == sorted(set(reader.asked))  # once each, in one pass


def test_windows_of_many_lengths() -> None:
    """A window by time stamps may have many frames and the next one few."""
    times = FrameTimes([*(i / 100 for i in range(100)), *(1 + i for i in range(10))], 11.0)
    windows = frame_windows(times, Length(2, "s"), Length(0.5, "s"))
    rule = ClipRule(4, 1, "uniform", "repeat_last")
    reader = Counting(110)
    for part, clips in window_clips(reader, windows, lambda n: rule.several(n, 2), 4):
        expected = [[part.start + i for i in clip] for clip in rule.several(len(part), 2)]
        assert clips[..., 0, 0, 0].tolist() == expected
    assert reader.asked == sorted(set(reader.asked))


def test_memory_is_that_of_a_window() -> None:
    """No more frames of a long video are alive at a time than those of a window's clips."""
    alive: list[int] = []

    class Tracked(Counting):
        def frames(
            self, indices: Sequence[int], group: Sequence[int] | None = None
        ) -> torch.Tensor:
            alive.append(len(indices))
            return super().frames(indices).contiguous()

    rule = ClipRule(8, 1, "dense", "error")
    reader = Tracked(200)
    windows = frame_windows(even(200), Length(16, "f"), Length(4, "f"))
    batches = window_clips(reader, windows, lambda n: rule.several(n, 1), 4)
    for _ in batches:
        kept = batches.gi_frame.f_locals["kept"]  # type: ignore[attr-defined]
        assert len(kept) <= 16 + 8
    assert max(alive) <= 16


def test_large_frames_come_one_by_one() -> None:
    class Large(Counting):
        frame_bytes = CHUNK_BYTES
        pieces: ClassVar[list[tuple[int, int]]] = []

        def frames(
            self, indices: Sequence[int], group: Sequence[int] | None = None
        ) -> torch.Tensor:
            self.pieces.append((len(indices), len(group or ())))
            return super().frames(indices)

    rule = ClipRule(8, 1, "dense", "error")
    windows = frame_windows(even(40), Length(40, "f"), Length(40, "f"))
    ((_, clips),) = window_clips(Large(40), windows, lambda n: rule.several(n, 5), 4)
    assert clips[..., 0, 0, 0].flatten().tolist() == list(range(40))
    assert Large.pieces == [(1, CHUNK)] * CHUNK + [(1, 40 - CHUNK)] * (40 - CHUNK)


def test_window_shorter_than_a_clip() -> None:
    rule = ClipRule(8, 1, "dense", "error")
    with pytest.raises(ShortVideoError):
        list(window_clips(Counting(50), [range(0, 7)], lambda n: rule.several(n, 1), 4))


def test_windows_ahead_of_a_short_one_come_out() -> None:
    """The last two begin within the reach of the one before."""
    rule, found = ClipRule(8, 1, "dense", "error"), []
    windows = [range(0, 8), range(4, 16), range(10, 14), range(11, 20)]
    with pytest.raises(ShortVideoError) as caught:
        for part, clips in window_clips(Counting(50), windows, lambda n: rule.several(n, 2), 4):
            found.append((part, clips.shape))
    assert found == [(part, (2, 8, 4, 6, 3)) for part in windows[:2]]
    assert caught.value.length == 4


def test_clips_of_a_file_are_its_frames(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.avi", 60))
    windows = frame_windows(frame_times(path), Length(16, "f"), Length(5, "f"))
    rule = ClipRule(4, 3, "dense", "error")
    together = PyAVReader(path).frames(list(range(60)))
    count = 0
    for part, clips in window_clips(PyAVReader(path), windows, lambda n: rule.several(n, 2), 24):
        for clip, indices in zip(clips, rule.several(len(part), 2), strict=True):
            expected = shrink(together[[part.start + i for i in indices]], 24)
            assert torch.equal(clip, expected)
        count += 1
    assert count == len(windows) == 10


def test_times_by_the_rate(tmp_path: Path) -> None:
    times = frame_times(str(write_video(tmp_path / "a.avi", 30)))
    assert times == even(30)


def test_times_by_the_stamps(tmp_path: Path) -> None:
    """A Matroska file whose frames last 40, 40, 200, 40, ... ms, and that starts late."""
    path, stamps = tmp_path / "a.mkv", [500, 540, 580, 780, 820, 860, 900]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 50)
        for stamp in stamps:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
            frame.pts, frame.time_base = stamp // 20, Fraction(1, 50)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    times = frame_times(str(path))
    assert list(times.starts) == pytest.approx([(s - 500) / 1000 for s in stamps], abs=1e-6)
    assert times.end == pytest.approx(0.4 * 7 / 6)
