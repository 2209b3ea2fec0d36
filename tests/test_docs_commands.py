"""The documentation's command lines are run, on stand-ins for the reader's files.

What is not run stands in ``UNRUN`` with the reason. The pages that a new reader follows are run
from the first line to the last; of other pages each block is run on its own. What trains or writes
ONNX files, and the benchmarks, are slow tests.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.docs_unrun import UNRUN, why_not
from tests.docs_world import Runs, kind_of, lay_before, lay_out, make_runs, runnable
from tests.pages import REPOSITORY, Block, blocks
from tests.tiny import run_here
from tests.written_commands import PROGRAMS, can_be_run, command_lines
from video_snl.serve.jobs import Jobs

_SHELL = blocks("bash", "sh")


def _lines(block: Block) -> list[list[str]]:
    """The lines of a block that are run here; those without files, in tests/test_docs.py."""
    return [w for w in command_lines(block) if why_not(w) is None and not can_be_run(w)]


def _is_slow(block: Block) -> bool:
    words = {word for line in _lines(block) for word in line}
    elsewhere = block.page in ("README.md", "docs/benchmarks.md")
    return elsewhere or bool(words & {"train", "model.onnx"})


# Pages whose commands build on those before them: all are run in order, in one place.
_IN_ORDER = ("README.md", "docs/own-videos.md", "docs/ucf101.md", "docs/fine-tuning.md")


def _groups() -> list[list[Block]]:
    """The blocks that are run together."""
    found = [block for block in _SHELL if _lines(block)]
    pages = [[block for block in found if block.page == page] for page in _IN_ORDER]
    return [*pages, *([block] for block in found if block.page not in _IN_ORDER)]


_BLOCKS = [
    pytest.param(
        group, id=str(group[0]), marks=[pytest.mark.slow] if any(map(_is_slow, group)) else []
    )
    for group in _groups()
]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return make_runs(tmp_path_factory.mktemp("docs"))


@pytest.mark.parametrize("group", _BLOCKS)
def test_command_lines_run(
    group: list[Block], runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, runs, REPOSITORY / "configs", monkeypatch)
    monkeypatch.setattr(Jobs, "run", _opened_once)
    page = group[0].page
    for words in (words for block in group for words in _lines(block)):
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
    # The stand-in's counts are not those published of MARS, which is a finding.
    return int(words[1] == "check" and "mars" in words)


def _opened_once(self: Jobs) -> None:
    """Instead of waiting for uploads: as if whoever started ``serve`` pressed Ctrl-C."""
    raise KeyboardInterrupt


def _assert_written(words: list[str]) -> None:
    """What a line says it writes is there, and not empty."""
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
    assert len(_BLOCKS) >= 10


@pytest.mark.parametrize("reason", UNRUN.values())
def test_tests_that_a_reason_names_exist(reason: str) -> None:
    named = re.findall(r"\btests/\w[\w/]*(?:\.\w+)?", reason)
    assert [name for name in named if not (REPOSITORY / name).exists()] == []
