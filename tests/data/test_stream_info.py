"""Stream info of files, and of files that give none or wrong ones."""

from __future__ import annotations

import os
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.videos import promise_frames, write_streams, write_video
from video_snl.data.decoding import stream_info as module
from video_snl.data.decoding.opening import CutOffError, declared_size
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import open_video
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.data.video.streaming import frame_times
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(60)


def test_info_of_a_plain_avi_come_from_its_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_streams(tmp_path / "a.avi", [(64, 96)], codec="mpeg4", gop=12))
    monkeypatch.setattr(module, "index_packets", None)
    info = find_stream_info(path)
    assert (info.codec, info.container, info.height, info.width) == ("mpeg4", "avi", 64, 96)
    assert (info.length, info.declared, info.rate) == (40, 40, Fraction(25))
    assert info.stamps == range(40) and info.entries == (0, 12, 24, 36)


def test_info_is_found_once_and_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_streams(tmp_path / "a.mp4", [(64, 96)], frames=10)
    calls = []
    index = module.index_packets
    monkeypatch.setattr(module, "index_packets", lambda *a: calls.append(a) or index(*a))
    assert find_stream_info(str(path)).length == find_stream_info(str(path)).length == 10
    open_video(str(path), "pyav")
    assert len(calls) == 1
    write_streams(path, [(64, 96)], frames=11)
    assert find_stream_info(str(path)).length == 11
    os.utime(path, ns=(1, 1))
    assert find_stream_info(str(path)).length == 11
    assert len(calls) == 3


def _write_every_second(path: Path, codec: str, jump: int = 0) -> str:
    """Write 60 frames at every second tick of 30 a second; a jump in ticks after the half."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 4 * number, np.uint8))
            frame.pts, frame.time_base = 2 * number + jump * (number >= 30), Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.avi", "mpeg4"),
        ("a.avi", "libx264"),
        ("a.mkv", "libx264"),
        ("a.flv", "libx264"),
        ("a.ts", "libx264"),
        ("a.nut", "mpeg4"),
        ("a.mp4", "libx264"),
    ],
)
def test_the_rate_is_that_of_the_frames_where_the_header_says_another(
    name: str, codec: str, tmp_path: Path
) -> None:
    path = _write_every_second(tmp_path / name, codec)
    assert find_stream_info(path).rate == pytest.approx(15, rel=0.01)
    assert frame_times(path).end == pytest.approx(4, rel=0.02)


def test_a_jump_of_the_clock_changes_no_rate(tmp_path: Path) -> None:
    path = _write_every_second(tmp_path / "a.mkv", "mpeg4", jump=30 * 3600)
    assert find_stream_info(path).rate == pytest.approx(15, rel=0.01)


def test_reordered_frames_need_stored_time_stamps(tmp_path: Path) -> None:
    told = find_stream_info(str(write_streams(tmp_path / "a.mp4", [(64, 96)], b_frames=2)))
    assert told.reordered and told.stamps is not None and len(told.entries) == 4
    untold = find_stream_info(str(write_streams(tmp_path / "a.avi", [(64, 96)], b_frames=2)))
    assert untold.reordered and untold.stamps is None and untold.entries == (0,)


@pytest.mark.parametrize("promised", [20, 100])
@pytest.mark.parametrize("reader", ["pyav", "decord", "auto"])
def test_header_that_promises_another_number_of_frames(
    tmp_path: Path, promised: int, reader: str
) -> None:
    """The frames that are there count; what the header says is known for ``check``."""
    path = str(promise_frames(write_video(tmp_path / "lying.avi", 24), promised))
    info = find_stream_info(path)
    assert (info.length, info.declared) == (24, promised)
    opened = open_video(path, reader)  # type: ignore[arg-type]
    assert len(opened) == 24
    means = opened.frames([0, 5, 23]).float().mean((1, 2, 3))
    torch.testing.assert_close(means, torch.tensor([0.0, 50, 230]), atol=3, rtol=0)


def write_noise(path: Path, codec: str, options: dict[str, str] | None = None) -> Path:
    """60 frames, key frame every 12."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 12
        for _ in range(60):
            image = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("reader", ["pyav", "decord", "auto"])
