"""One conversion of colours to RGB, whichever reader decodes: compared with FFmpeg's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from tests.data.test_odd_files import case
from video_snl.data.decoding.pyav import PyAVReader, RgbConverter
from video_snl.data.decoding.readers import open_video
from video_snl.data.decoding.stream_info import find_stream_info

pytestmark = pytest.mark.timeout(60)

COLOURS: dict[str, dict] = {
    "yuv420p": {},
    "yuv422p": {"pix_fmt": "yuv422p"},
    "yuv444p": {"pix_fmt": "yuv444p"},
    "full range": {"pix_fmt": "yuvj420p"},
    "10 bit 4:2:0": {"pix_fmt": "yuv420p10le"},
    "10 bit 4:2:2": {"pix_fmt": "yuv422p10le"},
    "10 bit 4:4:4": {"pix_fmt": "yuv444p10le"},
    "BT.709": {"pix_fmt": "yuv420p10le", "options": {"colorspace": "bt709"}},
    "interlaced": {"options": {"flags": "+ildct+ilme", "x264-params": "tff=1"}},
    "interlaced 10 bit 4:2:0": {
        "pix_fmt": "yuv420p10le",
        "options": {"flags": "+ildct+ilme", "x264-params": "tff=1"},
    },
    "interlaced 10 bit 4:2:2": {
        "pix_fmt": "yuv422p10le",
        "options": {"flags": "+ildct+ilme", "x264-params": "tff=1"},
    },
}


def decoded_by_ffmpeg(path: str, pixels: str, height: int, width: int) -> np.ndarray:
    """Frames as FFmpeg's own program decodes and converts them, in [0, 1]."""
    command = ["ffmpeg", "-v", "error", "-i", path, "-pix_fmt", pixels, "-f", "rawvideo", "-"]
    try:
        raw = subprocess.run(command, capture_output=True, check=True, timeout=50).stdout
    except FileNotFoundError:
        pytest.skip("no ffmpeg")
    kind = np.dtype(np.uint16 if pixels == "rgb48le" else np.uint8)
    return np.frombuffer(raw, kind).reshape(-1, height, width, 3) / np.iinfo(kind).max


def decibels(frames: np.ndarray, reference: np.ndarray) -> float:
    return float(-10 * np.log10(max(((frames - reference) ** 2).mean(), 1e-10)))


def check_colours(path: str) -> None:
    """Each reader: at most 1 dB behind FFmpeg's 8 bits, at most 2 levels from PyAV's."""
    facts = find_stream_info(path)
    size = facts.height, facts.width
    reference = decoded_by_ffmpeg(path, "rgb48le", *size)
    least = decibels(decoded_by_ffmpeg(path, "rgb24", *size), reference) - 1
    ours = PyAVReader(path).frames(range(len(reference)))
    assert decibels(ours.numpy() / 255, reference) >= least
    theirs = open_video(path, "decord").frames(range(len(reference)))
    assert (ours.int() - theirs.int()).abs().max() <= 2


@pytest.mark.parametrize("name", COLOURS)
def test_one_conversion_to_rgb(tmp_path: Path, name: str) -> None:
    path = tmp_path / "coloured.mp4"
    settings = dict(COLOURS[name])
    options = settings.pop("options", {}) | {"crf": "10"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width = 64, 96
        stream.pix_fmt = settings.get("pix_fmt", "yuv420p")
        random = np.random.default_rng(0)
        for index in range(4):
            image = np.kron(random.integers(0, 256, (8, 12, 3)), np.ones((8, 8, 1)))
            frame = av.VideoFrame.from_ndarray(np.roll(image, index, 1).astype(np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    check_colours(str(path))


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video"])
def test_one_conversion_to_rgb_of_odd_sizes(tmp_path: Path, codec: str) -> None:
    """Their decoders say where the colours lie, which swscale heeds where rows are odd."""
    path = str(tmp_path / "odd.mkv")
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options={"qmin": "2", "qmax": "2"})
        stream.height, stream.width, stream.pix_fmt = 63, 95, "yuv420p"
        image = np.kron(np.random.default_rng(0).integers(0, 256, (8, 12, 3)), np.ones((8, 8, 1)))
        for index in range(4):
            moved = np.ascontiguousarray(np.roll(image, index, 1)[:63, :95].astype(np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, "rgb24")))
        container.mux(stream.encode())
    check_colours(path)


def test_a_matrix_that_is_not_known_is_read_as_ffmpeg_does() -> None:
    frame = av.VideoFrame.from_ndarray(np.full((96, 64), 128, np.uint8)[: 64 * 3 // 2], "yuv420p")
    frame.colorspace = 8  # YCgCo
    assert RgbConverter().convert(frame, 64, 64).shape == (64, 64, 3)


def test_colours_of_the_10_bit_case(real_data: Path) -> None:
    check_colours(case(real_data, "video/x264_yuv420p10le.mp4"))
