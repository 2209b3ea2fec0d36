"""Reading clips: the same frames whichever decoder reads them, whatever the file is like."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import torch

from tests.videos import greys, write_changing_size, write_streams, write_video, write_with_cover
from video_snl.config.video import ReaderName
from video_snl.data.decoding import readers
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import (
    check_reader,
    open_by,
    open_video,
    read_clips,
    refusal,
)
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.data.video.clip_sampling import centre_clip, uniform_clips
from video_snl.errors import OptionsError, UserError

pytestmark = pytest.mark.timeout(60)

DECODERS: tuple[ReaderName, ...] = ("pyav", "decord", "torchcodec")
X264_OPEN = {"x264-params": "open-gop=1:keyint=10:min-keyint=10"}
X264_REFRESH = {"x264-params": "intra-refresh=1:keyint=10"}
# Name -> how it is written. 40 frames, a key frame every 10.
FILES: dict[str, dict] = {
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b.avi": {"codec": "mpeg4", "b_frames": 2},
    "mpeg4_b.mp4": {"codec": "mpeg4", "b_frames": 2},
    "h264.avi": {},
    "h264_b.avi": {"b_frames": 3},
    "h264_b.mp4": {"b_frames": 3},
    "h264_b.mkv": {"b_frames": 3},
    "open_gop.mp4": {"b_frames": 3, "options": X264_OPEN},
    "intra_refresh.mp4": {"options": X264_REFRESH},
    "full_range.mp4": {"pix_fmt": "yuvj420p"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "mpeg2.ts": {"codec": "mpeg2video", "b_frames": 2},
    "starts_late.mp4": {"start": 1000, "b_frames": 2},
    "starts_late.mkv": {"start": 1000},
}


def usable(decoder: ReaderName) -> ReaderName:
    """The decoder; skips where it is an extra that is not installed."""
    try:
        check_reader(decoder, "cpu")
    except OptionsError as error:
        pytest.skip(str(error))
    return decoder


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> ReaderName:
    return usable(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.mark.parametrize("name", FILES)
def test_every_decoder_returns_the_frames_asked_for(
    folder: Path, name: str, decoder: ReaderName
) -> None:
    path = folder / name
    if not path.exists():
        write_streams(path, [(64, 96)], **FILES[name])
    whole = open_video(str(path), decoder).frames(range(40))
    assert greys(whole) == [index % 25 for index in range(40)]
    reader = open_video(str(path), decoder)
    for wanted in ([20], [35, 36], [5, 9, 31], [29, 30, 31], [39], [0], [12, 3, 12]):
        assert torch.equal(open_video(str(path), decoder).frames(wanted), whole[wanted])
        assert torch.equal(reader.frames(wanted), whole[wanted])
    assert (find_stream_info(str(path)).stamps is None) == name.endswith("_b.avi")
    if decoder != "pyav":
        assert torch.equal(whole, PyAVReader(str(path)).frames(range(40)))


def test_decoding_starts_at_an_entry(folder: Path) -> None:
    """The file cannot be decoded up to its third key frame, and need not be."""
    path = write_streams(folder / "damaged.avi", [(64, 96)], codec="mpeg4")
    facts = find_stream_info(str(path))
    assert (facts.entries, facts.entry(29), facts.entry(30)) == ((0, 10, 20, 30), 20, 30)
    whole = PyAVReader(str(path)).frames(range(40))
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0)][:29]
    content = bytearray(path.read_bytes())
    for place, size in places:
        content[place + 8 : place + 8 + size] = bytes(size)
    path.write_bytes(content)
    assert torch.equal(PyAVReader(str(path)).frames(range(30, 40)), whole[30:40])
    with pytest.raises(UserError, match=r"damaged\.avi breaks while frames 5-5 of 40"):
        PyAVReader(str(path)).frames([5])


def test_frames_that_nothing_refers_to_are_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_streams(folder / "left_out.mp4", [(64, 96)], b_frames=3, gop=40)
    decoded = []
    count = PyAVReader._number_by_stamp

    def counting(self: PyAVReader, entry: int):  # noqa: ANN202
        for number, frame in count(self, entry):
            decoded.append(number)
            yield number, frame

    monkeypatch.setattr(PyAVReader, "_number_by_stamp", counting)
    assert greys(PyAVReader(str(path)).frames([36, 37])) == [11, 12]
    assert decoded[-2:] == [36, 37]
    assert len(decoded) < 30


def test_time_stamps_that_mislead_are_found_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream info claims an entry where there is none: the frames are right all the same."""
    from dataclasses import replace

    from video_snl.data.decoding import stream_info

    path = str(write_streams(folder / "misled.avi", [(64, 96)], codec="mpeg4"))
    true = find_stream_info(path)
    wrong = replace(true, entries=(0, 15))
    monkeypatch.setitem(stream_info._cache, stream_info._identity(path), wrong)
    reader = PyAVReader(path)
    assert greys(reader.frames([16, 17])) == [16, 17]
    assert reader.info.stamps is None
    assert find_stream_info(path).stamps is None  # and cached


