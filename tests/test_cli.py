"""The commands as a user meets them: help, results, and one clear line for bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.tiny import environment, only_run, tiny_options
from tests.videos import write_ucf101, write_video
from video_snl.cli.main import main
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import read_checkpoint

COMMANDS = (
    "train",
    "evaluate",
    "compare",
    "predict",
    "features",
    "serve",
    "describe",
    "check",
    "prepare",
    "export",
    "publish",
    "table",
)


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    assert main(["train", *tiny_options(root, output, optimizer__epochs=1)]) == 0
    return only_run(output)


def exit_code(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as stopped:
        return int(stopped.code or 0)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_explains_every_option_without_loading_torch(command: str) -> None:
    code = (
        "import sys\nfrom video_snl.cli.main import main\n"
        f"try: main({[command, '--help', 'all'] if command else ['--help']!r})\n"
        "except SystemExit as stopped: assert not stopped.code\n"
        "heavy = {'torch', 'lightning', 'numpy', 'decord'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    options = [line for line in done.stdout.splitlines() if line.startswith("  -")]
    assert options
    lines = [*done.stdout.splitlines(), ""]
    for option in options:
        if "CONFIG" in option or "print_config" in option:
            continue
        following = lines[lines.index(option) + 1].strip()
        explained = len(option.split("  ")) > 2 or (following and not following.startswith("-"))
        assert explained, f"{option} is not explained"


def test_evaluate_writes_both_levels(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--checkpoint", str(run), "--clips", "2", "--crops", "3"]) == 0
    shown = capsys.readouterr().out
    assert "clip (centre crop of the centre clip)" in shown
    assert "video (2 clips x 3 crops)" in shown
    folder = run / "evaluation"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["videos"] == 21 and metrics["classes"] == 3
    for level in ("clip", "video"):
        assert 0 <= metrics[f"{level}_top1"] <= metrics[f"{level}_top3"] == 1
        report = json.loads((folder / f"per_class_{level}.json").read_text())
        assert report["Bow"]["support"] == 7
        for name in (f"per_class_{level}.csv", f"confusion_{level}.csv", f"confusion_{level}.png"):
            assert (folder / name).stat().st_size > 0
    rows = (folder / "predictions.csv").read_text().splitlines()
    assert len(rows) == 22
    page = (folder / "report.html").read_text()
    command = f"video-snl evaluate --checkpoint {run} --clips 2 --crops 3"
    assert command in page and "data:image/jpeg" in page
    assert f"page: {folder / 'report.html'}" in shown
    intervals = json.loads((folder / "intervals.json").read_text())
    assert intervals["video"]["top1"]["value"] == pytest.approx(metrics["video_top1"])
    assert (intervals["resampled"], intervals["units"]) == ("recordings", 21)


def test_predict_lists_the_classes_of_every_video(
    run: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = root / "UCF-101" / "Bow"
    words = ["predict", "--checkpoint", str(run), "--clips", "2", "--crops", "1", "--json"]
    assert main([*words, str(folder)]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [Path(result["video"]) for result in results] == sorted(folder.glob("*.avi"))
    for result in results:
        scores = [guess["score"] for guess in result["predictions"]]
        assert len(scores) == 3 and sum(scores) == pytest.approx(1, abs=1e-4)
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(("reader", "device"), [("frames", "cpu"), ("auto", "cuda")])
def test_predict_reads_files_whatever_the_training_read(
    run: Path,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    reader: str,
    device: str,
) -> None:
    content = dict(read_checkpoint(checkpoint_path(str(run))))
    content["video_snl"]["experiment"]["data"] |= {"reader": reader, "decode_device": device}
    torch.save(content, tmp_path / "other.ckpt")
    file = next((root / "UCF-101" / "Bow").glob("*.avi"))
    words = ["predict", "--checkpoint", str(tmp_path / "other.ckpt"), "--accelerator", "cpu"]
    assert main([*words, "--json", str(file)]) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert result["video"] == str(file) and len(result["predictions"]) == 3


def test_predict_goes_on_after_a_bad_file(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.avi").touch()
    good = shutil.copy(next((root / "UCF-101" / "Bow").glob("*.avi")), tmp_path / "good.avi")
    assert main(["predict", "--checkpoint", str(run), str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert str(good) in shown.out
    assert "empty.avi" in shown.err and len(shown.err.strip().splitlines()) == 1


def test_max_pixels_is_an_option_of_all_that_read_files(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "in" / "a.avi", frames=6, size=(48, 64))
    folder, limit = str(path.parent), ["--max_pixels", "3000"]
    prepare = ["prepare", "--root", folder, "--out", str(tmp_path / "out")]
    for words, code in (
        (["predict", "--checkpoint", str(run), str(path)], 2),
        (["check", "--root", folder, "--clip_frames", "6"], 1),
        (prepare, 1),
    ):
        assert main([*words, *limit]) == code, words
        shown = capsys.readouterr()
        assert "--max_pixels" in shown.out + shown.err and "3,000" in shown.out + shown.err, shown
        assert main([*words, "--max_pixels", "0"]) == 2
        assert "--max_pixels 0" in capsys.readouterr().err
    assert not (tmp_path / "out" / "a.avi").exists()


def test_predict_on_every_odd_video(
    run: Path, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that can be read are named, the two others said to be bad."""
    folder = real_data / "odd_videos"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    words = ["predict", "--checkpoint", str(run), "--clips", "2", "--crops", "1", "--json"]
    assert main([*words, "--short_videos", "repeat_last", str(folder)]) == 2
    shown = capsys.readouterr()
    named = {Path(result["video"]).name for result in json.loads(shown.out)}
    bad = {"decord_corrupted.mp4", "empty_0_bytes.avi"}
    assert named == {path.name for path in folder.iterdir()} - bad
    lines = shown.err.strip().splitlines()
    assert len(lines) == 2
    assert "decord_corrupted.mp4 breaks while" in lines[0] and "is empty" in lines[1]


