"""``reid check``: every kind of fault is found; what is sound is said to be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reid.config import ReidDataConfig
from reid.data import check as check_module
from reid.data.check import check, inspect
from reid.data.datasets.base import Counts, Published
from reid.data.datasets.catalog import DATASETS
from tests.reid_misbehaving import misbehave
from tests.reid_trees import write_folder, write_image, write_mars
from video_snl.data.workers.pool import map_with_timeout
from video_snl.errors import UserError

OWN = {"train/1/1/a": 2, "query/2/1/a": 2, "query/3/1/a": 1, "gallery/2/2/a": 40}
SMALL = Published(
    {
        "train": Counts(2, 2, 3, 7),
        "query": Counts(2, 1, 2, 5),
        "gallery": Counts(2, 3, 4, 5),
        "junk": Counts(0, 1, 1, 2),
    },
    unmatched=0,
)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check without worker processes, which take seconds to start."""

    def run(function: Any, items: Any, **options: Any) -> Any:
        return map_with_timeout(function, items, **options | {"num_workers": 0})

    monkeypatch.setattr(check_module, "map_with_timeout", run)


@pytest.fixture
def mars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(DATASETS, "mars", replace(DATASETS["mars"], published=SMALL))
    return write_mars(tmp_path / "mars", images=True)


def report(capsys: pytest.CaptureFixture[str], dataset: Any, root: Path) -> tuple[int, Any]:
    config = ReidDataConfig(dataset=dataset, root=str(root))
    code = check(config, as_json=True)
    return code, json.loads(capsys.readouterr().out)


