"""The command ``reid`` as a user meets it: help, files it writes, one clear line for bad input."""

from __future__ import annotations

import errno
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reid.config import ReidExperiment
from reid.data.tracklet import JUNK, NO_NUMBER
from reid.retrieval.features import read_features
from reid.splits import _without_splits
from reid.task_spec import REID
from reid.trained import load_trained
from tests.processes import largest_file
from tests.reid.little import run, write_tracklet
from tests.tiny import environment
from tests.videos import write_video
from video_snl.config.files import Given
from video_snl.errors import UserError
from video_snl.runs.run import Run
from video_snl.utils.locks import locked

COMMANDS = (
    "train",
    "evaluate",
    "extract",
    "search",
    "calibrate",
    "describe",
    "check",
    "publish",
    "serve",
)


def test_help_explains_every_option_without_loading_torch() -> None:
    code = (
        "import sys\nfrom reid.cli.main import main\n"
        f"for words in [['--help']] + [[command, '--help', 'all'] for command in {COMMANDS!r}]:\n"
        "    try: main(words)\n"
        "    except SystemExit as stopped: assert not stopped.code\n"
        "heavy = {'torch', 'lightning', 'numpy', 'torchreid', 'faiss'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    lines = [*done.stdout.splitlines(), ""]
    options = [i for i, line in enumerate(lines) if line.startswith("  -")]
    assert len(options) > 100
    for i in options:
        if "CONFIG" in lines[i] or "print_config" in lines[i]:
            continue
        following = lines[i + 1].strip()
        explained = len(lines[i].split("  ")) > 2 or (following and not following.startswith("-"))
        assert explained, f"{lines[i]} is not explained"


def test_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reid", "--version"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0 and done.stdout.startswith("reid ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--data.colour", "blue"], "colour"),
        (["train", "--dataset", "cifar"], "cifar"),
        (["train", "--splits", "all"], "--splits all: sample has one split only"),
        (["train", "--dataset", "prid2011", "--splits", "3"], "--splits 3: give all"),
        (["train", "--dataset", "mars"], "--root"),
        (["evaluate", "--checkpoint", "/nowhere.ckpt"], "/nowhere.ckpt: no such file or folder"),
        (["extract", "somewhere"], "output"),
        (["check", "--num_workers", "0"], "--num_workers must be at least 1"),
        (["check", "--dataset", "mars", "--deadline", "0"], "--deadline must be more than 0"),
        (["check", "--dataset", "mars", "--root", "/nowhere"], "--root /nowhere does not exist"),
    ],
)
def test_bad_arguments_are_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_a_run_of_one_split_repeats_the_words() -> None:
    words = ["train", "--splits", "all", "--root", "x", "--splits=all"]
    assert _without_splits(words) == ["train", "--root", "x"]


def test_every_split_is_a_run_until_one_does_not_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def run_one(words: list[str]) -> int:
        started.append(words)
        return 130 if len(started) == 3 else 0

    monkeypatch.setattr("reid.splits._run", run_one)
    words = ["train", "--dataset", "ilids-vid", "--splits", "all"]
    monkeypatch.setattr(sys, "argv", ["reid", *words])
    assert run(*words).returncode == 130
    assert started == [
        ["train", "--dataset", "ilids-vid", "--data.split", str(split)] for split in range(3)
    ]


