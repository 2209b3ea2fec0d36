"""docs/extend.md as written: its changes are made in a copy of the packages and used.

The quick tests look at every change by itself. The slow ones use all of them, in one process of the
changed copy, as a reader of the page would.
"""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.pages import REPOSITORY, blocks_of
from tests.tiny import only_run, record, run_here
from tests.videos import write_video
from video_snl.config.video import DataConfig
from video_snl.tasks import metrics

PAGE = REPOSITORY / "docs" / "extend.md"
NEW_FILES = {
    '"""C2D': "video_snl/models/c2d.py",
    '"""HMDB-51': "video_snl/data/video/hmdb51.py",
}
# The line after which an entry is put, and its file.
ENTRIES = {
    '"f1"': ("video_snl/tasks/metrics.py", '            "top5": TopK(5),\n'),
    '"c2d_r50"': (
        "video_snl/config/video_backbones.py",
        "VIDEO_BACKBONES: dict[str, VideoBackbone] = {\n",
    ),
    '"hmdb51"': (
        "video_snl/config/datasets.py",
        "VIDEO_DATASETS: dict[str, VideoDatasetEntry] = {\n",
    ),
}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the changes of the page, and the page's own files beside it."""
    root = tmp_path_factory.mktemp("changed")
    shutil.copytree(
        REPOSITORY / "video_snl", root / "video_snl", ignore=shutil.ignore_patterns("__pycache__")
    )
    left = [block.text for block in blocks_of(PAGE) if block.language == "python"]
    for begin, file in NEW_FILES.items():
        [text] = [text for text in left if text.startswith(begin)]
        left.remove(text)
        assert not (root / file).exists()
        (root / file).write_text(text, encoding="utf-8")
    for begin, (file, line) in ENTRIES.items():
        [text] = [text for text in left if text.lstrip().startswith(begin)]
        left.remove(text)
        _insert(root / file, line, text.rstrip("\n") + "\n")
    [f1] = [text for text in left if "MulticlassF1Score" in text]
    left.remove(f1)
    _insert(root / "video_snl/tasks/metrics.py", "from typing import Any\n", f1.rstrip("\n") + "\n")
    block, own, focal = left
    (root / "two_hop.py").write_text(block, encoding="utf-8")
    (root / "my_package.py").write_text(own, encoding="utf-8")
    epochs = "experiment.optimizer.epochs = 1\n"
    assert epochs in focal
    focal = focal.replace(epochs, f"{epochs}    experiment.optimizer.epoch_steps = 3\n")
    (root / "focal.py").write_text(focal, encoding="utf-8")
    return root


def _insert(path: Path, line: str, text: str) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count(line) == 1, (path, line)
    path.write_text(source.replace(line, line + text), encoding="utf-8")


# Runs the command lines of a file one after another, and notes how each ended and what it said.
USE = """
import contextlib, io, json, runpy, sys, traceback
from video_snl.cli.main import main

ended = {}
for name, words in json.loads(open("uses.json").read()).items():
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            if words[0].endswith(".py"):
                code = runpy.run_path(words[0], run_name="__main__") and 0
            else:
                code = main(words)
        except SystemExit as stopped:
            code = stopped.code
        except Exception:
            code = traceback.format_exc()
    ended[name] = [code, out.getvalue(), errors.getvalue()]
open("ended.json", "w").write(json.dumps(ended))
"""

CHECK_BLOCK = """
import torch
from two_hop import TwoHop3d

block = TwoHop3d(8, zero_init=False).eval()
x = torch.randn(1, 8, 2, 3, 4)
equation = block.as_graph_filter(x)
print(tuple(block(x).shape), block.affinity(x).to_dense().shape[-1])
"""


