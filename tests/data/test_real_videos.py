"""Real files, ordinary and odd: the same frames from every decoder, the right verdict for each."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.data.test_readers import usable
from video_snl.config.video import ReaderName
from video_snl.data.decoding.opening import declared_size
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import open_by, open_video, read_clips, refusal
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(120)

# Frames and size, upright, of every readable file of odd_videos.
ODD = {
    "decord_flipping_a_pancake.mkv": (310, 240, 426),
    "decord_video_0.mov": (3, 320, 568),
    "decord_video_180.mov": (3, 320, 568),
    "decord_video_90.mov": (3, 568, 320),
    "gluoncv_abseiling_k400.mp4": (250, 256, 454),
    "hiera_dog.mp4": (150, 256, 256),
    "mmaction2_demo.mp4": (280, 256, 340),
    "mmaction2_part_0.mp4": (32, 256, 340),
    "torchcodec_av1_video.mkv": (125, 360, 640),
    "torchcodec_bt601_full_range.mp4": (60, 240, 320),
    "torchcodec_h265_video.mp4": (10, 128, 128),
    "torchcodec_nasa_13013_rotated.mp4": (17, 480, 270),
    "torchcodec_test_non_zero_start.mp4": (12, 112, 200),
    "torchcodec_testsrc2_odd_height_and_width_mpeg2.mp4": (10, 81, 121),
    "torchvision_R6llTwEh07w.mp4": (303, 256, 340),
    "torchvision_SOX5yA1l24A.mp4": (332, 256, 340),
    "v_Archery_g01_c05.mp4": (158, 240, 320),
    "video_features_v_GGSY1Qvo990.mp4": (355, 240, 320),
}
BAD = {
    "decord_corrupted.mp4": "breaks while frames",
    "empty_0_bytes.avi": r"is empty \(0 bytes\)",
}


def odd(real_data: Path, name: str) -> str:
    path = real_data / "odd_videos" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return str(path)


def original(real_data: Path, name: str) -> str:
    path = real_data / "ucf101_originals" / "UCF-101" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return str(path)


def test_every_odd_file_is_known(real_data: Path) -> None:
    folder = real_data / "odd_videos"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    assert {path.name for path in folder.iterdir()} == {*ODD, *BAD}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("reader", ["pyav", "decord", "torchcodec"])
def test_odd_but_sound(real_data: Path, name: str, reader: ReaderName) -> None:
    path = odd(real_data, name)
    usable(reader)
    length, *size = ODD[name]
    opened = open_video(path, reader)
    assert len(opened) == length
    wanted = sorted({0, length // 3, length // 2, length - 1})
    frames = opened.frames(wanted)
    assert frames.shape == (len(wanted), *size, 3)
    assert torch.equal(frames, PyAVReader(path).frames(range(length))[wanted])


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("reader", ["pyav", "decord", "torchcodec", "auto"])
def test_bad(real_data: Path, name: str, reader: ReaderName) -> None:
    usable(reader)
    with pytest.raises(UserError, match=rf"{name} {BAD[name]}"):
        read_clips(odd(real_data, name), lambda n: [list(range(n))], 90, reader)


@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_file_that_breaks_in_decoding(real_data: Path, reader: ReaderName) -> None:
    """The file holds 28 frames of 50."""
    path = odd(real_data, "decord_corrupted.mp4")
    clip = read_clips(path, lambda n: [list(range(8))], 90, reader)
    assert clip.shape == (1, 8, 90, 160, 3)
    for first in (13, 30):
        said = rf"decord_corrupted\.mp4 breaks while frames {first}-{first + 15} of 50"
        with pytest.raises(UserError, match=said):
            read_clips(path, lambda n, first=first: [list(range(first, first + 16))], 90, reader)


def test_packet_without_a_picture(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packet 349 of 372 says "as before": the frame before stands for it, after it none moves."""
    path = original(real_data, "Kayaking/v_Kayaking_g12_c03.avi")
    assert find_stream_info(path).pictureless
    frames = PyAVReader(path).frames([347, 348, 349, 350, 371])
    assert torch.equal(frames[1], frames[2])
    assert not torch.equal(frames[2], frames[3])
    for reader in ("pyav", "decord"):
        for wanted in ([349], [348, 349, 350], [350], [371]):
            again = open_video(path, reader).frames(wanted)  # type: ignore[arg-type]
            expected = PyAVReader(path).frames(range(340, 372))
            assert torch.equal(again, expected[[index - 340 for index in wanted]])
    monkeypatch.setattr("video_snl.data.decoding.pyav.STAND_INS", 0)
    with pytest.raises(UserError, match=r"v_Kayaking_g12_c03\.avi breaks while"):
        PyAVReader(path).frames([349])


