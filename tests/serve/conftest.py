"""A tiny network, and the page of it in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.export.checkpoints import video_checkpoint
from tests.served import Served
from video_snl.data.synthetic.sample import SampleSettings, generate


@pytest.fixture(scope="session")
def video_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose network was not trained."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    video_checkpoint(run / "checkpoints" / "best.ckpt")
    return run


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated video of some frames, and of little more than a second."""
    folder = tmp_path_factory.mktemp("sample") / "videos"
    generate(folder, SampleSettings(groups=4, clips_per_group=1))
    return sorted(folder.rglob("*.avi"))[0]


@pytest.fixture(scope="session")
def served(video_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page of the network, with limits that small files reach; no file may be left."""
    temporary = tmp_path_factory.mktemp("served") / "temporary"
    words = ["--checkpoint", str(video_run), "--max_size", "2", "--max_seconds", "30"]
    page = Served.start(temporary, *words, "--clips", "2")
    yield page
    code = page.stop()
    assert (code, page.errors.count("Traceback")) == (143, 0)
    assert not list(temporary.iterdir())