@pytest.mark.parametrize(
    ("name", "options", "cut", "said", "kind"),
    [
        ("a.avi", None, 0.6, "is cut off", CutOffError),
        ("a.avi", None, 0.02, "is cut off", CutOffError),
        ("a.mkv", None, 0.6, "is cut off", CutOffError),
        ("a.mp4", None, 0.6, "is not a readable video", UserError),  # its table of frames is gone
        ("a.mp4", {"movflags": "faststart"}, 0.6, "is cut off.* of the 60 frames", CutOffError),
    ],
)
def test_truncated(
    tmp_path: Path,
    name: str,
    options: dict[str, str] | None,
    cut: float,
    said: str,
    kind: type[UserError],
    reader: str,
) -> None:
    path = write_noise(tmp_path / name, "mpeg4", options)
    assert len(open_video(str(path), reader)) == 60  # type: ignore[arg-type]
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(kind, match=said) as caught:
        open_video(str(path), reader)  # type: ignore[arg-type]
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_declared_size() -> None:
    assert declared_size(b"RIFF\x10\x00\x00\x00AVI LIST") == 24
    assert declared_size(b"RIFF\x10\x00\x00\x00WAVEfmt ") is None
    assert declared_size(b"") is None
    ebml = b"\x1a\x45\xdf\xa3\x82ab\x18\x53\x80\x67"
    assert declared_size(ebml + b"\x85") == 12 + 5
    assert declared_size(ebml + b"\x40\x05") == 13 + 5
    assert declared_size(ebml + b"\xff") is None  # unknown, as of a live recording
    assert declared_size(ebml) is None
    assert declared_size(ebml[:4]) is None


@pytest.mark.parametrize("reader", ["pyav", "decord", "auto"])
@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", r"is empty \(0 bytes\)"), (b"no video\n" * 100, "is not a readable video")],
)
def test_no_video(
    tmp_path: Path, content: bytes, said: str, reader: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.avi"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.avi {said}"):
        open_video(str(path), reader)  # type: ignore[arg-type]
    assert capfd.readouterr() == ("", "")  # no remarks of a decoder around the one line


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(UserError, match=r"sound\.mkv holds no video stream"):
        find_stream_info(str(path))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.avi does not exist"):
        open_video(str(tmp_path / "nothing.avi"))
    with pytest.raises(UserError, match="is a folder"):
        open_video(str(tmp_path), "pyav")


@pytest.mark.parametrize(
    ("name", "parameters", "entries"),
    [
        ("open.mp4", "keyint=10:min-keyint=10:open-gop=1:bframes=4:b-adapt=0", 4),
        ("open.mkv", "keyint=10:min-keyint=10:open-gop=1:bframes=4:b-adapt=0", 4),
        ("closed.mp4", "keyint=10:min-keyint=10:open-gop=0:bframes=3", 4),
        ("leading.mp4", "keyint=10:min-keyint=10:open-gop=0:radl=2:bframes=3", 4),
        ("layers.mp4", "keyint=20:min-keyint=20:open-gop=1:temporal-layers=3:b-pyramid=1", 2),
        ("refreshed.mp4", "keyint=10:intra-refresh=1", 1),
        ("open.ts", "keyint=10:min-keyint=10:open-gop=1:bframes=4:b-adapt=0", 1),
    ],
)
def test_hevc_is_decoded_from_any_access_point(
    tmp_path: Path, name: str, parameters: str, entries: int
) -> None:
    """The same frames from wherever decoding starts, also after frames that lack a reference."""
    path = str(tmp_path / name)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    options = {"preset": "veryfast", "x265-params": f"log-level=error:pools=none:{parameters}"}
    with av.open(path, "w") as container:
        stream = container.add_stream("libx265", rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(40):
            shifted = np.roll(image, (index, 2 * index), (0, 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shifted, "rgb24")))
        container.mux(stream.encode())
    with av.open(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 40
    assert len(find_stream_info(path).entries) == entries
    for start in range(40):
        wanted = list(range(start, min(start + 3, 40)))
        with closing(PyAVReader(path)) as reader:
            found = reader.frames(wanted)
        assert torch.equal(found, torch.from_numpy(np.stack([frames[i] for i in wanted])))
