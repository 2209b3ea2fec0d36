#!/usr/bin/env python
"""Figure of docs/reid.md: tracklets of six identities of the sample under three of its cameras.

python scripts/reid_sample_picture.py docs/pictures/reid_sample.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from reid.data.datasets.catalog import load_dataset
from video_snl.data.image.reading import read_image

IDENTITIES, CAMERAS, FRAMES, GAP = 6, 3, 8, 8


def main(path: Path) -> None:
    train = load_dataset("sample").train
    identities = sorted({tracklet.person_id for tracklet in train})
    rows = []
    for person in identities[:IDENTITIES]:
        first = {t.camera_id: t for t in reversed(train) if t.person_id == person}
        rows.append([first[camera] for camera in sorted(first)[:CAMERAS]])
    width, height = read_image(rows[0][0].path).size
    strip = FRAMES * width + GAP
    sheet = Image.new("RGB", (CAMERAS * strip - GAP, IDENTITIES * height), "white")
    for row, tracklets in enumerate(rows):
        for column, tracklet in enumerate(tracklets):
            for place, frame in enumerate(tracklet.frames[:FRAMES]):
                image = read_image(frame)
                sheet.paste(image, (column * strip + place * width, row * height))
    sheet.save(path, quality=88)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
