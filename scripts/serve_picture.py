#!/usr/bin/env python
"""The first screenshot of docs/serve.md: the page of `serve`, after a sample video was uploaded.

python -m video_snl train --trainer.name snl
python scripts/serve_picture.py docs/pictures runs/snl-*

Needs playwright (one of the dev packages) and a chromium on the PATH; downloads neither.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, sync_playwright

from video_snl.data.synthetic.sample import ensure_sample

VIDEO = "UCF-101/AllMatch/v_AllMatch_g01_c01.avi"
PLACE = (0, 0.15, 0.12)
"""Place of the click on the explorer: a frame, and shares of its width and height."""
WIDTH = 1280
COLOURS = 256  # of the image, which is a third as large for it


def main(folder: Path, run: str) -> None:
    with served("video_snl", "--checkpoint", run) as address, chromium() as browser:
        screenshot(browser, address, [ensure_sample() / VIDEO], PLACE, folder / "serve.png")


@contextmanager
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise SystemExit("no browser: neither chromium nor google-chrome is on the PATH.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@contextmanager
def served(module: str, *options: str) -> Iterator[str]:
    """Run ``serve`` of a program and yield the address of its page."""
    command = [sys.executable, "-u", "-m", module, "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(
                found[1] for line in process.stdout if (found := re.search(r"(http://\S+)", line))
            )
        finally:
            process.terminate()


def screenshot(
    browser: Browser,
    address: str,
    files: Sequence[Path],
    place: tuple[int, float, float],
    target: Path,
) -> None:
    """Save the page of ``serve`` after an upload and a click on the explorer."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 900})
    page.goto(address)
    page.locator("#file").set_input_files(list(files))
    page.locator("#send").click()
    frame = page.frame_locator("iframe[title='What the network looks at']")
    frame.locator("label:has(input[name='scale'][value='range'])").click(timeout=300_000)
    click(frame.locator(".picture"), place)
    page.mouse.move(0, 0)
    # Of a page within the page, only what is in the window is drawn.
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.wait_for_timeout(1000)
    save(Image.open(io.BytesIO(page.screenshot()), formats=["PNG"]), target)
    page.close()


def click(frames: Locator, place: tuple[int, float, float]) -> None:
    number, across, down = place
    box = frames.nth(number).bounding_box()
    assert box is not None
    frames.nth(number).click(position={"x": across * box["width"], "y": down * box["height"]})


def save(image: Image.Image, target: Path) -> None:
    image.convert("RGB").quantize(COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])
