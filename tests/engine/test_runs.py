"""Run folders, atomic files and checkpoints that are not what they should be."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from video_snl.config.task_spec import VIDEO
from video_snl.config.video import Experiment, TrainerConfig
from video_snl.errors import UserError
from video_snl.runs.run import Run, checkpoint_path, newest_run, runs_in
from video_snl.runs.trained import load_trained, read_checkpoint, stored_experiment
from video_snl.utils.files import replace_file, write_json


def test_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "run.json"
    write_json(target, {"epoch": 1})

    def fails(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(target, fails)
    assert json.loads(target.read_text()) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_run_records_what_is_needed_to_repeat_it(tmp_path: Path) -> None:
    experiment = Experiment(trainer=TrainerConfig(seed=7))
    run = Run.create(tmp_path, "sample", experiment)
    record = json.loads((run.folder / "run.json").read_text())
    assert record["seed"] == 7
    assert record["config"] == experiment.to_dict()
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert Run.open(run.folder).experiment == experiment


def test_runs_started_in_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    runs = [Run.create(tmp_path, "sample", Experiment()) for _ in range(3)]
    assert len({run.folder for run in runs}) == 3
    assert newest_run(tmp_path) == runs[-1].folder


def test_no_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no run below .*video-snl train"):
        newest_run(tmp_path)


def test_stored_configuration_of_another_version_is_named(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "sample", Experiment())
    config = Experiment().to_dict()
    config["model"]["colour"] = "blue"
    run.update(config=config)
    with pytest.raises(UserError, match="does not fit this version.*colour"):
        stored_experiment(str(run.folder), str(tmp_path), checkpoint=False)


def test_checkpoint_of_a_run_is_its_best(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    with pytest.raises(UserError, match="no epoch of that run was finished"):
        checkpoint_path(str(tmp_path))
    (folder / "last.ckpt").touch()
    assert checkpoint_path(str(tmp_path)).name == "last.ckpt"
    (folder / "best.ckpt").touch()
    assert checkpoint_path(str(tmp_path)).name == "best.ckpt"


class _Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code in a checkpoint was run')",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"not a checkpoint at all", "cannot be read"),
        (pickle.dumps(_Malicious(), protocol=2), "would have to run code"),
    ],
    ids=["empty", "text", "code"],
)
def test_damaged_or_malicious_checkpoint_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_checkpoint(path)


def test_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.ckpt"
    torch.save({"video_snl": {"format_version": 1}, "x": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match="cannot be read"):
        read_checkpoint(path)


def test_foreign_weights_are_pointed_to_the_right_option(tmp_path: Path) -> None:
    path = tmp_path / "r3d50_K_200ep.pth"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(UserError, match="video-snl train --model.weights"):
        load_trained(path)


def test_newer_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "new.ckpt"
    torch.save({"video_snl": {"format_version": 99}}, path)
    with pytest.raises(UserError, match="format 99"):
        load_trained(path)


def test_a_damaged_record_among_others_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Run.create(tmp_path, "whole", Experiment(), VIDEO)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{", encoding="utf-8")
    assert [run.folder for run in runs_in(tmp_path)] == [whole.folder]
    assert str(tmp_path / "damaged") in capsys.readouterr().err
