#!/usr/bin/env python
"""Ways of writing a prepared video: size, quality, and the time to decode a random clip.

Every file is scaled to the short side and written in an .avi by each codec, a key frame every 8
frames unless --every says otherwise; then random clips of 16 frames are decoded with PyAV, from the
key frame before them or from the first frame where the time stamps of the file do not allow that.
Times are processor time, in one thread. PSNR is that of RGB against the scaled frames.

    python scripts/benchmarks/video_codecs.py UCF101 --files 10
    python scripts/benchmarks/video_codecs.py UCF101 --codecs "MPEG-4, quantiser 2" --every 8 4 1
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.frame import PictureType
from benchmark_arguments import new_parser, positive
from torch import Tensor

from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import read_clips, shrink

FRAMES = 16
# Name: codec, quantiser (None: its own rate control), options.
WAYS: dict[str, tuple[str, int | None, dict[str, str]]] = {
    "MPEG-4, quantiser 1": ("mpeg4", 1, {}),
    "MPEG-4, quantiser 2": ("mpeg4", 2, {}),
    "MPEG-4, quantiser 3": ("mpeg4", 3, {}),
    "MPEG-2, quantiser 2": ("mpeg2video", 2, {}),
    "Motion JPEG, quantiser 2": ("mjpeg", 2, {}),
    "H.264, crf 18": ("libx264", None, {"crf": "18"}),
    "H.264, crf 18, fastdecode": ("libx264", None, {"crf": "18", "tune": "fastdecode"}),
    "H.264, crf 14, fastdecode": ("libx264", None, {"crf": "14", "tune": "fastdecode"}),
}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("root", type=Path, help="folder of videos, searched below")
    parser.add_argument("--files", type=positive, default=10, help="videos (default: 10)")
    parser.add_argument("--clips", type=positive, default=20, help="of each (default: 20)")
    parser.add_argument("--short-side", type=positive, default=128, help="pixels (default: 128)")
    parser.add_argument(
        "--codecs",
        nargs="+",
        default=list(WAYS),
        choices=WAYS,
        metavar="NAME",
        help="; ".join(WAYS),
    )
    parser.add_argument(
        "--every", nargs="+", type=positive, default=[8], help="key frames, so many apart (8)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = sorted(options.root.rglob("*.avi"))
    sources = found[:: max(1, len(found) // options.files)][: options.files]
    if not sources:
        parser.error(f"{options.root} holds no .avi file")
    ways = [(way, every) for way in options.codecs for every in options.every]
    rows: dict[tuple[str, int], list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for source in sources:
            scaled = scaled_frames(source, options.short_side)
            for way, every in ways:
                target = Path(folder, "a.avi")
                write(scaled, target, way, every)
                rows[way, every].append(measured(source, target, scaled, options))
    print(
        f"{len(sources)} files\n\n| codec | key frame every | size / original | PSNR "
        "| ms a clip (min - median - max of files) | clips/s |\n|---|---|---|---|---|---|"
    )
    for (way, every), values in rows.items():
        size, psnr, ms = (statistics.mean(v[key] for v in values) for key in ("size", "psnr", "ms"))
        times = sorted(v["ms"] for v in values)
        spread = (times[0], statistics.median(times), times[-1])
        print(
            f"| {way} | {every} | {size:.2f} | {psnr:.1f} dB "
            f"| {' - '.join(f'{time:.2f}' for time in spread)} | {1000 / ms:.0f} |"
        )


def scaled_frames(source: Path, short_side: int) -> Tensor:
    """Read all frames (T, H, W, 3), scaled, with even sides."""
    with closing(PyAVReader(str(source))) as reader:
        scaled = shrink(reader.frames(range(len(reader))), short_side)
    return scaled[:, : scaled.shape[1] // 2 * 2, : scaled.shape[2] // 2 * 2].contiguous()


def write(scaled: Tensor, target: Path, way: str, every: int) -> None:
    codec, quantiser, options = WAYS[way]
    with av.open(target, "w") as writer:
        stream: Any = writer.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = scaled.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        context = stream.codec_context
        context.thread_count, context.gop_size, context.max_b_frames = 1, every, 0
        if quantiser is not None:
            context.qmin = context.qmax = quantiser
        for number, image in enumerate(scaled.numpy()):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            frame.pict_type = PictureType.NONE
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode())


def measured(source: Path, target: Path, scaled: Tensor, options: Any) -> dict[str, float]:
    with closing(PyAVReader(str(target))) as reader:
        if len(reader) != len(scaled):
            raise SystemExit(f"error: {source}: {len(scaled)} frames written, {len(reader)} read")
        read = reader.frames(range(len(reader)))
    error = float((read.float() - scaled.float()).square().mean())
    random = np.random.default_rng(0)
    times = []
    for _ in range(options.clips):
        start = int(random.integers(max(1, len(scaled) - FRAMES + 1)))
        clip = list(range(start, min(start + FRAMES, len(scaled))))
        choose = partial(_only, clip)
        began = time.process_time()
        read_clips(str(target), choose, scaled.shape[1], "pyav")
        times.append(1e3 * (time.process_time() - began))
    return {
        "size": target.stat().st_size / source.stat().st_size,
        "psnr": 10 * math.log10(255**2 / error),
        "ms": statistics.mean(times),
    }


def _only(clip: list[int], length: int) -> list[list[int]]:
    return [clip]


if __name__ == "__main__":
    main()
