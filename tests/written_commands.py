"""The command lines that stand in the documentation's blocks, taken apart and parsed for real."""

from __future__ import annotations

import argparse
import importlib
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.pages import REPOSITORY, Block
from video_snl.config.parsing import Commands

cli = importlib.import_module("video_snl.cli.main")  # main is a function there

reid_cli = importlib.import_module("reid.cli.main")  # main is a function there

gallery_cli = importlib.import_module("reid.cli.gallery")  # whose commands have their own words

PROGRAMS = {"video-snl": cli.main, "reid": reid_cli.main}
_MODULES = {"video_snl": "video-snl", "reid": "reid"}

# Programs of the system, which are not looked into.
_SYSTEM = (
    *("awk", "cd", "createdb", "ffmpeg", "mkdir", "mv", "pip", "ray", "source", "unrar"),
    *("unzip", "wait"),
)

# Scripts that take a path, or nothing, and parse no options; with the number of words they take.
_WITHOUT_OPTIONS = {
    "scripts/benchmarks/precision.py": 0,
    "scripts/block_pictures.py": 1,
    "scripts/explain_pictures.py": 3,
    "scripts/reid_pictures.py": 2,
    "scripts/reid_sample_picture.py": 1,
    "scripts/serve_picture.py": 2,
}
_SHELL_SCRIPTS = (".ci/run", "scripts/docs.sh", "scripts/test.sh", "scripts/train_ucf101.sh")

# What stands for something of the reader's: RUN, DIR, VIDEO_OR_FOLDER, C.
_PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_]*(\.\w+)?")


class Parsed(Exception):
    """Raised instead of what would be done with accepted arguments."""


def command_lines(block: Block) -> list[list[str]]:
    """The words of each command, without assignments of variables, launchers and dots.

    ``[--option value]`` and ``...`` are read as on a manual's page: the option is there.
    """
    joined = block.text.replace("\\\n", " ")
    found = []
    for line in joined.splitlines():
        words = shlex.split(line, comments=True)
        while end := next((at for at, word in enumerate(words) if word in ("&&", "|")), 0):
            found.append(words[:end])
            words = words[end + 1 :]
        found.append(words)
    return [cleaned for words in found if (cleaned := _cleaned(words))]


def _cleaned(words: list[str]) -> list[str]:
    optional, kept = False, []
    for word in words:
        if word.startswith("[--"):
            optional, word = True, word[1:]
        if optional and word.endswith("]"):
            optional, word = False, word[:-1]
        word = word.removesuffix("...")
        if word and not (not kept and re.fullmatch(r"\w+=.*", word)):
            kept.append(word)
    if kept and kept[0] == "torchrun":
        return _launched(kept)
    return kept


def _launched(words: list[str]) -> list[str]:
    """Return what a launcher starts: ``-m MODULE ...`` as our command, or the program itself."""
    for place, word in enumerate(words):
        if word == "-m" and words[place + 1] in _MODULES:
            return [_MODULES[words[place + 1]], *words[place + 2 :]]
        if word in PROGRAMS:
            return words[place:]
    raise AssertionError(f"no program of ours is started by: {shlex.join(words)}")


def parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails unless the command accepts the words; nothing is done with them."""
    program, rest = words[0], words[1:]
    if program == "python" and rest[0] == "-m" and rest[1] in _MODULES:
        program, rest = _MODULES[rest[1]], rest[2:]
    if program in PROGRAMS:
        _parse_program(program, rest, monkeypatch)
    elif program == "python" and rest[0] == "-m":
        assert runpy.run_module(rest[1], run_name="not main")
    elif program == "python":
        _parse_script(rest, monkeypatch)
    elif program == "sbatch":
        [script] = [word for word in rest if word.endswith(".sbatch")]
        assert (REPOSITORY / script).is_file()
        parse(_launched(rest), monkeypatch)
    elif program in _SHELL_SCRIPTS:
        assert (REPOSITORY / program).is_file()
        if program == "scripts/train_ucf101.sh":
            _parse_program("video-snl", ["train", *rest], monkeypatch)
    else:
        assert program in _SYSTEM, f"not a command that is known: {shlex.join(words)}"


def can_be_run(words: list[str]) -> bool:
    """Tell whether a command is quick and needs nothing of the reader's."""
    quick = "--help" in words or "--dry_run" in words or words[1:2] == ["describe"]
    return words[0] in PROGRAMS and quick and not any(map(is_placeholder, words))


def is_placeholder(word: str) -> bool:
    return _PLACEHOLDER.fullmatch(word) is not None


def _parse_program(program: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_COMMANDS", _only_parsing(cli._COMMANDS))
    monkeypatch.setattr(cli, "IMAGE_COMMANDS", _only_parsing(cli.IMAGE_COMMANDS))
    # The runs that are named need not exist.
    monkeypatch.setattr(cli, "_prepare", lambda parser, command, given: given)
    monkeypatch.setattr(reid_cli, "_COMMANDS", _only_parsing(reid_cli._COMMANDS))
    galleries = _only_parsing(gallery_cli.GALLERY_COMMANDS)
    monkeypatch.setattr(gallery_cli, "GALLERY_COMMANDS", galleries)
    monkeypatch.setattr(reid_cli, "_stored", lambda command, known: None)
    monkeypatch.chdir(REPOSITORY)
    if words == ["COMMAND", "--help"]:
        words = ["--help"]
    with pytest.raises((Parsed, SystemExit)) as raised:
        PROGRAMS[program](_without_placeholder_config(words))
    if raised.type is SystemExit:
        assert raised.value.code == 0, f"{program} refuses: {shlex.join(words)}"


def _only_parsing(commands: Commands) -> Commands:
    def accepted(arguments: Any) -> int:
        raise Parsed

    return {name: replace(command, run=accepted) for name, command in commands.items()}


def _without_placeholder_config(words: list[str]) -> list[str]:
    for place, word in enumerate(words):
        if word == "--config" and is_placeholder(words[place + 1]):
            return [*words[:place], *words[place + 2 :]]
    return words


def _parse_script(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    script = REPOSITORY / words[0]
    assert script.is_file(), f"{words[0]} is not there"
    if words[0] in _WITHOUT_OPTIONS:
        assert len(words) - 1 == _WITHOUT_OPTIONS[words[0]]
        return
    original = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", _accepting(original))
    monkeypatch.setattr(sys, "argv", [str(script), *words[1:]])
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(Parsed):
        runpy.run_path(str(script), run_name="__main__")


def _accepting(original: Callable[..., Any]) -> Callable[..., Any]:
    def parse_args(*arguments: Any, **named: Any) -> Any:
        original(*arguments, **named)
        raise Parsed

    return parse_args


def script_of(words: list[str]) -> Path | None:
    """The script that a command line runs, if it is one of the repository."""
    name = words[1] if words[0] == "python" and len(words) > 1 else words[0]
    return REPOSITORY / name if name.startswith("scripts/") else None