def test_all_splits_go_on_where_they_were_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(split: int, status: str, epochs: int = 30) -> Run:
        stored = ReidExperiment()
        stored.data.dataset, stored.data.split = "prid2011", split
        stored.optimizer.epochs = epochs
        made = Run.create(tmp_path, f"split-{split}-{status}", stored, REID)
        made.update(status=status)
        made.last_checkpoint.parent.mkdir()
        made.last_checkpoint.touch()
        return made

    record(0, "finished")
    stopped = record(1, "interrupted")
    record(2, "running")  # perhaps by another process, of a version without locks
    trained = record(4, "running")
    killed = record(5, "running")
    killed.lock.touch()
    record(3, "finished", epochs=2)  # another configuration
    started: list[list[str]] = []
    monkeypatch.setattr("reid.splits._run", lambda words: started.append(words) or 0)
    words = ["train", "--dataset", "prid2011", "--trainer.output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["reid", *words, "--splits", "all"])
    with locked(trained.lock):
        assert run(*words, "--splits", "all").returncode == 0
    assert started == [
        ["train", "--resume", str(stopped.folder)],
        *([*words, "--data.split", str(split)] for split in range(2, 5)),
        ["train", "--resume", str(killed.folder)],
        *([*words, "--data.split", str(split)] for split in range(6, 10)),
    ]


def test_evaluate_takes_the_data_set_of_a_configuration(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("data: {dataset: mars}")
    (tmp_path / "d.yaml").write_text("dataset: prid2011")
    given = Given(["--data", str(tmp_path / "d.yaml"), "--config", str(config)])
    assert given.said("data.dataset") == "prid2011"
    assert Given(["--config", str(config)]).said("data.dataset") == "mars"


def test_evaluate_looks_for_runs_where_it_is_told_not_where_the_run_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = ReidExperiment()
    stored.trainer.output, stored.trainer.seed = "elsewhere", 7
    command_line = importlib.import_module("reid.cli.main")  # main is a function there
    monkeypatch.setattr(command_line, "_stored", lambda command, known: stored.to_dict())
    found: list[ReidExperiment] = []
    monkeypatch.setattr(command_line, "evaluate", lambda given, _: found.append(given) or 0)
    assert run("evaluate").returncode == 0
    assert (found[0].trainer.output, found[0].trainer.seed) == ("runs", 7)


def test_extract_writes_what_it_was_given(trained: Path, dataset: Path, tmp_path: Path) -> None:
    target, video = tmp_path / "feats.parquet", write_video(tmp_path / "walk.avi", frames=5)
    single = str(dataset / "query" / "101" / "c0" / "t0")
    words = ["--checkpoint", str(trained), "-o", str(target), "--accelerator", "cpu"]
    done = run("extract", *words, single, str(dataset / "gallery"), str(video))
    assert done.returncode == 0, done.stderr
    table = read_features(target)
    network = load_trained(trained / "checkpoints" / "best.ckpt")
    assert table.model == network.digest
    assert table.names[0] == single and table.names[-1] == str(video)
    assert sorted(table.num_frames.tolist()) == [3, 3, 3, 5, 5, 5, 5]
    assert set(table.person_ids.tolist()) == set(table.camera_ids.tolist()) == {-1}
    assert table.features.shape == (7, network.model.feature_dim)
    assert np.isfinite(table.features).all()
    done = run("extract", *words, single, "--max_pixels", "10")
    assert done.returncode == 2 and "max_pixels=10" in done.stderr


def test_extract_takes_numbers_from_the_layout(
    trained: Path, dataset: Path, tmp_path: Path
) -> None:
    target = tmp_path / "feats.parquet"
    words = ["--checkpoint", str(trained), "-o", str(target), "--layout", "folder"]
    done = run("extract", *words, "--test_frames", "2", str(dataset / "gallery"))
    assert done.returncode == 0, done.stderr
    table = read_features(target)
    assert sorted(table.person_ids.tolist()) == [-1, 0, 101, 102, 103]
    place = table.names.index(str(dataset / "gallery" / "-1" / "c0" / "t0"))
    assert (table.person_names[place], table.person_ids[place]) == ("-1", JUNK)
    assert (table.camera_names[place], table.camera_ids[place]) == ("c0", NO_NUMBER)
    assert table.test_frames == 2 and table.num_frames.tolist() == [2] * 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "gone", "gone does not exist"),
        (lambda folder: folder, "holds no tracklet"),
        (lambda folder: folder / "notes.txt", "is neither a folder of frames nor a video"),
        (lambda folder: folder / "broken", "none of the 2 frames"),
        (lambda folder: folder / "cut.avi", "cut.avi"),
    ],
    ids=["missing", "empty", "text", "unreadable", "video"],
)
def test_extract_writes_nothing_where_an_input_is_bad(
    trained: Path, dataset: Path, tmp_path: Path, make: object, message: str
) -> None:
    folder, target = tmp_path / "in", tmp_path / "feats.parquet"
    folder.mkdir()
    path = make(folder)  # type: ignore[operator]
    if path.name == "broken":
        write_tracklet(path, 1, 0, frames=2)
        for frame in path.iterdir():
            frame.write_bytes(b"no image")
    elif path.suffix:
        path.write_bytes(b"no video")
    sound = str(dataset / "query" / "101" / "c0" / "t0")
    done = run("extract", "--checkpoint", str(trained), "-o", str(target), sound, str(path))
    assert done.returncode == 2
    [error] = [line for line in done.stderr.splitlines() if not line.startswith("tracklets: ")]
    assert error.startswith("reid extract: error: ") and message in error
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_extract_refuses_names_given_twice_and_files_it_cannot_write(
    trained: Path, dataset: Path, tmp_path: Path
) -> None:
    single = str(dataset / "query" / "101" / "c0" / "t0")
    words = ["--checkpoint", str(trained), single]
    done = run("extract", *words, single, "-o", str(tmp_path / "a.parquet"))
    assert done.returncode == 2 and "is named twice" in done.stderr
    done = run("extract", *words, "-o", str(tmp_path))
    assert done.returncode == 2 and f"--output {tmp_path} is a folder" in done.stderr
    done = run("extract", *words, "-o", str(tmp_path / "a.parquet"), "--num_workers", "-1")
    assert done.returncode == 2 and "data.num_workers=-1 must be at least 0" in done.stderr
    (tmp_path / "file").touch()
    for below in ("a.parquet", "deeper/a.parquet"):
        done = run("extract", *words, "-o", str(tmp_path / "file" / below))
        assert done.returncode == 2
        assert done.stderr.endswith(f"{tmp_path / 'file'} is a file, no folder\n")
        assert len(done.stderr.splitlines()) == 1, "nothing was encoded before"
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere" / "at all")
    done = run("extract", *words, "-o", str(tmp_path / "gone" / "feats.parquet"))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.endswith(f"{tmp_path / 'gone'} is a link to nowhere\n")


