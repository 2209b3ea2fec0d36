"""``video-snl prepare`` on real files, ordinary and odd."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.test_prepare import prepare
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.data.video.file_lists import find_videos

pytestmark = pytest.mark.timeout(400)


def test_odd_videos(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "odd_videos"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    done = prepare(folder, tmp_path / "out")
    assert done.returncode == 1
    assert done.stdout.endswith("18 of 20 videos prepared\n")
    made = {path.name for path in (tmp_path / "out").iterdir()} - {"prepared.json"}
    bad = {"decord_corrupted.mp4", "empty_0_bytes.avi"}
    assert made == {path.name for path in folder.iterdir()} - bad
    for name in made:
        source, target = (
            find_stream_info(str(folder / name)),
            find_stream_info(str(tmp_path / "out" / name)),
        )
        assert target.length == source.length and target.stamps is not None
    upright = find_stream_info(str(tmp_path / "out" / "decord_video_90.mov"))
    assert upright.height > upright.width


@pytest.mark.slow
def test_originals(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "ucf101_originals"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    done = prepare(folder, tmp_path / "out", "--short_side", "32")
    assert done.returncode == 0, done.stderr
    originals = find_videos(folder).videos
    assert done.stdout.endswith(f"{len(originals)} of {len(originals)} videos prepared\n")
    for path in originals:
        target = find_stream_info(str(tmp_path / "out" / path.relative_to(folder)))
        assert target.length == find_stream_info(str(path)).length and target.stamps is not None
