"""Reading videos: what comes out, and what bad files end in."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.videos import write_video
from video_snl.data import readers
from video_snl.data.clips import centre_clip, uniform_clips
from video_snl.data.containers import check_container, declared_size
from video_snl.data.readers import open_video, read_clips, shrink
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(60)


def grey(clips):
    """The mean grey of every frame."""
    return clips.float().mean((-3, -2, -1))


def test_frames_are_those_asked_for(tmp_path):
    reader = open_video(str(write_video(tmp_path / "a.avi", 20)))
    assert len(reader) == 20
    frames = reader.frames([2, 3, 17])
    assert (frames.dtype, frames.shape) == (torch.uint8, (3, 48, 64, 3))
    torch.testing.assert_close(grey(frames), torch.tensor([20.0, 30.0, 170.0]), atol=3, rtol=0)


def test_clips_share_what_is_decoded(tmp_path, monkeypatch):
    path = str(write_video(tmp_path / "a.avi", 20))
    decoded = []

    class Counting(readers.DecordReader):
        def frames(self, indices):
            decoded.extend(indices)
            return super().frames(indices)

    monkeypatch.setattr(readers, "open_video", Counting)
    monkeypatch.setattr(readers, "CHUNK", 5)
    clips = read_clips(path, lambda n: [[4, 3, 3], *uniform_clips(n, 3, 2, 4, "error")], 24)
    assert (clips.dtype, clips.shape) == (torch.uint8, (5, 3, 24, 32, 3))
    expected = torch.tensor([[4, 3, 3], [0, 2, 4], [5, 7, 9], [10, 12, 14], [15, 17, 19]]) * 10.0
    torch.testing.assert_close(grey(clips), expected, atol=3, rtol=0)
    assert decoded == sorted({0, 2, 3, 4, 5, 7, 9, 10, 12, 14, 15, 17, 19})


@pytest.mark.parametrize(
    ("size", "short_side", "resized"),
    [
        ((240, 320), 128, (128, 171)),
        ((320, 240), 128, (171, 128)),
        ((30, 30), 20, (20, 20)),
        ((30, 50), 60, (60, 100)),  # enlarged, too
    ],
)
def test_shrink(size, short_side, resized):
    shrunk = shrink(torch.full((2, *size, 3), 77, dtype=torch.uint8), short_side)
    assert (shrunk.dtype, shrunk.shape) == (torch.uint8, (2, *resized, 3))
    assert (shrunk == 77).all()


def test_shrink_averages():
    """Antialiasing: fine stripes become their mean, not one of their colours."""
    stripes = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 200
    shrunk = shrink(stripes, 8).float()[:, :, 1:-1]
    torch.testing.assert_close(shrunk, torch.full_like(shrunk, 100), atol=12, rtol=0)


def test_shrink_leaves_what_has_the_size():
    frames = torch.zeros(2, 30, 40, 3, dtype=torch.uint8)
    assert shrink(frames, 30) is frames


def test_short_video(tmp_path):
    path = str(write_video(tmp_path / "three.avi", 3))
    with pytest.raises(UserError, match=r"three\.avi has 3 frames, a clip spans 16") as caught:
        read_clips(path, lambda n: [centre_clip(n, 16, 1, "error")], 48)
    assert "--data.short_videos repeat_last or wrap" in str(caught.value)
    clip = read_clips(path, lambda n: [centre_clip(n, 5, 1, "wrap")], 48)
    torch.testing.assert_close(grey(clip)[0], torch.tensor([0.0, 10, 20, 0, 10]), atol=3, rtol=0)


def write_container(path, codec, options=None):
    """Noise, 60 frames, key frame every 12."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 12
        for _ in range(60):
            picture = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options", "cut", "said"),
    [
        ("a.avi", "mpeg4", None, 0.6, "cut off"),
        ("a.avi", "mpeg4", None, 0.02, "cut off"),
        ("a.mkv", "mpeg4", None, 0.6, "cut off"),
        ("a.mp4", "mpeg4", None, 0.6, "is no readable video"),  # its table of frames is gone
        ("a.mp4", "mpeg4", {"movflags": "faststart"}, 0.6, "damaged, cut off"),
    ],
)
def test_truncated(tmp_path, name, codec, options, cut, said):
    path = write_container(tmp_path / name, codec, options)
    assert len(open_video(str(path))) == 60
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(UserError, match=said) as caught:
        open_video(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_declared_size():
    assert declared_size(b"RIFF\x10\x00\x00\x00AVI LIST") == 24
    assert declared_size(b"RIFF\x10\x00\x00\x00WAVEfmt ") is None
    assert declared_size(b"") is None
    ebml = b"\x1a\x45\xdf\xa3\x82ab\x18\x53\x80\x67"
    assert declared_size(ebml + b"\x85") == 12 + 5
    assert declared_size(ebml + b"\x40\x05") == 13 + 5
    assert declared_size(ebml + b"\xff") is None  # unknown, as of a live recording
    assert declared_size(ebml) is None
    assert declared_size(ebml[:4]) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", r"is empty \(0 bytes\)"), (b"no video\n" * 100, "is no readable video")],
)
def test_no_video(tmp_path, content, said, capfd):
    path = tmp_path / "bad.avi"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.avi {said}"):
        open_video(str(path))
    assert capfd.readouterr() == ("", "")  # no remarks of a decoder around the one line


