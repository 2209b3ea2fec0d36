"""One little data set and one little run, to be read only."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reid.little import options, run, write_folder
from tests.tiny import only_run


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the layout of ``folder``."""
    return write_folder(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="session")
def trained(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs on it."""
    output = tmp_path_factory.mktemp("runs")
    done = run("train", *options(people, output))
    assert done.returncode == 0, done.stderr
    return only_run(output)
