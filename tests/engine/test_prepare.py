"""``video-snl prepare``: the same videos, quick to decode, or nothing at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.engine.test_check import hanging, processes_of
from tests.tiny import command, environment, run_command, run_here
from tests.videos import write_streams, write_ucf101, write_video
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import read_clips
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.data.video.file_lists import find_videos

pytestmark = pytest.mark.timeout(240)


def prepare(root: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_here("prepare", "--root", str(root), "--out", str(out), *words)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_same_layout_names_and_frames(tmp_path: Path) -> None:
    root = write_ucf101(tmp_path / "ucf101", classes=("Bow", "Clap"), groups=range(1, 9))
    shutil.rmtree(root / "clips")
    large = root / "UCF-101" / "Bow" / "v_Bow_g01_c01.avi"
    large.unlink()
    write_streams(large, [(120, 200)], codec="mpeg4", frames=41, gop=41)
    before = contents(root)
    done = prepare(root, tmp_path / "out", "--short_side", "64", "--key_frame_every", "5")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out'}: 16 of 16 videos prepared\n"
    assert contents(root) == before
    after = contents(tmp_path / "out")
    assert set(after) == {*before, "prepared.json"}
    for name in before:
        if name.startswith("ucfTrainTestlist"):
            assert after[name] == before[name]
    made = tmp_path / "out" / large.relative_to(root)
    facts = find_stream_info(str(made))
    assert (facts.length, facts.height, facts.width) == (41, 64, 106)  # 106.7, made even
    assert facts.entries == (*range(0, 41, 5),) and facts.stamps == range(41)
    frames = PyAVReader(str(made)).frames(range(41))
    source = read_clips(str(large), lambda n: [list(range(n))], 64)[0]
    difference = (frames.float()[:, :, :104] - source.float()[:, :, :104]).abs()
    assert difference.mean() < 2  # the red corner is a little narrower
    check = run_here("check", "--root", str(tmp_path / "out"), "--clip_frames", "6")
    assert check.returncode == 0, check.stdout


def test_smaller_videos_keep_their_size(tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "small.avi", 4, (48, 66))
    assert prepare(tmp_path / "in", tmp_path / "out").returncode == 0
    facts = find_stream_info(str(tmp_path / "out" / "small.avi"))
    assert (facts.height, facts.width) == (48, 66)


def test_every_suffix_and_its_time_stamps(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for suffix in (".mp4", ".mov", ".mkv", ".avi", ".m4v"):
        write_streams(tmp_path / "in" / f"video{suffix}", [(64, 96)], frames=30)
    shutil.copy(tmp_path / "in" / "video.mkv", tmp_path / "in" / "video.wmv")
    done = prepare(tmp_path / "in", tmp_path / "out", "--short_side", "32")
    assert done.returncode == 0, done.stderr
    for path in sorted((tmp_path / "in").iterdir()):
        facts = find_stream_info(str(tmp_path / "out" / path.name))
        assert facts.entries == (0, 8, 16, 24) and facts.stamps is not None, path
        whole = PyAVReader(str(tmp_path / "out" / path.name)).frames(range(30))
        assert torch.equal(PyAVReader(str(tmp_path / "out" / path.name)).frames([21]), whole[[21]])
        area = whole[:, 12:20].float().mean((1, 2, 3)) / 10
        assert area.round().tolist() == [index % 25 for index in range(30)]


def test_bad_originals_are_reported_and_not_written(tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "good.avi", 6)
    (tmp_path / "in" / "text.avi").write_text("no video")
    whole = (tmp_path / "in" / "good.avi").read_bytes()
    (tmp_path / "in" / "cut.avi").write_bytes(whole[: len(whole) // 2])
    done = prepare(tmp_path / "in", tmp_path / "out")
    assert done.returncode == 1
    assert "not prepared: " in done.stderr and "text.avi is not a readable video" in done.stderr
    assert "cut.avi is cut off" in done.stderr
    assert done.stdout.endswith("1 of 3 videos prepared\n")
    assert set(contents(tmp_path / "out")) == {"good.avi", "prepared.json"}


def test_goes_on_where_it_ended(tmp_path: Path) -> None:
    for name in ("a.avi", "b.avi", "c.avi"):
        write_video(tmp_path / "in" / name, 6)
    out = tmp_path / "out"
    assert prepare(tmp_path / "in", out).returncode == 0
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.avi")}
    (out / "b.avi").unlink()
    (out / "c.avi").write_bytes((out / "c.avi").read_bytes()[:3000])  # damaged since
    (out / ".a-abcd1234.avi").touch()  # of a process that was killed
    done = prepare(tmp_path / "in", out)
    assert done.returncode == 0 and "1 of 3 are there" in done.stderr
    assert (out / "a.avi").stat().st_mtime_ns == times["a.avi"]
    assert {path.name for path in out.iterdir()} == {"a.avi", "b.avi", "c.avi", "prepared.json"}
    assert find_stream_info(str(out / "c.avi")).length == 6
    os.utime(tmp_path / "in" / "a.avi", (time.time() + 10, time.time() + 10))  # changed since
    assert "2 of 3 are there" in prepare(tmp_path / "in", out).stderr


def test_another_setting_is_an_error(tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "a.avi", 6)
    out = tmp_path / "out"
    assert prepare(tmp_path / "in", out).returncode == 0
    manifest = json.loads((out / "prepared.json").read_text())
    assert manifest["short_side"] == 128 and manifest["key_frame_every"] == 8
    done = prepare(tmp_path / "in", out, "--short_side", "64")
    assert done.returncode == 2
    assert "was prepared with" in done.stderr and "short_side 128" in done.stderr


def test_bad_input(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write_video(source / "a.avi", 6)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "note.md").touch()
    (tmp_path / "file").touch()
    absolute = write_video(tmp_path / "absolute" / "a.avi", 3).parent
    (absolute / "a.csv").write_text(f"path,label\n{absolute}/a.avi,x\n")
    for words, said in {
        (source, source): "lie in one another",
        (source, source / "below"): "lie in one another",
        (source, tmp_path / "used"): "is not empty",
        (source, tmp_path / "file"): "is a file",
        (tmp_path / "nothing", tmp_path / "out"): "does not exist",
        (source, tmp_path / "out", "--short_side", "127"): "even number",
        (absolute, tmp_path / "out"): "a.csv names videos by absolute paths",
        (source, tmp_path / "out", "--key_frame_every", "0"): "--key_frame_every 0",
    }.items():
        done = prepare(*words)  # type: ignore[arg-type]
        assert done.returncode == 2 and said in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_two_at_once(tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "a.avi", 3)
    out = tmp_path / "out"
    assert prepare(tmp_path / "in", out).returncode == 0
    (out / "a.avi").unlink()
    with (out / "prepared.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = prepare(tmp_path / "in", out)
    assert done.returncode == 2 and "another video-snl prepare is writing to" in done.stderr
    assert not (out / "a.avi").exists()
    assert prepare(tmp_path / "in", out).returncode == 0


def test_linked_folders(tmp_path: Path) -> None:
    """Folders of classes may be links; one that leads back is not followed."""
    write_video(tmp_path / "elsewhere" / "a.avi", 3)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "Bow").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    assert find_videos(tmp_path / "in").videos == [tmp_path / "in" / "Bow" / "a.avi"]
    (tmp_path / "elsewhere" / "text.avi").write_text("no video")
    done = prepare(tmp_path / "in", tmp_path / "out")
    assert done.stdout.endswith("1 of 2 videos prepared\n")
    assert "looked at: 2 of 2" in done.stderr
    assert (tmp_path / "out" / "Bow" / "a.avi").is_file()


def large_set(folder: Path) -> Path:
    """Ten videos that take about 60 KB each when they are prepared."""
    first = write_streams_of_noise(folder / "0.avi")
    for number in range(1, 10):
        shutil.copy(first, folder / f"{number}.avi")
    return folder


def write_streams_of_noise(path: Path) -> Path:
    import av
    import numpy as np

    path.parent.mkdir(parents=True)
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        stream.bit_rate = 2_000_000
        for _ in range(20):
            image = random.integers(0, 255, (128, 128, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.slow
def test_full_disk(tmp_path: Path) -> None:
    """A full disk gives one line and nothing half-written; with room it goes on."""
    source = large_set(tmp_path / "in")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        done = run_command("prepare", "--root", str(source), "--out", str(disk / "out"))
        assert done.returncode == 2, done.stderr
        line = done.stderr.strip().splitlines()[-1]
        assert "No space left on device" in line and "make room" in line
        assert "Traceback" not in done.stderr
        names = {path.name for path in (disk / "out").iterdir()}
        assert "prepared.json" in names and 0 < len(names) < 11
        for name in names - {"prepared.json"}:
            assert find_stream_info(str(disk / "out" / name)).length == 20
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert prepare(source, disk / "out").returncode == 0
        assert len(list((disk / "out").glob("*.avi"))) == 10
    finally:
        subprocess.run(["umount", str(disk)], check=True)


LIMITED = """
import resource, sys
from video_snl.commands.prepare import prepare_one
from video_snl.commands.prepare import Settings
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
print(prepare_one((sys.argv[1], sys.argv[2]), Settings(128, 8)))
"""


def test_files_may_not_grow(tmp_path: Path) -> None:
    """The same where the system limits the size of files, as quotas do; needs no root."""
    source = large_set(tmp_path / "in") / "0.avi"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(source), str(tmp_path / "out" / "0.avi")],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
    )
    assert done.stdout.strip() == "DiskFull(reason='File too large')", done.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_interrupted_in_order(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command("prepare", "--root", str(root / "UCF-101"), "--out", str(out)),
        stderr=subprocess.PIPE,
        text=True,
        env=hanging(tmp_path / "site"),
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("Bow/*.avi")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert not [path for path in out.rglob(".*")]
    deadline = time.monotonic() + 10
    while processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_of(process.pid)
    for path in out.rglob("*.avi"):
        assert find_stream_info(str(path)).length == 6
