#!/usr/bin/env python
"""Re-encode a data set in UCF-101's layout so that decoding a clip costs little.

MPEG-4 in .avi with a key frame every 8 frames and the short side asked for; the same folders,
names and lists. For experiments that read the videos many times on a CPU.

    python scripts/benchmarks/reencode.py UCF5 UCF5-72 --short-side 72
"""

from __future__ import annotations

import argparse
import shutil
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
from av.video.frame import PictureType

KEY_FRAME_EVERY, QUALITY = 8, 2  # the best but one of MPEG-4's quantisers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="holds UCF-101/ and ucfTrainTestlist/")
    parser.add_argument("output", type=Path, help="a new folder")
    parser.add_argument("--short-side", type=int, default=128, help="pixels (default: 128)")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    shutil.copytree(options.root / "ucfTrainTestlist", options.output / "ucfTrainTestlist")
    videos = sorted((options.root / "UCF-101").glob("*/*.avi"))
    targets = [options.output / video.relative_to(options.root) for video in videos]
    with ProcessPoolExecutor() as pool:
        frames = sum(pool.map(partial(reencode, side=options.short_side), videos, targets))
    print(f"{len(videos)} videos, {frames} frames")


def reencode(source: Path, target: Path, *, side: int) -> int:
    """Returns the number of frames, which is that of the file read back."""
    target.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with av.open(source) as reader, av.open(target, "w") as writer:
        video = reader.streams.video[0]
        rate = round(video.average_rate or 25)
        out = writer.add_stream("mpeg4", rate=rate)
        scale = side / min(video.width, video.height)
        out.width, out.height = (2 * round(n * scale / 2) for n in (video.width, video.height))
        out.pix_fmt = "yuv420p"
        out.codec_context.gop_size, out.codec_context.max_b_frames = KEY_FRAME_EVERY, 0
        out.codec_context.qmin = out.codec_context.qmax = QUALITY
        for count, frame in enumerate(reader.decode(video), 1):
            small = frame.reformat(out.width, out.height, "yuv420p", interpolation="AREA")
            small.pts, small.time_base = count - 1, Fraction(1, rate)
            small.pict_type = PictureType.NONE
            writer.mux(out.encode(small))
        writer.mux(out.encode())
    with av.open(target) as again:
        read = sum(1 for _ in again.decode(video=0))
    if read != count:
        raise SystemExit(f"error: {source} has {count} frames, {target} {read}")
    return count


if __name__ == "__main__":
    main()
