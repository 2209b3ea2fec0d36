"""``video-snl predict --window``: actions with their times, as a user meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.processes import descendants
from tests.tiny import environment, only_run, run_command, tiny_options
from tests.videos import write_video
from video_snl.cli.main import main
from video_snl.commands import view_scores as windows
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.render.timeline import Timeline, find_actions
from video_snl.tasks.action import ActionRecognition


@pytest.fixture(scope="module")
def words(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command, with a network of clips of 4 frames."""
    output = tmp_path_factory.mktemp("runs")
    assert main(["train", *tiny_options(root, output, optimizer__epochs=1)]) == 0
    return ["predict", "--checkpoint", str(only_run(output)), "--accelerator", "cpu"]


@pytest.mark.slow
def test_long_real_video(words: list[str], real_data: Path) -> None:
    path = real_data / "odd_videos" / "video_features_v_GGSY1Qvo990.mp4"  # 355 frames, 19.62 a s
    options = ["--window", "2s", "--hop", "1.5", "--json", "--top", "2", "--crops", "1"]
    done = run_command(*words, *options, str(path))
    assert done.returncode == 0, done.stderr
    [result] = json.loads(done.stdout)
    assert result["video"] == str(path) and "error" not in result
    frame, end = 1 / 19.62, 355 / 19.62
    expected = [1.5 * k for k in range(11)] + [end - 2]
    assert len(result["windows"]) == len(expected)
    for window, start in zip(result["windows"], expected, strict=True):
        assert start - 1e-3 <= window["start"] < start + frame
        assert window["end"] - window["start"] == pytest.approx(2, abs=1.01 * frame)
        scores = [guess["score"] for guess in window["predictions"]]
        assert len(scores) == 2 and scores == sorted(scores, reverse=True)
        assert 0 < sum(scores) <= 1
    assert result["windows"][-1]["end"] == pytest.approx(end, abs=1e-3)


