"""Readers where their decoder would be wrong, and when they are done with a file."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from tests.videos import greys, write_streams, write_video
from video_snl.cli import main
from video_snl.config.video import Experiment, ReaderName
from video_snl.data.decoding import pyav, readers, stream_info
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import (
    check_reader,
    decode_in_chunks,
    open_video,
    read_clips,
)
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.errors import OptionsError, UserError

pytestmark = pytest.mark.timeout(60)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_files_do_not_stay_open(tmp_path: Path, reader: ReaderName) -> None:
    """Files are closed without the garbage collector, also of a video too short for a clip."""
    path = str(write_streams(tmp_path / "a.mp4", [(64, 96)], frames=12))
    read_clips(path, lambda n: [[3, 4]], 32, reader)
    gc.collect()
    gc.disable()
    try:
        before = open_files()
        for _ in range(30):
            read_clips(path, lambda n: [[3, 4]], 32, reader)
            with pytest.raises(ZeroDivisionError):
                read_clips(path, lambda n: [[n // 0]], 32, reader)
        assert open_files() == before
    finally:
        gc.enable()


def as_before(packet: bytes) -> bytes:
    """The header of an MPEG-4 packet (25 frames a second), changed to "not coded"."""
    start = packet.index(b"\0\0\1\xb6")
    bits = "01" + "".join(f"{byte:08b}" for byte in packet[start + 4 : start + 16])[2:]
    coded = bits.index("0", 2) + 1 + 1 + 5 + 1  # type, seconds, marker, time, marker
    bits = bits[:coded] + "00"
    bits = bits.ljust(-(-len(bits) // 8) * 8, "1")
    return packet[start : start + 4] + bytes(
        int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)
    )


def write_with_empty_packets(path: Path, empty: set[int], size: tuple[int, int] = (64, 96)) -> str:
    """60 frames of MPEG-4, of which these say that they are as the one before."""
    height, width = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 10, 0
        number = 0
        for index in range(60):
            image = torch.full((height, width, 3), index * 4, dtype=torch.uint8).numpy()
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")):
                if number in empty:
                    small = av.Packet(as_before(bytes(packet)))
                    small.pts, small.dts, small.time_base = packet.pts, packet.dts, packet.time_base
                    small.stream, packet = stream, small
                number += 1
                container.mux(packet)
        container.mux(stream.encode())
    return str(path)


def test_scattered_packets_without_a_picture(tmp_path: Path) -> None:
    """One call may meet two such packets, three calls three, but never three in a row."""
    path = write_with_empty_packets(tmp_path / "a.avi", {5, 25, 45})
    reader = PyAVReader(path)
    assert len(reader) == 60
    for first in (0, 20, 40):
        frames = reader.frames(range(first, first + 20))
        assert torch.equal(frames[5], frames[4]) and not torch.equal(frames[6], frames[5])
    with pytest.raises(UserError, match="breaks while"):
        PyAVReader(path).frames(range(60))
    reader = PyAVReader(write_with_empty_packets(tmp_path / "b.avi", {5, 6, 7}))
    reader.frames(range(5, 7))
    with pytest.raises(UserError, match="breaks while"):
        reader.frames([7])


@pytest.mark.parametrize("size", [(64, 96), (960, 1280)])
def test_packets_without_a_picture_are_counted_over_a_clip(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """Also where a clip of large frames is decoded in pieces, of two frames each here."""
    path = write_with_empty_packets(tmp_path / "a.avi", {5, 15, 25}, size)
    with closing(PyAVReader(path)) as reader:
        pieces = {len(piece) for piece in decode_in_chunks(reader, range(24))}
    assert pieces == ({24} if size == (64, 96) else {2})
    for first, length in ((0, 24), (6, 24), (16, 32)):
        read_clips(path, lambda n, f=first, m=length: [list(range(f, f + m))], 32, "pyav")
    with pytest.raises(UserError, match=r"a\.avi breaks while frames 2-27 of 60"):
        read_clips(path, lambda n: [list(range(2, 28))], 32, "pyav")


def test_large_frames_of_a_folder_are_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first piece, of frames of unknown size, is a single one."""
    for number in range(4):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(readers, "CHUNK_BYTES", 2 * 64 * 48 * 3)
    with closing(open_video(str(tmp_path))) as reader:
        assert [len(piece) for piece in decode_in_chunks(reader, range(4))] == [1, 2, 1]


