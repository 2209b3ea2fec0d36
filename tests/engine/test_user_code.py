"""Blocks of a user's own in commands: trained by their path, read back only with --allow_code."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from PIL import Image

import reid
import video_snl
from reid.cli.main import _COMMANDS as REID_COMMANDS
from reid.cli.main import main as reid_main
from tests.reid.little import options as reid_options
from tests.reid.little import write_folder
from tests.tiny import REPOSITORY, only_run, run_command, run_here
from tests.tiny_images import image_options
from tests.user_package import forget_package, importable, is_imported
from video_snl.cli.main import _COMMANDS, IMAGE_COMMANDS
from video_snl.config.task_spec import IMAGE
from video_snl.config.user_code import refuse_code
from video_snl.errors import UserError
from video_snl.runs.trained import read_checkpoint

MEAN = "own_parts.blocks.MeanBlock"
REFUSED = (
    f"its model.block is {MEAN}, of the module own_parts.blocks, which is imported and thereby run "
    "only if you say that you trust it: give --allow_code (in Python: allow_code=True)."
)


pytestmark = pytest.mark.usefixtures("own_parts")


@pytest.fixture(scope="module")
def trained(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run with a block of the package, named in a configuration file."""
    output = tmp_path_factory.mktemp("runs")
    config = output / "mine.yaml"
    config.write_text(f"model: {{block: {MEAN}, block_options: {{gain: 2.0}}}}\n", encoding="utf-8")
    with importable(package):
        words = image_options(output, optimizer__epochs=1, optimizer__epoch_steps=1)
        done = run_here("train", "--config", str(config), "--task", "image", *words)
        assert done.returncode == 0, done.stderr
    return only_run(output)