def test_clips_share_what_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: ReaderName
) -> None:
    path = str(write_video(tmp_path / "a.avi", 20))
    decoded: list[int] = []

    class Counting:
        def __init__(self, *arguments: object) -> None:
            self.reader = open_by(decoder, path, "cpu")
            self.frame_bytes = self.reader.frame_bytes

        def __len__(self) -> int:
            return len(self.reader)

        def frames(self, indices: list[int], group: list[int]) -> torch.Tensor:
            decoded.extend(indices)
            return self.reader.frames(indices, group)

        def close(self) -> None:
            self.reader.close()

    monkeypatch.setattr(readers, "open_video", Counting)
    monkeypatch.setattr(readers, "CHUNK", 5)
    clips = read_clips(path, lambda n: [[4, 3, 3], *uniform_clips(n, 3, 2, 4, "error")], 24)
    assert (clips.dtype, clips.shape) == (torch.uint8, (5, 3, 24, 32, 3))
    expected = torch.tensor([[4, 3, 3], [0, 2, 4], [5, 7, 9], [10, 12, 14], [15, 17, 19]]) * 10.0
    means = clips.float().mean((-3, -2, -1))
    torch.testing.assert_close(means, expected, atol=3, rtol=0)
    assert decoded == sorted({0, 2, 3, 4, 5, 7, 9, 10, 12, 14, 15, 17, 19})


def test_short_video(tmp_path: Path, decoder: ReaderName) -> None:
    path = str(write_video(tmp_path / "three.avi", 3))
    with pytest.raises(OptionsError, match=r"three\.avi has 3 frames, a clip spans 16") as caught:
        read_clips(path, lambda n: [centre_clip(n, 16, 1, "error")], 48, decoder)
    assert "--data.short_videos repeat_last or wrap" in str(caught.value)
    [clip] = read_clips(path, lambda n: [centre_clip(n, 5, 1, "wrap")], 48, decoder)
    assert [round(v / 10) for v in clip.float().mean((1, 2, 3)).tolist()] == [0, 1, 2, 0, 1]


def test_one_frame(tmp_path: Path, decoder: ReaderName) -> None:
    path = str(write_streams(tmp_path / "one.mp4", [(64, 96)], frames=1))
    assert len(open_video(path, decoder)) == 1
    [clip] = read_clips(path, lambda n: [centre_clip(n, 4, 1, "repeat_last")], 32, decoder)
    assert clip.shape == (4, 32, 48, 3)
    assert torch.equal(clip[0], clip[3])


