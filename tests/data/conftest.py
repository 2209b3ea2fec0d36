"""Fixtures that several tests of the loaders share."""

from __future__ import annotations

import pytest

from tests.videos import write_video
from video_snl.data.video.records import Video


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    """Three videos of each of two classes."""
    folder = tmp_path_factory.mktemp("videos")
    return [Video(str(write_video(folder / f"{i}.avi", 12 + i)), i % 2) for i in range(6)]
