"""The documentation's command lines are run, on stand-ins for the reader's files.

The lines of a page are run from the first to the last, in one place. What is not run stands in
``UNRUN`` with the reason. What trains or writes ONNX files is slow, and so is drawing many figures:
a page with such lines is run once without them, and once with them as a slow test. The long pages
of ``_LONG`` are slow tests alone. That every line is accepted, tests/test_docs.py says.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs_unrun import UNRUN, why_not
from tests.docs_world import Runs, kind_of, lay_before, lay_out, make_runs, runnable
from tests.pages import REPOSITORY, blocks
from tests.tiny import run_here
from tests.written_commands import PROGRAMS, can_be_run, command_lines
from video_snl.serve.jobs import Jobs

_SHELL = blocks("bash", "sh")

# Pages whose commands are explained, and run, on pages of their own or by the tests of a command.
_ELSEWHERE = {
    "README.md": "docs",
    "docs/benchmarks.md": "docs",
    "docs/explain.md": "tests/explain/test_explain_command.py",
    "docs/spectrum.md": "tests/spectrum/test_spectrum_command.py",
    "docs/reid/running.md": "tests/reid/test_cli.py",
}

# Whole walks of a user, whose commands tests/export, tests/engine and tests/data run one by one.
_LONG = ("docs/export.md", "docs/own-videos.md", "docs/ucf101.md")

_Lines = list[list[str]]


def _lines(page: str) -> _Lines:
    """The lines of a page that are run here; those without files, in tests/test_docs.py."""
    written = [words for block in _SHELL if block.page == page for words in command_lines(block)]
    return [words for words in written if why_not(words) is None and not can_be_run(words)]


def _is_slow(words: list[str]) -> bool:
    return "train" in words or any(word.endswith(".onnx") for word in words)


def _parts() -> Iterator[tuple[str, _Lines, bool]]:
    """Each page's quick lines and, where it has slow ones, all of its lines."""
    for page in dict.fromkeys(block.page for block in _SHELL):
        lines = _lines(page)
        slow = page in _ELSEWHERE or page in _LONG
        quick = [words for words in lines if not _is_slow(words) and not slow]
        if quick:
            yield page, quick, False
        if len(quick) < len(lines):
            yield page, lines, True


_PAGES = [
    pytest.param(
        page,
        lines,
        id=f"all of {page}" if slow else page,
        marks=[pytest.mark.slow, pytest.mark.timeout(1200)] if slow else pytest.mark.timeout(600),
    )
    for page, lines, slow in _parts()
]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return make_runs(tmp_path_factory.mktemp("docs"))


@pytest.mark.parametrize(("page", "lines"), _PAGES)
def test_command_lines_run_in_order(
    page: str, lines: _Lines, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, runs, REPOSITORY / "configs", monkeypatch)
    monkeypatch.setattr(Jobs, "run", _opened_once)
    for words in lines:
        monkeypatch.chdir(tmp_path / kind_of(page, words))
        lay_before(words)
        program, *rest = runnable(page, words)
        done = run_here(*rest, main=PROGRAMS[program])
        said = f"{shlex.join(words)}\nas {shlex.join(rest)}:\n{done.stderr}{done.stdout}"
        assert done.returncode == _code(words), said
        _assert_written(rest)


def _code(words: list[str]) -> int:
    if words[1] == "serve":
        return 130
    # The stand-ins' counts are not those that are published, which is a finding.
    return int(words[1] == "check" and bool({"mars", "market1501"} & set(words)))


def _opened_once(self: Jobs) -> None:
    """Instead of waiting for uploads: as if whoever started ``serve`` pressed Ctrl-C."""
    raise KeyboardInterrupt


def _assert_written(words: list[str]) -> None:
    """The files that a line says it writes are there, and not empty."""
    for option in ("-o", "--out", "--render", "--page"):
        if option in words:
            written = Path(words[words.index(option) + 1])
            assert any(written.iterdir()) if written.is_dir() else written.stat().st_size
            if written.name == "DIR":  # another line's may be another folder
                shutil.rmtree(written)


def test_each_line_is_run_or_has_a_reason() -> None:
    written = [words for block in _SHELL for words in command_lines(block)]
    left = [w for w in written if w[0] not in PROGRAMS and why_not(w) is None]
    assert left == []
    matched = {why_not(words) for words in written}
    assert set(UNRUN.values()) - matched == set()
    assert len(_PAGES) >= 10


@pytest.mark.parametrize("reason", [*UNRUN.values(), *_ELSEWHERE.values()])
def test_tests_that_a_reason_names_exist(reason: str) -> None:
    named = re.findall(r"\btests/\w[\w/]*(?:\.\w+)?", reason)
    assert [name for name in named if not (REPOSITORY / name).exists()] == []
