"""The page of ``serve`` in a real browser: uploads, good and broken, and the explorer in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.served import Served

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (it is one of the dev packages)"
)
from playwright.sync_api import Browser  # noqa: E402

from tests.browsers import (  # noqa: E402
    Open,
    chromium,
    explorer,
    overflowing,
    said,
    upload,
    watched,
)

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")

PLAYED = """async (video) => {
    while (video.currentTime < 4) await new Promise((resume) => setTimeout(resume, 50));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(*CAMERA) as opened:
        yield opened


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    with watched(browser) as opening:
        yield opening


@pytest.mark.parametrize("width", [1280, 400])
def test_a_video(opened: Open, served: Served, sample: Path, width: int) -> None:
    page = opened(served, width)
    assert not overflowing(page)
    upload(page, sample)
    frame = explorer(page)
    assert page.locator(".bars .class").count() == 3
    assert page.locator("#answer h2").first.inner_text() == f"Top 3: {sample.name}"
    shares = page.locator(".bars .number").all_inner_texts()
    numbers = [float(share.removesuffix(" %")) for share in shares]
    assert numbers == sorted(numbers, reverse=True) and abs(sum(numbers) - 100) < 0.05

    before = frame.locator(".readout").get_attribute("data-place")
    image = frame.locator(".picture").first
    box = image.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    image.click(position={"x": 1, "y": 1})
    first = frame.locator(".readout").get_attribute("data-place")
    image.click(position={"x": box["width"] - 2, "y": box["height"] - 2})
    last = frame.locator(".readout").get_attribute("data-place")
    assert first == "0 0 0" and last != first and before is not None

    assert not overflowing(page)
    height = page.locator("iframe").evaluate("frame => frame.clientHeight")
    inner = frame.locator("html").evaluate("html => html.getBoundingClientRect().height")
    assert abs(height - inner) <= 2  # all of it is seen, without a scroll bar of its own
    assert served.uploads() == []


def test_broken_files_and_then_a_good_one(
    opened: Open, served: Served, sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("This is no video.\n")
    (tmp_path / "cut.avi").write_bytes(sample.read_bytes()[:3000])
    (tmp_path / "large.mp4").write_bytes(bytes(2_000_001))
    page = opened(served, 400)
    upload(page, tmp_path / "text.mp4")
    assert "text.mp4 is not a readable video" in said(page)
    upload(page, tmp_path / "cut.avi")
    page.get_by_text("cut.avi is cut off").wait_for()
    assert "cut off" in said(page)
    upload(page, tmp_path / "large.mp4")
    page.get_by_text("larger (2.0 MB) than the 2 MB").wait_for()
    assert not overflowing(page)
    upload(page, sample)
    explorer(page)
    assert page.locator("#state").inner_text() == ""
    assert served.uploads() == []


def test_names_are_shown_as_they_are(opened: Open, served: Served, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>.mp4"
    (tmp_path / name).write_text("This is no video.\n")
    page = opened(served)
    upload(page, tmp_path / name)
    assert "is not a readable video" in said(page)
    assert page.locator("img").count() == 0


@pytest.mark.slow
def test_a_recording(opened: Open, served: Served) -> None:
    page = opened(served)
    record = page.locator("#record")
    record.click()
    page.get_by_text("Stop and ask").wait_for()
    page.locator("#preview").evaluate(PLAYED)
    record.click()
    explorer(page)
    assert "recording." in page.locator("#answer h2").first.inner_text()
    assert record.inner_text() == "Record" and page.locator("#preview").is_hidden()
    assert served.uploads() == []


def test_the_explorer_is_saved_as_a_page_of_its_own(
    opened: Open, served: Served, sample: Path, tmp_path: Path
) -> None:
    page = opened(served)
    upload(page, sample)
    explorer(page)
    with page.expect_download() as downloading:
        page.get_by_text("Save this page").click()
    downloading.value.save_as(tmp_path / "saved.html")
    assert downloading.value.suggested_filename == f"{sample.name}.html"
    saved = (tmp_path / "saved.html").read_text()
    assert saved.startswith("<!DOCTYPE html>") and saved.rstrip().endswith("</html>")


@pytest.mark.slow
def test_a_page_that_has_been_stopped(
    browser: Browser, video_run: Path, sample: Path, tmp_path: Path
) -> None:
    stopped = Served.start(tmp_path / "temporary", "--checkpoint", str(video_run))
    page = browser.new_page()
    page.goto(stopped.address)
    assert stopped.stop() == 143
    upload(page, sample)
    assert "The page does not answer" in said(page)
    page.close()
