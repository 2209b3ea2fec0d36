"""Running a table's cells: what is skipped, resumed, shared out, and what fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.image_trees import write_cub
from tests.processes import gone
from tests.tables.conftest import STAND_IN
from video_snl.cli.main import main
from video_snl.errors import UserError
from video_snl.tables import jobs, networks
from video_snl.tables.cells import cells_of
from video_snl.tables.jobs import Job, found_result, job_of, run_job
from video_snl.tables.run import local_runner, run_jobs
from video_snl.tables.settings import Choices, plan
from video_snl.tables.store import Store

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ROOT = Path(__file__).resolve().parents[2]
WORDS = ("table", "6", "--dataset", "digits", "--blocks", "nl", "snl", "--seeds", "2")
COMMAND = (
    "import sys\n"
    "from video_snl.tables import jobs\n"
    f"jobs._PROGRAM = (sys.executable, {str(STAND_IN)!r})\n"
    "from video_snl.cli.main import main\n"
    "sys.exit(main(sys.argv[1:]))\n"
)

pytestmark = pytest.mark.usefixtures("stand_in")


def table(output: Path, *words: str) -> int:
    return main([*WORDS, "-o", str(output), *words])


def jobs_of(output: Path, *, seeds: int = 2) -> list[Job]:
    cells = cells_of(6, dataset="digits", blocks=["nl", "snl"])
    planned = [plan(cell, Choices(ROOT / "configs")) for cell in cells]
    return [job_of(cell, seed, output) for seed in range(seeds) for cell in planned]


def runs(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "runs").iterdir())


def test_a_table_is_run_once_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table(tmp_path) == 0
    shown = capsys.readouterr()
    assert "table 6: 0 of 6 trainings done" in shown.err
    assert "6 of 6: digits/preresnet20/" in shown.err
    assert (
        "| SNL | 2 | 55.50 ± 0.71 | 57.50 ± 0.71 | +5.00 (the same for every seed) |" in shown.out
    )
    assert "| SNL | 78.11 | +0.51 G | +2.62 M |" in shown.out  # as the paper prints it
    assert shown.out.count("Ours: images of 32 x 32, ") == 1
    assert (tmp_path / "table6.md").read_text() in shown.out
    before = runs(tmp_path)
    assert len(before) == 6 and (tmp_path / "table6.png").stat().st_size > 0
    assert len(json.loads((tmp_path / "table6.json").read_text())) == 3
    lines = (tmp_path / "table6.csv").read_text().splitlines()
    assert lines[5].startswith("digits/preresnet20/snl,,0,55.0000,57.0000,")
    assert len(lines) == 1 + 6
    assert "loading/wait" not in (tmp_path / "results.jsonl").read_text()

    assert table(tmp_path) == 0
    assert "6 of 6 trainings done" in capsys.readouterr().err
    assert runs(tmp_path) == before

    assert table(tmp_path, "--epochs", "3", "--blocks", "snl") == 0
    shown = capsys.readouterr()
    assert (
        "digits/preresnet20/snl: results of other settings do not count (seeds 0, 1)" in shown.err
    )
    assert "Not the paper's settings: digits, preresnet20, 3 epochs." in shown.out


@pytest.mark.parametrize(
    ("number", "dataset"),
    [
        pytest.param(2, "cifar100", marks=pytest.mark.slow),
        (4, "cifar10"),
        pytest.param(6, "imagenet", marks=pytest.mark.slow),
        (5, "cub200"),
        (8, "cityscapes"),
    ],
)
def test_a_training_on_every_data_set_is_found_again(
    number: int, dataset: str, tmp_path: Path
) -> None:
    (cell, *_) = cells_of(number, dataset=dataset, blocks=[])
    choices = Choices(ROOT / "configs", root=str(tmp_path), options={"data.num_workers": "3"})
    job = job_of(plan(cell, choices), 1, tmp_path)
    assert run_job(job).status == "finished"
    # The stand-in's share of a network without a block, and a hundredth for the seed.
    assert list(found_result(job).metrics["last"].values()) == [pytest.approx(0.51)]


def test_results_of_several_precisions_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_jobs(jobs_of(tmp_path)[:2], local_runner(2, []), _store(tmp_path), "val/top1") == []
    monkeypatch.setenv("STAND_IN_PRECISION", "bf16-mixed")
    assert table(tmp_path) == 0
    shown = capsys.readouterr().out
    assert "precisions: bf16-mixed, but 32-true: digits/preresnet20/none 0, digits" in shown
    assert {r.precision for r in _store(tmp_path).read().results} == {"32-true", "bf16-mixed"}


def _store(output: Path) -> Store:
    return Store(output / "results.jsonl")


def test_sizes_are_known_before_a_training_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(planned: object) -> None:
        assert not (tmp_path / "runs").exists()
        raise UserError("no such size")

    monkeypatch.setattr(networks, "sizes_of", refuse)
    assert table(tmp_path) == 2
    assert not (tmp_path / "runs").exists()


def test_a_cell_that_fails_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STAND_IN", "fail nl")
    assert table(tmp_path, "--jobs", "2") == 1
    shown = capsys.readouterr()
    assert shown.err.count("digits/preresnet20/nl, seed 1: failed: exit code 1: loss is not") == 2
    assert "| NL | 0 | - | - | - | - |" in shown.out
    assert "| SNL | 2 | 55.50 ± 0.71" in shown.out
    assert len(Store(tmp_path / "results.jsonl").read().results) == 4
    monkeypatch.delenv("STAND_IN")
    assert table(tmp_path) == 0
    assert "4 of 6 trainings done" in capsys.readouterr().err


def test_a_finished_run_without_a_row_is_not_trained_again(tmp_path: Path) -> None:
    job = jobs_of(tmp_path)[0]
    assert found_result(job) is None
    first, found = run_job(job).result, found_result(job)
    assert first is not None and found is not None
    assert (first.metrics, first.run) == (found.metrics, found.run)
    before = [path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/run.json")]
    result = run_job(job)
    assert result.status == "finished" and result.result is not None
    assert result.result.metrics["best"]["val/top1"] == pytest.approx(0.52)
    assert [p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*/run.json")] == before


def test_weights_in_the_place_of_others_are_trained_from(tmp_path: Path) -> None:
    """A run keeps what it started from: the file of that name may be another one by now."""
    file = tmp_path / "weights.pth"
    cell = cells_of(7, dataset="ucf5", blocks=["snl"])[0]

    def job() -> Job:
        choices = Choices(ROOT / "configs", weights=str(file))
        return job_of(plan(cell, choices), 0, tmp_path)

    file.write_bytes(b"first")
    first = job()
    assert run_job(first).status == "finished" and found_result(first) is not None
    file.write_bytes(b"second")
    assert found_result(job()) is None
    file.write_bytes(b"first")
    assert found_result(job()) is not None
    moved = job()
    file.unlink()
    assert found_result(moved) is not None


def test_two_commands_do_not_train_the_same(tmp_path: Path) -> None:
    job = jobs_of(tmp_path)[0]
    holder = "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX)\n"
    holder += "print('held', flush=True); sys.stdin.read()"
    job.lock.parent.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(job.lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    assert run_job(job).status == "elsewhere"
    process.communicate()
    assert run_job(job).status == "finished"


def test_every_training_has_its_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "results.jsonl")
    assert run_jobs(jobs_of(tmp_path), local_runner(2, ["4", "5"]), store, "val/top1") == []
    used = [result.versions["CUDA_VISIBLE_DEVICES"] for result in store.read().results]
    assert set(used) == {"4", "5"}
    assert "6 of 6: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupted_it_ends_its_trainings_in_order_and_goes_on(
    tmp_path: Path, sent: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", COMMAND, *WORDS, "-o", str(tmp_path), "--jobs", "2"]
    environment = {**os.environ, "STAND_IN": "wait"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 180
    while len(list((tmp_path / "runs").glob("*/run.json"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(sent)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == code, shown
    assert "the same command goes on" in shown and "Traceback" not in shown
    records = [json.loads(p.read_text()) for p in (tmp_path / "runs").glob("*/run.json")]
    assert [record["status"] for record in records] == ["interrupted"] * 2
    half_done = runs(tmp_path)

    assert table(tmp_path) == 0
    assert set(half_done) < set(runs(tmp_path)) and len(runs(tmp_path)) == 6
    assert "6 of 6" in capsys.readouterr().err


@pytest.mark.slow
def test_birds_are_trained_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "_PROGRAM", (sys.executable, "-m", "video_snl"))
    words = ["table", "5", "--dataset", "cub200", "--root", str(write_cub(tmp_path / "birds"))]
    words += ["--backbones", "preresnet20", "--blocks", "none", "--seeds", "1", "--epochs", "1"]
    words += ["--set", "data.height=32", "data.width=32", "data.short_side=40"]
    words += ["model.weights=null", "optimizer.batch_size=2", "-o", str(tmp_path / "out")]
    assert main(words) == 0, capsys.readouterr().err
    assert "1 of 1: cub200/preresnet20/none, seed 0: " in capsys.readouterr().err
    (result,) = _store(tmp_path / "out").read().results
    assert result.precision == "32-true" or torch.cuda.is_available()
    assert main(words) == 0
    assert "1 of 1 training done" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_it_leaves_trainings_that_no_other_command_disturbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", COMMAND, *WORDS, "-o", str(tmp_path)]
    environment = {**os.environ, "STAND_IN": "wait"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    end = time.monotonic() + 60
    while not list((tmp_path / "runs").glob("*/run.json")) and time.monotonic() < end:
        time.sleep(0.05)
    (training,) = _children(process.pid)
    process.kill()
    process.wait()
    try:
        assert run_job(jobs_of(tmp_path)[0]).status == "elsewhere"
    finally:
        os.kill(training, signal.SIGTERM)
    assert gone(training)
    result = run_job(jobs_of(tmp_path)[0])
    assert result.status == "finished" and len(runs(tmp_path)) == 1


def _children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in children for child in file.read_text().split()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seeds", "0"), "--seeds 0: at least 1 is needed"),
        (("--jobs", "0"), "--jobs 0: at least 1"),
        (("--set", "epochs=3"), "--set epochs=3: expected SECTION.KEY=VALUE"),
        (("--set", "trainer.seed=3"), "the table sets trainer.seed itself"),
        (("--set", "optimizer.batch_size=0"), "digits/preresnet20/none: optimizer.batch_size=0"),
        (("--set", "model.activation=silly"), "model.activation"),
        (("--set", "optimizer.accumulate=3"), "cannot be divided over 1 device(s) times"),
        (("--set", "trainer.devices=0"), "trainer.devices=0, trainer.nodes=1: at least one"),
        (("--set", "model.num_classes=7"), "model.num_classes=7, but digits has 10"),
        (("--set", "model.weights=nowhere.pth"), "model.weights=nowhere.pth: no such file"),
        (("--set", "optimizer.frozen_stages=[layer9]"), "names 'layer9'; this network has"),
        (("--dataset", "cifar10"), "--root is needed: the folder of cifar10"),
        (("--root", "nowhere"), "--root nowhere: no such folder"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert table(tmp_path, *words) == 2
    shown = capsys.readouterr().err
    assert message in shown and len(shown.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_dry_run_needs_no_data_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["table", "5", "--dataset", "digits", "--blocks", "snl", "--configs", str(CONFIGS)]
    words += ["--seeds", "2", "--epochs", "1", "-o", str(tmp_path / "out"), "--dry_run"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "3 cells, 2 seeds" in shown
    assert "| digits/preresnet20/snl/x1 | 272,954 | +672 | - | 0.0419 G | +0.0007 G | - |" in shown
    commands = [line for line in shown.splitlines() if line.startswith("video-snl train")]
    assert len(commands) == 6
    assert "'--model.stages=[1, 2, 3]'" in commands[-1] and "--trainer.seed 1" in commands[-1]
    assert not (tmp_path / "out").exists()
