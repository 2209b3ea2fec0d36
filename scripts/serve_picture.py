#!/usr/bin/env python
"""The screenshot of docs/serve.md: the page of `serve`, after a sample video was uploaded.

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from video_snl.data.sample import ensure_sample

VIDEO = "UCF-101/AllMatch/v_AllMatch_g01_c01.avi"
FRAME, ACROSS, DOWN = 0, 0.15, 0.12
"""Where the explorer is clicked: a frame, and shares of its width and height."""
WIDTH = 1280
COLOURS = 256  # of the picture, which is a third as large for it


def main(folder: Path, run: str) -> None:
    with _served(run) as address, sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        if chromium is None:
            raise SystemExit("no browser: neither chromium nor google-chrome is on the PATH.")
        browser = playwright.chromium.launch(executable_path=chromium)
        _screenshot(browser, address, folder / "serve.png")
        browser.close()


@contextmanager
def _served(run: str) -> Iterator[str]:
    """The address of the page."""
    command = [sys.executable, "-u", "-m", "video_snl", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--checkpoint", run], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield next(
                found[1] for line in process.stdout if (found := re.search(r"(http://\S+)", line))
            )
        finally:
            process.terminate()


def _screenshot(browser: Browser, address: str, target: Path) -> None:
    page = browser.new_page(viewport={"width": WIDTH, "height": 900})
    page.goto(address)
    page.locator("#file").set_input_files(ensure_sample() / VIDEO)
    page.locator("#send").click()
    frame = page.frame_locator("iframe")
    frame.locator("label:has(input[name='scale'][value='range'])").click(timeout=300_000)
    shown = frame.locator(".picture").nth(FRAME)
    box = shown.bounding_box()
    assert box is not None
    shown.click(position={"x": ACROSS * box["width"], "y": DOWN * box["height"]})
    page.mouse.move(0, 0)
    # Of a page within the page, only what is in the window is drawn.
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.wait_for_timeout(1000)
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.convert("RGB").quantize(COLOURS).save(target, optimize=True)
    page.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])
