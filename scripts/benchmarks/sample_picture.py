"""Draw one video of every class of the sample dataset, as a row of frames.

python scripts/benchmarks/sample_picture.py docs/pictures/sample_videos.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from video_snl.data.decoding.readers import open_video
from video_snl.data.synthetic.sample import CLASSES, ensure_sample

FRAMES = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="PNG file to write")
    output = parser.parse_args().output
    videos = ensure_sample() / "UCF-101"
    figure = Figure(figsize=(FRAMES, len(CLASSES)), layout="constrained")
    grid = figure.subplots(len(CLASSES), FRAMES)
    for row, name in zip(grid, CLASSES, strict=True):
        path = next(iter(sorted((videos / name).glob("*_g08_*.avi"))))
        for axes, frame in zip(row, open_video(str(path)).frames(range(FRAMES)), strict=True):
            axes.imshow(frame.numpy())
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(name, fontsize=8)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main()