def test_files_are_forgotten_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_info, "CACHED", 2)
    monkeypatch.setattr(stream_info, "_cache", {})
    paths = [str(write_video(tmp_path / f"{name}.avi", 3)) for name in "abc"]
    for path in paths:
        find_stream_info(path)
    assert [path for path, _, _ in stream_info._cache] == paths[1:]


@pytest.mark.parametrize("size", [(64, 48), (64, 72), (64, 24), (64, 16), (65, 97)])
def test_sizes_that_decord_does_not_take(
    tmp_path: Path, size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """decord refuses 16, 24, 48 and 72 of the even widths to 200, and gets odd ones wrong."""
    codec = {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}}
    path = write_streams(tmp_path / "narrow.mkv", [size], frames=4, **codec)
    with caplog.at_level(logging.WARNING, logger="video_snl.readers"):
        pyav._logged.clear()
        frames = open_video(str(path), "decord").frames([0, 3])
    assert frames.shape == (2, *size, 3)
    assert f"decord takes no frames of {size[1]} x {size[0]}" in caplog.text
    assert read_clips(str(path), lambda n: [[0, 1]], 32).shape[:2] == (1, 2)


@contextmanager
def usual_priority() -> Iterator[None]:
    """SVT-AV1 makes the thread that calls it a real-time one where it may (as root), for good."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def test_codec_that_decord_does_not_know(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with usual_priority():
        path = str(write_streams(tmp_path / "av1.mkv", [(64, 96)], frames=4, codec="libsvtav1"))
    with caplog.at_level(logging.WARNING, logger="video_snl.readers"):
        assert greys(open_video(path, "decord").frames([2, 3])) == [2, 3]
    assert "reader decord: pyav reads" in caplog.text and "av1.mkv" in caplog.text


def test_decode_device_without_a_gpu(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.avi", 3))
    for reader in ("pyav", "frames"):
        with pytest.raises(OptionsError, match=f"data.reader={reader} decodes on the CPU"):
            check_reader(reader, "cuda")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for reader in ("auto", "decord", "torchcodec"):
        with pytest.raises(OptionsError, match=r"decode_device=cuda.* no CUDA GPU"):
            open_video(path, reader, "cuda")


def test_torchcodec_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    path = str(write_video(tmp_path / "a.avi", 3))
    with pytest.raises(OptionsError, match=r"torchcodec cannot be used.*pip install"):
        open_video(path, "torchcodec")


def test_decord_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    path = str(write_video(tmp_path / "a.mp4", 20))
    with pytest.raises(OptionsError, match=r"decord is not installed.*choose --data.reader auto"):
        open_video(path, "decord")


def test_a_configuration_with_a_reader_of_earlier_versions_reads_with_auto(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("data:\n  reader: pynvvideocodec\n", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--config", str(file), "--print_config"])
    said = capsys.readouterr()
    assert not stopped.value.code and "reader: auto" in said.out
    assert said.err.count("auto takes its place") == 1


def test_a_reader_of_earlier_versions_is_auto(capsys: pytest.CaptureFixture[str]) -> None:
    stored = Experiment().to_dict()
    stored["data"]["reader"] = "pynvvideocodec"
    assert Experiment.from_dict(stored).data.reader == "auto"
    assert "auto takes its place" in capsys.readouterr().err
    assert stored["data"]["reader"] == "pynvvideocodec"
