"""``video-snl predict`` on streams, as a user meets it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command_lines import refused
from tests.export.checkpoints import video_checkpoint
from tests.streams import StreamServer, rtsp_server, standard_input
from tests.tiny import command, environment, run_here
from tests.videos import write_streams, write_video
from video_snl.cli.main import main
from video_snl.utils.counts import counts

Words = list[str]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Words:
    """The command, with a network of clips of 4 frames."""
    path = video_checkpoint(tmp_path_factory.mktemp("network") / "a.ckpt")
    return ["predict", "--checkpoint", str(path), "--accelerator", "cpu", "--crops", "1"]


def start(words: Words, *more: str, **kwargs: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        **kwargs,
    )


def lines_of(text: str) -> list[dict[str, Any]]:
    assert not text or text.endswith("\n")  # the last one is whole
    return [json.loads(line) for line in text.splitlines()]


def same(lines: list[dict[str, Any]], windows: list[dict[str, Any]], shown: str) -> None:
    """Lines of a stream are the windows of a file, with the name and the time."""
    assert len(lines) == len(windows) > 1
    for line, window in zip(lines, windows, strict=True):
        assert (line["video"], line["start"], line["end"]) == (
            shown,
            window["start"],
            window["end"],
        )
        assert line.keys() == window.keys() | {"video", "time"}
        for ours, theirs in zip(line["predictions"], window["predictions"], strict=True):
            assert ours["class"] == theirs["class"]
            assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)


def test_a_pipe_has_the_lines_of_its_file(
    words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "a.avi", frames=45)
    windows = ["--window", "0.8s", "--hop", "0.5s"]
    assert main([*words, *windows, "--json", str(path)]) == 0
    [of_file] = json.loads(capsys.readouterr().out)
    with standard_input(path.read_bytes()):
        assert main([*words, *windows, "-"]) == 0
    shown = capsys.readouterr()
    same(lines_of(shown.out), of_file["windows"], "-")
    said = shown.err.splitlines()
    assert said[0].startswith("video-snl predict: standard input: connected: 64 x 48, 25 frames")
    assert "standard input: 3 windows of 45 frames in " in said[-1] and len(said) == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-"], "give their length, such as --window 2s"),
        (["--window", "1s", "-", "a.avi"], "is a stream, of which there is one in a command: 2"),
        (["--window", "1s", "--plot", "a.png", "-"], "which is not drawn: leave out --plot"),
        (["--window", "1s", "--deadline", "3", "-"], "of a stream, give --timeout"),
        (["--window", "1s", "--timeout", "0", "-"], "--timeout 0.0: give seconds, more than 0"),
        (["--window", "1s", "--reconnect", "9", "a.avi"], "--reconnect is for streams"),
        (["--window", "1s", "--hop", "3f", "-"], "give both in seconds or in frames"),
        (["--window", "1s", "srt://user:secret@host"], "srt://***@host is no kind of stream"),
        (["--window", "1s", " 'rtsp://user:secret@host/a'"], "rtsp:/***@host/a': no such file"),
        (["--window", "1s", "rtsp:/user:secret@host/a"], "rtsp:/***@host/a: no such file"),
    ],
)
def test_options_that_do_not_fit(
    words: Words, more: Words, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(main, [*words, *more], capsys)
    assert said in line and "secret" not in line


def test_too_short_a_window_is_said(
    words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "a.avi", frames=20)
    with standard_input(path.read_bytes()):
        assert main([*words, "--window", "3f", "-"]) == 2
    shown = capsys.readouterr()
    assert not shown.out and "a window of 3 frames is shorter than a clip" in shown.err


@pytest.fixture
def ffmpeg() -> str:
    found = shutil.which("ffmpeg")
    if found is None:
        pytest.skip("no ffmpeg: apt-get install ffmpeg")
    return found


@pytest.fixture
def playing(ffmpeg: str) -> Iterator[subprocess.Popen[bytes]]:
    """A pipe into which FFmpeg writes a video of 25 frames a second, as fast as it plays."""
    source = "testsrc2=size=160x120:rate=25"
    process = subprocess.Popen(
        [ffmpeg, "-v", "error", "-re", "-f", "lavfi", "-i", source, "-c:v", "mpeg4"]
        + ["-f", "matroska", "-"],
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_between_whole_lines(
    words: Words, playing: subprocess.Popen[bytes], number: signal.Signals, code: int
) -> None:
    process = start(words, "--window", "0.4s", "-", stdin=playing.stdout)
    first = [process.stdout.readline() for _ in range(3)]
    process.send_signal(number)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    lines = lines_of("".join(first) + out)
    assert [line["start"] for line in lines[:3]] == pytest.approx([0, 0.4, 0.8], abs=0.002)
    assert f"standard input: {len(lines)} windows of " in errors


@pytest.mark.slow
def test_interrupted_while_nobody_reads(words: Words, playing: subprocess.Popen[bytes]) -> None:
    process = start(words, "--window", "0.2s", "--hop", "0.005s", "-", stdin=playing.stdout)
    first = process.stdout.readline()  # into Python's buffer go 8 KiB, and the pipe holds 64
    time.sleep(5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    lines = lines_of(first + process.stdout.read())
    assert 100 < len(lines) < 700


@pytest.mark.slow
def test_standard_input_that_stops_is_said_and_can_be_interrupted(
    words: Words, tmp_path: Path
) -> None:
    content = write_streams(tmp_path / "a.ts", [(48, 64)], frames=60).read_bytes()
    process = start(words, "--window", "0.4s", "--timeout", "1", "-", stdin=subprocess.PIPE)
    os.write(process.stdin.fileno(), content)
    line = ""
    while "no frame has come for" not in line:
        line = process.stderr.readline()
        assert line, process.poll()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143


@pytest.mark.slow
def test_rtsp_with_a_password_is_lost_and_found(words: Words) -> None:
    with rtsp_server("user", "secret") as (server, port):
        wrong = run_here(*words, "--window", "1s", f"rtsp://user:no@127.0.0.1:{port}/camera")
        assert wrong.returncode == 2 and not wrong.stdout
        [line] = wrong.stderr.splitlines()
        assert "401 Unauthorized" in line and ":no@" not in line
        address = f"rtsp://user:secret@127.0.0.1:{port}/camera"
        process = start(words, "--window", "0.4s", "--timeout", "5", address)
        out = [process.stdout.readline() for _ in range(3)]
        print(file=server.stdin, flush=True)  # which cuts it off
        while '"missing"' not in out[-1]:
            out.append(process.stdout.readline())
            assert out[-1], process.communicate()
        out.append(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    lines = lines_of("".join(out) + rest)
    assert {line["video"] for line in lines} == {f"rtsp://***@127.0.0.1:{port}/camera"}
    [place] = [place for place, line in enumerate(lines) if "missing" in line]
    missing, after = lines[place : place + 2]
    dropped = 0.4 * after.get("dropped_windows", 0)
    assert missing["start"] < missing["end"]
    assert after["start"] == pytest.approx(missing["end"] + dropped, abs=0.05)
    assert "trying again in 1 s" in errors and "secret" not in errors + str(lines)


@pytest.mark.slow
def test_a_recording_of_a_server_ends(words: Words, tmp_path: Path) -> None:
    path = write_streams(tmp_path / "a.mkv", [(48, 64)], frames=45)
    windows = ["--window", "10f", "--top", "1"]
    [of_file] = json.loads(run_here(*words, *windows, "--json", str(path)).stdout)
    with StreamServer([path.read_bytes()]) as server:
        address = f"{server.address}/a.mkv"
        done = run_here(*words, *windows, address)  # all of them
    assert done.returncode == 0, done.stderr
    same(lines_of(done.stdout), of_file["windows"], address.replace("user:secret", "***"))


@pytest.mark.slow
@pytest.mark.parametrize("behind", ["drop", "wait"])
def test_memory_does_not_grow_with_the_stream(words: Words, ffmpeg: str, behind: str) -> None:
    """Read as fast as FFmpeg writes: 20,000 frames, of which windows may be dropped, or none."""
    frames = 20_000 if behind == "drop" else 6_000
    source = f"testsrc2=size=160x120:rate=25:duration={frames // 25}"
    feeding = subprocess.Popen(
        [ffmpeg, "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "mpeg4"]
        + ["-f", "matroska", "-"],
        stdout=subprocess.PIPE,
    )
    process = start(words, "--window", "2s", "--behind", behind, "-", stdin=feeding.stdout)
    resident = []
    page = os.sysconf("SC_PAGE_SIZE")
    while line := process.stdout.readline():
        fields = Path(f"/proc/{process.pid}/statm").read_text().split()
        resident.append((json.loads(line)["end"], int(fields[1]) * page / 2**20))
        time.sleep(0.05 if behind == "drop" else 0)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and feeding.wait(30) == 0, errors
    assert f"of {counts(frames, 'frame')} in" in errors
    assert behind == "drop" or " dropped" not in errors
    early = [size for end, size in resident if end > frames / 250][:3]
    assert resident[-1][1] - early[0] < 30, f"{early[0]:.0f} to {resident[-1][1]:.0f} MiB"
