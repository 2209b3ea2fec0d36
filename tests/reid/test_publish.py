"""``reid publish``: a folder that stands for the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from reid.retrieval.features import read_features
from tests.reid.little import run


@pytest.fixture(scope="module")
def published(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "little"
    done = run("publish", "--checkpoint", str(trained), "-o", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_features_are_the_same_and_comparable(
    trained: Path, published: Path, dataset: Path, tmp_path: Path
) -> None:
    tables = []
    for name, named in (("a", trained), ("b", published)):
        target = str(tmp_path / f"{name}.parquet")
        words = ["--checkpoint", str(named), "-o", target, str(dataset / "gallery")]
        assert run("extract", *words).returncode == 0
        tables.append(read_features(Path(target)))
    assert np.array_equal(tables[0].features, tables[1].features)
    assert tables[0].model == tables[1].model
    query = str(dataset / "query" / "101" / "c0" / "t0")
    gallery = str(tmp_path / "a.parquet")
    done = run("search", "--checkpoint", str(published), "--gallery", gallery, query)
    assert done.returncode == 0, done.stderr


def test_evaluate_gives_the_same(trained: Path, published: Path, dataset: Path) -> None:
    answers = []
    for named in (trained, published):
        words = ["--checkpoint", str(named), "--root", str(dataset), "--json"]
        done = run("evaluate", *words, "--trainer.accelerator", "cpu")
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout)["rankings"])
    assert answers[0] == answers[1]


def test_the_card_and_what_it_leaves_out(trained: Path, published: Path, dataset: Path) -> None:
    card = ModelCard.load(published / "README.md")
    assert "person-re-identification" in card.data.tags
    assert "mean_average_precision" in card.data.metrics and "mAP |" in card.text
    types = [result.metric_type for result in card.data.eval_results]
    assert list(dict.fromkeys(types)) == card.data.metrics
    assert "4 identities to train on of `folder`" in card.text
    for name in ("README.md", "config.json", "model.safetensors"):
        content = (published / name).read_bytes()
        assert str(dataset).encode() not in content and str(trained).encode() not in content


def test_a_folder_of_the_other_program(published: Path, tmp_path: Path) -> None:
    from tests.tiny import run_here

    done = run_here("publish", "--checkpoint", str(published), "-o", str(tmp_path / "a"))
    [line] = done.stderr.splitlines()
    assert done.returncode == 2 and "was not written by video-snl train on videos, but" in line
    assert f"reid export --checkpoint {published}" in line
