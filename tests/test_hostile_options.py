"""Whatever options and configurations hold, a command ends in exit code 0, or in 2 and one line."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import video_snl
from reid.config import ReidExperiment
from tests.command_lines import BOTH, Main, Write, cli, refused, reid_cli
from tests.export.checkpoints import video_checkpoint
from tests.tiny import run_here
from video_snl.cli.main import IMAGE_COMMANDS
from video_snl.config import yaml_text
from video_snl.config.image import ImageExperiment
from video_snl.config.validation import LARGEST_INPUT, LIMITS, check_limits
from video_snl.config.video import Experiment
from video_snl.config.yaml_text import check_text
from video_snl.errors import OptionsError, UserError

REPOSITORY = Path(__file__).resolve().parent.parent

# Words that keep a command from doing anything long: data and networks that are not there.
_NO_DATA = ["--data.dataset=folder", "--data.root=not-there"]
_NO_NETWORK = ["--checkpoint=not-there"]
_IMAGES = ["--model.backbone=preresnet20"]
COMMANDS: dict[str, tuple[Callable[..., int], Any, list[str]]] = {
    "video-snl describe": (cli.main, cli._COMMANDS, ["--data.dataset=sample"]),
    "images describe": (cli.main, IMAGE_COMMANDS, ["--data.dataset=digits", *_IMAGES]),
    "reid describe": (reid_cli.main, reid_cli._COMMANDS, ["--data.dataset=sample"]),
    "video-snl train": (cli.main, cli._COMMANDS, _NO_DATA),
    "images train": (cli.main, IMAGE_COMMANDS, [*_NO_DATA, *_IMAGES]),
    "reid train": (reid_cli.main, reid_cli._COMMANDS, _NO_DATA),
    "video-snl evaluate": (cli.main, cli._COMMANDS, [*_NO_DATA, *_NO_NETWORK]),
    "images evaluate": (cli.main, IMAGE_COMMANDS, [*_NO_DATA, *_NO_NETWORK, *_IMAGES]),
    "reid evaluate": (reid_cli.main, reid_cli._COMMANDS, [*_NO_DATA, *_NO_NETWORK]),
    "video-snl predict": (cli.main, cli._COMMANDS, [*_NO_NETWORK, "not-there.mp4"]),
    "video-snl explain": (cli.main, cli._COMMANDS, [*_NO_NETWORK, "not-there.mp4"]),
    "video-snl spectrum": (cli.main, cli._COMMANDS, [*_NO_NETWORK, "not-there.mp4"]),
    "video-snl export": (cli.main, cli._COMMANDS, _NO_NETWORK),
    "video-snl publish": (cli.main, cli._COMMANDS, [*_NO_NETWORK, "--output=here"]),
    "video-snl serve": (cli.main, cli._COMMANDS, _NO_NETWORK),
    "video-snl check": (cli.main, cli._COMMANDS, ["--root=not-there"]),
    "video-snl prepare": (cli.main, cli._COMMANDS, ["--root=not-there", "--out=here"]),
    "video-snl table": (
        cli.main,
        cli._COMMANDS,
        ["5", "--dry_run", "--root=not-there", "--blocks=snl"],
    ),
    "reid extract": (reid_cli.main, reid_cli._COMMANDS, [*_NO_NETWORK, "--output=f", "not-there"]),
    "reid search": (reid_cli.main, reid_cli._COMMANDS, [*_NO_NETWORK, "--gallery=f", "not-there"]),
    "reid calibrate": (reid_cli.main, reid_cli._COMMANDS, ["--gallery=f", "not-there"]),
    "reid export": (reid_cli.main, reid_cli._COMMANDS, _NO_NETWORK),
    "reid check": (reid_cli.main, reid_cli._COMMANDS, ["--dataset=folder", "--root=not-there"]),
}

_NUMBERS = st.sampled_from(
    [-1, 0, 1, 2, 3, 7, 40, 10**9, 10**30, -0.5, 0.5, 1e308, float("nan"), float("inf")]
)
_WORDS = st.sampled_from(
    ["", "null", "true", "auto", "none", "snl", "gsnl", "cgnl", "ge", "tpu", "bf16-true", "relu"]
    + ["before:res4.-1", "after:", "a\nb", "\u2028", "x" * 300, "\udce9", "-", "--", "%s {}", "~x"]
)
_PLAIN = st.one_of(_NUMBERS, _WORDS, st.none(), st.booleans(), st.text(max_size=5))
_VALUES = st.one_of(
    _PLAIN,
    st.lists(_PLAIN, max_size=2),
    st.dictionaries(st.sampled_from(["order", "ndim", "gamma", "kind", "x"]), _PLAIN, max_size=2),
    st.integers(1, 200).map(lambda depth: "[" * depth),
    st.sampled_from(["&a [*a]", "{a: &a [1], b: *a}", "1:30", "0x10", "2026-13-45", "!!int x"]),
)
# One more value is one more second of describe, so what makes networks larger is left out.
_LONG = re.compile(r"backbone|num_classes|--help|print_config|--jobs")


@functools.cache
def names_of(command: str) -> list[str]:
    _, commands, _ = COMMANDS[command]
    parser = commands[command.split()[1]].parser("any")
    found = [name for name in parser._option_string_actions if name.startswith("--")]
    return sorted(name for name in found if not _LONG.search(name))


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[str, list[str], dict[str, Any]]:
    """A command, its words without those that make it quick, and a configuration."""
    command = draw(st.sampled_from(sorted(COMMANDS)))
    options = st.sampled_from(names_of(command))
    words = []
    for name in draw(st.lists(options, max_size=2, unique=True)):
        value = draw(_VALUES)
        text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True)
        text = text.removesuffix("\n...\n").removesuffix("\n")
        words += draw(st.sampled_from([[name, text], [f"{name}={text}"], [name]]))
    return command, words, draw(st.dictionaries(options, _VALUES, max_size=2))


def sections(options: dict[str, Any]) -> Any:
    content: dict[str, Any] = {}
    for name, value in options.items():
        section, _, key = name[2:].partition(".")
        inner = content.setdefault(section, {}) if key else content
        if isinstance(inner, dict):
            inner[key or section] = value
    return content


@contextmanager
def elsewhere() -> Iterator[Path]:
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def ended(main: Callable[..., int], words: list[str]) -> tuple[int, str]:
    """Exit code and what was written to stderr."""
    errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(words)
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 0
    errors.seek(0)
    return code, errors.read()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=command_lines())
def test_any_options_end_in_success_or_one_line(
    drawn: tuple[str, list[str], dict[str, Any]],
) -> None:
    command, words, options = drawn
    main, _, quick = COMMANDS[command]
    with elsewhere() as folder:
        if options and quick and any(word.startswith("--data.") for word in quick):
            text = yaml.safe_dump(sections(options), allow_unicode=False)
            (folder / "config.yaml").write_text(text)
            words = [*words, "--config", "config.yaml"]
        code, said = ended(main, [command.split()[1], *words, *quick])
    assert code in (0, 2), said
    if code == 2:
        assert len(said.splitlines()) == 1 and "error: " in said, said
        assert len(said) < 3000


@settings(max_examples=25, deadline=None)
@given(text=st.one_of(st.text(max_size=60), st.text("[]{}:,-&*!?|>'\"# \nab1", max_size=40)))
@BOTH
def test_any_file_is_a_configuration_or_one_line(main: Main, text: str) -> None:
    with elsewhere() as folder:
        (folder / "config.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
        words = ["train", "--config", "config.yaml", *_NO_DATA]
        code, said = ended(main, words)
    assert code == 2 and len(said.splitlines()) == 1, said


@BOTH
def test_numbers_that_cannot_be_written_down_are_one_line(
    main: Main, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    number = "0x" + "f" * 8000
    name = write("huge.yaml", f"optimizer: {{epochs: {number}}}")
    assert "digits" in refused(main, ["train", "--config", name], capsys)
    assert "digits" in refused(main, ["train", f"--optimizer.epochs={number}"], capsys)


def test_a_pipe_that_nobody_writes_to_is_given_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_text, "SILENCE", 0.1)
    os.mkfifo(tmp_path / "pipe")
    line = refused(cli.main, ["train", "--config", str(tmp_path / "pipe")], capsys)
    assert "nothing came" in line


NINES = "x0: &x0 [1,2,3,4,5,6,7,8,9]\n" + "".join(
    f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 10)
)


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "data: 3",
        "data: [1]",
        "[" * 20_000,
        "{a: " * 20_000,
        "- " * 20_000,
        "data: " + "[" * 20_000 + "]" * 20_000,
        NINES,
        "a: &a [*a]",
        "data: {root: &r [*r]}",
        "config: c.yaml",
        "optimizer: {epochs: " + "9" * 5000 + "}",
        "data: {root: !!timestamp 2026-13-45}",
        'data: {root: "\\0"}',
        "?",
        "",
        "word",
        "data: {",
        "a: " + "b" * (1 << 20),
        "data: {1: 2}",
    ],
    ids=lambda text: text[:12],
)
def test_hostile_configurations_are_one_line_soon(
    main: Main, text: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    line = refused(main, ["train", "--config", write("c.yaml", text)], capsys)
    assert len(line) < 1000 and time.monotonic() - started < 10


@BOTH
@pytest.mark.parametrize("opening", ["[", '{"a":', "- "])
@pytest.mark.parametrize("option", ["--model.inter_channels", "--model.block_options", "--data"])
def test_hostile_values_are_one_line_soon(
    main: Main, option: str, opening: str, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    for words in ([option, opening * 20_000], [f"{option}={opening * 20_000}"]):
        assert "nested" in refused(main, ["describe", *words], capsys)
    assert time.monotonic() - started < 10


def test_a_file_that_has_no_end_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "larger" in refused(cli.main, ["train", "--config", "/dev/zero"], capsys)


def test_limits_of_text_leave_ordinary_text_alone() -> None:
    check_text("[" * 32 + "]" * 32, "here")
    check_text("{a: &a [1, 2], b: *a, c: *a}", "here")
    with pytest.raises(UserError, match="nested"):
        check_text("[" * 33 + "]" * 33, "here")


@BOTH
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("model.block_options", "{ndim: 2}"),
        ("model.block_options", "{num_units: 2}"),
        ("model.inter_channels", "100000000"),
        ("model.inter_channels", "0"),
        ("model.num_units", "1000000000"),
        ("model.dropout", "7"),
        ("data.num_workers", "1000000"),
        ("data.deadline", "1e300"),
        ("optimizer.epochs", "1" + "0" * 30),
        ("trainer.devices", "1000000"),
        ("trainer.accelerator", "tpu"),
        ("trainer.accelerator", "hpu"),
        ("trainer.output", "x" * 5000),
    ],
)
def test_sizes_and_names_are_refused_before_anything_is_taken(
    main: Main, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(main, ["describe", f"--{option}={value}"], capsys)
    assert option in line.replace("block_options.", "block_options ")


@pytest.mark.parametrize("kind", [Experiment, ImageExperiment, ReidExperiment])
def test_no_input_is_larger_than_the_limit(kind: type) -> None:
    experiment = kind()
    check_limits(experiment)
    names = {"clip_frames", "frames", "crop", "height", "width"} & set(vars(experiment.data))
    for name in names:
        setattr(experiment.data, name, int(LIMITS[f"data.{name}"][1]))
    with pytest.raises(OptionsError, match="larger"):
        check_limits(experiment)


def test_names_that_are_not_utf8_are_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    errors = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stderr", errors)
    assert cli.main(["describe", "--config", "\udce9.yaml"]) == 2
    errors.seek(0)
    assert "\\udce9" in errors.read()


def test_names_that_are_too_long_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    for main, words in (
        (cli.main, ["check", "--root", long]),
        (cli.main, ["train", "--data.dataset=csv", "--data.root", long]),
        (cli.main, ["evaluate", "--checkpoint", long]),
        (reid_cli.main, ["check", "--dataset=folder", "--root", long]),
    ):
        assert "too long" in refused(main, words, capsys)


def test_the_documentation_has_the_limits() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name, (least, most) in LIMITS.items():
        assert f"| `{name}` | {'' if least is None else f'{least:g}'} | {most:,.0f} |" in page
    assert f"{LARGEST_INPUT:,}" in page and f"{yaml_text.MOST_VALUES:,}" in page
    assert f"{yaml_text.DEEPEST} levels" in page


@BOTH
def test_records_that_are_nested_too_deeply_are_one_line(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text("[" * 100_000)
    for words in (
        ["train", "--resume", str(tmp_path)],
        ["evaluate", "--checkpoint", str(tmp_path)],
    ):
        refused(main, words, capsys)
    assert "nested" in refused(main, ["train", "--resume", str(tmp_path)], capsys)


@pytest.mark.parametrize(
    "words",
    [("predict", ""), ("features", "", "-o", "f.npz"), ("explain", ""), ("spectrum", "")],
)
def test_an_empty_path_is_not_the_working_directory(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"")
    done = run_here(*words, "--checkpoint", str(video_checkpoint(tmp_path / "a.ckpt")))
    assert done.returncode == 2 and "error: a path is empty: name a file" in done.stderr
    done = run_here("train", "--data.dataset", "folder", "--data.root", "")
    assert done.returncode == 2 and "error: data.root is empty: give a folder" in done.stderr


def test_an_empty_value_is_answered_like_any_other() -> None:
    for option, said in (
        ("data.short_tracklets", "expected one of repeat, mask, or null; found an empty text"),
        ("data.resize", "expected one of torch, pillow; found an empty text"),
        ("model.inter_channels", "expected a whole number, or null; found an empty text"),
        ("trainer.progress", "expected true or false, or null; found an empty text"),
    ):
        done = run_here("train", f"--{option}", "", main=reid_cli.main)
        assert done.returncode == 2 and f"error: {option}: {said}" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": {"root": "\udcff"}}, r"data.root: '\udcff' is not text in UTF-8"),
        ({"data": {"root": Path("\udcff")}}, r"data.root: '\udcff' is not text in UTF-8"),
        ({"config": {"data": {"root": "\ud800"}}}, r"config.data.root: '\ud800' is not text"),
        ({"model": {"block_options": {"\udcff": 1}}}, r"model.block_options: '\udcff' is not text"),
    ],
)
def test_text_that_is_not_utf8_is_no_option(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(said)}"):
        video_snl.train(**options)
