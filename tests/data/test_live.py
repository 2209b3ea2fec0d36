"""Streams: the windows of their files, what is dropped, what is missing, and what is refused."""

from __future__ import annotations

import io
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.streams import StreamServer, standard_input
from tests.videos import greys, write_changing_size, write_streams, write_video
from video_snl.config.video import DataConfig
from video_snl.data.decoding.readers import shrink
from video_snl.data.video import inference
from video_snl.data.video.live import LiveStream, LiveWindow, Missing
from video_snl.data.video.sources import Patience, find_source
from video_snl.data.video.windows import Length
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(120)

CONFIG = DataConfig(clip_frames=4, short_side=32, crop=32)
TEN = Length(10, "f"), Length(10, "f")


def live(
    address: str, lengths: tuple[Length, Length] = TEN, clips: int = 1, **patience: object
) -> LiveStream:
    source = find_source(address)
    assert source is not None
    return LiveStream(source, CONFIG, *lengths, clips, Patience(**patience))  # type: ignore[arg-type]


def windows_of(stream: LiveStream) -> list[LiveWindow]:
    return [event for event in stream.events() if isinstance(event, LiveWindow)]


def windows_of_file(path: Path, lengths: tuple[Length, Length], clips: int) -> Iterator:
    read, number = inference._Windows(CONFIG, clips, *lengths), 0
    while (window := read((str(path), number))) is not None:
        yield window
        number += 1


@pytest.mark.parametrize(
    ("name", "lengths", "clips"),
    [
        ("a.mkv", (Length(0.5, "s"), Length(0.3, "s")), 2),
        ("a.ts", (Length(10, "f"), Length(7, "f")), 1),
        ("a.avi", (Length(0.4, "s"), Length(0.9, "s")), 1),  # hops over frames
        ("a.mkv", (Length(9, "s"), Length(9, "s")), 3),  # longer than the video
    ],
)
def test_a_pipe_has_the_windows_of_its_file(
    tmp_path: Path, name: str, lengths: tuple[Length, Length], clips: int
) -> None:
    path = write_streams(tmp_path / name, [(48, 64)], frames=43, b_frames=2)
    expected = list(windows_of_file(path, lengths, clips))
    with standard_input(path.read_bytes()):
        stream = live("-", lengths, clips)
        found = windows_of(stream)
    assert stream.counts.frames == 43 and stream.counts.dropped_windows == 0
    assert len(found) == len(expected) >= 1
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.start, ours.end) == pytest.approx((theirs.start, theirs.end), abs=1e-9)
        assert np.array_equal(ours.views, theirs.views)


