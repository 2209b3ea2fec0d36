"""The store of results under several writers and after a kill."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from video_snl.errors import UserError
from video_snl.tables.store import Contents, Result, Store

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys
from pathlib import Path
from video_snl.tables.store import Result, Store
store, writer = Store(Path(sys.argv[1])), int(sys.argv[2])
for seed in range(200):
    metrics = {"last": {"val/top1": 0.5}, "best": {"val/top1": 0.5}}
    note = {"note": "x" * 20000 if seed % 50 == 0 else ""}
    store.append(Result(5, f"row{writer}", seed, "abc", metrics, "run", 1.0, config=note))
"""


def result(seed: int, settings: str = "abc", row: str = "row") -> Result:
    metrics = {"last": {"val/top1": 0.5}, "best": {"val/top1": 0.6}}
    return Result(5, row, seed, settings, metrics, "run", 1.5, {"torch": "2"}, {"model": {}})


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "results.jsonl")
    assert store.read().results == []
    for seed in range(3):
        store.append(result(seed))
    assert store.read().results == [result(0), result(1), result(2)]


def test_processes_that_append_at_once_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(writer)], cwd=ROOT)
        for writer in range(4)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    contents = Store(path).read()
    assert contents.torn == []
    for writer in range(4):
        seeds = [r.seed for r in contents.results if r.row == f"row{writer}"]
        assert seeds == list(range(200))


def test_a_line_that_was_cut_off_is_reported_and_harms_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.jsonl")
    store.append(result(0))
    whole = store.path.read_bytes()
    store.path.write_bytes(whole + whole[:40])
    assert store.read().torn == [2]
    store.append(result(1))
    contents = store.read()
    assert contents.results == [result(0), result(1)]
    assert contents.torn == [2]


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": None},
        {"metrics": {"last": {"val/top1": 0.5}}},
        {"metrics": {"last": {"val/top1": math.nan}, "best": {"val/top1": 0.5}}},
        {"metrics": {"last": {"val/top1": 10**400}, "best": {"val/top1": 0.5}}},
        {"metrics": {"last": {"val/top1": 7.5}, "best": {"val/top1": 0.5}}},
        {"videos": 7.5},
        {"precision": [1]},
        {"row": None},
        {"seed": 0.0},
        {"seed": True},
        {"metrics": {"last": {"val/top1": "high"}, "best": {"val/top1": 0.5}}},
        {"seed": None},
        {"colour": "red"},
    ],
)
def test_a_line_that_is_no_result_is_reported(tmp_path: Path, changes: dict[str, object]) -> None:
    store = Store(tmp_path / "results.jsonl")
    store.path.write_text(json.dumps(asdict(result(0)) | changes) + "\n" + "[" * 9999 + "\n")
    store.append(result(1))
    assert store.read() == Contents([result(1)], [1, 2])


def test_results_of_other_settings_do_not_count(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.jsonl")
    store.append(result(0, "old"))
    store.append(result(1, "new"))
    store.append(result(2, "new", row="the same in another table"))
    contents = store.read()
    assert sorted(contents.of("new", "val/top1")) == [1, 2]
    assert contents.of("new", "val/mIoU") == {}
    assert contents.stale("row", "new") == [result(0, "old")]


def test_a_store_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        Store(tmp_path).read()
    with pytest.raises(UserError, match="cannot be written"):
        Store(tmp_path).append(result(0))
