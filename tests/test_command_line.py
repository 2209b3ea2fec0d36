"""Words and configuration files of both programs: which of them win, and what is refused."""

from __future__ import annotations

import json
import os
import platform
import re
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

import video_snl
from reid.config import ReidExperiment
from tests.command_lines import BOTH, Main, Write, cli, printed, refused, reid_cli, shown
from video_snl.config import task as config_task
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.config.files import Given, named_configs, option_names, with_underscores
from video_snl.config.image import ImageExperiment
from video_snl.config.video import Experiment
from video_snl.engine.trainer import check_precision
from video_snl.errors import UserError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


@BOTH
@pytest.mark.parametrize("command", ["train", "describe"])
def test_an_option_wins_wherever_it_stands(
    main: Main, command: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write("one.yaml", "optimizer: {epochs: 10, accumulate: 2}\ntrainer: {seed: 5}")
    two = write("two.yaml", "optimizer: {epochs: 20}\nmodel: {num_units: 2}")
    words = [command, "--optimizer.epochs=3", "--config", one, "--trainer.name", "a"]
    found = printed(main, [*words, f"--config={two}"], capsys)
    assert found["optimizer"]["epochs"] == 3 and found["optimizer"]["accumulate"] == 2
    assert found["model"]["num_units"] == 2 and found["trainer"]["seed"] == 5
    found = printed(main, [command, "--config", one, "--config", two], capsys)
    assert found["optimizer"] | {"epochs": 20, "accumulate": 2} == found["optimizer"]
    found = printed(main, [command, "--config", two, "--config", one], capsys)
    assert found["optimizer"]["epochs"] == 10


@BOTH
@pytest.mark.parametrize(
    ("section", "key"),
    [("data", "num_workers"), ("model", "num_units"), ("optimizer", "epochs"), ("trainer", "seed")],
)
def test_the_file_of_a_section_stands_between_options_and_config(
    main: Main, section: str, key: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write("whole.yaml", f"{section}: {{{key}: 4}}")
    part = write("part.yaml", f"{key}: 5")
    order = [f"--{section}", part, "--config", whole]
    assert printed(main, ["train", *order], capsys)[section][key] == 5
    order = [f"--{section}.{key}", "6", "--config", whole, f"--{section}={part}"]
    assert printed(main, ["train", *order], capsys)[section][key] == 6


def test_short_options_of_reid_win_wherever_they_stand(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write("c.yaml", "data: {dataset: mars, root: there, split: 0}")
    words = ["--root=here", "--dataset", "prid2011", "--config", config, "--split", "3"]
    data = printed(reid_cli.main, ["train", *words], capsys)["data"]
    assert (data["dataset"], data["root"], data["split"]) == ("prid2011", "here", 3)


def test_values_of_files_are_taken_as_they_are(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text that looks like a number stays text, and numbers stay what they are."""
    text = 'trainer: {name: "1e3"}\noptimizer: {learning_rate: 1e-10, weight_decay: 3}\ndata:\n'
    found = printed(cli.main, ["train", "--config", write("c.yaml", text)], capsys)
    assert found["trainer"]["name"] == "1e3"
    assert found["optimizer"]["learning_rate"] == 1e-10
    assert found["optimizer"]["weight_decay"] == 3


@BOTH
def test_a_section_and_its_dotted_options_stand_side_by_side(
    main: Main, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "optimizer.epochs: 33\noptimizer: {learning_rate: 0.25}\n"
    found = printed(main, ["train", "--config", write("a.yaml", text)], capsys)["optimizer"]
    assert (found["epochs"], found["learning_rate"]) == (33, 0.25)
    text = "optimizer: {epochs: 3, learning_rate: 0.25}\noptimizer.epochs: 33\n"
    found = printed(main, ["train", "--config", write("b.yaml", text)], capsys)["optimizer"]
    assert (found["epochs"], found["learning_rate"]) == (33, 0.25)


@BOTH
@pytest.mark.parametrize(
    "text",
    ["optimizer: {epochs: 3}\noptimizer: {learning_rate: 1}", "optimizer: {epochs: 3, epochs: 4}"],
)
def test_what_stands_twice_in_a_file_is_refused(
    main: Main, text: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(main, ["train", "--config", write("twice.yaml", text)], capsys)
    assert "twice.yaml" in line and "stands twice" in line


def test_a_key_may_override_a_merged_one(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    name = write("merged.yaml", "optimizer: {<<: {epochs: 3, batch_size: 2}, epochs: 4}")
    found = printed(cli.main, ["train", "--config", name], capsys)["optimizer"]
    assert (found["epochs"], found["batch_size"]) == (4, 2)


@pytest.mark.parametrize(
    "words",
    [
        ["--model.backbone=preresnet20", "--config", "{}/folder.yaml"],
        ["--config", "{}/images.yaml", "--config", "{}/folder.yaml"],
        ["--data={}/digits.yaml", "--config", "{}/folder.yaml"],
        ["--config={}/folder.yaml", "--model", "{}/model.yaml"],
    ],
)
def test_the_choice_of_the_parser_sees_what_the_parser_sees(
    words: list[str], tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("folder.yaml", "data: {dataset: folder}")
    write("images.yaml", "model: {backbone: preresnet20}")
    write("digits.yaml", "dataset: digits")
    write("model.yaml", "backbone: preresnet20")
    words = [word.format(tmp_path) for word in words]
    assert "epoch_steps" in printed(cli.main, ["train", *words], capsys)["optimizer"]


def test_words_and_files_are_taken_apart_once(write: Write) -> None:
    config = write("c.yaml", "data: {dataset: mars}\ntrainer.output: there")
    given = Given(["--resume", "--config", config, "--checkpoint", "a", "--checkpoint=b"])
    assert given.said("data.dataset") == "mars" and given.said("trainer.output") == "there"
    assert given.said("resume", alone="newest") == "newest"
    assert given.all_of("checkpoint") == ["a", "b"] and given.option("checkpoint") == "b"
    assert given.said("data.root") is None


def test_names_of_options_may_be_spelled_with_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--optimizer.learning-rate=0.3", "--data.clip-frames", "6"]
    made = printed(cli.main, words, capsys)
    assert made["optimizer"]["learning_rate"] == 0.3 and made["data"]["clip_frames"] == 6
    assert "--ray_address 127.0.0.1:1 goes with --engine ray" in refused(
        cli.main, ["check", "--ray-address", "127.0.0.1:1", "--root", "videos"], capsys
    )
    values = ["a-b", "-o", "--config=x-y: a-b", "--", "--not-one"]  # which are no names
    assert with_underscores(values) == values


def test_a_run_that_is_resumed_is_looked_for_where_the_configuration_says(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write("c.yaml", f"trainer: {{output: {tmp_path / 'elsewhere'}}}")
    for main in (cli.main, reid_cli.main):
        assert "elsewhere" in refused(main, ["train", "--resume", "--config", config], capsys)


def test_a_configuration_may_be_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"model: {backbone: preresnet20}\noptimizer: {epochs: 77}")
    os.close(writing)
    words = ["train", "--config", f"/dev/fd/{reading}"]
    assert printed(cli.main, words, capsys)["optimizer"]["epochs"] == 77
    os.close(reading)


@pytest.mark.parametrize(
    ("main", "words", "near"),
    [
        (cli.main, ["train", "--resum", "run"], "--resume"),
        (cli.main, ["train", "--optimizer.epo=3"], "--optimizer.epochs"),
        (cli.main, ["evaluate", "--checkpoi", "run"], "--checkpoint"),
        (cli.main, ["predict", "--checkpoi", "run", "a.mp4"], "--checkpoint"),
        (cli.main, ["explain", "-output", "x", "a.mp4"], "--output"),
        (cli.main, ["train", "--epochs", "3"], "--optimizer.epochs"),
        (cli.main, ["train", "--optimzer.epochs", "3", "--help"], "--optimizer.epochs"),
        (cli.main, ["describe", "--help", "--model.backbon=x"], "--model.backbone"),
        (cli.main, ["train", "--optimizer.lr", "1"], "--optimizer.learning_rate"),
        (cli.main, ["train", "--pretrained", "x3d_xs"], "--model.weights NAME"),
        (cli.main, ["describe", "--checkpoint", "runs/run"], "--model.backbone NAME"),
        (cli.main, ["predct", "--help"], "predict"),
        (cli.main, ["--versio"], "--version"),
        (reid_cli.main, ["gallry", "--help"], "search"),
        (reid_cli.main, ["serch", "x"], "search"),
        (reid_cli.main, ["train", "--datase", "mars"], "--dataset"),
        (reid_cli.main, ["extract", "--layou", "folder", "x", "-o", "y"], "--layout"),
        (reid_cli.main, ["check", "--roo", "x"], "--root"),
        (cli.main, ["predict", "--config", "c.yaml", "a.mp4"], "train"),
    ],
)
def test_what_does_not_exist_is_refused_and_the_nearest_named(
    main: Main, words: list[str], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(main, words, capsys)
    assert "unknown" in line and near in line


@pytest.mark.parametrize(
    ("main", "words", "expected"),
    [
        (cli.main, ["train", "--model.block", "foo"], "model.block: expected one of none, nl, "),
        (
            cli.main,
            ["train", "--optimizer.epochs", "x"],
            "epochs: expected a whole number; found x",
        ),
        (cli.main, ["train", "--trainer.devices", "x"], "expected a whole number, or one of auto;"),
        (cli.main, ["train", "--model.positions", "{a: 1}"], "positions: expected a list"),
        (cli.main, ["predict", "--top", "x", "a.mp4"], "--top: expected a whole number; found x"),
        (
            reid_cli.main,
            ["search", "--gallery", "x", "y", "--index", "pq"],
            "expected one of exact",
        ),
    ],
)
def test_a_value_of_another_type_is_refused_in_words(
    main: Main, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(main, words, capsys)
    assert expected in line
    assert not any(of_python in line for of_python in ("<class", "typing", "Literal", "Namespace"))


def test_entries_with_dots_in_a_file_are_shown_as_they_stand(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write("c.yaml", "model: {block_options.order: 4}")
    line = refused(cli.main, ["describe", "--config", config], capsys)
    assert "expected options as {name: value}; found {order: 4}" in line


def test_every_command_refuses_abbreviations(capsys: pytest.CaptureFixture[str]) -> None:
    for program in (cli, reid_cli):
        for command in program._COMMANDS:
            parser = program._COMMANDS[command].parser("any")
            longest = max(parser._option_string_actions, key=len)
            assert "unknown" in refused(program.main, [command, longest[:-1]], capsys)


def test_an_option_that_does_not_exist_in_a_file_is_named(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write("c.yaml", "optimizer: {epoch: 3}")
    line = refused(cli.main, ["train", "--config", config], capsys)
    assert config in line and "optimizer.epochs" in line
    config = write("d.yaml", "optimizer: {epochs: many}")
    line = refused(cli.main, ["train", "--config", config], capsys)
    assert config in line and "optimizer.epochs" in line and "many" in line


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_configuration_of_the_other_program_says_so(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, other = (reid_cli.main, cli.main)
    right = "reid train"
    if path.parent.name != "reid":
        own, other, right = other, own, "video-snl train"
    assert right in refused(other, ["train", "--config", str(path)], capsys)
    assert printed(own, ["train", "--config", str(path)], capsys)


def test_configurations_of_the_package_are_found_by_name(
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*/*")]
    assert sorted(named_configs()) == sorted(names) and len(names) > 30
    file = str(CONFIGS / "finetune" / "x3d_xs_snl.yaml")
    expected = printed(cli.main, ["train", "--config", file], capsys)
    for name in ("finetune/x3d_xs_snl", "finetune/x3d_xs_snl.yaml"):
        assert printed(cli.main, ["train", "--config", name], capsys) == expected
    found = printed(reid_cli.main, ["train", "--config=reid/sample"], capsys)
    assert found["task"] == "reid"
    (tmp_path / "finetune").mkdir()
    write("finetune/x3d_xs_snl.yaml", "optimizer: {epochs: 77}")
    found = printed(cli.main, ["train", "--config", "finetune/x3d_xs_snl.yaml"], capsys)
    assert found["optimizer"]["epochs"] == 77  # a file that exists wins


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("finetune/x3d_xs_sln", "the nearest is finetune/x3d_xs_snl"),
        ("configs/digits/preresnet20.yaml", "the nearest is digits/preresnet20."),
        ("preresnet20", "the nearest is digits/preresnet20."),
        ("qqq", "no configuration of this name"),
        ("../configs/digits/preresnet20", "the nearest is digits/preresnet20."),
    ],
)
def test_the_name_of_no_configuration_is_answered_by_the_nearest(
    name: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(cli.main, ["train", "--config", name], capsys)
    assert f"--config {name}: there is no such file" in line and expected in line


def test_a_run_is_called_after_the_named_configuration() -> None:
    from video_snl.config.parsing import config_name

    parser = cli._COMMANDS["train"].parser("video-snl train")
    assert config_name(parser.parse_args(["--config", "finetune/x3d_xs_snl"])) == "x3d_xs_snl"


def test_the_names_that_tell_the_programs_apart() -> None:
    ours = option_names(Experiment) | option_names(ImageExperiment)
    assert option_names(ReidExperiment) - ours == config_task._OF_REID
    assert option_names(ReidExperiment) & ours == config_task._SHARED


def test_one_value_is_a_list_of_one(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["describe", "--model.positions", "before:res4.-1", "--trainer.loggers=csv"]
    found = printed(cli.main, [*words, "--data.crop_scales", "0.5"], capsys)
    assert found["model"]["positions"] == ["before:res4.-1"]
    assert found["trainer"]["loggers"] == ["csv"] and found["data"]["crop_scales"] == [0.5]
    config = write("c.yaml", "model: {positions: after:conv3}")
    found = printed(reid_cli.main, ["describe", "--config", config], capsys)
    assert found["model"]["positions"] == ["after:conv3"]
    words = ["describe", "--model.positions", "[before:res4.0, after:res3.1]"]
    assert len(printed(cli.main, words, capsys)["model"]["positions"]) == 2


def test_bf16_true_is_refused_on_a_cpu() -> None:
    experiment = Experiment()
    experiment.trainer.precision, experiment.trainer.accelerator = "bf16-true", "cpu"
    with pytest.raises(UserError, match="bf16-true"):
        check_precision(experiment.trainer)
    experiment.trainer.precision = "bf16-mixed"
    check_precision(experiment.trainer)


def test_the_name_of_a_run_is_that_of_the_last_configuration(write: Write) -> None:
    from video_snl.config.parsing import config_name

    parser = cli._COMMANDS["train"].parser("video-snl train")
    one, two = write("one.yaml", "{data: {}}"), write("two.yaml", "{data: {}}")
    words = ["--config", one, "--config", two, "--config", json.dumps({"data": {}})]
    assert config_name(parser.parse_args(words)) == "two"
    assert config_name(parser.parse_args([])) is None  # then that of its dataset


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["--task", "image"], "optimizer.epoch_steps"),
        (["--task=segmentation", "--data.dataset", "cityscapes"], "optimizer.epoch_steps"),
        (["--task", "video", "--data.dataset=folder"], "optimizer.mixup"),
        ([], "optimizer.mixup"),
    ],
)
def test_the_task_decides_which_options_there_are(
    words: list[str], own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(cli.main, ["train", *words], capsys)
    section, key = own.split(".")
    assert key in found[section]
    assert found["task"] == (words[0].partition("=")[2] or words[1] if words else "video")


def test_the_task_of_a_file_decides(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    config = write("c.yaml", "task: image\ndata: {dataset: folder}")
    assert "epoch_steps" in printed(cli.main, ["train", "--config", config], capsys)["optimizer"]
    found = printed(cli.main, ["train", "--config", config, "--task", "video"], capsys)
    assert "mixup" in found["optimizer"] and found["task"] == "video"
    config = write("d.yaml", "task: reid")
    assert printed(reid_cli.main, ["train", "--config", config], capsys)["task"] == "reid"


@pytest.mark.parametrize(
    ("task", "own"), [("image", "optimizer.epoch_steps"), ("video", "optimizer.mixup")]
)
def test_a_file_of_nothing_but_the_task_is_a_configuration(
    task: str, own: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write("task.yaml", f"task: {task}")
    found = printed(cli.main, ["train", "--config", config], capsys)
    section, key = own.split(".")
    assert found["task"] == task and key in found[section]


def test_a_task_without_defaults_says_what_to_name(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write("task.yaml", "task: segmentation")
    for command in ("train", "describe"):
        line = refused(cli.main, [command, "--config", config], capsys)
        assert "--model.backbone fcn_r50_d8 --data.dataset " in line


@pytest.mark.parametrize("words", [["--task", "image"], ["--task=image"]])
def test_the_task_may_stand_before_the_command(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(cli.main, [*words, "train"], capsys)
    assert found["task"] == "image" and "epoch_steps" in found["optimizer"]
    assert "--optimizer.epoch_steps" in shown(cli.main, [*words, "train", "--help", "all"], capsys)


def test_reid_takes_its_task_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(reid_cli.main, ["--task", "reid", "train"], capsys)["task"] == "reid"
    assert "video-snl train" in refused(reid_cli.main, ["--task", "video", "train"], capsys)


@BOTH
@pytest.mark.parametrize("words", [["--task", "x"], ["--task"], ["explain", "--task", "x"]])
def test_a_task_without_a_command_that_has_one_is_one_line(
    main: Main, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    [line] = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and "train --task TASK" in line


@pytest.mark.parametrize(
    ("main", "words", "expected"),
    [
        (cli.main, ["--task=image", "--model.backbone=i3d_small"], "model.backbone: i3d_small"),
        (cli.main, ["--task=video", "--data.dataset=cifar10"], "data.dataset: cifar10"),
        (cli.main, ["--task=segmentation", "--model.backbone=resnet50"], "resnet50"),
        (cli.main, ["--task=segmentation"], "data.dataset: digits, whose task is image"),
        (cli.main, ["--task=reid"], "reid train"),
        (cli.main, ["--task=sound"], "expected one of video, image, segmentation"),
        (cli.main, ["--task=segmentation"], "does not go with"),
        (reid_cli.main, ["--task=video"], "video-snl train"),
        (reid_cli.main, ["--task=sound"], "expected reid; found"),
    ],
)
def test_a_task_that_does_not_fit_is_one_line(
    main: Main, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(main, ["train", *words], capsys)
    assert "task" in line and expected in line


@BOTH
def test_help_shows_what_most_runs_need_and_on_request_all(
    main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    short = shown(main, ["train", "--help"], capsys)
    options = re.findall(r"^  (?:-\w.*, )?--([\w.]+)", short, re.MULTILINE)
    assert len(options) == 11 and {"config", "model.block", "resume"} < set(options)
    assert short.splitlines()[-1].endswith("train --help all")
    whole = shown(main, ["train", "--help", "all"], capsys)
    assert "--trainer.sync_batchnorm" in whole and "--trainer.sync_batchnorm" not in short
    assert shown(main, ["train", "--help=all"], capsys) == whole


def test_help_has_no_types_of_python_and_every_default() -> None:
    programs = {"video-snl": [cli._COMMANDS, cli.IMAGE_COMMANDS], "reid": [reid_cli._COMMANDS]}
    for program, commands in programs.items():
        for name, command in [each for of_kind in commands for each in of_kind.items()]:
            parser = command.parser(f"{program} {name}")
            text = parser.format_help()
            assert not re.search(r"Union|Optional|Literal|\| ?null|type:|<class|None\b", text), text
            for action in parser._actions:
                if not action.option_strings or action.nargs == 0 or action.required:
                    continue
                said = parser._get_formatter()._get_help_string(action)
                known = "default" in said.lower() or action.dest in ("help", "print_config")
                assert known or _SECTION.fullmatch(action.dest), (name, action.dest, said)
                assert said, (name, action.dest)


_SECTION = re.compile("data|model|optimizer|trainer")


@BOTH
def test_the_version_names_python_torch_and_the_decoders(
    main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(main, ["--version"], capsys).splitlines()
    assert lines[0].split()[1] == video_snl.__version__
    assert lines[1].split() == ["Python", platform.python_version()]
    assert lines[2].split() == ["torch", metadata.version("torch")]
    assert f"av {metadata.version('av')}" in lines[3] and lines[3].startswith("decoders: ")


@pytest.mark.parametrize(
    ("words", "positions"),
    [
        ([], ["before:res4.-1"]),
        (["--model.positions+", "after:res3.0"], ["before:res4.-1", "after:res3.0"]),
        (["--model.positions+=after:res3.0"], ["before:res4.-1", "after:res3.0"]),
        (["--model.positions", "after:res2.0"], ["after:res2.0"]),
        (["--config", "named.yaml"], ["after:res2.0"]),
        (
            ["--config", "named.yaml", "--model.positions+", "after:res3.0"],
            ["after:res2.0", "after:res3.0"],
        ),
        (["--config", "other.yaml"], ["after:res3.1"]),
        (["--config", "other.yaml", "--model.backbone", "i3d_small"], ["before:res4.-1"]),
        (
            ["--model", "{backbone: slow_r50}", "--model.positions+", "after:res3.0"],
            ["after:res3.1", "after:res3.0"],
        ),
    ],
)
def test_positions_are_added_to_those_of_the_backbone(
    words: list[str],
    positions: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        VIDEO_BACKBONES,
        "slow_r50",
        replace(VIDEO_BACKBONES["slow_r50"], positions=("after:res3.1",)),
    )
    Path("named.yaml").write_text("model: {positions: ['after:res2.0']}")
    Path("other.yaml").write_text("model: {backbone: slow_r50}")
    assert printed(cli.main, ["train", *words], capsys)["model"]["positions"] == positions
