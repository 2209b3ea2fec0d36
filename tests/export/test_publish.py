"""``video-snl publish``: a folder that stands for the checkpoint."""

from __future__ import annotations

import importlib
import json
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, metadata_load
from PIL import Image

from tests.export.checkpoints import image_checkpoint, video_checkpoint
from tests.tiny import environment, record, run_command, run_here
from video_snl import __version__
from video_snl.config.task_spec import VIDEO
from video_snl.export import command as engine
from video_snl.models.weights import sources
from video_snl.models.weights.sources import read_checkpoint
from video_snl.runs import trained
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import load_trained
from video_snl.utils.files import write_json

cli = importlib.import_module("video_snl.cli.main")  # main is a function there

reid = importlib.import_module("reid.cli.main")  # main is a function there


@pytest.fixture(scope="module")
def run_folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run whose network is evaluated."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    checkpoint = video_checkpoint(folder / "checkpoints" / "best.ckpt", root=str(root))
    words = ["--clips", "2", "--crops", "1", "--trainer.accelerator", "cpu"]
    done = run_here("evaluate", "--checkpoint", str(checkpoint), *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("21 test videos of 3 classes, split 1, epoch 5 of ")
    return folder


@pytest.fixture(scope="module")
def published(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "tiny-snl"
    words = ["--checkpoint", str(run_folder), "-o", str(folder), "--licence", "cc-by-4.0"]
    done = run_here("publish", *words)
    assert done.returncode == 0, done.stderr
    assert f"--checkpoint {folder}" in done.stdout
    return folder


def test_the_folder(run_folder: Path, published: Path, root: Path) -> None:
    names = sorted(file.name for file in published.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors"]
    text = (published / "config.json").read_text() + (published / "README.md").read_text()
    assert str(root) not in text and str(run_folder) not in text
    config = json.loads((published / "config.json").read_text())
    assert config["program"] == "video_snl" and config["epoch"] == 4
    assert config["class_names"] == ["Bow", "Clap", "Dive"]
    assert config["experiment"]["model"]["block"] == "snl"


def test_the_network_is_the_checkpoints(run_folder: Path, published: Path) -> None:
    ours = load_trained(checkpoint_path(str(published)))
    theirs = load_trained(checkpoint_path(str(run_folder)))
    assert ours.model.state_dict().keys() == theirs.model.state_dict().keys()
    for name, value in theirs.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], value)
    assert (ours.mean, ours.std, ours.epoch) == (theirs.mean, theirs.std, theirs.epoch)
    assert ours.class_names == theirs.class_names


def test_evaluate_gives_the_same(
    run_folder: Path, published: Path, root: Path, tmp_path: Path
) -> None:
    words = ["--data.root", str(root), "--clips", "2", "--crops", "1", "--output", str(tmp_path)]
    named = ["--checkpoint", str(published), "--trainer.accelerator", "cpu"]
    done = run_here("evaluate", *named, *words)
    assert done.returncode == 0, done.stderr
    expected = json.loads((run_folder / "evaluation" / "metrics.json").read_text())
    got = json.loads((tmp_path / "metrics.json").read_text())
    assert got.pop("checkpoint") != expected.pop("checkpoint") and got == expected
    scores = (run_folder / "evaluation" / "predictions.csv").read_text()
    assert (tmp_path / "predictions.csv").read_text() == scores


def test_every_command_takes_it(published: Path, root: Path, tmp_path: Path) -> None:
    video = str(next(root.rglob("*.avi")))
    for named in (published, published / "model.safetensors"):
        done = run_here("predict", "--checkpoint", str(named), "--accelerator", "cpu", video)
        assert done.returncode == 0, done.stderr
    words = ["-o", str(tmp_path / "m.pt2"), "--runs", "0", "--dynamic", "none"]
    assert run_here("export", "--checkpoint", str(published), *words).returncode == 0
    again = tmp_path / "again"
    assert run_here("publish", "--checkpoint", str(published), "-o", str(again)).returncode == 0
    assert record_of(again) == record_of(published)


def record_of(folder: Path) -> object:
    return json.loads((folder / "config.json").read_text())


def test_the_card(run_folder: Path, published: Path) -> None:
    figures = json.loads((run_folder / "evaluation" / "metrics.json").read_text())
    on = "evaluate (ucf101, split 1, 21 test videos)"
    named = {
        f"clip_top1 (centre crop of the centre clip), {on}": figures["clip_top1"],
        f"video_top1 (2 clips x 1 crop), {on}": figures["video_top1"],
    }  # and no top-3 of three classes
    result = {
        "task": {"type": "video-classification"},
        "dataset": {"name": "ucf101", "type": "ucf101"},
        "metrics": [
            {"type": "accuracy", "name": name, "value": round(value, 6)}
            for name, value in named.items()
        ],
    }
    assert metadata_load(published / "README.md") == {
        "license": "cc-by-4.0",
        "library_name": "video-snl",
        "pipeline_tag": "video-classification",
        "tags": ["video", "action-recognition", "nonlocal", "pytorch", "i3d_small", "snl"],
        "datasets": ["ucf101"],
        "metrics": ["accuracy"],
        "model-index": [{"name": "tiny-snl", "results": [result]}],
    }
    text = ModelCard.load(published / "README.md").text
    network = load_trained(checkpoint_path(str(published))).model
    count = sum(parameter.numel() for parameter in network.parameters())
    assert f"{count:,} parameters, 3 classes of `ucf101`" in text
    assert f"| video_top1 (2 clips x 1 crop) | {figures['video_top1']:.2%} |" in text


def test_the_card_asks_nothing_of_a_network(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def refuse(*what: object, **_: object) -> None:
        asked.append(what)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    words = ["--checkpoint", str(run_folder), "-o", str(tmp_path / "a")]
    done = run_here("publish", *words)
    assert done.returncode == 0 and asked == [], done.stderr
    assert (tmp_path / "a" / "README.md").is_file()


@pytest.mark.slow
def test_the_card_is_written_without_a_network(run_folder: Path, tmp_path: Path) -> None:
    code = """
        import os, socket, sys
        socket.socket.connect = socket.getaddrinfo = lambda *_, **__: os._exit(99)
        from video_snl.cli import main
        sys.exit(main(sys.argv[1:]))
    """
    words = ["publish", "--checkpoint", str(run_folder), "-o", str(tmp_path / "a")]
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *words],
        capture_output=True,
        text=True,
        env={**environment(), "HOME": str(home)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a" / "README.md").is_file()
    assert not (home / ".cache" / "huggingface").exists()


def test_a_hub_that_cannot_be_imported_names_its_variables(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package reads them as it is imported, and so does its module here, once more."""
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "soon")
    monkeypatch.delattr("huggingface_hub.constants")
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants")
    words = ["--checkpoint", str(run_folder), "-o", str(tmp_path / "folder")]
    done = run_here("publish", *words)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "'soon'" in line and "HF_HUB_DOWNLOAD_TIMEOUT" in line
    assert not (tmp_path / "folder").exists()


@pytest.mark.slow
def test_a_variable_that_stops_the_hub_is_named(run_folder: Path, tmp_path: Path) -> None:
    words = ["publish", "--checkpoint", str(run_folder), "-o", str(tmp_path / "folder")]
    done = run_command(*words, HF_HUB_DOWNLOAD_TIMEOUT="soon")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "'soon'" in done.stderr and "HF_HUB_DOWNLOAD_TIMEOUT" in done.stderr
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("checkpoint", "run", "said"),
    [
        ("0.0.8", "0.0.9", f"Trained with video-snl 0.0.8, published with {__version__}, seed 0."),
        (None, "0.0.9", f"Trained with video-snl 0.0.9, published with {__version__}, seed 0."),
        (__version__, None, f"Trained and published with video-snl {__version__}, seed 0."),
        (None, None, f"Published with video-snl {__version__}; what it was trained with is not"),
    ],
)
def test_the_version_is_that_of_the_training(
    checkpoint: str | None, run: str | None, said: str, run_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    content = torch.load(run_folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["video_snl"].pop("trained_with") == __version__
    if checkpoint is not None:
        content["video_snl"]["trained_with"] = checkpoint
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    if run is not None:
        write_json(tmp_path / "run" / "run.json", {"versions": {"video-snl": run}})
    for source, folder in ((path, tmp_path / "a"), (tmp_path / "a", tmp_path / "b")):
        done = run_here("publish", "--checkpoint", str(source), "-o", str(folder))
        assert done.returncode == 0, done.stderr
        assert said in (folder / "README.md").read_text()
    assert record_of(tmp_path / "a") == record_of(tmp_path / "b")


@pytest.mark.parametrize("command", ["predict", "evaluate", "publish", "export", "spectrum"])
def test_a_checkpoint_is_read_once(
    command: str, run_folder: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def noted(path: Path) -> Any:
        read.append(path)
        return read_checkpoint(path)

    monkeypatch.setattr(sources, "read_checkpoint", noted)
    monkeypatch.setattr(engine, "_steps", lambda *_: (None for _ in ()))  # which takes long
    monkeypatch.setattr(engine, "_Report", lambda *_: Mock(text=lambda: ""))
    path = run_folder / "checkpoints" / "best.ckpt"
    video, out = str(next(root.rglob("*.avi"))), str(tmp_path / "out")
    more = {
        "predict": [video],
        "evaluate": ["--clips", "1", "--crops", "1", "--output", out],
        "publish": ["-o", out],
        "export": ["-o", f"{out}.pt2", "--runs", "0", "--dynamic", "none"],
        "spectrum": [video],
    }
    done = run_here(command, "--checkpoint", str(path), *more[command])
    assert done.returncode == 0, done.stderr
    assert read == [path]
    # And again, once it has changed.
    trained.holds(path, VIDEO)
    path.touch()
    trained.load_trained(path)
    assert read == [path] * 3


OURS = ("evaluate", "predict", "explain", "spectrum", "export", "publish", "serve")
REID = ("evaluate", "extract", "search", "explain", "spectrum", "publish", "serve")


@pytest.mark.parametrize(
    ("main", "command"), [(cli.main, name) for name in OURS] + [(reid.main, name) for name in REID]
)
def test_help_says_that_every_checkpoint_may_be_such_a_folder(
    main: Callable[[Sequence[str]], int], command: str
) -> None:
    done = run_here(command, "--help", main=main)
    [_, *after] = done.stdout.split("\n  --checkpoint ")
    assert done.returncode == 0 and len(after) == 1
    said = " ".join(after[0].split("\n  -")[0].split())
    assert "a published folder" in said


def test_figures_of_another_epoch_are_left_out(run_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    metrics = run / "evaluation" / "metrics.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"epoch": 3}))
    row = {"epoch": 5.0, "val/top1": 0.625, "val/loss": 1.0, "train/top1": 0.9}
    (run / "run.json").write_text(json.dumps({"metrics": {"last": row}}))
    done = run_here("publish", "--checkpoint", str(run), "-o", str(tmp_path / "a"))
    assert done.returncode == 0, done.stderr
    card = ModelCard.load(tmp_path / "a" / "README.md")
    [result] = card.data.eval_results or []
    assert result.metric_name == "top1, the validation of its training"
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.625)
    assert "| top1 | 62.50% |" in card.text
    assert record(run)["metrics"]["last"] == row
    (run / "run.json").write_text("{")
    done = run_here(
        "publish", "--checkpoint", str(metrics.parent.parent), "-o", str(tmp_path / "b")
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", None, "holds a config.json, but no model.safetensors"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("model.safetensors", 1000, "damaged or cut short"),
        ("config.json", None, "needs the config.json that was published beside it"),
        ("config.json", b"{", "holds no JSON"),
        ("config.json", b"[1]", "expected a JSON object"),
        ("config.json", b"{}", "it has no entry 'program'"),
        ("config.json", {"class_names": None}, "it has no entry 'class_names'"),
        ("config.json", {"format_version": 99}, "has checkpoint format 99"),
        ("config.json", {"program": "reid"}, "was not written by video-snl train"),
        ("config.json", {"experiment": {}}, "its configuration does not fit this version"),
    ],
)
def test_broken_folders(
    file: str, content: object, message: str, published: Path, root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(published, folder)
    path = folder / file
    if content is None:
        path.unlink()
    elif isinstance(content, dict):
        values = {**json.loads(path.read_text()), **content}
        for digest in ("weights_sha256", "config_sha256"):  # as in folders of earlier versions
            values.pop(digest)
        path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    else:
        path.write_bytes(content if isinstance(content, bytes) else path.read_bytes()[:1000])
    for words in (["predict", str(next(root.rglob("*.avi")))], ["evaluate"]):
        done = run_here(*words, "--checkpoint", str(folder))
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert message in line and str(folder) in line


def test_evaluate_of_a_folder_needs_the_root_of_the_data(published: Path, tmp_path: Path) -> None:
    words = ["--output", str(tmp_path / "out"), "--trainer.accelerator", "cpu"]
    done = run_here("evaluate", "--checkpoint", str(published), *words)
    assert done.returncode == 2 and "--data.root" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_training_is_not_resumed_from_a_folder(published: Path) -> None:
    before = sorted(published.iterdir())
    done = run_here("train", "--resume", str(published))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert sorted(published.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--licence", "My Licence"], "--licence 'My Licence': give an identifier"),
        (["--name", "a name"], "--name 'a name': give letters"),
    ],
)
def test_bad_options(words: list[str], message: str, run_folder: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "a")
    done = run_here("publish", "--checkpoint", str(run_folder), "-o", folder, *words)
    assert done.returncode == 2 and message in done.stderr and not Path(folder).exists()


def test_nothing_is_overwritten(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = run_here("publish", "--checkpoint", str(run_folder), "-o", str(tmp_path))
    assert done.returncode == 2 and "is not empty: give a new folder" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_link_leads_to_the_folder_that_is_written(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there")
    done = run_here("publish", "--checkpoint", str(run_folder), "-o", str(tmp_path / "link"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "config.json").is_file()


def test_pictures(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32, 3), 99, np.uint8)).save(tmp_path / "a.png")
    checkpoint, folder = image_checkpoint(tmp_path / "best.ckpt"), tmp_path / "published"
    done = run_here("publish", "--checkpoint", str(checkpoint), "-o", str(folder))
    assert done.returncode == 0, done.stderr
    words = ["--json", "--accelerator", "cpu", str(tmp_path / "a.png")]
    answers = [
        run_here("predict", "--checkpoint", str(named), *words) for named in (checkpoint, folder)
    ]
    assert answers[0].returncode == 0 and answers[0].stdout == answers[1].stdout
    header = metadata_load(folder / "README.md")
    assert header is not None and header["pipeline_tag"] == "image-classification"
    assert not {"metrics", "model-index", "model_name"} & header.keys()  # there is no evaluation
