"""Files that other programs read: fields, gaps, trims, heads that are missing, names, limits."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.data.test_readers import usable
from tests.videos import grey, greys, write_changing_size, write_streams, write_video
from video_snl.commands.check import inspect
from video_snl.commands.prepare import Settings, reencode
from video_snl.config.video import DataConfig, ReaderName
from video_snl.data.decoding.h264 import find_field, parse_sequence, split_units
from video_snl.data.decoding.pyav import PyAVReader, is_fallback
from video_snl.data.decoding.readers import open_by, open_video, read_clips, refusal
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.data.video.dataset import ClipDataset, EvaluationDataset
from video_snl.data.video.records import Video
from video_snl.data.video.streaming import frame_times, window_clips
from video_snl.data.video.windows import Length, frame_windows
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(60)

READERS: tuple[ReaderName, ...] = ("pyav", "decord", "torchcodec")
# Of shared/cases: frames, the number that the first one carries, seconds, packets left out.
CASES = {
    "g13.ts": (60, 0, 2.4, 0),
    "el_starttrim.mp4": (35, 25, 1.4, 0),
    "avchd.m2ts": (40, 0, 1.6, 0),
    "vp8_altref.webm": (60, 0, 2.4, 0),
    "piped.avi": (60, 0, 2.4, 0),
    "midgop.ts": (34, 26, 1.36, 12),
    "x264_yuv420p10le.mp4": (60, 0, 2.4, 0),
    "bigcover.mkv": (60, 0, 2.4, 0),
}


def case(real_data: Path, name: str) -> str:
    path = real_data.parent / "cases" / name
    if not path.exists():
        pytest.skip(f"no {path}")
    return str(path)


def numbers(frames: Tensor) -> list[int]:
    """The numbers that frames carry as ten blocks along the top, the first one the highest bit."""
    width = frames.shape[2] / 10
    bits = [
        frames[:, 2:6, int((place + 0.3) * width) : int((place + 0.7) * width)]
        .float()
        .mean((1, 2, 3))
        > 128
        for place in range(10)
    ]
    weights = torch.tensor([1 << (9 - place) for place in range(10)])
    return (torch.stack(bits, 1) * weights).sum(1).tolist()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", CASES)
def test_cases(real_data: Path, name: str, reader: ReaderName) -> None:
    """The frames that are presented, by every reader, whatever is asked for first."""
    path = case(real_data, f"video/{name}")
    length, first, seconds, undecodable = CASES[name]
    opened = open_video(path, usable(reader))
    assert len(opened) == length
    whole = opened.frames(range(length))
    assert numbers(whole) == list(range(first, first + length))
    for wanted in ([length // 2], [length - 1], [3, 4, length - 2], [0]):
        assert torch.equal(open_video(path, reader).frames(wanted), whole[wanted])
    found = inspect(path, 1)
    assert (found.verdict, found.frames, found.undecodable) == ("sound", length, undecodable)
    assert frame_times(path).end == pytest.approx(seconds)
    difference = whole.int() - PyAVReader(path).frames(range(length)).int()
    assert difference.abs().max() <= 2


@pytest.mark.parametrize("name", CASES)
def test_cases_prepared_and_looked_at(real_data: Path, tmp_path: Path, name: str) -> None:
    path, (length, first, seconds, _) = case(real_data, f"video/{name}"), CASES[name]
    target = tmp_path / "prepared.avi"
    assert reencode(path, target, Settings(96, 8)) == length
    assert numbers(PyAVReader(str(target)).frames([0, length - 1])) == [first, first + length - 1]
    config = DataConfig(clip_frames=2, short_side=96)
    for dataset in (
        ClipDataset([Video(path, 0)], config, seed=0),
        EvaluationDataset([Video(path, 0)], config, clips=2),
    ):
        assert {"video", "views"} & dataset[0, 0].keys()
    times, second = frame_times(path), Length(1.0, "s")
    windows = frame_windows(times, second, second)
    clips = list(window_clips(PyAVReader(path), windows, lambda length: [[0, length - 1]], 96))
    assert times.of(clips[-1][0])[1] == pytest.approx(seconds)


def test_a_head_that_cannot_be_decoded_is_said_once(
    real_data: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("video_snl.data.decoding.pyav._heads", set())
    path = case(real_data, "video/midgop.ts")
    with caplog.at_level(logging.WARNING, logger="video_snl.readers"):
        for _ in range(2):
            PyAVReader(path).close()
    assert caplog.text.count("first 12 frames") == 1


def test_files_that_another_reader_reads_are_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(write_streams(tmp_path / "a.ts", [(64, 96)], b_frames=2, gop=13))
    with caplog.at_level(logging.WARNING, logger="video_snl.readers"):
        for _ in range(3):
            assert greys(open_video(path, "decord").frames([0, 20])) == [0, 20]
    assert is_fallback("decord", path) and not is_fallback("decord", path[1:])
    assert caplog.text.count(path) <= 1


def test_torchcodec_shows_its_frames_by_their_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other frames than those asked for are recognised by their times, and PyAV goes on."""
    usable("torchcodec")
    from video_snl.data.decoding.torchcodec import TorchCodecReader

    path = str(write_streams(tmp_path / "a.mp4", [(64, 96)], b_frames=2, gop=13))
    reader = TorchCodecReader(path)
    true = TorchCodecReader._batch
    monkeypatch.setattr(
        TorchCodecReader, "_batch", lambda self, asked: true(self, [index + 1 for index in asked])
    )
    assert greys(reader.frames([0, 20])) == [0, 20]
    assert isinstance(open_video(path, "torchcodec"), PyAVReader)


