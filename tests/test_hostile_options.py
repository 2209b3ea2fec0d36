"""Whatever options and configurations hold, a command ends in exit code 0, or in 2 and one line."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from video_snl.cli.main import IMAGE_COMMANDS

cli = importlib.import_module("video_snl.cli.main")  # main is a function there

reid_cli = importlib.import_module("reid.cli.main")  # main is a function there

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
        ["5", "--dry-run", "--root=not-there", "--blocks=snl"],
    ),
    "reid extract": (reid_cli.main, reid_cli._COMMANDS, [*_NO_NETWORK, "--output=f", "not-there"]),
    "reid search": (reid_cli.main, reid_cli._COMMANDS, [*_NO_NETWORK, "--gallery=f", "not-there"]),
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
@pytest.mark.parametrize("main", [cli.main, reid_cli.main])
def test_any_file_is_a_configuration_or_one_line(main: Callable[..., int], text: str) -> None:
    with elsewhere() as folder:
        (folder / "config.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
        words = ["train", "--config", "config.yaml", *_NO_DATA]
        code, said = ended(main, words)
    assert code == 2 and len(said.splitlines()) == 1, said
