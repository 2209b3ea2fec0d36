"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.slurm import Slurm

REPOSITORY = Path(__file__).resolve().parent.parent


def _keep_bytecode() -> None:
    """Keep compiled modules among pytest's files where the environment says to keep none.

    The tests start hundreds of processes, which would each spend most of their time on compiling
    torch and lightning anew. They and pytest's workers inherit the setting.
    """
    if sys.dont_write_bytecode:
        sys.dont_write_bytecode = False
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        sys.pycache_prefix = str(REPOSITORY / ".pytest_cache" / "bytecode")
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


_keep_bytecode()
# Of what is imported and collected nothing becomes garbage; pytest_collection_finish goes on.
gc.disable()

import hypothesis  # noqa: E402
import torch  # noqa: E402

from tests.user_package import importable, write_package  # noqa: E402
from tests.videos import write_ucf101  # noqa: E402

# What a test does not say itself. A time for each example would fail on a machine that is busy.
hypothesis.settings.register_profile("tests", max_examples=50, deadline=None)
hypothesis.settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """Collect garbage less often, and not among what all tests share: torch, above all.

    A tenth of the tests' time would go into looking at the same objects again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()


def pytest_unconfigure() -> None:
    """Let Python clean up at its end as it always does."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell's background jobs ignore SIGINT, those of nohup SIGHUP: so would what tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Use one thread, as the processes of the tests do: the order of a sum depends on it."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, ``VIDEO_SNL_TEST_DATA`` or ``../shared/data``; skips when absent."""
    named = os.environ.get("VIDEO_SNL_TEST_DATA")
    root = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set VIDEO_SNL_TEST_DATA to its folder")
    return root


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset in UCF-101's layout, to be read only."""
    return write_ucf101(tmp_path_factory.mktemp("ucf101"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a text file of this name for the test; the path comes back."""

    def written(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return written


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the package of a user's own, which is not on the path yet."""
    return write_package(tmp_path_factory.mktemp("package"))


@pytest.fixture
def own_parts(package: Path) -> Iterator[None]:
    """That package can be imported, and is forgotten afterwards."""
    with importable(package):
        yield


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A SLURM of one node; skips where it is not installed."""
    from tests.slurm import running_slurm

    with running_slurm(tmp_path_factory.mktemp("slurm")) as started:
        yield started


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests of torchcodec ran: they need FFmpeg's shared libraries."""
    counts = {
        outcome: sum("torchcodec" in report.nodeid for report in terminalreporter.stats[outcome])
        for outcome in ("passed", "failed", "skipped")
        if outcome in terminalreporter.stats
    }
    said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    if said:
        terminalreporter.write_line(f"torchcodec tests: {said}")
