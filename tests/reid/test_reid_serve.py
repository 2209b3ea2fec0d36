"""``reid serve``: what is answered to uploaded images, ZIP files and videos."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from reid.apps.serve import uploaded_tracklet
from reid.data.tracklet import Tracklet
from reid.retrieval.calibration import NO_PROBABILITIES
from tests.reid.galleries import kept_in
from tests.reid.little import run, write_tracklet
from tests.reid.test_reid_weights import torchreid_checkpoint, torchreid_model
from tests.served import Served
from tests.test_checkpoints import save
from tests.videos import write_video
from video_snl.errors import UserError
from video_snl.serve.service import Limits

LIMITS = Limits(megabytes=1, seconds=5)


def distances(html: str) -> list[str]:
    return re.findall(r"<br>distance ([0-9.e-]+)", html)


def test_images_find_what_search_finds(
    served: Served, with_block: Path, gallery: Path, dataset: Path
) -> None:
    query = dataset / "query" / "102" / "c0" / "t0"
    words = ("--checkpoint", str(with_block), "--gallery", str(gallery), "--top", "3", "--json")
    [expected] = json.loads(run("search", str(query), *words).stdout)["queries"]
    status, lines = served.ask(*sorted(query.iterdir(), reverse=True))
    assert status == 200 and lines[-1]["state"] == "answered"
    found, explorer = lines[-1]["pages"]
    assert distances(found["html"]) == [f"{row['distance']:.4g}" for row in expected["results"]]
    assert f"The nearest of 5 tracklets in {gallery}" in found["html"]
    assert "<h2>3 images</h2>" in found["html"] and str(served.temporary) not in found["html"]
    assert found["html"].count("none found") == 0  # the strips have images
    assert "3 images" in explorer["html"]
    assert served.uploads() == []


def test_a_zip_file_and_a_video(served: Served, dataset: Path, tmp_path: Path) -> None:
    query = dataset / "query" / "102" / "c0" / "t0"
    with zipfile.ZipFile(tmp_path / "person.zip", "w") as archive:
        for path in query.iterdir():
            archive.write(path, f"../{path.name}")
        archive.writestr("__MACOSX/._0000.png", b"no image")
        archive.writestr("read me.txt", b"no image either")
    _, images = served.ask(*query.iterdir())
    _, lines = served.ask(tmp_path / "person.zip")
    assert distances(lines[-1]["pages"][0]["html"]) == distances(images[-1]["pages"][0]["html"])
    _, lines = served.ask(write_video(tmp_path / "person.avi", frames=5))
    assert len(distances(lines[-1]["pages"][0]["html"])) == 3
    assert "person.avi" in lines[-1]["pages"][1]["html"]
    assert served.uploads() == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "postgres"])
def test_galleries_that_are_kept_give_the_same_page(
    kind: str,
    with_block: Path,
    gallery: Path,
    dataset: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    place = kept_in(kind, tmp_path, request)()
    assert run("gallery", "create", place, str(gallery)).returncode == 0
    query = dataset / "query" / "102" / "c0" / "t0"
    words = ("--checkpoint", str(with_block), "--gallery", str(gallery), "--top", "3", "--json")
    [expected] = json.loads(run("search", str(query), *words).stdout)["queries"]
    near = expected["results"][0]["distance"]
    threshold = near / 2 if kind == "folder" else near * 2
    page = Served.start(
        tmp_path / "temporary",
        *("--checkpoint", str(with_block), "--gallery", place, "--top", "3"),
        *("--threshold", str(threshold)),
        module="reid",
    )
    _, lines = page.ask(*query.iterdir())
    assert page.stop() == 143
    found, notes = lines[-1]["pages"][0]["html"], lines[-1]["notes"]
    said = "not in the gallery" if kind == "folder" else "in the gallery"
    side = "beyond" if kind == "folder" else "within"
    said = f"{said}: the nearest, at {near:.4f}, is {side} {threshold:.4f}."
    assert notes == [f"{'Unknown' if kind == 'folder' else 'Known'} person, {said}"]
    assert f"<strong>{said[0].upper()}{said[1:]}</strong>" in found
    assert NO_PROBABILITIES[1:] in found
    assert distances(found) == [f"{row['distance']:.4g}" for row in expected["results"]]
    assert "The nearest of 5 tracklets in" in found


def test_broken_uploads_get_a_message(served: Served, tmp_path: Path) -> None:
    for name in ("text.jpg", "text.zip", "text.avi", "text.gif"):
        (tmp_path / name).write_text("Nothing of the kind.\n")
        _, lines = served.ask(tmp_path / name)
        assert lines[-1]["state"] == "failed" and name in lines[-1]["message"]
        assert "\n" not in lines[-1]["message"]
        assert str(served.temporary) not in lines[-1]["message"]
    assert served.uploads() == []


@pytest.mark.slow
def test_a_published_network_without_any_training(dataset: Path, tmp_path: Path) -> None:
    checkpoint = torchreid_checkpoint(torchreid_model(identities=4101), "module.")
    weights = save(checkpoint, tmp_path, "osnet.pth.tar-180")
    network = ("--pretrained", "osnet_x0_25_msmt17", "--weights", weights)
    features, place = str(tmp_path / "feats.parquet"), str(tmp_path / "people")
    done = run("extract", str(dataset / "gallery"), *network, "-o", features)
    assert done.returncode == 0, done.stderr
    assert run("gallery", "create", place, features).returncode == 0
    query = dataset / "query" / "102" / "c0" / "t0"
    words = (*network, "--gallery", place, "--top", "3")
    [expected] = json.loads(run("search", str(query), *words, "--json").stdout)["queries"]
    page = Served.start(tmp_path / "temporary", *words, module="reid")
    _, lines = page.ask(*query.iterdir())
    assert (page.stop(), page.errors.count("Traceback")) == (143, 0)
    found, explorer = (shown["html"] for shown in lines[-1]["pages"])
    assert distances(found) == [f"{row['distance']:.4g}" for row in expected["results"]]
    assert "The network has no blocks" in explorer


def test_a_gallery_of_another_network(trained: Path, gallery: Path) -> None:
    done = run("serve", "--checkpoint", str(trained), "--gallery", str(gallery), "--port", "0")
    assert done.returncode == 2 and "extract the gallery with this network" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--top", "21"), ("--gallery", "none.parquet"), ("--threshold", "1")),
        *(("--threshold", "-1"), ("--pretrained", "osnet_x0_25_msmt17"), ("--weights", "w.pth")),
    ],
)
def test_options_that_do_not_fit(trained: Path, option: str, value: str) -> None:
    done = run("serve", "--checkpoint", str(trained), option, value)
    assert done.returncode == 2 and (value in done.stderr or option in done.stderr)
    assert len(done.stderr.splitlines()) == 1


def uploaded(*files: Path) -> Tracklet:
    folder = files[0].parent / "frames"
    return uploaded_tracklet(files, folder, LIMITS, deadline=20)[1]


def test_the_order_is_that_of_the_numbers(tmp_path: Path) -> None:
    write_tracklet(tmp_path / "t", 1, 0, frames=3)
    names = ["frame2.png", "frame10.png", "frame1.png"]
    files = [
        path.rename(path.with_name(name))
        for path, name in zip(sorted((tmp_path / "t").iterdir()), names, strict=True)
    ]
    shown = [Path(frame).name for frame in uploaded(*files).frames]
    assert shown == ["00000-frame1.png", "00001-frame2.png", "00002-frame10.png"]


def _zip(path: Path, *contents: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents:
            archive.writestr(name, content)
    return path


def test_zip_files_that_are_refused(tmp_path: Path) -> None:
    bomb = _zip(tmp_path / "bomb.zip", ("a.png", bytes(1_000_001)))
    assert bomb.stat().st_size < 2000
    many = _zip(tmp_path / "many.zip", *[(f"{number}.png", b"") for number in range(1001)])
    contents = tmp_path / "contents.zip"
    with zipfile.ZipFile(contents, "w") as archive:
        for number in range(70):
            entry = zipfile.ZipInfo(f"{number}.png")
            entry.comment = bytes(65_000)
            archive.writestr(entry, b"")
    empty = _zip(tmp_path / "empty.zip", ("read me.txt", b""))
    for file, says in [
        (bomb, "holds 1.0 MB of images, and 1 MB are allowed"),
        (many, "holds 1,001 images, and 1,000 are allowed"),
        (contents, "holds far more than the 1,000 files that are allowed"),
        (empty, "holds no images"),
    ]:
        with pytest.raises(UserError, match=says):
            uploaded_tracklet([file], tmp_path / f"{file.stem} frames", LIMITS, deadline=20)


def test_uploads_of_several_tracklets_are_refused(tmp_path: Path) -> None:
    two = _zip(tmp_path / "two.zip", ("a/1.png", b"1"), ("a/2.png", b"2"), ("b/1.png", b"3"))
    market = [tmp_path / f"000{person}_c1s1_000451_03.jpg" for person in (2, 7)]
    stray = _zip(tmp_path / "one.zip", ("a/2.png", b"2"), ("a/10.png", b"10"), ("cover.png", b""))
    assert [Path(frame).read_bytes() for frame in uploaded(stray).frames] == [b"2", b"10"]
    for number, files in enumerate(([two], market)):
        with pytest.raises(UserError, match="one tracklet|one of them"):
            uploaded_tracklet(files, tmp_path / str(number), LIMITS, deadline=20)


def test_a_mixture_is_refused(tmp_path: Path) -> None:
    image = Path(write_tracklet(tmp_path / "t", 1, 0, frames=1)[0])
    archive = _zip(tmp_path / "a.zip")
    for files in ([image, archive], [archive, archive], [tmp_path / "a.avi", tmp_path / "b.avi"]):
        with pytest.raises(UserError, match="and 1 more: upload images of one person"):
            uploaded(*files)
