#!/usr/bin/env python
"""`reid` on its sample: the page of `reid serve` (docs/serve.md), and what `reid explain` draws.

python -m reid train --trainer.name sample
python scripts/reid_pictures.py docs/pictures runs/sample-*

Makes reid_serve.png and reid_explain.png; `reid extract` makes the features of the gallery. Needs
what scripts/serve_picture.py needs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import chdir
from pathlib import Path

from PIL import Image
from serve_picture import chromium, save, screenshot, served

from reid.data.datasets.catalog import load_dataset
from reid.data.tracklet import Tracklet

PERSON, CAMERA = 26, 3
"""Identity and camera of the query."""
PLACE = (0, 0.62, 0.56)
"""Place of the click on the explorer: a frame, and shares of its width and height."""


def main(folder: Path, run: Path) -> None:
    folder, run = folder.resolve(), run.resolve()
    # The page shows names of files: from this folder they are short, and not of this machine.
    with tempfile.TemporaryDirectory() as temporary, chdir(temporary):
        checkpoint = Path("runs", run.name)
        checkpoint.parent.mkdir()
        checkpoint.symlink_to(run)
        _draw(folder, ("--checkpoint", str(checkpoint)))


def _draw(folder: Path, network: tuple[str, str]) -> None:
    data = load_dataset("sample")
    query = [t for t in data.query if (t.person_id, t.camera_id) == (PERSON, CAMERA)]
    _lay_out(data.gallery, Path("gallery"))
    [tracklet] = _lay_out(query, Path("query"))
    _reid("extract", "gallery", *network, "--layout", "folder", "-o", "feats.parquet")
    _reid("explain", str(tracklet), *network, "-o", "explained")
    save(Image.open("explained/looks.png", formats=["PNG"]), folder / "reid_explain.png")
    with served("reid", *network, "--gallery", "feats.parquet") as page, chromium() as browser:
        screenshot(browser, page, sorted(tracklet.iterdir()), PLACE, folder / "reid_serve.png")


def _lay_out(tracklets: Iterable[Tracklet], folder: Path) -> list[Path]:
    """Copy tracklets as ``person/camera/tracklet``, which is what commands take."""
    found, places = Counter[Path](), []
    for tracklet in tracklets:
        camera = folder / f"{tracklet.person_id:04}" / f"c{tracklet.camera_id}"
        place = camera / f"t{found[camera]}"
        place.mkdir(parents=True)
        for frame in tracklet.frames:
            shutil.copy(frame, place)
        found[camera] += 1
        places.append(place)
    return places


def _reid(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "reid", *words], check=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
