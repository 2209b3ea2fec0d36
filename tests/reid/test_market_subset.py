"""The script that lays Market's images out as tracklets."""

from __future__ import annotations

import io
import json
import runpy
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from reid.data.check import count, parts_of, unmatched_queries
from reid.data.datasets.catalog import load_dataset
from tests.reid_trees import real_file

REPOSITORY = Path(__file__).resolve().parent.parent.parent

TRAIN, TEST = "bounding_box_train", "bounding_box_test"
GROUPS = {
    "train": [{"pid": 2, "cam": 1, "frames": [f"{TRAIN}/0002_c1s1_000451_03.jpg"]}],
    "gallery": [
        {"pid": 5, "cam": 3, "frames": [f"{TEST}/0005_c3s1_000001_01.jpg"]},
        {
            "pid": 5,
            "cam": 2,
            "frames": [f"{TEST}/0005_c2s1_000009_01.jpg", f"{TEST}/0005_c2s1_000010_01.jpg"],
        },
        {"pid": 5, "cam": 3, "frames": [f"{TEST}/0005_c3s2_000001_01.jpg"]},
    ],
}
STRANGERS = [
    f"{TEST}/0000_c1s1_000001_01.jpg",
    f"{TEST}/0000_c1s2_000001_01.jpg.jpg",
    f"{TEST}/-1_c6s1_000001_01.jpg",
    f"{TEST}/00-1_c6s1_000002_01.jpg",
    f"{TEST}/0005_c6s1_000002_01.jpg",
]


@pytest.fixture(scope="module")
def market() -> Callable[[Sequence[str]], int]:
    return runpy.run_path(str(REPOSITORY / "scripts" / "market_subset.py"))["main"]


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    image = io.BytesIO()
    Image.new("RGB", (4, 8)).save(image, "JPEG")
    with zipfile.ZipFile(tmp_path / "market.zip", "w") as archive:
        frames = [frame for part in GROUPS.values() for group in part for frame in group["frames"]]
        for name in [*frames, *STRANGERS, "query/0005_c2s1_000009_00.jpg"]:
            archive.writestr(name, image.getvalue())
    (tmp_path / "tracklets.json").write_text(json.dumps(GROUPS))
    return tmp_path / "market.zip", tmp_path / "tracklets.json"


Main = Callable[[Sequence[str]], int]


def test_layout(market: Main, sources: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert market([*map(str, sources), str(out)]) == 0
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*.jpg"))
    assert files == [
        "gallery/-1/6/0001/-1_c6s1_000001_01.jpg",
        "gallery/00-1/6/0001/00-1_c6s1_000002_01.jpg",
        "gallery/0000/1/0001/0000_c1s1_000001_01.jpg",
        "gallery/0000/1/0002/0000_c1s2_000001_01.jpg.jpg",
        "gallery/0005/3/0001/0005_c3s1_000001_01.jpg",
        "gallery/0005/3/0002/0005_c3s2_000001_01.jpg",
        "query/0005/2/0001/0005_c2s1_000009_01.jpg",
        "query/0005/2/0001/0005_c2s1_000010_01.jpg",
        "train/0002/1/0001/0002_c1s1_000451_03.jpg",
    ]
    data = load_dataset("folder", out)
    assert [t.person_id for t in data.gallery] == [0, 0, 5, 5]
    assert [t.person_id for t in data.junk] == [-1, -1]
    assert data.num_cameras == 4 and data.query[0].camera_id == 1


def test_is_done_once_or_anew(market: Main, sources: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [*map(str, sources), str(out)]
    before = sorted(tmp_path.iterdir())
    (tmp_path / ".out.0123abcd.partial").mkdir()
    assert market(words) == 0
    assert sorted(tmp_path.iterdir()) == sorted([*before, out])  # no lock, nothing of a kill
    marker = out / "market_subset.json"
    before = marker.stat().st_mtime_ns
    assert market(words) == 0 and marker.stat().st_mtime_ns == before
    sources[1].write_text(json.dumps(GROUPS | {"gallery": GROUPS["gallery"][:2]}))
    assert market(words) == 0
    assert not (out / "gallery" / "0005" / "3" / "0002").exists()


def test_bad_input(
    market: Main, sources: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, tracklets = map(str, sources)
    lacking = json.loads(tracklets_text := sources[1].read_text())
    lacking["train"][0]["frames"].append(f"{TRAIN}/0002_c1s1_999999_01.jpg")
    (tmp_path / "lacking.json").write_text(json.dumps(lacking))
    (tmp_path / "other.json").write_text(tracklets_text.replace('"cam"', '"camera"'))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    out = str(tmp_path / "out")
    cases = {
        (str(tmp_path / "no.zip"), tracklets, out): "no.zip is not a readable ZIP file",
        (tracklets, tracklets, out): "is not a readable ZIP file",
        (images, images, out): "is not a readable JSON file",
        (images, str(tmp_path / "other.json"), out): 'expected "train"',
        (images, str(tmp_path / "lacking.json"), out): "lacks 1 of the 10 images",
        (images, tracklets, str(tmp_path / "mine")): "holds other files",
    }
    for words, said in cases.items():
        assert market(words) == 2
        errors = capsys.readouterr().err
        assert said in errors and len(errors.splitlines()) == 1
        assert not Path(out).exists()


def test_a_damaged_picture_leaves_nothing_behind(
    market: Main, sources: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(sources[0].read_bytes())
    content[200] ^= 255  # in the data of the first image
    sources[0].write_bytes(content)
    assert market([*map(str, sources), str(tmp_path / "out")]) == 2
    assert "market.zip is damaged" in capsys.readouterr().err
    assert not list(tmp_path.glob("*out*/*"))


def test_real_subset(market: Main, real_data: Path, tmp_path: Path) -> None:
    images = real_file(real_data, "market1501_subset.zip")
    tracklets = real_file(real_data, "market1501_subset_tracklets.json")
    assert market([str(images), str(tracklets), str(tmp_path / "out")]) == 0
    data = load_dataset("folder", tmp_path / "out")
    parts = {name: count(part) for name, part in parts_of(data).items()}
    assert (parts["train"].people, parts["train"].tracklets) == (120, 604)
    assert (parts["query"].people, parts["query"].tracklets) == (120, 120)
    assert (parts["gallery"].people, parts["gallery"].tracklets) == (120, 480 + 250)
    assert parts["junk"].tracklets == 250 and data.num_cameras == 6
    assert sum(t.person_id == 0 for t in data.gallery) == 250
    assert sum(part.frames for part in parts.values()) == 3473 + 3299 + 500
    assert unmatched_queries(data) == []
