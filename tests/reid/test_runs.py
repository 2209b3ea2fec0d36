"""Several checkpoints measured together: which may be, where reports go, how many splits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reid.config import ReidExperiment
from reid.report.figures import Result, json_of, summary_text
from reid.runs import check_together, report_folders
from reid.task_spec import REID
from tests.reid.evaluations import make_evaluation
from video_snl.errors import UserError


def _checkpoint(path: Path, block: str = "snl", dataset: str = "ilids-vid", seed: int = 0) -> Path:
    """Entries of a checkpoint that say which network it is of."""
    experiment = ReidExperiment()
    experiment.model.block = block  # type: ignore[assignment]
    experiment.data.dataset = dataset  # type: ignore[assignment]
    experiment.trainer.seed = seed
    about = {"format_version": REID.format_version, "experiment": experiment.to_dict()}
    entry = {**about, "people": [1, 2]}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({REID.entry: entry, "epoch": 0, "state_dict": {}}, path)
    return path


def test_checkpoints_are_to_be_of_one_network_and_data_set(tmp_path: Path) -> None:
    first = _checkpoint(tmp_path / "a" / "checkpoints" / "best.ckpt")
    check_together([first, _checkpoint(tmp_path / "b" / "checkpoints" / "best.ckpt", seed=1)])
    other = _checkpoint(tmp_path / "c.ckpt", block="nl")
    with pytest.raises(UserError, match=r"model.block: 'snl' and 'nl'") as caught:
        check_together([first, other])
    assert str(first) in str(caught.value) and str(other) in str(caught.value)
    mars = _checkpoint(tmp_path / "d.ckpt", dataset="mars")
    with pytest.raises(UserError, match=r"data.dataset: 'ilids-vid' and 'mars'"):
        check_together([first, mars])


def test_a_run_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = _checkpoint(tmp_path / "a" / "checkpoints" / "best.ckpt")
    last = _checkpoint(tmp_path / "a" / "checkpoints" / "last.ckpt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is named twice"):
        check_together([best, Path("a/checkpoints/best.ckpt")])
    with pytest.raises(UserError, match="are of the same run"):
        check_together([best, last])


def test_no_two_reports_share_a_folder() -> None:
    files = [Path("a/best.ckpt"), Path("b/best.ckpt"), Path("x/run/checkpoints/best.ckpt")]
    runs = [*files, Path("y/run/checkpoints/best.ckpt"), Path("a/last.ckpt")]
    named = [str(folder) for folder in report_folders(runs, "r")]
    assert named == ["r/best", "r/best-2", "r/run", "r/run-2", "r/last"]
    beside = [str(folder) for folder in report_folders(runs, None)]
    wanted = ["a/report-best", "b/report-best", "x/run/report", "y/run/report", "a/report-last"]
    assert beside == wanted
    assert report_folders(runs[:1], "r") == [Path("r")]
    assert report_folders(runs[:1], None) == [Path("a/report")]


def test_how_many_splits_there_were_is_said(tmp_path: Path) -> None:
    made = make_evaluation(tmp_path, name="ilids-vid")
    made = replace(made, settings={"epoch": 1, "checkpoint": "c"})
    results = [Result(made, split, tmp_path) for split in (0, 3, 4, 4)]
    assert "over 4 checkpoints (of splits 0, 3, 4, 4), 3 of 10 splits" in summary_text(results)
    assert json.loads(json_of(results))["splits"] == "3 of 10"
