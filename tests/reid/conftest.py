"""One little dataset and one little run, to be read only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reid.little import options, run, write_folder
from tests.reid.servers import Server, new_server
from tests.served import Served
from tests.tiny import only_run


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in the layout of ``folder``."""
    return write_folder(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="session")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs on it."""
    output = tmp_path_factory.mktemp("runs")
    done = run("train", *options(dataset, output))
    assert done.returncode == 0, done.stderr
    return only_run(output)


@pytest.fixture(scope="session")
def with_block(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch of a network with blocks."""
    output = tmp_path_factory.mktemp("blocks")
    done = run("train", *options(dataset, output, model__block="snl", optimizer__epochs=1))
    assert done.returncode == 0, done.stderr
    return only_run(output)


@pytest.fixture(scope="session")
def gallery(with_block: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of ``dataset``'s gallery by that network."""
    path = tmp_path_factory.mktemp("gallery") / "feats.parquet"
    words = ("--checkpoint", str(with_block), "-o", str(path), "--accelerator", "cpu")
    assert run("extract", str(dataset / "gallery"), *words).returncode == 0
    return path


@pytest.fixture(scope="session")
def served(
    with_block: Path, gallery: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The page of that network and gallery; no file may be left."""
    temporary = tmp_path_factory.mktemp("served") / "temporary"
    words = ("--checkpoint", str(with_block), "--gallery", str(gallery), "--top", "3")
    page = Served.start(temporary, *words, module="reid")
    yield page
    assert (page.stop(), page.errors.count("Traceback")) == (143, 0)
    assert not list(temporary.iterdir())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server with pgvector."""
    server = new_server()
    yield server
    server.stop()
