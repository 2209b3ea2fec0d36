"""``video-snl check``: every kind of bad file is found, in bounded time."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import fresh_workers
from tests.tiny import REPOSITORY, command, environment, run_here
from tests.videos import promise_frames, write_lines, write_streams, write_ucf101, write_video

pytestmark = pytest.mark.timeout(180)

# Runs in every Python of a test: opening the file hangs in native code that holds the GIL.
HANGS = """
import ctypes
import av
open_file = av.open
def open_or_hang(path, *rest, **options):
    if str(path).endswith("v_Bow_g04_c01.avi"):
        ctypes.PyDLL(None).sleep(600)
    return open_file(path, *rest, **options)
av.open = open_or_hang
"""


def bad_set(root: Path) -> Path:
    """33 files named, of which 28 are sound, and one more that no list names."""
    write_ucf101(root)
    folder = root / "UCF-101" / "Bow"
    names = [folder / f"v_Bow_g{group:02d}_c01.avi" for group in range(1, 12)]
    whole = names[0].read_bytes()
    for path in names[:5]:
        path.unlink()  # of which others are links
    names[1].write_text("no video")
    names[2].write_bytes(whole[: len(whole) // 2])
    promise_frames(write_video(names[3], 20), 22)
    write_video(names[4], 3)
    write_video(folder / "extra.avi", 6)
    return root


def hanging(folder: Path) -> dict[str, str]:
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HANGS)
    return environment(PYTHONPATH=f"{folder}:{REPOSITORY}")


def processes_of(session: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def test_every_kind_of_problem(tmp_path: Path) -> None:
    root = bad_set(tmp_path / "ucf101")
    done = run_here("check", "--root", str(root), "--clip_frames", "5", "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    found = {Path(p["path"]).name: (p["verdict"], p["detail"]) for p in report["problems"]}
    assert found == {
        "v_Bow_g01_c01.avi": ("missing", ""),
        "v_Bow_g02_c01.avi": ("unreadable", found["v_Bow_g02_c01.avi"][1]),
        "v_Bow_g03_c01.avi": ("truncated", found["v_Bow_g03_c01.avi"][1]),
        "v_Bow_g04_c01.avi": ("lying", "its header says 22 frames, it holds 20"),
        "v_Bow_g05_c01.avi": ("short", "3 frames, a clip spans 5"),
        "extra.avi": ("unnamed", ""),
    }
    assert found["v_Bow_g02_c01.avi"][1].startswith("is not a readable video")
    assert found["v_Bow_g03_c01.avi"][1].startswith("is cut off")
    assert (report["files"], report["sound"], report["dataset"]) == (34, 29, "ucf101")
    assert report["counts"] == dict.fromkeys(
        ("missing", "unreadable", "truncated", "lying", "short", "unnamed"), 1
    )
    assert report["reader"] == "reader auto: pyav"
    assert "checked: 33 of 33" in done.stderr  # plain lines where there is no terminal


def test_table(tmp_path: Path) -> None:
    root = bad_set(tmp_path / "ucf101")
    done = run_here("check", "--root", str(root), "--clip_frames", "5")
    assert done.returncode == 1
    assert "lying: 1 (another number of frames than the header says)" in done.stdout
    assert "  UCF-101/Bow/v_Bow_g05_c01.avi: 3 frames, a clip spans 5" in done.stdout
    assert done.stdout.splitlines()[-1] == f"{root}: 34 files, 6 with problems"


def test_clean_set_in_every_layout(root: Path, tmp_path: Path) -> None:
    done = run_here("check", "--root", str(root), "--clip_frames", "6")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"{root}: 33 files, all intact")
    folder = root / "UCF-101"
    done = run_here("check", "--root", str(folder), "--clip_frames", "3", "--frame_stride", "2")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"{folder}: 33 files, all intact")
    videos = sorted(str(path) for path in folder.glob("*/*.avi"))[:3]
    table = write_lines(tmp_path / "a.csv", ["path,label", *(f"{path},x" for path in videos)])
    assert run_here("check", "--root", str(table), "--clip_frames", "6").returncode == 0
    write_lines(tmp_path / "a.csv", ["path,label", f"{videos[0]},x", "nothing.avi,y"])
    done = run_here("check", "--root", str(table), "--clip_frames", "6")
    assert done.returncode == 1
    assert "missing: 1 (named, and not there)\n  nothing.avi\n" in done.stdout


def test_what_was_passed_over_is_said_and_in_the_json(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", 20)
    (tmp_path / "notes.txt").touch()
    done = run_here("check", "--root", str(tmp_path), "--json")
    assert done.returncode == 0
    assert "notes.txt" in json.loads(done.stdout)["ignored"]
    assert len([line for line in done.stderr.splitlines() if "notes.txt" in line]) == 1


def test_file_that_hangs_costs_the_deadline(root: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    words = ["--root", str(root), "--clip_frames", "6", "--deadline", "4", "--json"]
    with fresh_workers(hanging(tmp_path / "site")["PYTHONPATH"]):
        done = run_here("check", *words)
    assert time.monotonic() - began < 90
    assert done.returncode == 1, done.stderr
    [problem] = json.loads(done.stdout)["problems"]
    assert problem["verdict"] == "unreadable"
    assert problem["detail"] == "not decoded within 4 s (--deadline)"


@pytest.mark.slow
def test_interrupted_in_order(root: Path, tmp_path: Path) -> None:
    words = command("check", "--root", str(root), "--deadline", "100", "--num_workers", "2")
    process = subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=hanging(tmp_path / "site"),
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len(processes_of(process.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.strip().endswith("video-snl check: interrupted")
    assert "Traceback" not in errors
    deadline = time.monotonic() + 10
    while processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_of(process.pid)


def test_bad_input(tmp_path: Path, root: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases = {
        ("--root", str(tmp_path / "nothing")): "does not exist",
        ("--root", str(tmp_path / "empty")): "holds no videos",
        ("--root", str(tmp_path / "empty"), "--dataset", "ucf101"): "ucfTrainTestlist",
        ("--root", str(root), "--num_workers", "0"): "--num_workers must be at least 1",
        ("--root", str(root), "--deadline", "0"): "--deadline",
        ("--root", str(root), "--deadline", "nan"): "--deadline: expected",
        ("--root", str(root), "--clip_frames", "0"): "--clip_frames",
        (): "root",
    }
    for words, said in cases.items():
        done = run_here("check", *words)
        assert done.returncode == 2 and said in done.stderr, (words, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1


def test_odd_videos(real_data: Path) -> None:
    folder = real_data / "odd_videos"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    done = run_here("check", "--root", str(folder), "--json")
    report = json.loads(done.stdout)
    verdicts = {Path(p["path"]).name: p["verdict"] for p in report["problems"]}
    assert done.returncode == 1
    assert verdicts == {
        "decord_corrupted.mp4": "unreadable",
        "empty_0_bytes.avi": "unreadable",
        "decord_video_0.mov": "short",
        "decord_video_180.mov": "short",
        "decord_video_90.mov": "short",
        "torchcodec_h265_video.mp4": "short",
        "torchcodec_test_non_zero_start.mp4": "short",
        "torchcodec_testsrc2_odd_height_and_width_mpeg2.mp4": "short",
    }
    assert report["sound"] == report["files"] - 8 == 12


def test_originals(real_data: Path) -> None:
    folder = real_data / "ucf101_originals"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    report = json.loads(run_here("check", "--root", str(folder), "--json").stdout)
    assert report["files"] == 13_320
    assert report["counts"] == {"missing": 13_320 - 99, "lying": 1}
    [lying] = [p for p in report["problems"] if p["verdict"] == "lying"]
    assert lying["path"].endswith("v_Kayaking_g12_c03.avi")
    assert (lying["frames"], lying["declared"]) == (371, 372)


def test_damaged_frames_are_found(tmp_path: Path) -> None:
    """Bytes in the middle of an H.264 file are gone: the decoder guesses, and says so."""
    path = write_streams(tmp_path / "a.mp4", [(96, 128)], gop=40)
    content = bytearray(path.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 60] = bytes(60)
    path.write_bytes(content)
    done = run_here("check", "--root", str(tmp_path), "--json")
    [problem] = json.loads(done.stdout)["problems"]
    assert problem["verdict"] == "unreadable"
