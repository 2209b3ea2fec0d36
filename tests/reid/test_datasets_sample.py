"""The sample dataset: MARS's layout, determinism, what it holds, and safe generation."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid.data.check import count, parts_of, unmatched_queries
from reid.data.datasets.catalog import load_dataset
from reid.data.synthetic import sample
from reid.data.synthetic.sample import (
    CAMERAS,
    SIZE,
    SampleSettings,
    draw,
    draw_background,
    ensure,
    generate,
    plan,
)
from reid.data.synthetic.sample_people import BAGS, PRINTS, draw_person, random_person, random_walk
from reid.data.tracklet import ReidData
from video_snl.errors import UserError

TINY = SampleSettings(train_people=2, test_people=3, lonely=1, distractors=2, junk=2, frames=(2, 3))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "set"
    root.mkdir()
    generate(root, TINY)
    return root


@pytest.fixture(scope="module")
def tiny_data(tiny: Path) -> ReidData:
    return load_dataset("mars", tiny)


@pytest.fixture
def tiny_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "SETTINGS", TINY)


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def backgrounds(settings: SampleSettings) -> list[np.ndarray]:
    return [
        draw_background(camera, np.random.default_rng([settings.seed, 3, number]))
        for number, camera in enumerate(CAMERAS)
    ]


# What it holds


def test_layout_is_that_of_mars(tiny: Path, tiny_data: ReidData) -> None:
    assert sorted(path.name for path in tiny.iterdir()) == [
        "bbox_test",
        "bbox_train",
        "info",
        "sample.json",
    ]
    assert sorted(path.name for path in (tiny / "bbox_test").iterdir()) == [
        "00-1",
        "0000",
        "0002",
        "0004",
        "0006",
    ]
    parts = parts_of(tiny_data)
    frames = [frame for part in parts.values() for track in part for frame in track.frames]
    assert sorted(frames) == sorted(str(path) for path in tiny.glob("bbox_*/*/*.jpg"))
    with Image.open(frames[0]) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 64))
    assert count(tiny_data.train).people == 2 and count(tiny_data.query).people == 3
    assert len(tiny_data.junk) == 2 and sum(t.person_id == 0 for t in tiny_data.gallery) == 2


def test_only_the_lonely_have_no_match(tiny_data: ReidData) -> None:
    lonely = unmatched_queries(tiny_data)
    assert [query.person_id for query in lonely] == [2, 2]
    assert len({query.camera_id for query in lonely}) == 2


def test_the_set_itself() -> None:
    """Plan of the sample; the images take seconds to draw."""
    settings = SampleSettings()
    train, test, queries = plan(settings)
    assert len({shot.person for shot in train}) == 40
    assert len({test[row].person for row in queries}) == 36
    assert {shot.camera for shot in train} == set(range(4)) == {shot.camera for shot in test}
    assert (len(train), len(test), len(queries)) == (319, 340, 122)
    assert sum(shot.person == 0 for shot in test) == 60
    assert sum(shot.person == -1 for shot in test) == 24
    each = [sum(shot.person == person for shot in train) for person in {s.person for s in train}]
    assert min(each) >= 5  # more than the tracklets of a person in a batch
    assert {shot.frames for shot in train + test} == set(range(8, 15))


# It is the same set everywhere


def test_drawing_never_changes() -> None:
    """The plan of some tracklets, and the brightness of the parts of their images."""
    train, test, queries = plan(SampleSettings())
    text = json.dumps([[repr(shot) for shot in train + test], queries])
    assert hashlib.sha256(text.encode()).hexdigest() == PLAN
    scenes = backgrounds(SampleSettings())
    means = [
        draw(shot, SampleSettings(), scenes).reshape(shot.frames, 4, 16, 32, 3).mean((0, 2, 3))
        for shot in (train[0], train[100], test[0], test[30], test[-1])
    ]
    np.testing.assert_allclose(np.array(means), np.array(MEANS).reshape(5, 4, 3), atol=0.2)


PLAN = "b54abd54dbfd367667ebb252bdecf43d2cc1b4925fca0a86bc474153318d09d0"
# fmt: off
MEANS = [
    160.9, 156.9, 138.4, 176.6, 122.4, 88.6, 147.6, 154.9, 135.8, 156.8, 159.5, 137.4,
    119.7, 130.4, 115.4, 119.0, 131.7, 77.4, 110.1, 116.2, 101.4, 90.2, 94.1, 87.9,
    167.8, 172.8, 154.8, 165.4, 165.7, 156.6, 153.7, 149.3, 142.9, 157.5, 146.6, 137.2,
    125.1, 119.9, 104.9, 127.8, 127.3, 120.6, 102.0, 111.2, 121.5, 121.9, 121.6, 114.9,
    152.6, 166.7, 149.3, 157.7, 132.6, 130.4, 135.6, 155.1, 147.6, 164.4, 175.6, 147.2,
]
# fmt: on


def test_same_settings_give_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    for name, settings in (("again", TINY), ("other", replace(TINY, seed=1))):
        (tmp_path / name).mkdir()
        generate(tmp_path / name, settings)
    again, other = files_of(tmp_path / "again"), files_of(tmp_path / "other")
    assert again == files_of(tiny)
    both = [name for name in again.keys() & other.keys() if name.endswith(".jpg")]
    assert both and all(other[name] != again[name] for name in both)


# What the images show


def person_alone(person: sample.Person, turn: float) -> np.ndarray:
    """Draw one frame, (64, 32, 3), of a person in front of black."""
    canvas = np.zeros((1, *SIZE, 3), np.float32)
    walk = random_walk(person, 1, SIZE, 1.0, np.random.default_rng(0))
    draw_person(canvas, person, replace(walk, turn=np.full(1, turn, np.float32)))
    return canvas[0]


def test_parts_of_a_person_show_from_one_side_only() -> None:
    plain = replace(random_person(np.random.default_rng(3)), print="none", bag="none")
    front, back = 0.0, np.pi
    for changed, seen, hidden in (
        (replace(plain, print="disc"), front, back),
        (replace(plain, bag="backpack"), back, None),
    ):
        assert np.abs(person_alone(changed, seen) - person_alone(plain, seen)).max() > 40
        if hidden is not None:
            assert np.abs(person_alone(changed, hidden) - person_alone(plain, hidden)).max() < 1
    assert set(PRINTS) > {"none", "disc"} and set(BAGS) > {"none", "backpack"}


def test_cameras_differ_in_colour_and_scale() -> None:
    settings = SampleSettings()
    train, _, _ = plan(settings)
    scenes = backgrounds(settings)
    casts = []
    for camera in range(4):
        shots = [shot for shot in train if shot.camera == camera][:6]
        casts.append(np.mean([draw(s, settings, scenes).mean((0, 1, 2)) for s in shots], axis=0))
    warm, cold, pale = (cast[0] - cast[2] for cast in (casts[1], casts[2], casts[3]))
    assert warm > 20 > pale > 0 > cold
    assert casts[2].mean() < casts[0].mean() - 20 < casts[3].mean() - 20
    assert len({camera.scale for camera in CAMERAS}) == 4


def test_people_differ() -> None:
    identities = [random_person(np.random.default_rng([0, 1, number])) for number in range(1, 80)]
    assert len({repr(person) for person in identities}) == 79
    for name in ("upper", "pattern", "lower", "bag"):
        shared = [getattr(person, name) for person in identities]
        assert max(shared.count(value) for value in set(shared)) >= 10  # no part tells all apart


# The cache


@pytest.mark.usefixtures("tiny_default")
def test_is_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_SNL_CACHE", str(tmp_path))
    data = load_dataset("sample")
    assert data.name == "sample"
    root = tmp_path / "video-snl" / "reid-sample-v1"
    assert data.train[0].path.startswith(f"{root}/bbox_train/0001/0001C")
    monkeypatch.setattr(sample, "_write_files", lambda *_, **__: pytest.fail("generated again"))
    assert load_dataset("sample", root) == data
    with pytest.raises(UserError, match="split 1 of sample"):
        load_dataset("sample", split=1)


@pytest.mark.usefixtures("tiny_default")
def test_another_version_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ensure(tmp_path / "set")
    (root / "stale").touch()
    monkeypatch.setattr(sample, "FORMAT", sample.FORMAT + 1)
    ensure(root)
    assert not (root / "stale").exists() and (root / "info" / "query_IDX.mat").exists()


@pytest.mark.usefixtures("tiny_default")
def test_a_broken_generation_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sample, "_write_info", full_disk)
    with pytest.raises(UserError, match="No space left.*VIDEO_SNL_CACHE or --root"):
        ensure(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("tiny_default")
def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        load_dataset("sample", tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "mine"