# --- what packets do not tell -------------------------------------------------------------------


def write_at(path: Path, stamps: list[int], codec: str = "libx264") -> str:
    """Frames of :func:`grey` at these times, in 1/25 s; H.264 has B-frames."""
    with av.open(str(path), "w") as container:
        b_frames = {"bf": "2"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=25, options={"g": "10"} | b_frames)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for index, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(grey(index, (64, 96)), "rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


@pytest.mark.parametrize("name", ["gap.mp4", "gap.mkv", "gap.avi"])
def test_a_long_gap_between_frames(tmp_path: Path, name: str) -> None:
    """Hours in MP4, a few seconds in AVI, which fills them with empty chunks."""
    gap = 100 if name.endswith("avi") else 25 * 4000
    stamps = [*range(12), *range(12 + gap, 24 + gap)]
    path = write_at(tmp_path / name, stamps, "mpeg4" if name.endswith("avi") else "libx264")
    reader = PyAVReader(path)
    assert greys(reader.frames(range(24))) == list(range(24))
    assert greys(PyAVReader(path).frames([11, 12, 23])) == [11, 12, 23]
    assert inspect(path, 1).verdict == "sound"
    assert frame_times(path).starts[12] == pytest.approx((12 + gap) / 25, abs=0.01)


def test_gif_is_a_video(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "rgb8"
        for index in range(6):
            image = np.full((64, 96, 3), 40 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    for reader in ("pyav", "decord"):
        opened = open_video(str(path), reader)  # type: ignore[arg-type]
        assert len(opened) == 6
        means = opened.frames([0, 3, 5]).float().mean((1, 2, 3))
        assert torch.allclose(means, torch.tensor([0.0, 120, 200]), atol=25)
    assert inspect(str(path), 1).verdict == "sound"


def test_a_trim_at_the_end(tmp_path: Path) -> None:
    """The table lists what the edit list leaves out: not a file that was cut off."""
    path = write_streams(tmp_path / "a.mp4", [(64, 96)], gop=5, start=-12)
    assert len(PyAVReader(str(path))) == 28
    assert inspect(str(path), 1).verdict == "sound"
    content = bytearray(path.read_bytes())
    place = content.index(b"elst")
    entry = place + 12
    length = int.from_bytes(content[entry : entry + 4], "big")
    content[entry : entry + 4] = (length // 2).to_bytes(4, "big")
    path.write_bytes(content)
    with av.open(str(path)) as container:
        shown = len(list(container.decode(video=0)))
    assert shown < 28
    found = inspect(str(path), 1)
    assert (found.verdict, found.frames) == ("sound", shown)
    assert greys(PyAVReader(str(path)).frames([0, shown - 1])) == [12, (11 + shown) % 25]


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", ".ts"), ("mpeg2video", ".ts"), ("libx264", ".mkv")]
)
def test_a_file_that_starts_in_the_middle(tmp_path: Path, codec: str, suffix: str) -> None:
    """The frames that FFmpeg decodes count, also where no key frame is a clean entry."""
    whole = tmp_path / f"whole{suffix}"
    write_streams(whole, [(64, 96)], codec=codec, b_frames=2, gop=12, frames=60)
    path = tmp_path / f"middle{suffix}"
    with av.open(str(whole)) as source, av.open(str(path), "w", format=whole_format(path)) as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if number >= 5 and packet.size:
                packet.stream = stream
                sink.mux(packet)
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    reader = PyAVReader(str(path))
    assert len(reader) == len(decoded) <= 56
    assert reader.info.undecodable > 0
    assert torch.equal(reader.frames(range(len(decoded))), torch.from_numpy(np.stack(decoded)))
    assert inspect(str(path), 1).verdict == "sound"
    assert open_video(str(path), "decord").frames([0]).shape == (1, 64, 96, 3)


def test_a_file_without_a_key_frame(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.ts", tmp_path / "none.ts"
    write_streams(whole, [(64, 96)], codec="libx264", b_frames=0, gop=100, frames=30)
    with av.open(str(whole)) as source, av.open(str(path), "w", format="mpegts") as sink:
        stream = sink.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        for packet in source.demux(source.streams.video[0]):
            if packet.size and not packet.is_keyframe:
                packet.stream = stream
                sink.mux(packet)
    with pytest.raises(UserError, match="no key frame"):
        PyAVReader(str(path))


def whole_format(path: Path) -> str:
    return {".ts": "mpegts", ".mkv": "matroska"}[path.suffix]


def test_fields_are_told_from_frames(real_data: Path) -> None:
    path = case(real_data, "video/avchd.m2ts")
    with av.open(path) as container:
        stream = container.streams.video[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    units = split_units(packets[0], b"")
    [sequence] = [parse_sequence(unit) for unit in units if unit and unit[0] & 31 == 7]
    assert not sequence.frames_only
    halves = [find_field(split_units(packet, b""), sequence) for packet in packets[:4]]
    assert [half and half.bottom for half in halves] == [False, True, False, True]
    assert parse_sequence(b"\x67\x64") is None  # damaged


def test_a_still_image_beside_the_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        still = container.add_stream("mjpeg", rate=1)
        still.height, still.width, still.pix_fmt = 256, 384, "yuvj420p"
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 64, 96, "yuv420p"
        image = av.VideoFrame.from_ndarray(grey(3, (256, 384)), "rgb24")
        container.mux([*still.encode(image), *still.encode()])
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(grey(index, (64, 96)), "rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
    reader = PyAVReader(str(path))
    assert greys(reader.frames([4, 9])) == [4, 9]
    assert PyAVReader(str(path)).frames([4]).shape == (1, 64, 96, 3)  # as remembered


def test_a_codec_that_cannot_be_decoded_is_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 3)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"FMP4", b"ZZZZ").replace(b"fmp4", b"ZZZZ"))
    assert path.read_bytes() != content
    with pytest.raises(UserError, match=r"a\.avi") as caught:
        open_video(str(path))
    assert "\n" not in str(caught.value)


def test_metadata_that_is_not_utf8(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "a.mkv", [(64, 96)], frames=5)
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mkv"), "w") as sink:
        sink.metadata["title"] = "cafe"
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                sink.mux(packet)
    path = tmp_path / "b.mkv"
    path.write_bytes(path.read_bytes().replace(b"cafe", b"caf\xe9"))
    assert b"caf\xe9" in path.read_bytes()
    assert greys(PyAVReader(str(path)).frames([3])) == [3]


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "name", ["12:30:0.mp4", "pipe:0", "concat:a|b", "http:x.mp4", "%03d.mp4", b"caf\xe9.mp4"]
)
def test_names_that_look_like_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | bytes, reader: ReaderName
) -> None:
    name = os.fsdecode(name)
    source = write_streams(tmp_path / "a.mp4", [(64, 96)], frames=12)
    source.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert greys(open_video(name, usable(reader)).frames([3, 11])) == [3, 11]


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "pipe.mp4"
    os.mkfifo(path)
    for reader in ("pyav", "decord"):
        with pytest.raises(UserError, match="named pipe"):
            open_video(str(path), reader)  # type: ignore[arg-type]


def test_a_list_of_other_files_is_not_followed(tmp_path: Path) -> None:
    write_streams(tmp_path / "a.ts", [(64, 96)], frames=12)
    path = tmp_path / "list.mp4"
    path.write_text("ffconcat version 1.0\nfile a.ts\n")
    with pytest.raises(UserError, match=r"list\.mp4"):
        open_video(str(path))


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", ["pyav", "decord", "auto"])
def test_frames_of_too_many_pixels(tmp_path: Path, reader: ReaderName) -> None:
    path = str(write_video(tmp_path / "a.avi", 3, (48, 64)))
    assert open_video(path, reader, max_pixels=48 * 64).frames([0]).shape == (1, 48, 64, 3)
    with pytest.raises(UserError, match="--max_pixels"):
        open_video(path, reader, max_pixels=48 * 64 - 1)
    with pytest.raises(UserError, match="--max_pixels"):
        read_clips(path, lambda n: [[0]], 32, reader, max_pixels=1000)
    assert inspect(path, 1, 1000).verdict == "unreadable"


@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_frames_that_grow_behind_the_first(tmp_path: Path, reader: ReaderName) -> None:
    path = str(write_changing_size(tmp_path / "a.mkv", [(64, 96), (128, 192)]))
    opened = open_video(path, reader, max_pixels=64 * 96)
    assert opened.frames([3]).shape == (1, 64, 96, 3)
    with pytest.raises(UserError, match="--max_pixels"):
        opened.frames([15])


@pytest.mark.parametrize("reader", READERS)
def test_a_few_bytes_do_not_take_gigabytes(real_data: Path, reader: ReaderName) -> None:
    path = case(real_data, "hostile/gif_11000.mp4")
    program = (
        "import resource, sys\n"
        "from video_snl.data.decoding.readers import open_video\n"
        "from video_snl.errors import UserError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        f"    open_video({path!r}, {usable(reader)!r}).frames([0])\n"
        "except UserError as error:\n"
        "    assert '--max_pixels' in str(error), error\n"
        "    took = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "    sys.exit(took > 200_000)\n"
        "sys.exit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_header_that_promises_millions_of_frames_is_not_given_to_decord(
    tmp_path: Path,
) -> None:
    """decord takes memory for each of them and ends the process."""
    from tests.videos import promise_frames

    path = str(promise_frames(write_video(tmp_path / "a.avi", 24), 1 << 30))
    assert refusal("decord", find_stream_info(path))
    assert len(open_video(path, "decord")) == 24


def test_what_decord_would_get_wrong_in_mpeg_ts(real_data: Path) -> None:
    """The reason holds."""
    path = case(real_data, "video/g13.ts")
    assert refusal("decord", find_stream_info(path))
    try:
        found = numbers(open_by("decord", path, "cpu").frames([0, 1, 2]))
    except UserError:
        return
    assert found != [0, 1, 2], "decord reads it now: do not refuse it"


def test_options_without_max_pixels_are_read() -> None:
    from dataclasses import asdict

    from video_snl.config.validation import check_fields

    values = asdict(DataConfig())
    del values["max_pixels"]
    check_fields(DataConfig, values, "data")
    assert DataConfig(**values).max_pixels == 1 << 26
