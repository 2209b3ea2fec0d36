#!/usr/bin/env python
"""Screenshots of docs/explain.md: the page of `explain` in a browser, on a sample video.

python -m video_snl train --trainer.name snl
python -m video_snl train --trainer.name nl --model.block nl
python scripts/explain_pictures.py docs/pictures runs/snl-* runs/nl-*

Needs playwright (one of the dev packages) and a chromium on the PATH; downloads neither.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser
from serve_picture import PLACE, VIDEO, chromium, click

from video_snl.data.synthetic.sample import ensure_sample

WIDTHS = {"explain_wide": 1280, "explain_phone": 400}


def main(folder: Path, snl: str, nl: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        page = _explained(Path(temporary), snl, nl)
        with chromium() as browser:
            for name, width in WIDTHS.items():
                _screenshot(browser, page, folder / f"{name}.png", width)


def _explained(folder: Path, snl: str, nl: str) -> Path:
    video = ensure_sample() / VIDEO
    command = [sys.executable, "-m", "video_snl", "explain", str(video)]
    options = ["--checkpoint", snl, "--compare", nl, "--output", str(folder / "explained")]
    subprocess.run([*command, *options], check=True)
    return folder / "explained" / "index.html"


def _screenshot(browser: Browser, path: Path, target: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(path.as_uri())
    page.locator("label:has(input[name='scale'][value='range'])").click()
    click(page.locator(".panel").first.locator(".picture"), PLACE)
    page.mouse.move(0, 0)
    page.screenshot(path=target, full_page=True)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), *sys.argv[2:])