def test_describe_paper_network(capsys: pytest.CaptureFixture[str]) -> None:
    config = Path(__file__).resolve().parent.parent / "configs" / "ucf101" / "i3d_r50_snl.yaml"
    assert main(["describe", "--config", str(config), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == 46_405_925 + 2_623_488
    assert facts["multiply_adds"] == pytest.approx(10.3597e9, abs=1e5)
    [block] = facts["blocks"]
    assert (block["name"], block["position"]) == ("SNL3d", "before:res4.5")
    assert block["parameters"] == 2_623_488
    assert f"{block['multiply_adds'] / 1e9:.2f}" == "0.26"
    added = facts["multiply_adds_with_affinity"] - facts["multiply_adds"]
    # N = 98 is below 2 Cs = 1024: the dense order, N^2 (Cs + Cs).
    assert added == 98**2 * 1024


def test_describe_table_names_layers_and_block(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe"]) == 0
    shown = capsys.readouterr().out
    for part in ("stem", "res2", "res5", "head", "SNL3d before:res4.1", "with affinity product"):
        assert part in shown


def bad_inputs(tmp: Path, root: Path, run: Path) -> dict[str, tuple[list[str], str]]:
    """Name -> arguments and what the line must say."""
    train = ["train", *tiny_options(root, tmp / "runs")]
    bare = write_ucf101(tmp / "bare", groups=range(1, 9))
    shutil.rmtree(bare / "UCF-101" / "Clap")
    unlisted = write_ucf101(tmp / "unlisted", groups=range(1, 9))
    (unlisted / "ucfTrainTestlist" / "trainlist01.txt").unlink()
    other = write_ucf101(tmp / "other", classes=("Run", "Swim"), groups=range(1, 9))
    text = tmp / "text.avi"
    text.write_text("no video")
    cut = tmp / "cut.avi"
    cut.write_bytes(next((root / "UCF-101" / "Bow").glob("*.avi")).read_bytes()[:3000])
    short = write_video(tmp / "short.avi", frames=3)
    empty = tmp / "empty.avi"
    empty.touch()
    predict = ["predict", "--checkpoint", str(run)]
    evaluate = ["evaluate", "--checkpoint", str(run)]
    return {
        "no root": (["train", "--data.dataset", "ucf101"], "--data.root"),
        "root missing": ([*train, "--data.root", str(tmp / "nowhere")], "nowhere"),
        "wrong layout": ([*train, "--data.root", str(root / "clips")], "ucfTrainTestlist"),
        "missing split file": ([*train, "--data.root", str(unlisted)], "trainlist01.txt"),
        "class without videos": ([*train, "--data.root", str(bare)], "Clap"),
        "unknown key": ([*train, "--data.colour", "red"], "data.colour"),
        "unknown value": ([*train, "--model.block", "snll"], "snll"),
        "unknown place": ([*train, "--model.positions", "[before:res6.0]"], "res4.0-1"),
        "malformed place": ([*train, "--model.positions", "[res4]"], "before:PLACE"),
        "no place": ([*train, "--model.positions", "[]"], "no block would be inserted"),
        "relu at zero": ([*train, "--model.activation", "relu"], "zero_init"),
        "crop too large": ([*train, "--data.crop", "64"], "data.crop=64"),
        "clip too short": ([*train, "--data.clip_frames", "2"], "at least 4 frames"),
        "batch indivisible": ([*train, "--optimizer.accumulate", "4"], "multiple of 4"),
        "no such device": ([*train, "--trainer.accelerator", "abacus"], "abacus"),
        "class count": ([*train, "--model.num_classes", "9"], "3 classes"),
        "weights missing": ([*train, "--model.weights", str(tmp / "k.pth")], "k.pth"),
        "unreachable url": (
            [*train, "--model.weights", "http://127.0.0.1:9/r3d50_K_200ep.pth"],
            "127.0.0.1:9",
        ),
        "resume nothing": (
            ["train", "--resume", "--trainer.output", str(tmp / "none")],
            "found no run",
        ),
        "resume no run": (["train", "--resume", str(tmp)], "run.json"),
        "no checkpoint": (["evaluate", "--checkpoint", str(tmp / "no.ckpt")], "no.ckpt"),
        "no model file": (["predict", "--checkpoint", str(text), str(short)], "text.avi"),
        "other architecture": ([*evaluate, "--model.block", "none"], "another network"),
        "other classes": ([*evaluate, "--data.root", str(other)], "2 (Run, Swim"),
        "empty video": ([*predict, str(empty)], "is empty"),
        "truncated video": ([*predict, str(cut)], "cut.avi"),
        "no video": ([*predict, str(text)], "text.avi"),
        "3 frames": ([*predict, str(short)], "3 frames"),
        "no file": ([*predict, str(tmp / "no.avi")], "no.avi"),
        "no videos": ([*predict, str(unlisted / "ucfTrainTestlist")], "no videos"),
        "unknown config": (["train", "--config", str(tmp / "no.yaml")], "no.yaml"),
        "unknown command": (["tarin"], "tarin"),
    }


def test_bad_input_gets_one_line_and_exit_code_2(
    tmp_path: Path, root: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = []
    for name, (words, expected) in bad_inputs(tmp_path, root, run).items():
        code = exit_code(words)
        lines = [
            line
            for line in capsys.readouterr().err.strip().splitlines()
            if not line.startswith(("run folder:", "downloading"))
        ]
        if code != 2 or len(lines) != 1 or expected not in lines[0] or "error: " not in lines[0]:
            problems.append(f"{name}: exit code {code}, {lines}, expected {expected!r}")
    assert not problems, "\n".join(problems)


def test_short_video_is_taken_when_told_how(run: Path, tmp_path: Path) -> None:
    short = write_video(tmp_path / "short.avi", frames=3)
    words = ["predict", "--checkpoint", str(run), "--short_videos", "repeat_last"]
    assert main([*words, str(short)]) == 0
