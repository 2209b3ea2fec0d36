#!/usr/bin/env python
"""Where the processor time of one clip goes, from the file to the normalised batch, as a figure.

Random clips of 16 consecutive frames, short side 128, crop 112, are read by PyAV in one thread, and
every step is timed by itself (processor time, median over the clips): opening, decoding, conversion
to RGB, resize, the message and the shared memory between a worker and the training process
("queue"), the copy into the batch, and crop, flip and normalisation.

    python scripts/benchmarks/clip_profile.py originals=UCF101 prepared=PREPARED --output clip.png
"""

from __future__ import annotations

import os
import pickle
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from benchmark_arguments import new_parser, positive
from matplotlib.figure import Figure

from video_snl.config.statistics import STATISTICS
from video_snl.data.decoding.pyav import PyAVReader, RgbConverter
from video_snl.data.decoding.readers import shrink
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.data.loading.collate import collate
from video_snl.data.transforms.geometry import crop_clips, normalise
from video_snl.data.workers.channel import SharedBuffer, channel_pair

FRAMES, SHORT_SIDE, CROP, BATCH = 16, 128, 112, 16
STEPS = ("open", "decode", "convert", "resize", "queue", "copy", "crop", "normalise")
Times = dict[str, list[float]]


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("folders", nargs="+", metavar="NAME=DIR", help="videos, searched below")
    parser.add_argument("--clips", type=positive, default=192, help="of each (default: 192)")
    parser.add_argument("--output", type=Path, required=True, help="PNG file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name, _, folder in (argument.partition("=") for argument in options.folders):
        files = sorted(Path(folder).rglob("*.avi"))
        if not files:
            parser.error(f"{folder} holds no .avi file")
        times = profile([str(files[i % len(files)]) for i in range(options.clips)])
        rows[name] = {step: 1e3 * statistics.median(times[step]) for step in STEPS}
    print("| ms a clip | " + " | ".join(STEPS) + " | sum |\n|---|" + "---|" * (len(STEPS) + 1))
    for name, row in rows.items():
        values = " | ".join(f"{value:.2f}" for value in row.values())
        print(f"| {name} | {values} | {sum(row.values()):.2f} |")
    draw(rows, options.output)


def profile(paths: list[str]) -> Times:
    """Return the processor seconds of every step of every clip."""
    times: Times = {step: [] for step in STEPS}
    random = np.random.default_rng(0)
    sending, receiving = channel_pair()
    buffer, file = SharedBuffer.create(1)
    os.close(file)
    samples = []
    for path in paths:
        clip = _read(path, random, times)
        with timed(times, "queue"):
            parts: list[pickle.PickleBuffer] = []
            body = pickle.dumps(clip.numpy(), protocol=5, buffer_callback=parts.append)
            sending.send((body, buffer.put(0, [part.raw() for part in parts])))
            (body, lengths), _ = receiving.receive()
            received = pickle.loads(body, buffers=buffer.views(0, lengths))
        sample = {
            "video": torch.from_numpy(received).clone(),
            "size": torch.tensor(clip.shape[1:3]),
            "offset": torch.from_numpy(random.random(2, dtype=np.float32)),
            "flip": torch.tensor(bool(random.integers(2))),
        }
        samples.append(sample)
        if len(samples) == BATCH:
            _batch(samples, times)
            samples = []
    return times


def _read(path: str, random: np.random.Generator, times: Times) -> torch.Tensor:
    find_stream_info(path)  # found once for a file, and remembered
    with timed(times, "open"):
        reader = PyAVReader(path)
    with closing(reader):
        start = int(random.integers(max(1, len(reader) - FRAMES + 1)))
        wanted = range(start, min(start + FRAMES, len(reader)))
        with timed(times, "decode"):
            reader._go_to(start)
            found = [reader._find(index) for index in wanted]
        converter, size = RgbConverter(), (reader.info.height, reader.info.width)
        with timed(times, "convert"):
            images = np.empty((len(found), *size, 3), np.uint8)
            for row, frame in enumerate(found):
                images[row] = converter.convert(frame, size[1], size[0])
    with timed(times, "resize"):
        return shrink(torch.from_numpy(images), SHORT_SIDE)


def _batch(samples: list[dict[str, torch.Tensor]], times: Times) -> None:
    whole = [s for s in samples if len(s["video"]) == FRAMES]
    with timed(times, "copy", len(whole)):
        batch = collate(whole)
    with timed(times, "crop", len(whole)):
        crops = crop_clips(batch["video"], batch["size"], batch["offset"], batch["flip"], CROP)
    with timed(times, "normalise", len(whole)):
        normalise(crops, *STATISTICS["kinetics"])


@contextmanager
def timed(times: Times, step: str, clips: int = 1) -> Iterator[None]:
    began = time.process_time()
    yield
    times[step].append((time.process_time() - began) / clips)


def draw(rows: dict[str, dict[str, float]], output: Path) -> None:
    figure = Figure(figsize=(8, 0.9 + 0.6 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (name, row) in enumerate(rows.items()):
        left = 0.0
        for number, (step, value) in enumerate(row.items()):
            axes.barh(
                name, value, left=left, color=f"C{number}", label=step if place == 0 else None
            )
            left += value
        axes.text(left, place, f" {left:.1f} ms", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("processor time of a clip (ms)")
    figure.legend(loc="outside upper center", ncols=len(STEPS), fontsize=7)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main()