def test_the_newest_window_takes_the_place_of_one_that_waits(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", frames=100)
    taken = []
    with standard_input(path.read_bytes()):
        stream = live("-", behind="drop")
        for event in stream.events():
            if isinstance(event, LiveWindow):
                taken.append(event)
                time.sleep(0.2)  # the whole file is read meanwhile
    assert stream.counts.frames == 100 and len(taken) < 10
    assert sum(1 + window.dropped for window in taken) == 10
    assert stream.counts.dropped_windows == 10 - len(taken)
    assert taken[-1].start == pytest.approx(3.6) and taken[-1].dropped > 0


def test_time_stamps_that_jump_begin_anew(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "a.ts", [(48, 64)], frames=60)
    with standard_input(path.read_bytes() * 2):
        events = [event for event in live("-").events() if not isinstance(event, str)]
    [place] = [place for place, event in enumerate(events) if isinstance(event, Missing)]
    missing, after = events[place], events[place + 1 :]
    assert missing.reason == "its time stamps jump" and missing.start == missing.end
    assert missing.start == pytest.approx(2.4, abs=0.05)  # a frame may be lost there
    starts = [event.start - missing.end for event in after]
    assert starts == pytest.approx([0.4 * k for k in range(6)])
    assert [event.start for event in events[:5]] == pytest.approx(starts[:5])


def test_a_clock_that_is_set_anew_is_not_late(tmp_path: Path) -> None:
    early, late = (
        write_streams(tmp_path / f"{start}.ts", [(48, 64)], frames=60, start=start).read_bytes()
        for start in (0, 5000)
    )
    with standard_input(early + late + early):  # 200 seconds on, and back
        stream = live("-", behind="drop")
        events = list(stream.events())
    assert stream.counts.skipped == 0 and stream.counts.frames >= 178  # some may be lost there
    missing = [event for event in events if isinstance(event, Missing)]
    assert [each.reason for each in missing] == ["its time stamps jump"] * 2
    assert [each.start for each in missing] == pytest.approx([2.4, 4.8], abs=0.1)
    assert all(0 <= each.end - each.start < 2 for each in missing)


def test_frames_ahead_of_a_jump_do_not_end_the_stream(tmp_path: Path) -> None:
    few = write_streams(tmp_path / "few.ts", [(48, 64)], frames=2).read_bytes()
    path = write_streams(tmp_path / "a.ts", [(48, 64)], frames=40, start=5000)
    with standard_input(few + path.read_bytes()):
        stream = live("-")
        events = list(stream.events())
    assert "a window of 2 frames is too short for a clip: left out" in events
    assert sum(isinstance(event, LiveWindow) for event in events) >= 3
    alone = write_streams(tmp_path / "few.mkv", [(48, 64)], frames=2).read_bytes()
    with standard_input(alone), pytest.raises(UserError, match="a window of 2 frames is shorter"):
        windows_of(live("-"))


@pytest.mark.parametrize("parts", [1, 2])
def test_a_recording_ends_at_its_end_whatever_its_time_stamps(tmp_path: Path, parts: int) -> None:
    content = write_streams(tmp_path / "a.ts", [(48, 64)], frames=40).read_bytes() * parts
    with StreamServer([content] * 2, length=len(content)) as server:
        stream = live(f"{server.address}/a.ts", behind="wait")
        assert len(windows_of(stream)) == 4 * parts
        assert len(server.parts) == 1
    with StreamServer([content[: len(content) // 2]] * 2, length=len(content)) as server:
        stream = live(f"{server.address}/a.ts", behind="wait")
        with pytest.raises(UserError, match=r"a\.ts breaks after \d+ frames: the connection broke"):
            windows_of(stream)


def test_frames_that_the_decoder_holds_back_are_not_lost_with_the_connection(
    tmp_path: Path,
) -> None:
    content = write_streams(tmp_path / "a.mkv", [(48, 64)], frames=40, b_frames=2).read_bytes()
    with StreamServer([content]) as server:  # without a length, its end is a fault to FFmpeg
        stream = live(f"{server.address}/a.mkv", behind="wait")
        assert len(windows_of(stream)) == 4 and stream.counts.frames == 40


def test_lists_of_other_files_are_read_from_their_server_alone(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "a.ts", [(48, 64)], frames=40)
    head, tail = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\n", "\n#EXT-X-ENDLIST\n"
    with StreamServer([f"{head}a.ts{tail}".encode(), path.read_bytes()]) as server:
        assert len(windows_of(live(f"{server.address}/a.m3u8", behind="wait"))) == 4
    local = f"{head}file://{path}{tail}".encode()
    with StreamServer([local]) as server, pytest.raises(UserError, match="no video comes from"):
        windows_of(live(f"{server.address}/a.m3u8"))
    with standard_input(local), pytest.raises(UserError, match="no video that can be read"):
        windows_of(live("-"))


def test_a_certificate_has_to_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl: apt-get install openssl")
    files = [str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")]
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", files[0]]
        + ["-out", files[1], "-subj", "/CN=camera", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    content = write_streams(tmp_path / "a.ts", [(48, 64)], frames=40).read_bytes()
    with StreamServer([content], length=len(content)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        address = f"https{server.address.removeprefix('http')}/a.ts"
        with pytest.raises(UserError, match="its certificate") as caught:
            windows_of(live(address))
        assert "secret" not in str(caught.value) and server.parts
        monkeypatch.setenv("SSL_CERT_FILE", files[1])
        assert len(windows_of(live(address, behind="wait"))) == 4


def test_a_window_that_memory_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "a.ts", [(48, 64)], frames=40)
    length = Length(1e9, "s")
    with standard_input(path.read_bytes()), pytest.raises(UserError, match="shorten --window"):
        windows_of(live("-", (length, length)))


def test_a_stream_that_changes_its_size_keeps_that_of_its_first_frame(tmp_path: Path) -> None:
    path = write_changing_size(tmp_path / "a.ts", [(48, 64), (96, 64), (24, 32)])
    with standard_input(path.read_bytes()):
        found = windows_of(live("-"))
    assert [window.views.shape for window in found] == [(1, 4, 32, 43, 3)] * 3
    numbers = [greys(torch.from_numpy(window.views[0])) for window in found]
    assert numbers == [[3, 4, 5, 6], [13, 14, 15, 16], [23, 24, 0, 1]]


def _sound() -> bytes:
    content = io.BytesIO()
    with av.open(content, "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux([*stream.encode(frame), *stream.encode()])
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "standard input: it is empty, or no video that can be read from a pipe"),
        (b"\x07\x00abc" * 20_000, "standard input: it is empty, or no video that can be read"),
        (_sound(), "standard input holds no video stream"),
    ],
    ids=["nothing", "garbage", "sound"],
)
def test_standard_input_that_is_no_video(content: bytes, said: str) -> None:
    with standard_input(content), pytest.raises(UserError) as caught:
        windows_of(live("-"))
    assert str(caught.value).startswith(said)


def test_standard_input_that_is_cut_off_gives_what_came_before(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "a.mkv", [(48, 64)], frames=60)
    content = path.read_bytes()
    with standard_input(content[: len(content) * 2 // 3]):
        found = windows_of(live("-"))
    assert [window.start for window in found[:2]] == [0, 0.4] and len(found) < 6


def test_an_mp4_whose_index_lies_behind_what_the_server_sends(tmp_path: Path) -> None:
    """The server cannot begin in the middle, as Python's own cannot."""
    content = write_streams(tmp_path / "a.mp4", [(48, 64)], frames=40).read_bytes()
    index = content.rindex(b"moov") - 4
    gap = (1 << 20).to_bytes(4, "big") + b"free" + bytes((1 << 20) - 8)  # more than FFmpeg holds
    content = content[:index] + gap + content[index:]
    said = "after 0 frames: the connection broke.*-movflags faststart"
    with (
        StreamServer([content] * 3, length=len(content)) as server,
        pytest.raises(UserError, match=said),
    ):
        windows_of(live(server.address))


def test_streams_that_are_not_there() -> None:
    with StreamServer() as server:
        for address, said in (
            (f"{server.address}/404", "Server returned 404 Not Found: check the address"),
            (f"{server.address}/401?token=secret", "401 Unauthorized (authorization failed): "),
            (f"{server.address}/page", "no video comes from there"),
            ("TCP://127.0.0.1:1", "Connection refused: check the address"),
            ("rtsp://user:secret@camera.invalid/1", "no such host: check the address"),
            ("/dev/video987", "No such file or directory: name a camera of this machine"),
        ):
            with pytest.raises(UserError) as caught:
                windows_of(live(address))
            line = str(caught.value)
            assert said in line and "secret" not in line and "\n" not in line, line
    for address in ("rtmp://user:secret@host/live", "ftp://user:sec/ret@host/live"):
        with pytest.raises(UserError, match=r"//\*\*\*@host/live is no kind of stream") as caught:
            find_source(address)
        assert "secret" not in str(caught.value) and "sec/" not in str(caught.value)
    for address in (
        "http://host/a?user=x@secret",
        "http://host/a#secret",
        "http://x?y:secret@host",
    ):
        source = find_source(address)
        assert source is not None and "secret" not in source.shown


def test_frames_that_are_too_large_are_refused(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "a.ts", [(48, 64)], frames=5)
    config = DataConfig(clip_frames=4, short_side=32, crop=32, max_pixels=1000)
    source = find_source("-")
    assert source is not None
    with standard_input(path.read_bytes()), pytest.raises(UserError, match="--max_pixels"):
        windows_of(LiveStream(source, config, *TEN, 1, Patience()))


@pytest.mark.slow
def test_frames_that_come_too_late_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that takes three times as long for a frame as the frame lasts."""
    path = write_video(tmp_path / "a.mkv", frames=125, gop=5)

    def slow(frames: torch.Tensor, size: int | tuple[int, int]) -> torch.Tensor:
        time.sleep(0.12)
        return shrink(frames, size)

    monkeypatch.setattr("video_snl.data.video.live.shrink", slow)
    with standard_input(path.read_bytes(), seconds=5):
        stream = live("-", behind="drop", timeout=0.5)
        began = time.monotonic()
        events = list(stream.events())
    assert time.monotonic() - began < 10  # rather than 15
    missing = [event for event in events if isinstance(event, Missing)]
    assert missing and all("late, and were left out" in each.reason for each in missing)
    assert stream.counts.skipped > 25 and stream.counts.frames + stream.counts.skipped == 125
    assert 1 < stream.counts.missing < stream.counts.skipped / 25 + 0.5


@pytest.mark.slow
def test_a_stream_whose_clock_is_slow_is_not_late(tmp_path: Path) -> None:
    """As of a camera of 8 frames a second whose images have no time stamps, but 25 are assumed."""
    path = write_video(tmp_path / "a.mkv", frames=75, gop=5)
    with standard_input(path.read_bytes(), seconds=9):
        stream = live("-", behind="drop", timeout=1)
        events = list(stream.events())
    assert stream.counts.skipped == 0 and stream.counts.frames == 75
    assert not any(isinstance(event, Missing) for event in events)


@pytest.mark.slow
def test_a_stream_that_stops_is_said_and_connected_again(tmp_path: Path) -> None:
    content = write_streams(tmp_path / "a.ts", [(48, 64)], frames=40).read_bytes()
    with StreamServer([content, content], stalls=True) as server:
        stream = live(f"{server.address}/live.ts", timeout=1, reconnect=3)
        events = []
        with pytest.raises(UserError, match=r"503|5XX.*within 3 s \(--reconnect\)"):
            events += stream.events()
    said = [event for event in events if isinstance(event, str)]
    assert any("nothing came for 1 s: trying again in 1 s" in line for line in said), said
    [missing] = [event for event in events if isinstance(event, Missing)]
    assert missing.reason == "nothing came for 1 s"
    assert missing.end - missing.start > 0.9
    after = events[events.index(missing) + 1 :]
    first = next(event for event in after if isinstance(event, LiveWindow))
    assert first.start == pytest.approx(missing.end + 0.4 * first.dropped)
    assert stream.counts.frames == 80
    assert not any("secret" in line for line in said)


@pytest.mark.slow
def test_closing_ends_a_stream_that_has_stopped(tmp_path: Path) -> None:
    content = write_streams(tmp_path / "a.ts", [(48, 64)], frames=40).read_bytes()
    with StreamServer([content, content], stalls=True) as server:
        stream = live(f"{server.address}/live.ts", behind="wait", timeout=60)
        with closing(stream.events()) as events:
            assert isinstance(next(events), str) and isinstance(next(events), LiveWindow)
            began = time.monotonic()
        assert time.monotonic() - began < 30  # far from the timeout
