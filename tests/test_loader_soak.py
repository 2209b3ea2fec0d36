"""The soak of the loader, on a few hundred small clips."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from tests.videos import write_video
from video_snl.data.loading.quarantine import Quarantine

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "benchmarks" / "loader_soak.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("loader_soak", SCRIPT)
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["loader_soak"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(36):
        write_video(folder / f"class{number % 3}" / f"{number}.avi", 20)
    return folder


def test_counts_add_up(script: ModuleType, videos: Path, tmp_path: Path) -> None:
    output = tmp_path / "soak.json"
    options = {"clips": 400, "bad": 0.1, "kill_every": 0.15, "deadline": 60, "output": output}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    code = script.main([str(videos), *words])
    report = json.loads(output.read_text())
    assert code == 0 and report["problems"] == []
    assert (report["files"], report["bad_files"], report["epochs"]) == (40, 4, 10)
    assert report["clips"] == 400 and report["clips_per_second"] > 0
    assert report["failures"] == {"error": 40} and report["expected_failures"] == 40
    assert report["kills"] > 0 and report["replaced"] >= report["kills"] - 1


def test_what_does_not_add_up_is_said(script: ModuleType, videos: Path, tmp_path: Path) -> None:
    listed, bad = script.make_data(videos, tmp_path, 0.1, 0)
    quarantine = Quarantine(None, 1.0)
    for path in sorted(bad)[1:]:
        quarantine.add(path, "error", "bad", 0)
    quarantine.add(listed[0].path, "timeout", "took longer than 2 s", 2)
    shown = Counter(video.label for video in listed[1:])
    problems = "\n".join(script._check_epoch(0, listed, bad, shown, quarantine))
    assert "not shown as often" in problems and "1 bad files were not noticed" in problems
    assert "a good file was given up (took longer than 2 s)" in problems
    assert not script.quarters([100.0] * 30 + [200.0] * 10)["flat"]
    assert script.quarters([100.0] * 30 + [105.0] * 10)["flat"]
