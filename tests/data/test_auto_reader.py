"""``reader: auto``: measured once for a run, apart from its samples, and said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.data.test_readers import usable
from tests.tiny import environment
from tests.videos import write_streams
from video_snl.config.video import DataConfig, DecodeDevice, ReaderName
from video_snl.data.decoding import auto
from video_snl.data.decoding.auto import choose_reader, resolve_reader
from video_snl.data.decoding.decord import DecordReader
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import open_video
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(60)

AUTO = DataConfig(reader="auto")


@pytest.fixture
def video(tmp_path: Path) -> str:
    return str(write_streams(tmp_path / "a.mp4", [(64, 96)]))


def pretend(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> list[str]:
    """Let the decoders take these times; returns the list of what is measured."""
    monkeypatch.setattr(auto, "_unusable", lambda name: None)
    measured: list[str] = []

    def take(path: str, name: ReaderName, device: DecodeDevice, max_pixels: int) -> float:
        measured.append(f"{Path(path).name} {name}")
        return seconds[name]

    monkeypatch.setattr(auto, "_seconds", take)
    return measured


@pytest.mark.parametrize(
    ("pyav", "other", "chosen"),
    [
        (0.002, 0.004, "pyav"),
        (0.004, 0.002, "torchcodec"),
        (0.004, 0.0035, "pyav"),  # chance decides nothing
    ],
)
def test_the_faster_one_is_taken_and_said(
    video: str, monkeypatch: pytest.MonkeyPatch, pyav: float, other: float, chosen: str
) -> None:
    measured = pretend(monkeypatch, {"pyav": pyav, "torchcodec": other})
    assert str(choose_reader(video)) == (
        f"reader auto: {chosen} (16 frames of a.mp4: pyav {1000 * pyav:.1f} ms, torchcodec "
        f"{1000 * other:.1f} ms)"
    )
    assert measured == ["a.mp4 pyav", "a.mp4 torchcodec"]


def test_without_ffmpeg_it_is_pyav_and_says_what_would_help(
    video: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("torchcodec")
    monkeypatch.setattr(library, "ffmpeg_major_version", None)
    assert str(choose_reader(video)) == (
        "reader auto: pyav (torchcodec needs FFmpeg's shared libraries: apt-get install ffmpeg)"
    )
    with pytest.raises(UserError, match=r"FFmpeg's shared libraries.*apt-get install ffmpeg"):
        open_video(video, "torchcodec")


def choose_decord(path: str, device: DecodeDevice, max_pixels: int) -> auto.AutoReader:
    return auto.AutoReader("decord", "as a test wants it")


def choose_and_die(path: str, device: DecodeDevice, max_pixels: int) -> auto.AutoReader:
    os._exit(1)


def test_it_really_measures(video: str, tmp_path: Path) -> None:
    """The readers are measured in a process of its own, on the first file that can be read."""
    (tmp_path / "text.mp4").write_text("no video")
    config, line = resolve_reader(AUTO, [str(tmp_path / "text.mp4"), video])
    assert config.reader in ("pyav", "torchcodec")
    usable("torchcodec")
    assert line.startswith(f"reader auto: {config.reader} (16 frames of a.mp4: pyav ")
    assert "failed" not in line
    frames = open_video(video, config.reader).frames([3, 20])
    assert torch.equal(frames, open_video(video, "pyav").frames([3, 20]))


def test_the_choice_is_what_reads(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "choose_reader", choose_decord)
    config, line = resolve_reader(AUTO, [video])
    assert (config.reader, line) == ("decord", "reader auto: decord (as a test wants it)")
    assert isinstance(open_video(video, config.reader), DecordReader)
    other = str(write_streams(tmp_path / "b.avi", [(64, 96)]))  # which decord gets wrong
    assert isinstance(open_video(other, config.reader), PyAVReader)


def test_whatever_goes_wrong_means_pyav(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = ("pyav", "reader auto: pyav (none of the first files could be measured)")
    for paths in ([], [str(tmp_path / "nothing.avi")]):
        config, line = resolve_reader(AUTO, paths)
        assert (config.reader, line) == none
    monkeypatch.setattr(auto, "choose_reader", choose_and_die)
    config, line = resolve_reader(AUTO, [video])
    assert (config.reader, line) == none


def test_a_decoder_that_fails_is_not_taken(video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(path: str, name: ReaderName, device: DecodeDevice, max_pixels: int) -> float:
        if name == "torchcodec":
            raise UserError(f"{path} breaks")
        return 1.0

    monkeypatch.setattr(auto, "_unusable", lambda name: None)
    monkeypatch.setattr(auto, "_seconds", take)
    assert str(choose_reader(video)).startswith("reader auto: pyav (16 frames of a.mp4: pyav 1000")
    assert "torchcodec failed" in str(choose_reader(video))


def test_nothing_to_choose(video: str, tmp_path: Path) -> None:
    named = DataConfig(reader="decord")
    assert resolve_reader(named, [video]) == (named, "")
    (tmp_path / "frames").mkdir()
    assert resolve_reader(AUTO, [video, str(tmp_path / "frames")]) == (AUTO, "")


def test_unresolved_it_is_pyav(video: str) -> None:
    assert isinstance(open_video(video), PyAVReader)


def test_a_file_that_one_decoder_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = pretend(monkeypatch, {})
    path = str(write_streams(tmp_path / "a.mp4", [(64, 96)], codec="mpeg2video"))
    assert str(choose_reader(path)) == (
        "reader auto: pyav (torchcodec seeks to key frames that are not clean starts)"
    )
    assert not measured


def test_what_a_run_sees_does_not_hang_on_what_was_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = pretend(monkeypatch, {"pyav": 1.0, "torchcodec": 0.001})
    path = str(write_streams(tmp_path / "a.avi", [(64, 96)], codec="mpeg4"))
    chosen = choose_reader(path)
    assert chosen.reader == "pyav" and "torchcodec's pixels of MPEG-4" in chosen.reason
    assert not measured


WORKER = """
import sys
from tests.data.test_auto_reader import length
from video_snl.data.workers.pool import map_with_timeout

for result in map_with_timeout(length, [sys.argv[1]] * 3, num_workers=1, deadline=30):
    print(result.value)
"""


def length(path: str) -> int:
    return len(open_video(path, "decord"))


@pytest.mark.slow
def test_what_pyav_reads_instead_is_said_by_the_worker(tmp_path: Path) -> None:
    path = str(write_streams(tmp_path / "a.avi", [(64, 96)]))
    words = [sys.executable, "-c", WORKER, path]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), cwd=REPOSITORY)
    assert done.stdout.split() == ["40"] * 3
    assert done.stderr.splitlines() == [
        f"reader decord: pyav reads {path} and its like: decord's seek goes astray where packets "
        "have no time stamps"
    ]