def _uses() -> dict[str, list[str]]:
    options = {
        "data.dataset": "hmdb51",
        "data.root": "hmdb51",
        "data.short_side": 32,
        "data.crop": 32,
        "data.num_workers": 0,
        "optimizer.epochs": 1,
        "optimizer.batch_size": 3,
        "trainer.accelerator": "cpu",
        "trainer.progress": "false",
        "trainer.loggers": "[csv]",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    c2d = ["--model.backbone", "c2d_r50", "--data.clip_frames", "8", "--data.crop", "80"]
    return {
        "train": ["train", *words],
        "evaluate": ["evaluate", "--clips", "1", "--crops", "1"],
        "describe": ["describe", *c2d, "--model.num_classes", "51", "--json"],
        "block": ["check_block.py"],
        "task": ["focal.py"],
    }


@pytest.fixture(scope="module")
def used(changed: Path) -> Callable[[str], str]:
    """What a use of the changes said, which must have ended well."""
    _write_hmdb51(changed / "hmdb51")
    (changed / "check_block.py").write_text(CHECK_BLOCK, encoding="utf-8")
    (changed / "uses.json").write_text(json.dumps(_uses()), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(changed)}
    done = subprocess.run(
        [sys.executable, "-c", USE],
        capture_output=True,
        text=True,
        env=environment | {"SRC_ROOT": str(changed)},
        cwd=changed,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    ended = json.loads((changed / "ended.json").read_text(encoding="utf-8"))

    def said(name: str) -> str:
        code, out, errors = ended[name]
        assert code == 0, f"{code}\n{errors}"
        return str(out)

    return said


def _write_hmdb51(root: Path) -> None:
    for name in ("cartwheel", "clap"):
        lines = []
        for number, part in enumerate((1, 1, 1, 2, 0)):
            file = root / "hmdb51_org" / name / f"{number}.avi"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_video(file, frames=8 + number)
            lines.append(f"{file.name} {part} ")
        listing = root / "testTrainMulti_7030_splits" / f"{name}_test_split1.txt"
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text("\n".join(lines) + "\n")


def test_the_entries_of_the_page_are_accepted(changed: Path) -> None:
    names = ["--model.backbone", "c2d_r50", "--data.dataset", "hmdb51", "--data.split", "none"]
    code = f"import sys; from video_snl.cli.main import main; sys.exit(main({['train', *names]}))"
    environment = {**os.environ, "PYTHONPATH": str(changed), "SRC_ROOT": str(changed)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=changed,
        timeout=60,
    )
    # Which is the first thing that is wrong, ahead of any import of torch: both names are known.
    assert done.returncode == 2 and "error: data.split: " in done.stderr, done.stderr


def test_the_dataset_of_the_page_is_read(changed: Path, tmp_path: Path) -> None:
    _write_hmdb51(tmp_path)
    load = runpy.run_path(str(changed / NEW_FILES['"""HMDB-51']))["load"]
    found = load(DataConfig(dataset="folder", root=str(tmp_path)))
    assert (len(found.train), len(found.test)) == (6, 2)
    assert found.class_names == ["cartwheel", "clap"]


def test_the_metric_of_the_page_is_logged(changed: Path) -> None:
    made = runpy.run_path(str(changed / "video_snl/tasks/metrics.py"))["class_metrics"](3)
    right = torch.eye(3)[[0, 1, 2, 2]]
    assert made(right, torch.tensor([0, 1, 2, 2])).keys() == {"top1", "top5", "f1"}
    assert made.compute()["f1"] == 1
    assert "f1" not in metrics.class_metrics(3)


def test_the_backbone_of_the_page_is_built(changed: Path) -> None:
    network = runpy.run_path(str(changed / NEW_FILES['"""C2D']))["c2d_r50"](51)
    # C2D has 24.33 M parameters with 400 classes, 2048 for each class.
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == pytest.approx(24.33e6 - (400 - 51) * 2049, rel=0.001)


def test_the_block_of_the_page_is_built(changed: Path) -> None:
    block = runpy.run_path(str(changed / "two_hop.py"))["TwoHop3d"](8, zero_init=False).eval()
    x = torch.randn(1, 8, 2, 3, 4)
    assert block(x).shape == x.shape
    assert block.affinity(x).to_dense().shape[-1] == 24


@pytest.mark.parametrize(
    ("block", "options", "name"),
    [
        ("two_hop.TwoHop3d", "{}", "TwoHop3d"),
        ("my_package.MyBlock", "{gain: 2.0}", "MyBlock"),
        ("nl", "{kernel: my_package.my_kernel}", "NL3d"),
    ],
)
def test_the_blocks_of_the_page_are_named_by_their_path(
    block: str, options: str, name: str, changed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(changed)
    try:
        words = ["--model.block", block, "--model.block_options", options, "--json"]
        done = run_here("describe", *words)
        assert done.returncode == 0, done.stderr
        assert [each["name"] for each in json.loads(done.stdout)["blocks"]] == [name]
    finally:
        for module in ("two_hop", "my_package"):
            sys.modules.pop(module, None)


def test_the_task_of_the_page_is_trained(
    changed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(changed)  # of which only focal is new: the packages are loaded
    try:
        runpy.run_path(str(changed / "focal.py"), run_name="__main__")
        assert record(only_run(tmp_path / "runs"))["status"] == "finished"
    finally:
        sys.modules.pop("focal", None)


@pytest.mark.slow
def test_what_the_page_adds_is_used(changed: Path, used: Callable[[str], str]) -> None:
    """The dataset and the metric: HMDB-51's layout, trained on and evaluated."""
    used("train")
    [metrics] = (changed / "runs").glob("hmdb51-*/metrics.csv")
    with metrics.open() as lines:
        [row] = csv.DictReader(lines)
    assert 0 <= float(row["val/f1"]) <= 1
    shown = used("evaluate")
    written = json.loads((metrics.parent / "evaluation" / "metrics.json").read_text())
    assert written["videos"] == 2 and 0 <= written["video_f1"] <= 1
    assert re.search(r"f1: clip [\d.]+, video [\d.]+", shown)


@pytest.mark.slow
def test_the_backbone_of_the_page(used: Callable[[str], str]) -> None:
    facts = json.loads(used("describe"))
    # C2D has 24.33 M parameters with 400 classes, 2048 for each class.
    assert facts["parameters"] - sum(block["parameters"] for block in facts["blocks"]) == (
        pytest.approx(24.33e6 - (400 - 51) * 2049, rel=0.001)
    )
    assert [block["position"] for block in facts["blocks"]] == ["before:res4.5"]


@pytest.mark.slow
def test_the_block_of_the_page(used: Callable[[str], str]) -> None:
    assert used("block").strip() == "(1, 8, 2, 3, 4) 24"


@pytest.mark.slow
def test_the_task_of_the_page(changed: Path, used: Callable[[str], str]) -> None:
    used("task")
    [record] = (changed / "runs").glob("focal-*/run.json")
    assert json.loads(record.read_text())["status"] == "finished"
