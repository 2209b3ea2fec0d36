"""``reader: auto``: PyAV on a CPU, torchcodec on a GPU that decodes a file of the run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.tiny import environment
from tests.videos import write_streams
from video_snl.config.video import DataConfig
from video_snl.data.decoding import auto
from video_snl.data.decoding.auto import resolve_reader, why_not_gpu
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import open_video
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(60)

AUTO = DataConfig(reader="auto")
GPU = replace(AUTO, decode_device="cuda")
BY_PYAV = replace(AUTO, reader="pyav")


@pytest.fixture
def video(tmp_path: Path) -> str:
    return str(write_streams(tmp_path / "a.mp4", [(64, 96)]))


def decodes(path: str, max_pixels: int) -> None:
    """Stand for a GPU that decodes any file."""


def refuses(path: str, max_pixels: int) -> str | None:
    return "this GPU does not" if path.endswith(".avi") else None


def dies(path: str, max_pixels: int) -> str | None:
    os._exit(1)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_on_a_cpu_it_is_pyav_whatever_is_installed_or_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    path = str(write_streams(tmp_path / "a.mp4", [(64, 96)], codec=codec))
    monkeypatch.setattr(auto, "map_with_timeout", None)  # nothing is tried
    for paths in ([], [path], [str(tmp_path / "nothing.avi")]):
        assert resolve_reader(AUTO, paths) == (replace(AUTO, reader="pyav"), "")


def test_on_a_gpu_it_is_torchcodec_once_a_file_is_decoded(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "why_not_gpu", decodes)
    line = "reader auto: torchcodec, on the GPU"
    assert resolve_reader(GPU, [video]) == (replace(GPU, reader="torchcodec"), line)
    monkeypatch.setattr(auto, "why_not_gpu", refuses)
    other = str(tmp_path / "b.avi")
    assert resolve_reader(GPU, [other, video]) == (replace(GPU, reader="torchcodec"), line)


def test_whatever_goes_wrong_on_a_gpu_means_pyav(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_reader(GPU, []) == (
        BY_PYAV,
        "reader auto: pyav, on the CPU (there is no file to try torchcodec on)",
    )
    monkeypatch.setattr(auto, "why_not_gpu", refuses)
    assert resolve_reader(GPU, [str(tmp_path / "b.avi")] * 9) == (
        BY_PYAV,
        "reader auto: pyav, on the CPU (this GPU does not)",
    )
    monkeypatch.setattr(auto, "why_not_gpu", dies)
    config, line = resolve_reader(GPU, [video])
    assert config == BY_PYAV
    assert line == f"reader auto: pyav, on the CPU (torchcodec did not come to an end with {video})"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_reason_is_said(video: str) -> None:
    assert "this machine has no CUDA GPU" in (why_not_gpu(video) or "")


def test_without_ffmpeg_it_says_what_would_help(
    video: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("torchcodec")
    monkeypatch.setattr(library, "ffmpeg_major_version", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    wanted = r"FFmpeg's shared libraries.*apt-get install ffmpeg"
    assert re.search(wanted, why_not_gpu(video) or "")
    with pytest.raises(UserError, match=wanted):
        open_video(video, "torchcodec")


def test_nothing_to_choose(video: str, tmp_path: Path) -> None:
    named = DataConfig(reader="decord")
    assert resolve_reader(named, [video]) == (named, "")
    (tmp_path / "frames").mkdir()
    assert resolve_reader(AUTO, [video, str(tmp_path / "frames")]) == (AUTO, "")


def test_unresolved_it_is_pyav(video: str) -> None:
    assert isinstance(open_video(video), PyAVReader)


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