def test_extract_on_a_full_disk_is_one_line(trained: Path, dataset: Path, tmp_path: Path) -> None:
    target = tmp_path / "feats.parquet"
    target.write_bytes(b"of before")
    words = ["--checkpoint", str(trained), "-o", str(target), "--accelerator", "cpu"]
    with largest_file(2000):
        done = run("extract", *words, str(dataset / "gallery"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    [error] = [line for line in done.stderr.splitlines() if "error:" in line]
    assert os.strerror(errno.EFBIG) in error
    assert target.read_bytes() == b"of before" and list(tmp_path.iterdir()) == [target]


def test_numbers_of_a_layout_need_no_paths_of_one_kind(
    trained: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dataset)
    given = ["gallery/101/c1/t0", str(dataset / "query" / "102" / "c0" / "t0")]
    target = tmp_path / "feats.parquet"
    words = ["--checkpoint", str(trained), "-o", str(target), "--layout", "folder"]
    done = run("extract", *words, *given)
    assert done.returncode == 0, done.stderr
    table = read_features(target)
    assert (table.names, table.person_ids.tolist()) == (given, [101, 102])


def test_a_layout_is_looked_at_before_anything_is_encoded(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid.retrieval.extract.encode", lambda *_, **__: pytest.fail("encoded"))
    monkeypatch.setattr("reid.retrieval.extract.load_trained", lambda _: pytest.fail("loaded"))
    video = tmp_path / "walk.avi"
    write_video(video, frames=2)
    monkeypatch.setattr("pathlib.Path.absolute", lambda _: Path("/walk.avi"))
    from reid.retrieval.extract import extract_tracklets

    with pytest.raises(UserError, match="--layout folder needs <person>/<camera>/<tracklet>"):
        extract_tracklets(trained, [str(video)], layout="folder")


def test_search_finds_a_tracklet_itself(trained: Path, dataset: Path, tmp_path: Path) -> None:
    target = tmp_path / "feats.parquet"
    gallery = str(dataset / "gallery")
    assert run("extract", "--checkpoint", str(trained), "-o", str(target), gallery).returncode == 0
    query = str(dataset / "gallery" / "102" / "c1" / "t0")
    words = ["--checkpoint", str(trained), "--gallery", str(target), "--top", "2", query]
    done = run("search", *words, "--json")
    assert done.returncode == 0, done.stderr
    [answer] = json.loads(done.stdout)["queries"]
    assert answer["results"][0]["name"] == query and len(answer["results"]) == 2
    other = tmp_path / "other.ckpt"
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    content["state_dict"]["model.classifier.weight"] += 1
    torch.save(content, other)
    done = run("search", "--checkpoint", str(other), "--gallery", str(target), query)
    assert done.returncode == 2
    hashes = [load_trained(other).digest, read_features(target).model]
    assert all(f"(hash {digest[:12]})" in done.stderr for digest in hashes)
    assert "extract both with one checkpoint" in done.stderr.splitlines()[-1]