def problems(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    root = f"{found['root']}/"
    return [(p["kind"], p["path"].removeprefix(root), p["detail"]) for p in found["problems"]]


@pytest.mark.usefixtures("in_this_process")
def test_a_sound_set(mars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = report(capsys, "mars", mars)
    assert code == 0 and found["problems"] == [] and found["counts"] == {}
    assert found["parts"] == {name: vars(part) for name, part in SMALL.parts.items()}
    assert found["parts"] == found["published"]
    assert found["distractors"] == 1
    assert found["unmatched_queries"] == {
        "count": 0,
        "published": 0,
        "people": [],
        "tracklets": [],
    }


@pytest.mark.usefixtures("in_this_process")
def test_every_kind_of_problem(mars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = mars / "bbox_test"
    (test / "0000" / "0000C2T0001F001.jpg").unlink()
    (test / "0004" / "0004C1T0001F001.jpg").unlink()
    (test / "0002" / "0002C1T0001F001.jpg").write_bytes(b"no image")
    whole = (test / "0002" / "0002C1T0001F002.jpg").read_bytes()
    (test / "0002" / "0002C1T0001F002.jpg").write_bytes(whole[: len(whole) - 40])
    for path in (mars / "bbox_train" / "0003").iterdir():
        path.unlink()
    names = mars / "info" / "test_name.txt"
    names.write_text(names.read_text().replace("0004C3", "0005C3"))
    code, found = report(capsys, "mars", mars)
    assert code == 1
    assert problems(found) == [
        ("counts", found["root"], "gallery has 1 identities, published are 2"),
        ("counts", found["root"], "gallery has 2 cameras, published are 3"),
        ("counts", found["root"], "gallery has 3 tracklets, published are 4"),
        ("counts", found["root"], "gallery has 4 frames, published are 5"),
        ("counts", found["root"], "queries without a match: 1, published are 0"),
        ("missing", "bbox_test/0000/0000C2T0001F001.jpg", ""),
        ("missing", "bbox_test/0004/0004C1T0001F001.jpg", ""),
        ("missing", "bbox_train/0003", "all its 2 images"),
        (
            "mixed",
            "info/tracks_test_info.mat",
            "row 7 is of person 0004 camera 3, its files are of person 0005 camera 3",
        ),
        ("unreadable", "bbox_test/0002/0002C1T0001F001.jpg", found["problems"][-2]["detail"]),
        ("unreadable", "bbox_test/0002/0002C1T0001F002.jpg", found["problems"][-1]["detail"]),
    ]
    assert "truncated" in found["problems"][-1]["detail"]
    assert found["unmatched_queries"]["people"] == [4]
    assert found["unmatched_queries"]["tracklets"] == ["0004/0004C1T0001F001.jpg"]


@pytest.mark.usefixtures("in_this_process")
def test_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A query without a match is no fault of own data, unless there is no other."""
    root = write_folder(tmp_path / "own", OWN)
    code, found = report(capsys, "folder", root)
    assert code == 0 and found["published"] is None
    assert found["unmatched_queries"]["people"] == [3]
    write_folder(root, {"train/2/1/a": 1, "gallery/2/2/b": 0})
    code, found = report(capsys, "folder", root)
    assert code == 1
    detail = "1 identity both in train and in query, the first is 2"
    assert problems(found) == [
        ("empty", "gallery/2/2/b", "has no images"),
        ("shared", "train/2/1/a/1.jpg", detail),
    ]
    other = write_folder(tmp_path / "other", {"query/2/1/a": 1, "gallery/2/1/b": 1})
    code, found = report(capsys, "folder", other)
    assert code == 1
    assert found["problems"][0]["detail"].startswith("no query has a match in the gallery")


@pytest.mark.usefixtures("in_this_process")
def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path, OWN)
    (root / "gallery" / "2" / "2" / "a" / "7.jpg").write_bytes(b"")
    assert check(ReidDataConfig(dataset="folder", root=str(root)), as_json=False) == 1
    out, errors = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["list", "identities", "cameras", "tracklets", "frames"]
    assert lines[3].split() == ["gallery", "1", "1", "1", "40"]
    assert (
        "1 of 2 queries without a match in the gallery (same person, another camera): identities 3"
        in (lines)
    )
    assert "unreadable: 1 (not an image, damaged, or not read in time)" in lines
    assert any("gallery/2/2/a/7.jpg: " in line and "accepted format" in line for line in lines)
    assert lines[-1] == f"{root}: 4 tracklets, 1 problem"
    assert "checked batches of 32 images: 2 of 2" in errors
    little = ReidDataConfig(dataset="folder", root=str(root), max_pixels=10)
    assert check(little, as_json=False) == 1
    assert "max_pixels=10" in capsys.readouterr().out


@pytest.mark.timeout(400)
def test_pictures_that_hang_or_kill_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_module, "inspect", misbehave)
    root = write_folder(tmp_path, OWN)
    config = ReidDataConfig(dataset="folder", root=str(root), deadline=2)
    assert check(config, as_json=True, num_workers=2) == 1
    found = problems(json.loads(capsys.readouterr().out))
    assert [path for _, path, _ in found] == ["gallery/2/2/a/3.jpg", "gallery/2/2/a/39.jpg"]
    assert found[0][2] == "not read within 2 s"
    assert "SIGKILL" in found[1][2]


def test_unusable_sets_are_refused(tmp_path: Path) -> None:
    for dataset in ("folder", "mars", "ilids-vid", "prid2011"):
        with pytest.raises(UserError, match="has no folder"):
            check(ReidDataConfig(dataset=dataset, root=str(tmp_path)), as_json=True)
    with pytest.raises(UserError, match="needs --root"):
        check(ReidDataConfig(dataset="mars"), as_json=True)


def test_pictures_of_every_kind(tmp_path: Path) -> None:
    sound = [str(write_image(tmp_path / name)) for name in ("a.jpg", "b.png", "c.JPEG")]
    broken = Path(write_image(tmp_path / "d.png"))
    broken.write_bytes(broken.read_bytes()[:60])
    (tmp_path / "e.jpg").mkdir()
    found = inspect((*sound, str(broken), str(tmp_path / "e.jpg"), str(tmp_path / "f.jpg")))
    assert [(finding.kind, Path(finding.path).name) for finding in found] == [
        ("unreadable", "d.png"),
        ("unreadable", "e.jpg"),
        ("missing", "f.jpg"),
    ]
