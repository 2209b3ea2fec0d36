"""What the two programs make of a command line: its options, or the line that refuses it."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest
import yaml

cli = importlib.import_module("video_snl.cli.main")  # main is a function there

reid_cli = importlib.import_module("reid.cli.main")  # main is a function there


BOTH = pytest.mark.parametrize("main", [cli.main, reid_cli.main], ids=["video-snl", "reid"])
Main = Callable[[list[str]], int]
Write = Callable[[str, str], str]


def printed(main: Main, words: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    """Return what a command takes its options to be."""
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--print_config"])
    assert not stopped.value.code
    return yaml.safe_load(capsys.readouterr().out)


def refused(main: Main, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line with which a command ends, of exit code 2."""
    try:
        code = main(words)
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr()
    assert code == 2 and not said.out
    [line] = said.err.splitlines()
    return line


def shown(main: Main, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command prints before it ends in order."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert not stopped.value.code
    return capsys.readouterr().out