def test_table(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_video(tmp_path / "a\nb.avi", frames=60)  # at 25 frames a second
    assert main([*words, "--window", "20f", "--hop", "15f", "--top", "1", str(path)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == str(tmp_path / r"a\nb.avi")  # a name is one line, whatever is in it
    times = [line.split("  ")[:-1] for line in lines]
    spans = [(0, 0.8), (0.6, 1.4), (1.2, 2.0), (1.6, 2.4)]
    assert [" ".join(parts).split() for parts in times] == [
        [f"{start:.2f}", "s", "-", f"{end:.2f}", "s"] for start, end in spans
    ]
    assert all(line.split("  ")[-1].endswith("%") for line in lines)


def test_window_of_the_whole_video_is_the_prediction(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_video(tmp_path / "a.avi", frames=30))
    for views in (["--clips", "3", "--crops", "3"], ["--clips", "1", "--crops", "1"]):
        assert main([*words, *views, "--json", path]) == 0
        [whole] = json.loads(capsys.readouterr().out)
        assert main([*words, *views, "--json", "--window", "1.2s", path]) == 0
        [result] = json.loads(capsys.readouterr().out)
        [window] = result["windows"]
        assert (window["start"], window["end"]) == (0, 1.2)
        for ours, expected in zip(window["predictions"], whole["predictions"], strict=True):
            assert ours["class"] == expected["class"]
            assert ours["score"] == pytest.approx(expected["score"], abs=1e-4)


@pytest.mark.slow
def test_video_that_breaks_gives_what_came_before(words: list[str], real_data: Path) -> None:
    path = real_data / "odd_videos" / "decord_corrupted.mp4"  # 50 frames, 10 a second; 28 are sound
    done = run_command(*words, "--window", "10f", "--crops", "1", "--json", str(path))
    assert done.returncode == 2
    [result] = json.loads(done.stdout)
    assert 1 <= len(result["windows"]) < 5 and result["windows"][0]["start"] == 0
    [line] = done.stderr.strip().splitlines()
    assert "decord_corrupted.mp4" in line and result["error"] in line


@pytest.mark.timeout(200)
def test_killed_process_gives_what_came_before_and_an_error(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_video(tmp_path / "a.avi", frames=60)
    score_views, killed = windows.score_views, set[int]()
    others = set(descendants(start_forkserver().pid))  # of tests before, that are about to end

    def score_and_kill(task: ActionRecognition, views: np.ndarray, path: str) -> torch.Tensor:
        if not killed:
            time.sleep(1)  # the next window is decoded meanwhile, and the process waits
            [worker] = set(descendants(start_forkserver().pid)) - others
            os.kill(worker, signal.SIGKILL)
            killed.add(worker)
        return score_views(task, views, path)

    monkeypatch.setattr(windows, "score_views", score_and_kill)
    monkeypatch.setattr(windows, "_CLIPS_AT_ONCE", 1)
    assert main([*words, "--window", "10f", "--json", str(path)]) == 2
    shown = capsys.readouterr()
    [result] = json.loads(shown.out)
    assert 1 <= len(result["windows"]) < 6 and result["windows"][0]["start"] == 0
    [line] = shown.err.strip().splitlines()
    assert result["error"] in line and f"{path}: " in line and "process" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hop", "1s"], "--hop 1s is between windows: give their length, --window 2s"),
        (["--window", "soon"], "--window soon: give seconds, such as 2.5s, or frames"),
        (["--window", "2s", "--hop", "9f"], "give both in seconds or in frames"),
        (["--window", "3f"], "a window of 3 frames is shorter than a clip, which spans 4"),
        (["--window", "1s", "--clips", "0"], "--clips must be at least 1"),
    ],
)
def test_bad_options(
    words: list[str],
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_video(tmp_path / "a.avi", frames=30)
    assert main([*words, *options, str(path)]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert message in line


@pytest.mark.timeout(200)
def test_file_that_takes_too_long_is_given_up(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = str(write_video(tmp_path / "slow.avi", 600, (480, 640)))
    assert main([*words, "--deadline", "0.05", slow]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert f"{slow}: decoding took longer than 0.05 s, and was given up" in line
    assert main([*words, "--window", "20s", "--clips", "2", slow]) == 0  # as in training
    assert main([*words, "--deadline", "0", slow]) == 2
    assert "--deadline 0.0: give seconds, more than 0" in capsys.readouterr().err


def test_short_window_is_taken_when_told_how(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "a.avi", frames=9)
    options = ["--window", "3f", "--short_videos", "repeat_last", "--json"]
    assert main([*words, *options, str(path)]) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert [window["start"] for window in result["windows"]] == [0, 0.12, 0.24]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    """Memory of the process that decodes: 800 frames of 640 x 480, 700 MB if all were kept."""
    short, long = (
        str(write_video(tmp_path / f"{frames}.avi", frames, (480, 640))) for frames in (60, 800)
    )
    code = (
        "import resource\n"
        "from video_snl.config.video import DataConfig\n"
        "from video_snl.data.video.inference import _Windows\n"
        "from video_snl.data.video.windows import Length\n"
        "read = _Windows(DataConfig(), 1, Length(32, 'f'), Length(16, 'f'))\n"
        f"for path in ({short!r}, {long!r}):\n"
        "    number = 0\n"
        "    while read((path, number)) is not None: number += 1\n"
        "    print(number, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    (few, before), (many, after) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (few, many) == (3, 49)
    assert after - before < 100


def test_actions_are_spans_of_the_best_class() -> None:
    starts = np.array([0.0, 1, 2, 3, 4, 10])
    best = [(0, 0.6), (0, 0.8), (1, 0.9), (1, 0.4), (1, 0.5), (1, 0.7)]
    scores = np.full((6, 3), 0.05)
    for row, (label, score) in enumerate(best):
        scores[row, label] = score
    # Windows of two seconds, one after another: each stands for the second about its middle.
    found = find_actions(Timeline(starts, starts + 2, scores), 0.5)
    assert [action[:3] for action in found] == [
        (0, 2.5, 0),
        (2.5, 3.5, 1),
        (4.5, 6, 1),
        (10, 12, 1),
    ]
    assert [action.score for action in found] == pytest.approx([0.7, 0.9, 0.5, 0.7])
    assert find_actions(Timeline(starts, starts + 2, scores), 0.95) == []


def test_plot_draws_and_lists_the_actions(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_video(tmp_path / "a.avi", frames=60))
    assert main([*words, "--window", "20f", "--json", path]) == 0
    [without] = json.loads(capsys.readouterr().out)
    plot = ["--plot", str(tmp_path / "a.png"), "--threshold", "0.01"]
    assert main([*words, "--window", "20f", "--json", *plot, path]) == 0
    [result] = json.loads(capsys.readouterr().out)
    actions = result.pop("actions")
    assert result.pop("plot") == str(tmp_path / "a.png") and result == without
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert actions[0]["start"] == 0 and actions[-1]["end"] == 2.4
    assert actions[0]["class"] == without["windows"][0]["predictions"][0]["class"]
    other = str(write_video(tmp_path / "b.avi", frames=60))
    assert main([*words, "--window", "20f", "--plot", str(tmp_path / "plots"), path, other]) == 0
    assert "  actions of a score of 50% or more: " in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "plots").iterdir()} == {"a.png", "b.png"}
    # A file that is named twice is done once, and one of the same name elsewhere is another.
    same = str(write_video(tmp_path / "deep" / "a.avi", frames=60))
    again = str(tmp_path / "deep" / ".." / "a.avi")
    more = ["--json", "--plot", str(tmp_path / "twice"), path, again, same, path]
    assert main([*words, "--window", "20f", *more]) == 0
    out, err = capsys.readouterr()
    drawn = {entry["video"]: Path(entry["plot"]).name for entry in json.loads(out)}
    assert drawn == {path: "a.png", same: "a-2.png"}
    assert err.count("named more than once") == 1 and f"{path} is named" in err
    assert {file.name for file in (tmp_path / "twice").iterdir()} == set(drawn.values())
    for wrong, said in (
        (["--plot", "p.png"], "--plot p.png shows windows over time: give their length"),
        (["--window", "20f", "--plot", "p.gif"], "--plot p.gif: give a file that ends in .png"),
        (["--window", "20f", "--threshold", "0"], "--threshold 0.0: give a score"),
    ):
        assert main([*words, *wrong, path]) == 2
        assert said in capsys.readouterr().err
