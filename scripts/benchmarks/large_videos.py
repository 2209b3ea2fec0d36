#!/usr/bin/env python
"""Clips of 1080p and 4K videos: processor time and peak memory, PyAV against torchcodec.

One video of 64 frames is scaled up (bicubic) and written by PyAV's libx264 (veryfast) and libx265
(ultrafast), a key frame every 48 frames. Then, in a process of its own for each, random clips of 16
frames are read and shrunk to the short side 128: by our reader, and by a plain loop of torchcodec.

    python scripts/benchmarks/large_videos.py VIDEO --folder LARGE
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from contextlib import closing
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from av.video.frame import PictureType
from benchmark_arguments import new_parser, positive

from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import cut_clips, shrink

FRAMES, SHORT_SIDE = 64, 128
X265 = "log-level=error:pools=none:keyint=48"
CODECS = {
    "H.264": ("libx264", {"preset": "veryfast", "g": "48"}),
    "HEVC": ("libx265", {"preset": "ultrafast", "x265-params": X265}),
}
SIZES = {"1080p": (1920, 1080), "4K": (3840, 2160)}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("video", help="video to scale up, or with --reader to read")
    parser.add_argument("--folder", type=Path, help="where the files are written")
    parser.add_argument("--clips", type=positive, default=6, help="of each (default: 6)")
    parser.add_argument("--reader", choices=("pyav", "torchcodec"), help="only read VIDEO by this")
    options = parser.parse_args()
    if options.reader:
        print(*measured(options.video, options.reader, options.clips))
        return
    if options.folder is None:
        parser.error("name the --folder to write the files to")
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| video | reader | ms a clip (min - median - max) | peak MB | of torchcodec's clips/s |")
    print("|---|---|---|---|---|")
    for codec in CODECS:
        for size in SIZES:
            path = options.folder / f"{codec}-{size}.mp4"
            if not path.exists():
                write(options.video, path, codec, size)
            compare(path, options.clips)


def write(source: str, target: Path, codec: str, size: str) -> None:
    name, options = CODECS[codec]
    with av.open(source) as reader, av.open(target, "w") as writer:
        stream = writer.add_stream(name, rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = SIZES[size]
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        for number, frame in enumerate(islice(reader.decode(video=0), FRAMES)):
            scaled = frame.reformat(*SIZES[size], "yuv420p", interpolation="BICUBIC")
            scaled.pts, scaled.time_base = number, Fraction(1, 25)
            scaled.pict_type = PictureType.NONE
            writer.mux(stream.encode(scaled))
        writer.mux(stream.encode())


def compare(path: Path, clips: int) -> None:
    rows = {}
    for reader in ("torchcodec", "pyav"):
        words = [sys.executable, __file__, str(path), "--reader", reader, "--clips", str(clips)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        rows[reader] = [float(word) for word in done.stdout.split()]
    for reader, (least, median, most, memory) in rows.items():
        print(
            f"| {path.stem} | {reader} | {least:.0f} - {median:.0f} - {most:.0f} | {memory:.0f} "
            f"| {rows['torchcodec'][1] / median:.2f} |",
            flush=True,
        )


def measured(path: str, reader: str, clips: int) -> tuple[float, float, float, float]:
    """Return least, median and largest milliseconds of a clip, and the peak memory in MB."""
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    times = []
    for _ in range(clips + 1):  # the first imports, and finds where the frames are
        start = int(random.integers(FRAMES - 16))
        clip = list(range(start, start + 16))
        began = time.process_time()
        if reader == "pyav":
            with closing(PyAVReader(path)) as opened:
                cut_clips(opened, partial(_only, clip), SHORT_SIDE, path)
        else:
            from torchcodec.decoders import VideoDecoder

            decoder = VideoDecoder(path, num_ffmpeg_threads=1)
            shrink(decoder.get_frames_at(clip).data.permute(0, 2, 3, 1), SHORT_SIDE)
        times.append(1e3 * (time.process_time() - began))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return min(times[1:]), statistics.median(times[1:]), max(times[1:]), memory


def _only(clip: list[int], length: int) -> list[list[int]]:
    return [clip]


if __name__ == "__main__":
    main()
