"""The benchmark of loaders: its arithmetic, and one small run of it."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tiny import environment
from tests.videos import write_video

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "benchmarks" / "clip_loading.py"
loading = runpy.run_path(str(SCRIPT))


def turn(files: str, loader: str, rate: float) -> dict[str, object]:
    stages = {"stages_ms_per_clip": {"open": rate / 10}} if loader == "video-snl" else {}
    return {
        "files": files,
        "loader": loader,
        "clips_per_second": rate,
        "processor_ms_per_clip": 1000 / rate,
        **stages,
    }


def test_ratios_are_medians_over_the_rounds_against_the_faster_decoder() -> None:
    turns = [
        turn("originals", loader, rate)
        for rates in ((40, 40, 20, 10), (90, 100, 30, 20), (80, 100, 40, 90))
        for loader, rate in zip(
            ("video-snl", "decord", "pytorchvideo/decord", "pytorchvideo/pyav"), rates, strict=True
        )
    ]
    found = loading["summary"](turns)
    theirs, bare = found["ratios"]
    assert (theirs["against"], theirs["ratio"]["median"]) == ("pytorchvideo/decord", 2)
    assert (bare["against"], bare["ratio"]["median"]) == ("decord", 0.9)
    assert found["stages_ms_per_clip"] == {"originals": {"open": 8}}
    setting = dict.fromkeys(
        ("files", "num_workers", "cores", "rounds", "clips", "torch", "python"), 1
    )
    text = loading["table"]({"setting": setting, **found})
    assert "| originals | video-snl | 40.0 - 80.0 - 90.0 | 11.1 - 12.5 - 25.0 |" in text
    ratio = "| originals | video-snl / {} | {} |".format
    assert ratio("pytorchvideo/decord", "2.00 - 2.00 - 3.00 | 2.0") in text
    assert ratio("decord", "0.80 - 0.90 - 1.00 | 1.5, missed") in text


def test_ratios_are_those_of_the_same_files() -> None:
    turns = [
        turn(files, loader, rate)
        for files, some in {"originals": (40, 38, 30), "prepared": (120, 160, 100)}.items()
        for loader, rate in zip(
            ("video-snl", "video-snl, in process", "torchcodec"), some, strict=True
        )
    ]
    found = loading["summary"](turns)["ratios"]
    ratios = {(row["files"], row["loader"]): round(row["ratio"]["median"], 3) for row in found}
    assert ratios == {
        ("originals", "video-snl"): 1.333,
        ("prepared", "video-snl"): 1.2,
        ("originals", "video-snl, in process"): 1.267,
        ("prepared", "video-snl, in process"): 1.6,
    }
    assert {row["against"] for row in found} == {"torchcodec"}


def test_processor_time_of_children_counts_while_they_live_and_after() -> None:
    code = (
        "import time\nwhile time.process_time() < 0.5: pass\nprint('busy', flush=True)\ninput()\n"
    )
    before = loading["processor_seconds"]()
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "busy\n"
    assert loading["processor_seconds"]() - before >= 0.45
    child.communicate("end\n", timeout=60)
    assert loading["processor_seconds"]() - before >= 0.45


def test_files_that_both_folders_have(tmp_path: Path) -> None:
    for name in ("a/UCF-101/Bow/1.avi", "a/UCF-101/Bow/2.avi", "b/Bow/2.avi", "b/Bow/3.avi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    roots = {"originals": tmp_path / "a", "prepared": tmp_path / "b"}
    assert loading["common_files"](roots) == {
        "originals": [tmp_path / "a/UCF-101/Bow/2.avi"],
        "prepared": [tmp_path / "b/Bow/2.avi"],
    }
    (tmp_path / "b/Bow/2.avi").unlink()
    with pytest.raises(SystemExit, match="no video below"):
        loading["common_files"](roots)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_small_run(tmp_path: Path, num_workers: int) -> None:
    for i in range(3):
        write_video(tmp_path / "root" / "UCF-101" / "Bow" / f"{i}.avi", 20 + i, (96, 128))
    began = time.monotonic()
    done = subprocess.run(
        [
            *[sys.executable, str(SCRIPT), "--originals", str(tmp_path / "root")],
            *["--num_workers", str(num_workers), "--clips", "4", "--batch", "2", "--rounds", "2"],
            *["--json", str(tmp_path / "out.json")],
        ],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    elapsed = time.monotonic() - began
    result = json.loads((tmp_path / "out.json").read_text())
    assert len(result["turns"]) == 12
    assert {row["loader"] for row in result["turns"]} == set(loading["NAMES"])
    for row in result["turns"]:
        assert row["clips_per_second"] * elapsed > 4
    # The system counts processor time in hundredths of a second: four clips may take none.
    assert sum(row["processor_ms_per_clip"] for row in result["turns"]) > 0
    assert result["stages_ms_per_clip"]["originals"]["decode"] > 0
    assert "| originals | video-snl |" in done.stdout