@pytest.mark.parametrize(
    ("rotation", "mirrored", "size", "corner"),
    [
        (90, False, (96, 64), (-1, 0)),
        (180, False, (64, 96), (-1, -1)),
        (270, False, (96, 64), (0, -1)),
        (0, True, (64, 96), (0, -1)),
        (90, True, (96, 64), (-1, -1)),
    ],
)
def test_rotated_and_mirrored(
    tmp_path: Path,
    rotation: int,
    mirrored: bool,
    size: tuple[int, int],
    corner: tuple[int, int],
    decoder: ReaderName,
) -> None:
    """The left upper part is red before the file says how to turn it (counterclockwise)."""
    path = tmp_path / "turned.mp4"
    write_streams(path, [(64, 96)], frames=3, rotation=rotation, mirrored=mirrored)
    frames = open_video(str(path), decoder).frames([0, 2])
    assert frames.shape == (2, *size, 3)
    for row in (0, -1):
        for column in (0, -1):
            red, green, _ = frames[0, row, column].tolist()
            assert (red > 200 and green < 60) == ((row, column) == corner)
    assert read_clips(str(path), lambda n: [[0]], 32, decoder).shape[2:4] == (
        (48, 32) if size[0] > size[1] else (32, 48)
    )


def test_several_videos_in_a_file(tmp_path: Path, decoder: ReaderName) -> None:
    """The largest is read."""
    for name in ("two.mp4", "two.mkv"):
        path = write_streams(tmp_path / name, [(48, 64), (96, 128), (96, 128)], frames=12)
        frames = open_video(str(path), decoder).frames([3, 11])
        assert frames.shape == (2, 96, 128, 3)
        assert greys(frames) == [3, 11]


@pytest.mark.parametrize("b_frames", [0, 2])
def test_frames_hidden_by_an_edit_list(tmp_path: Path, b_frames: int, decoder: ReaderName) -> None:
    """Six of 40 lie before the start; the rotation of the others is known all the same."""
    path = str(
        write_streams(tmp_path / "cut.mp4", [(64, 96)], start=-6, b_frames=b_frames, rotation=180)
    )
    opened = open_video(path, decoder)
    assert len(opened) == 34
    assert find_stream_info(path).stamps is not None
    assert greys(opened.frames([0, 1, 33])) == [6, 7, 39 - 25]
    assert greys(open_video(path, decoder).frames([20])) == [1]
    assert find_stream_info(path).stamps is not None  # they were not found to mislead
    assert opened.frames([0])[0, -1, -1].tolist()[0] > 200  # the red corner, turned


def test_a_cover_picture_is_no_video(tmp_path: Path, decoder: ReaderName) -> None:
    path = str(write_with_cover(tmp_path / "covered.mp4", 10))
    assert len(open_video(path, decoder)) == 10
    assert open_video(path, decoder).frames([4]).shape == (1, 64, 96, 3)


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".ts"])
def test_size_changes_in_the_middle(tmp_path: Path, suffix: str, decoder: ReaderName) -> None:
    """All frames are shown in the size of the first."""
    path = write_changing_size(tmp_path / f"changing{suffix}", [(64, 96), (96, 64), (48, 72)])
    frames = open_video(str(path), decoder).frames(range(30))
    assert frames.shape == (30, 64, 96, 3)
    assert greys(frames) == [index % 25 for index in range(30)]
    assert torch.equal(open_video(str(path), decoder).frames([25]), frames[[25]])


def test_what_is_refused_would_be_wrong(folder: Path) -> None:
    """The reasons hold: decord, left alone, returns other frames or none."""
    for name in ("h264.avi", "mpeg4_b.mp4", "intra_refresh.mp4"):
        path = folder / f"refused_{name}"
        write_streams(path, [(64, 96)], **FILES[name])
        assert refusal("decord", find_stream_info(str(path)))
        wanted = [[20], [35, 36], [5, 9, 31], [29, 30, 31]]
        try:
            right = all(
                greys(open_by("decord", str(path), "cpu").frames(part))
                == [index % 25 for index in part]
                for part in wanted
            )
        except UserError:
            right = False
        assert not right, f"decord reads {name} now: do not refuse it"
