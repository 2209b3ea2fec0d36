"""Files below a folder as tracklets, and what is refused as ambiguous."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from reid.data.datasets.catalog import load_dataset
from reid.data.tracklet import NO_NUMBER, special_person
from reid.data.tracklet_folders import (
    Layout,
    find_tracklets,
    images_of_one_tracklet,
    tracklets_in,
)
from tests.reid_trees import write_folder
from video_snl.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def frames(folder: str, count: int = 3) -> list[str]:
    return [f"{folder}/{number}.jpg" for number in range(count)]


def found(root: Path, layout: Layout = "auto") -> dict[str, int]:
    """Names of the tracklets below ``root`` -> number of their frames."""
    tracklets = find_tracklets([str(root)], layout)
    return {os.path.relpath(name, root): len(t.frames) for name, t in tracklets.items()}


def test_a_stray_image_hides_no_gallery(tmp_path: Path) -> None:
    touch(tmp_path, *frames("7/c1/t1"), *frames("7/c2/t10", 12), *frames("7/c2/t9"), "walk.AVI")
    touch(tmp_path, "preview.jpg", "notes.txt", "Thumbs.db", "._7.jpg", "__MACOSX/7/._0.jpg")
    assert found(tmp_path) == {"7/c1/t1": 3, "7/c2/t9": 3, "7/c2/t10": 12, "walk.AVI": 1}
    text = tracklets_in(str(tmp_path)).text()
    assert "4 tracklets (3 folders of images, 1 video), 18 images" in text
    assert "ignored 2 entries" in text and "preview.jpg" in text and "notes.txt" in text
    many = touch(tmp_path / "many", *(f"t{n}/{frame}.png" for n in range(1001) for frame in (1, 2)))
    assert (
        "many: 1,001 tracklets (1,001 folders of images), 2,002 images"
        in tracklets_in(str(many)).text()
    )


def test_images_beside_tracklets_are_refused_and_the_layout_decides(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", *frames("7"), *frames("8/9"), "walk.mp4", "walk.png")
    with pytest.raises(UserError, match="--layout leaves.*--layout tracklets") as caught:
        find_tracklets([str(tmp_path)])
    assert "2 images" in str(caught.value) and "2 folders of images and 1 video" in str(
        caught.value
    )
    assert len(str(caught.value).splitlines()) == 1
    assert found(tmp_path, "leaves") == {"7": 3, "8/9": 3, "walk.mp4": 1}
    assert found(tmp_path, "tracklets") == {".": 3, "7": 3, "8/9": 3, "walk.mp4": 1}
    assert found(tmp_path, "videos") == {"walk.mp4": 1}
    assert len(found(tmp_path, "images")) == 10


def test_frames_of_a_street_beside_a_video_are_no_tracklet(tmp_path: Path) -> None:
    touch(tmp_path, "frame1.jpg", "frame2.jpg", "street.mp4")
    with pytest.raises(UserError, match="--layout"):
        find_tracklets([str(tmp_path)])
    cameras = touch(tmp_path / "cameras", "c1s1_001051.jpg", "c3s1_000501.jpg")
    with pytest.raises(UserError, match="--layout images"):
        find_tracklets([str(cameras)])


def test_a_flat_market_folder_is_one_tracklet_per_image(tmp_path: Path) -> None:
    names = ["0002_c1s1_000451_03.jpg", "0002_c1s1_000551_01.jpg", "0007_c3s2_000001_00.jpg.jpg"]
    junk = ["-1_c6s1_000001_01.jpg", "0000_c2s1_000001_01.jpg"]
    touch(tmp_path, *names, *junk, "cover.jpg", "Thumbs.db")
    with pytest.raises(UserError, match=r"6 images.*--layout market"):
        find_tracklets([str(tmp_path)])
    of_path = tracklets_in(str(tmp_path), "market")
    assert {
        Path(name).name: (t.person, t.camera, t.person_id, t.camera_id)
        for name, t in of_path.tracklets.items()
    } == {
        names[0]: ("0002", "1", 2, 1),
        names[1]: ("0002", "1", 2, 1),
        names[2]: ("0007", "3", 7, 3),
        junk[0]: ("-1", "6", -1, 6),
        junk[1]: ("0000", "2", 0, 2),
    }
    assert [entry.path.name for entry in of_path.ignored] == ["cover.jpg"]
    assert found(tmp_path, "tracklets") == {".": 6}
    # As scripts/market_subset.py lays them out.
    one = touch(tmp_path / "one", *names[:2])
    assert found(one) == {".": 2}


def test_images_named_as_in_mars_are_grouped_by_their_names(tmp_path: Path) -> None:
    names = [f"{who}C1T{t:04}F{f:03}.jpg" for who in ("0001",) for t in (1, 2) for f in (2, 1)]
    touch(tmp_path / "0001", *names)
    touch(tmp_path / "00-1", "00-1C2T0001F001.jpg", "00-1C2T0001F002.jpg")
    with pytest.raises(UserError, match="--layout mars"):
        find_tracklets([str(tmp_path)])
    tracklets = find_tracklets([str(tmp_path)], "mars")
    assert [(t.person, t.camera, len(t.frames)) for t in tracklets.values()] == [
        ("00-1", "2", 2),
        ("0001", "1", 2),
        ("0001", "1", 2),
    ]
    assert [Path(f).name for f in tracklets[str(tmp_path / "0001" / names[1])].frames] == [
        "0001C1T0001F001.jpg",
        "0001C1T0001F002.jpg",
    ]


def test_links_multiply_nothing(tmp_path: Path) -> None:
    touch(tmp_path, *frames("g/7/c1/t1"), "g/walk.mp4")
    for name, target in {"g/7/c1/up": "../..", "g/again": "7", "g/latest.mp4": "walk.mp4"}.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "g" / "itself").symlink_to("itself")
    os.mkfifo(tmp_path / "g" / "pipe.avi")
    assert found(tmp_path / "g") == {"7/c1/t1": 3, "walk.mp4": 1}
    text = tracklets_in(str(tmp_path / "g")).text()
    assert "ignored 5 entries" in text and "named pipe" in text
    with pytest.raises(UserError, match="regular file"):
        find_tracklets([str(tmp_path / "g" / "pipe.avi")])


def test_one_tracklet_by_two_spellings_is_named_twice(tmp_path: Path) -> None:
    touch(tmp_path, *frames("g/t1"))
    (tmp_path / "link").symlink_to("g")
    for other in (f"{tmp_path}/g/../g/t1", f"{tmp_path}/link"):
        with pytest.raises(UserError, match="named twice"):
            find_tracklets([str(tmp_path / "g"), other])


def labels(root: Path) -> list[tuple[str, str | None, str | None]]:
    tracklets = find_tracklets([str(root)], "folder")
    return [(os.path.relpath(n, root), t.person, t.camera) for n, t in tracklets.items()]


def test_the_layout_folder_takes_names_from_one_depth(tmp_path: Path) -> None:
    root = touch(tmp_path, *frames("7/c1/t1"), *frames("visitor_A/c2/t1"), "7/c2/walk.avi")
    touch(root, "a.jpg", "b.jpg", "film.mp4", "7/cover.jpg", *frames("7/c1/t1/masks"))
    wanted = [("7/c1/t1", "7", "c1"), ("7/c2/walk.avi", "7", "c2")]
    assert labels(root) == [*wanted, ("visitor_A/c2/t1", "visitor_A", "c2")]
    text = tracklets_in(str(root), "folder").text()
    assert "2 identities, 2 cameras; ignored 7 entries" in text
    assert labels(root / "7" / "c2") == [("walk.avi", "7", "c2")]
    visitor = find_tracklets([str(root / "visitor_A")], "folder")
    assert [(t.person_id, t.camera_id) for t in visitor.values()] == [(NO_NUMBER, NO_NUMBER)]
    touch(root, *frames("7/c3"))
    with pytest.raises(UserError, match="<person>/<camera>/<tracklet>"):
        labels(root)


def test_names_that_are_equal_as_numbers_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a", "7/1/t/1.jpg", "00-1/1/t/1.jpg", "-1/1/t/1.jpg")
    touch(tmp_path / "b", "007/1/t/1.jpg")
    roots = [str(tmp_path / name) for name in "ab"]
    assert len(find_tracklets(roots[:1], "folder")) == 3
    assert len(find_tracklets(roots)) == 4  # nobody is named in these
    with pytest.raises(UserError, match="identities '007' and '7' are the same number: rename one"):
        find_tracklets(roots, "folder")


def test_folders_of_several_depths_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, *frames("gallery/7/c1/t1"), *frames("query/7/c2/t1"), *frames("query/8/c9/a/b"))
    with pytest.raises(UserError, match="one depth"):
        labels(tmp_path)
    touch(tmp_path / "sound", *frames("gallery/7/c1/t1"), *frames("query/7/c2/t1"))
    touch(tmp_path / "sound", "gallery/7/c1/cover.jpg")
    assert [who for _, *who in labels(tmp_path / "sound")] == [["7", "c1"], ["7", "c2"]]


@pytest.mark.parametrize(
    ("given", "layout", "message"),
    [
        ("nothing", "auto", "holds no tracklet.*1 x .txt file"),
        ("one.png", "auto", "--layout images"),
        ("one.png", "videos", "--layout images"),
        ("nothing/a.txt", "images", "neither"),
        ("images", "videos", "--layout auto"),
        ("images", "market", "Market-1501"),
    ],
)
def test_what_holds_no_tracklet(tmp_path: Path, given: str, layout: Layout, message: str) -> None:
    touch(tmp_path, "nothing/a.txt", "one.png", *frames("images"))
    with pytest.raises(UserError, match=message):
        find_tracklets([str(tmp_path / given)], layout)
    assert found(tmp_path / "one.png", "images") == {".": 1}


def test_uploads_are_of_one_tracklet() -> None:
    assert images_of_one_tracklet(["a/10.png", "a/9.png", "cover.jpg"]) == ["a/9.png", "a/10.png"]
    for names in (["a/1.png", "b/1.png"], ["0002_c1s1_000451_03.jpg", "0003_c1s1_000451_03.jpg"]):
        with pytest.raises(UserError, match="one"):
            images_of_one_tracklet(names)


@pytest.mark.parametrize(
    ("name", "number"),
    [("-1", -1), ("00-1", -1), ("0", 0), ("0000", 0), ("7", None), ("1-1", None), ("", None)],
)
def test_names_of_junk_and_distractors(name: str, number: int | None) -> None:
    assert special_person(name) == number


IDENTITIES: Mapping[str, int] = {"query/7/1/a": 1, "gallery/7/2/a": 1, "gallery/8/2/a": 1}


def test_the_dataset_folder_names_what_it_ignores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path, IDENTITIES)
    touch(root, "gallery/preview.jpg", "gallery/7/2/a/notes.txt", "gallery/@eaDir/x", "query/._7")
    (root / "gallery/7/2/a/2.BMP").write_bytes((root / "gallery/7/2/a/1.jpg").read_bytes())
    for name, target in {"9": "7", "7/3": "../..", "7/2/a/loop": "."}.items():
        (root / "gallery" / name).symlink_to(target)
    (root / "gallery" / "gone").symlink_to("nowhere")
    os.mkfifo(root / "gallery/8/2/a/0.jpg")
    data = load_dataset("folder", root)
    assert [(t.person, t.camera, len(t.frames)) for t in data.gallery] == [
        ("7", "2", 2),
        ("8", "2", 1),
    ]
    said = capsys.readouterr().err
    assert "ignored 7 entries" in said
    for name in ("preview.jpg", "notes.txt", "loop", "gone", "0.jpg"):
        assert name in said
    assert "@eaDir" not in said and "._7" not in said


def test_a_link_takes_no_tracklet_from_its_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [*frames("query/101/c0/t0"), *frames("gallery/101/c1/t0"), *frames("gallery/102/c1/t0")]
    root = touch(tmp_path, *names)
    (root / "gallery/101/c1/xt").symlink_to("../../102/c1/t0")
    data = load_dataset("folder", root)
    assert [(t.person, Path(t.path).parts[-4:-2]) for t in data.gallery] == [
        ("101", ("101", "c1")),
        ("102", ("102", "c1")),
    ]
    assert "1 x link to a folder that is read by another name (xt)" in capsys.readouterr().err


def test_people_whose_names_look_alike_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = frames("query/caf\u00e9/c0/t0") + frames("gallery/cafe\u0301/c1/t0")
    root = touch(tmp_path, *names)
    assert len({t.person_id for t in (*load_dataset("folder", root).query,)}) == 1
    assert "differ only in spaces or in how their letters are encoded" in capsys.readouterr().err


def test_one_tracklet_may_be_linked_into_both_parts(tmp_path: Path) -> None:
    root = write_folder(tmp_path, IDENTITIES)
    (root / "gallery/7/1").mkdir()
    (root / "gallery/7/1/a").symlink_to("../../../query/7/1/a")
    data = load_dataset("folder", root)
    assert [(t.person_id, t.camera) for t in data.gallery] == [(7, "1"), (7, "2"), (8, "2")]


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path, {**IDENTITIES, "gallery/closed/2/a": 1})
    scandir = os.scandir

    def refuse(path: str | Path) -> object:
        if re.search("closed", str(path)):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    data = load_dataset("folder", root)
    assert [t.person for t in data.gallery] == ["7", "8"]
    assert "closed" in capsys.readouterr().err
    found_here = tracklets_in(str(root / "gallery"))
    assert len(found_here.tracklets) == 2 and "cannot be read" in found_here.text()
