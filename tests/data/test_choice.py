"""``reader: auto``: measured once for a kind of files, and said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from tests.videos import write_streams
from video_snl.config import DecodeDevice, ReaderName
from video_snl.data import choice
from video_snl.data.choice import choose_reader
from video_snl.data.decord_reader import DecordReader
from video_snl.data.pyav_reader import PyAVReader
from video_snl.data.readers import open_video
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_choices", {})


def pretend(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> list[str]:
    """Let the decoders take these times; returns the list of what is measured."""
    measured: list[str] = []

    def take(path: str, name: ReaderName, device: DecodeDevice) -> float:
        measured.append(f"{Path(path).name} {name}")
        return seconds[name]

    monkeypatch.setattr(choice, "_seconds", take)
    return measured


@pytest.mark.parametrize(
    ("pyav", "decord", "chosen", "reader"),
    [
        (0.002, 0.004, "pyav", PyAVReader),
        (0.004, 0.002, "decord", DecordReader),
        (0.004, 0.0035, "pyav", PyAVReader),  # chance decides nothing
    ],
)
def test_the_faster_one_is_taken_and_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    pyav: float,
    decord: float,
    chosen: str,
    reader: type,
) -> None:
    measured = pretend(monkeypatch, {"pyav": pyav, "decord": decord})
    first, second, other = (
        str(write_streams(tmp_path / name, [(64, 96)], gop=gop, frames=40))
        for name, gop in (("a.mp4", 8), ("b.mp4", 8), ("c.mp4", 40))
    )
    with caplog.at_level(logging.INFO, logger="video_snl.readers"):
        assert isinstance(open_video(first), reader)
        assert isinstance(open_video(second), reader)
    assert measured == ["a.mp4 pyav", "a.mp4 decord"]
    assert caplog.messages == [
        f"reader auto: {chosen} for h264 in mov, close key frames, 0-119 lines (for 16 frames: "
        f"pyav {1000 * pyav:.1f} ms, decord {1000 * decord:.1f} ms)"
    ]
    open_video(other)
    assert measured[2:] == ["c.mp4 pyav", "c.mp4 decord"]  # another kind: few key frames


def test_it_really_measures(tmp_path: Path) -> None:
    path = str(write_streams(tmp_path / "a.mp4", [(64, 96)]))
    chosen = choose_reader(path)
    assert chosen.reader in ("pyav", "decord")
    assert "pyav" in chosen.reason and "decord" in chosen.reason and "failed" not in chosen.reason
    frames = open_video(path).frames([3, 20])
    assert torch.equal(frames, open_video(path, "pyav").frames([3, 20]))


def test_a_file_that_one_decoder_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = pretend(monkeypatch, {})
    path = str(write_streams(tmp_path / "a.avi", [(64, 96)]))
    assert str(choose_reader(path)) == (
        "reader auto: pyav for h264 in avi, close key frames, 0-119 lines "
        "(decord's seek goes astray where packets have no time stamps)"
    )
    assert not measured


def test_what_a_run_sees_does_not_hang_on_what_was_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = pretend(monkeypatch, {"pyav": 1.0, "decord": 0.001})
    path = str(write_streams(tmp_path / "a.avi", [(64, 96)], codec="mpeg4"))
    chosen = choose_reader(path)
    assert chosen.reader == "pyav" and "decord's pixels of MPEG-4" in chosen.reason
    assert not measured


def test_a_broken_file_chooses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write_streams(tmp_path / "a.mp4", [(64, 96)]))

    def breaks(path: str, name: ReaderName, device: DecodeDevice) -> float:
        raise UserError(f"{path} breaks")

    monkeypatch.setattr(choice, "_seconds", breaks)
    with pytest.raises(UserError, match="breaks"):
        open_video(path)
    assert not choice._choices