def test_sound_only(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(UserError, match=r"sound\.mkv holds no video stream"):
        open_video(str(path))


def test_width_that_decord_does_not_take(tmp_path):
    """Of all even widths from 16 to 200 it refuses 16, 24, 48 and 72."""
    path = str(write_video(tmp_path / "narrow.avi", 3, (64, 48)))
    with pytest.raises(UserError, match=r"narrow\.avi cannot be read: decord takes no frames as"):
        read_clips(path, lambda n: [[0, 1]], 32)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.avi does not exist"):
        open_video(str(tmp_path / "nothing.avi"))
    with pytest.raises(UserError, match="is a folder"):
        open_video(str(tmp_path))


def odd(real_data, name):
    path = real_data / "odd_videos" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return str(path)


def test_empty_file(real_data):
    with pytest.raises(UserError, match=r"empty_0_bytes\.avi is empty"):
        open_video(odd(real_data, "empty_0_bytes.avi"))


def test_codec_that_decord_does_not_know(real_data):
    with pytest.raises(UserError, match=r"torchcodec_av1_video\.mkv cannot be opened.*ffmpeg"):
        open_video(odd(real_data, "torchcodec_av1_video.mkv"))


def test_file_that_breaks_in_decoding(real_data):
    path = odd(real_data, "decord_corrupted.mp4")
    assert read_clips(path, lambda n: [list(range(8))], 90).shape == (1, 8, 90, 160, 3)
    with pytest.raises(UserError, match=r"decord_corrupted\.mp4 breaks while frames 30-45 of 50"):
        read_clips(path, lambda n: [list(range(30, 46))], 90)


def test_file_that_ends_before_the_clip_does(real_data):
    """decord returns 14 frames for these 16, and raises nothing."""
    with pytest.raises(UserError, match=r"decord_corrupted\.mp4 breaks while frames 13-28"):
        read_clips(odd(real_data, "decord_corrupted.mp4"), lambda n: [list(range(13, 29))], 90)


def original(real_data, name):
    path = real_data / "ucf101_originals" / "UCF-101" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return str(path)


def test_file_that_counts_one_frame_more_than_it_holds(real_data, monkeypatch):
    """The last frame it has stands for the one it has not; more copies would be an error."""
    path = original(real_data, "Kayaking/v_Kayaking_g12_c03.avi")
    [clip] = read_clips(path, lambda n: [list(range(n))], 60)
    assert len(clip) == 372
    assert torch.equal(clip[371], clip[370])
    monkeypatch.setattr(readers, "COPIED_FRAMES", 1e-9)
    with pytest.raises(UserError, match=r"v_Kayaking_g12_c03\.avi breaks while"):
        read_clips(path, lambda n: [list(range(n))], 60)


def test_frames_of_an_original_are_those_of_another_decoder(real_data):
    """With one key frame, every start but the first has to be reached by decoding up to it."""
    path = original(real_data, "YoYo/v_YoYo_g25_c03.avi")
    with av.open(path) as container:
        decoded = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(open_video(path)) == len(decoded) == 201
    indices = [150, 90, 91, 92, 200]
    expected = torch.from_numpy(np.stack([decoded[i] for i in indices])).float()
    [clip] = read_clips(path, lambda n: [indices], 240)
    differences = (clip.float() - expected).abs().mean((1, 2, 3))
    assert differences.max() < 1


@pytest.mark.parametrize(
    ("name", "frames", "size"),
    [
        ("torchcodec_testsrc2_odd_height_and_width_mpeg2.mp4", 10, (81, 121)),
        ("torchcodec_h265_video.mp4", 10, (128, 128)),
        ("torchcodec_test_non_zero_start.mp4", 12, (112, 200)),
        ("decord_flipping_a_pancake.mkv", 310, (240, 426)),
    ],
)
def test_odd_but_sound(real_data, name, frames, size):
    reader = open_video(odd(real_data, name))
    assert len(reader) == frames
    assert reader.frames([0, frames // 2]).shape == (2, *size, 3)


def test_headers_of_real_files_agree_with_their_sizes(real_data):
    files = sorted(real_data.glob("ucf*/UCF-101/*/*.avi"))
    if not files:
        pytest.skip(f"no UCF-101 files below {real_data}")
    wrong = []
    for path in files:
        with path.open("rb") as opened:
            if declared_size(opened.read(4096)) != path.stat().st_size:
                wrong.append(path)
    assert not wrong
    assert check_container(str(files[0])) in ("mpeg4", "h264")


FILES_THAT_SEEK_ASTRAY = (
    "ucf5/UCF-101/JugglingBalls/v_JugglingBalls_g05_c04.avi",  # H.264 in AVI, no time stamps
    "odd_videos/torchcodec_h265_video.mp4",  # HEVC
    "odd_videos/hiera_dog.mp4",  # H.264 with time stamps and 13 key frames
    "ucf101_originals/UCF-101/Biking/v_Biking_g05_c02.avi",
)


@pytest.mark.parametrize("name", FILES_THAT_SEEK_ASTRAY)
def test_a_frame_is_the_same_whatever_else_is_asked_for(real_data: Path, name: str) -> None:
    path = str(real_data / name)
    length = min(len(open_video(path)), 120)
    expected = open_video(path).frames(range(length))
    for wanted in ([length // 2], [length - 1], list(range(length // 3, length, 4))):
        assert torch.equal(open_video(path).frames(wanted), expected[wanted])
    reader = open_video(path)
    for wanted in ([length - 1], [length // 2], [0]):
        assert torch.equal(reader.frames(wanted), expected[wanted])
