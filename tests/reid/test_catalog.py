"""The catalog of datasets: names come from its entries, and an entry is all that a module needs."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import get_args, get_type_hints

import pytest

from reid.config import ReidDataConfig
from reid.data.check import check
from reid.data.datasets.base import Counts, Dataset, Published, Report
from reid.data.datasets.catalog import DATASETS, load_dataset, num_splits
from reid.data.datasets.folder import load as load_folder
from reid.data.tracklet import ReidData
from tests.reid_trees import write_folder
from video_snl.errors import UserError

TREE = {"train/1/1/a": 1, "query/2/1/a": 2, "gallery/2/2/a": 3}


def test_names_of_the_option_are_the_entries() -> None:
    assert get_args(get_type_hints(ReidDataConfig)["dataset"]) == tuple(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
def test_every_entry_has_what_its_module_needs(name: str) -> None:
    entry = DATASETS[name]
    module_name, _, function = entry.module.partition(":")
    module = importlib.import_module(module_name)
    assert callable(getattr(module, function or "load"))
    assert entry.root is not None or callable(module.ensure)
    assert num_splits(name) == entry.num_splits >= 1
    if entry.published is not None:
        assert {"train", "query", "gallery"} <= set(entry.published.parts)


def test_a_new_dataset_is_one_module_and_one_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(root: Path, split: int, report: Report) -> ReidData:
        return replace(load_folder(root, split, report), name="mine")

    module = ModuleType("own_dataset")
    module.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_dataset", module)
    sizes = Published({"gallery": Counts(2, 1, 1, None)}, unmatched=0)
    entry = Dataset("own_dataset", root="the folder of mine", published=sizes)
    monkeypatch.setitem(DATASETS, "mine", entry)
    root = write_folder(tmp_path / "mine", TREE)
    data = load_dataset("mine", root)
    assert (data.name, len(data.train), len(data.query), len(data.gallery)) == ("mine", 1, 1, 1)
    with pytest.raises(UserError, match="split 1 of mine does not exist"):
        load_dataset("mine", root, 1)
    with pytest.raises(UserError, match="mine needs --root: the folder of mine"):
        load_dataset("mine")
    config = ReidDataConfig(dataset="mine", root=str(root), num_workers=0)
    assert check(config, as_json=False, num_workers=1) == 1
    assert "gallery has 1 identities, published are 2" in capsys.readouterr().out
