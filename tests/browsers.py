"""Pages of ``serve`` in a real browser: to be opened, asked, and looked at."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, sync_playwright

from tests.served import Served

Open = Callable[..., Page]


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """The browser that is installed; skips the test where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the PATH")
    with sync_playwright() as running:
        opened = running.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


@contextmanager
def watched(browser: Browser) -> Iterator[Open]:
    """Opens pages; afterwards nothing may have gone wrong, or been asked for elsewhere."""
    pages: list[Page] = []
    problems: list[str] = []

    def _open(served: Served, width: int = 1280) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(120_000)
        own = (served.address, "data:", "blob:", "about:srcdoc")
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("request", lambda r: None if r.url.startswith(own) else problems.append(r.url))
        page.goto(served.address)
        pages.append(page)
        return page

    yield _open
    for page in pages:
        page.close()
    assert problems == []


def upload(page: Page, *files: Path) -> None:
    page.locator("#file").set_input_files(list(files))
    page.locator("#send").click()


def explorer(page: Page) -> FrameLocator:
    """The explorer of the answer, once it is drawn."""
    page.locator("iframe, #state.failed").first.wait_for()
    assert page.locator("#state").inner_text() == ""
    frame = page.frame_locator("iframe[title='What the network looks at']")
    frame.locator(".readout[data-place]").wait_for()
    return frame


def said(page: Page) -> str:
    """Return the message about an upload that cannot be answered."""
    page.locator("#state.failed").wait_for()
    assert page.locator("#answer > *").count() == 0
    assert page.locator("#send").is_enabled()
    return page.locator("#state").inner_text()


def overflowing(page: Page) -> bool:
    """Tell whether the window, or a page in its frames, can be scrolled sideways."""
    script = "document.documentElement.scrollWidth > innerWidth"
    return any(frame.evaluate(script) for frame in page.frames)


def enlarge(page: Page) -> None:
    """Let the window hold all of the page: of frames outside it, browsers draw nothing."""
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": page.evaluate("innerWidth"), "height": height})
