"""The page of ``reid serve`` in a real browser: whom it finds, as film strips, and why."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.served import Served

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (it is one of the dev packages)"
)
from playwright.sync_api import Browser, FrameLocator, Page  # noqa: E402

from tests.browsers import (  # noqa: E402
    Open,
    chromium,
    enlarge,
    explorer,
    overflowing,
    said,
    upload,
    watched,
)

pytestmark = pytest.mark.slow
DRAWN = """(images) => images.filter(
    (image) => image.complete && image.naturalWidth > 0 && image.clientWidth > 20).length"""
SEEN = """(images) => images.map((image) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.drawImage(image, 0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
})"""
CUT = """() => [...document.querySelectorAll(".entry, .entry p, h1, h2")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.right > innerWidth + 0.5 || box.left < -0.5
        || element.scrollWidth > element.clientWidth + 1;
}).map((element) => element.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    with watched(browser) as opening:
        yield opening


def strips(page: Page) -> FrameLocator:
    """The page of the search in the answer, once its strips are drawn."""
    frame = page.frame_locator("iframe[title='Nearest in the gallery']")
    frame.locator(".entry img").last.wait_for()
    enlarge(page)
    for image in frame.locator(".entry img").all():
        image.evaluate("(image) => image.decode()")
    return frame


def pictures(dataset: Path, person: int) -> list[Path]:
    return sorted((dataset / "query" / str(person) / "c0" / "t0").iterdir())


@pytest.mark.parametrize("width", [1280, 400])
def test_pictures_of_a_person(opened: Open, served: Served, dataset: Path, width: int) -> None:
    page = opened(served, width)
    assert page.locator("h1").inner_text() == "Who is this?" and not overflowing(page)
    upload(page, *pictures(dataset, 102))
    explained = explorer(page)
    assert page.locator("#answer h2").all_inner_texts() == [
        "Nearest in the gallery",
        "What the network looks at",
    ]
    found = strips(page)
    entries = found.locator(".entry")
    assert entries.count() == 1 + 3  # the query and the --top nearest
    assert found.locator(".entry.query").count() == 1
    assert found.locator(".entry img").evaluate_all(DRAWN) == 4
    shown = found.locator(".entry:not(.query) p").all_inner_texts()
    distances = [float(text.split("distance ")[1].split()[0]) for text in shown if "dist" in text]
    assert len(distances) == 3 and distances == sorted(distances)
    # The strips show the identities: their colours differ, and the query has that of its pictures.
    colours = found.locator(".entry img").evaluate_all(SEEN)
    assert len({tuple(colour) for colour in colours}) == 4
    assert found.locator("body").evaluate(CUT) == [] and not overflowing(page)

    picture = explained.locator(".picture").first
    picture.click(position={"x": 1, "y": 1})
    assert explained.locator(".readout").get_attribute("data-place") == "0 0 0"
    assert served.uploads() == []


def test_broken_files_and_then_a_good_one(
    opened: Open, served: Served, dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("This is not an image.\n")
    (tmp_path / "text.zip").write_text("This is no archive.\n")
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as archive:
        for path in pictures(dataset, 101):
            archive.write(path, path.name)
    page = opened(served, 400)
    upload(page, tmp_path / "text.jpg")
    assert "text.jpg" in said(page)
    upload(page, tmp_path / "text.zip")
    page.get_by_text("text.zip").first.wait_for()
    assert "text.zip" in said(page)
    upload(page, *pictures(dataset, 101), tmp_path / "good.zip")
    page.get_by_text("upload images of one person").wait_for()
    assert not overflowing(page)
    upload(page, tmp_path / "good.zip")
    explorer(page)
    assert strips(page).locator(".entry.query").inner_text().count("good.zip") == 1
    assert page.locator("#state").inner_text() == "" and served.uploads() == []


def test_the_results_are_saved_as_a_page_of_their_own(
    opened: Open, served: Served, dataset: Path, tmp_path: Path
) -> None:
    page = opened(served)
    upload(page, pictures(dataset, 103)[0])
    explorer(page)
    with page.expect_download() as downloading:
        page.get_by_text("Save this page").first.click()
    downloading.value.save_as(tmp_path / "saved.html")
    saved = (tmp_path / "saved.html").read_text()
    assert saved.startswith("<!DOCTYPE html>") and saved.count("data:image/") >= 4