def test_the_run_holds_the_path_alone(trained: Path) -> None:
    stored = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    model = stored["video_snl_images"]["experiment"]["model"]
    assert model["block"] == MEAN
    assert type(model["block"]) is str
    assert model["block_options"] == {"gain": 2.0}
    assert any(name.endswith("block.weight") for name in stored["state_dict"])
    assert json.loads((trained / "run.json").read_text())["config"]["model"]["block"] == MEAN


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "--checkpoint", "RUN"),
        ("evaluate", "--checkpoint", "RUN/checkpoints/best.ckpt"),
        ("evaluate", "--checkpoint", "RUN", "--config", "RUN/config.yaml"),
        ("train", "--resume", "RUN"),
        ("predict", "--checkpoint", "RUN", "image.png"),
        ("explain", "image.png", "--checkpoint", "RUN"),
        ("spectrum", "--checkpoint", "RUN"),
        ("export", "--checkpoint", "RUN", "-o", "model.pt2"),
        ("publish", "--checkpoint", "RUN", "-o", "published"),
        ("serve", "--checkpoint", "RUN", "--port", "0"),
    ],
)
def test_a_run_imports_nothing_unless_it_is_allowed(
    trained: Path, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.png").write_bytes(b"")
    done = run_here(*(word.replace("RUN", str(trained)) for word in words))
    assert done.returncode == 2, done.stdout
    assert REFUSED in done.stderr, done.stderr
    assert not is_imported()


@pytest.mark.slow
def test_allowed_in_a_process_of_its_own(trained: Path, package: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    Image.new("L", (8, 8), 128).save(image)
    words = ["predict", str(image), "--checkpoint", str(trained), "--allow_code", "--json"]
    done = run_command(*words, PYTHONPATH=f"{REPOSITORY}{os.pathsep}{package}")
    assert done.returncode == 0, done.stderr
    assert str(image) in done.stdout


def test_a_module_that_is_not_there_is_said(
    trained: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(package)])
    done = run_here("evaluate", "--checkpoint", str(trained), "--allow_code")
    assert done.returncode == 2
    assert "best.ckpt: its network cannot be built: model: block='own_parts" in done.stderr
    assert "there is no module own_parts: install its package, or put the" in done.stderr


@pytest.mark.slow
def test_resumed_exported_and_published_where_it_is_allowed(trained: Path, tmp_path: Path) -> None:
    checkpoint = ["--checkpoint", str(trained), "--allow_code"]
    done = run_here("train", "--resume", str(trained), "--optimizer.epochs", "2", "--allow_code")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "published"
    done = run_here("publish", *checkpoint, "-o", str(folder))
    assert done.returncode == 0, done.stderr
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"made by `{MEAN}`" in card and "--checkpoint FOLDER --allow_code IMAGE" in card
    assert "No code is run" not in card
    forget_package()
    with pytest.raises(UserError, match="of the module own_parts.blocks"):
        video_snl.load(folder)
    assert not is_imported()
    image = torch.zeros(32, 32, 3, dtype=torch.uint8)
    scores = video_snl.load(folder, allow_code=True).predict(image)[0].scores
    exported = tmp_path / "model.pt2"
    done = run_here("export", *checkpoint, "-o", str(exported))
    assert done.returncode == 0, done.stderr
    forget_package()
    again = video_snl.load(exported).predict(image)[0].scores  # a graph needs no code of ours
    assert not is_imported()
    assert again == pytest.approx(scores, abs=1e-5)


def test_permission_ends_with_the_call(trained: Path) -> None:
    video_snl.load(trained, allow_code=True)
    with pytest.raises(UserError, match="give --allow_code"):
        video_snl.load(trained)
    with pytest.raises(UserError, match="give --allow_code"):
        video_snl.train(resume=trained)


def test_python_trains_on_where_it_is_allowed(tmp_path: Path) -> None:
    small = {"epochs": 1, "epoch_steps": 1, "batch_size": 16}
    run = video_snl.train(
        task="image",
        model={"block": MEAN},
        optimizer=small,
        trainer={"output": str(tmp_path), "accelerator": "cpu", "loggers": ["csv"]},
    )
    forget_package()
    more = video_snl.train(resume=run, optimizer={"epochs": 2}, allow_code=True)
    assert [row["epoch"] for row in more.metrics] == [1, 2]
    assert more.load(allow_code=True).config["model"]["block"] == MEAN


def test_reid_has_the_same_option(tmp_path: Path) -> None:
    root, output = write_folder(tmp_path / "data"), tmp_path / "runs"
    words = reid_options(root, output, model__block=MEAN, optimizer__epochs=1)
    done = run_here("train", *words, main=reid_main)
    assert done.returncode == 0, done.stderr
    run = str(only_run(output))
    forget_package()
    for command in (["evaluate", "--checkpoint", run], ["train", "--resume", run]):
        done = run_here(*command, main=reid_main)
        assert done.returncode == 2
        assert REFUSED in done.stderr
    with pytest.raises(UserError, match="give --allow_code"):
        reid.load(run)
    assert not is_imported()
    done = run_here("evaluate", "--checkpoint", run, "--allow_code", main=reid_main)
    assert done.returncode == 0, done.stderr
    assert reid.load(run, allow_code=True) is not None


def test_every_command_that_reads_a_training_has_the_option() -> None:
    commands = [
        *(("video-snl", *each) for each in _COMMANDS.items()),
        *(("video-snl", *each) for each in IMAGE_COMMANDS.items()),
        *(("reid", *each) for each in REID_COMMANDS.items()),
    ]
    reading = set()
    for program, name, command in commands:
        options = {each.name for each in fields(command.options)}
        reads = bool(options & {"checkpoint", "resume"})
        assert reads == ("allow_code" in options), (program, name)
        reading |= {(program, name)} if reads else set()
    assert {("video-snl", "evaluate"), ("reid", "train"), ("reid", "search")} <= reading


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.block", "snll"], "expected one of none, nl, .*, or a dotted path such as"),
        (["--model.block", "own_parts..x"], "found own_parts..x"),
        (["--model.block", "own_parts.blocks.Mean"], "model: block='own_parts.blocks.Mean': the"),
        (["--model.block", "own_parts.broken.B"], "importing own_parts.broken fails: Zero"),
        (
            ["--model.block", MEAN, "--model.block_options", "{gian: 2}"],
            "gian=2 with block own_parts.blocks.MeanBlock: its options are: gain",
        ),
        (
            ["--model.block_options", "{kernel: own_parts.parts.signed}"],
            "kernel own_parts.parts.signed with normalization='sym': it has negative values",
        ),
    ],
)
def test_wrong_paths_are_one_line(words: list[str], said: str) -> None:
    done = run_here("describe", "--task", "image", *words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert re.search(said, done.stderr), done.stderr


@pytest.mark.parametrize("option", ["kernel", "filter", "another"])
def test_options_that_name_code_are_refused_too(option: str, trained: Path) -> None:
    model = {"block": "gsnl", "block_options": {option: "own_parts.parts.square", "order": 2}}
    with pytest.raises(UserError, match=f"its model.block_options.{option} is own_parts.parts.sq"):
        refuse_code(model, trained)
    refuse_code({"block": "gsnl", "block_options": {"order": 2, "kernel": "dot"}}, trained)


def test_an_own_kernel_in_a_configuration() -> None:
    options = "{kernel: own_parts.parts.square}"
    done = run_here("describe", "--task", "image", "--model.block_options", options, "--json")
    assert done.returncode == 0, done.stderr
    [block] = json.loads(done.stdout)["blocks"]
    assert block["name"].startswith("SNL")


def test_stored_text_that_is_no_path_is_damage(trained: Path, tmp_path: Path) -> None:
    path = trained / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    content["video_snl_images"]["experiment"]["model"]["block"] = "own_parts..x"
    torch.save(content, tmp_path / "changed.ckpt")
    with pytest.raises(UserError, match="model.block: expected .* or a dotted path such as"):
        read_checkpoint(tmp_path / "changed.ckpt", IMAGE)