def test_frames_of_an_original_are_those_of_a_plain_loop(real_data: Path) -> None:
    path = original(real_data, "YoYo/v_YoYo_g25_c03.avi")
    with av.open(path) as container:
        decoded = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(open_video(path)) == len(decoded) == 201
    indices = [150, 90, 91, 92, 200]
    expected = torch.from_numpy(np.stack([decoded[i] for i in indices]))
    assert torch.equal(open_video(path, "pyav").frames(indices), expected)


ORDINARY = (
    "ucf5/UCF-101/JugglingBalls/v_JugglingBalls_g05_c04.avi",  # H.264 in AVI
    "ucf101_originals/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.avi",  # B-frames in AVI
    "ucf101_originals/UCF-101/BodyWeightSquats/v_BodyWeightSquats_g09_c07.avi",  # one key frame
    "ucf101_originals/UCF-101/Typing/v_Typing_g16_c03.avi",
    "ucf101_originals/UCF-101/Biking/v_Biking_g05_c02.avi",
)


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("reader", ["pyav", "decord", "torchcodec"])
def test_a_frame_is_the_same_whatever_else_is_asked_for(
    real_data: Path, name: str, reader: ReaderName
) -> None:
    path = str(real_data / name)
    length = len(open_video(path, usable(reader)))
    expected = open_video(path, reader).frames(range(length))
    for wanted in ([length // 2], [length - 1], list(range(length // 3, length, 7))):
        assert torch.equal(open_video(path, reader).frames(wanted), expected[wanted])
    opened = open_video(path, reader)
    for wanted in ([length - 1], [length // 2], [0]):
        assert torch.equal(opened.frames(wanted), expected[wanted])


def test_decoders_agree_on_originals_to_two_levels(real_data: Path) -> None:
    """FFmpeg's inverse transform of MPEG-4 has changed a little since the one inside decord."""
    files = sorted((real_data / "ucf101_originals" / "UCF-101").glob("*/*.avi"))[::9]
    if not files:
        pytest.skip("no originals")
    compared = 0
    for path in map(str, files):
        if refusal("decord", find_stream_info(path)) is not None:
            continue
        wanted = range(0, len(PyAVReader(path)), 5)
        theirs = open_by("decord", path, "cpu").frames(wanted).int()
        difference = (PyAVReader(path).frames(wanted).int() - theirs).abs()
        assert difference.max() <= 2 and difference.float().mean() < 0.001, path
        compared += 1
    assert compared >= 5


def test_torchcodec_gives_the_very_pixels_or_leaves_the_file_to_pyav(real_data: Path) -> None:
    """MPEG-4 apart, whose inverse transform differs between versions of FFmpeg."""
    usable("torchcodec")
    originals = sorted((real_data / "ucf101_originals" / "UCF-101").glob("*/*.avi"))[::11]
    others = sorted((real_data / "ucf5" / "UCF-101").glob("*/*.avi"))[::40]
    if not originals or not others:
        pytest.skip("no originals")
    for path in map(str, [*originals, *others]):
        wanted = range(0, len(PyAVReader(path)), 7)
        theirs = open_video(path, "torchcodec").frames(wanted).int()
        difference = (PyAVReader(path).frames(wanted).int() - theirs).abs()
        assert difference.max() <= (2 if find_stream_info(path).codec == "mpeg4" else 0), path


def test_headers_of_real_files_agree_with_their_sizes(real_data: Path) -> None:
    files = sorted(real_data.glob("ucf*/UCF-101/*/*.avi"))
    if not files:
        pytest.skip(f"no UCF-101 files below {real_data}")
    wrong = []
    for path in files:
        with path.open("rb") as opened:
            if declared_size(opened.read(4096)) != path.stat().st_size:
                wrong.append(path)
    assert not wrong
