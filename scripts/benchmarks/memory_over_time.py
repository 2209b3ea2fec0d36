"""Memory of a command and its processes over time, drawn as a figure.

python scripts/benchmarks/memory_over_time.py --video hour.avi --minutes 60
python scripts/benchmarks/memory_over_time.py --images IMAGES --from MARKET --number 100000
python scripts/benchmarks/memory_over_time.py --out extract.csv -- reid extract IMAGES ...
python scripts/benchmarks/memory_over_time.py --plot docs/pictures/memory_predict.png \\
    "predict --window, one hour" predict.csv "extract, 100,000 images" extract.csv

The first writes a video of 320 x 240 pixels with 25 frames a second, the second a folder of links
to the images of another. The third runs a command and samples every half a second what /proc says:
the proportional set size (PSS, which counts a page that n processes share as 1/n in each) of the
command and of all processes below it, and the resident set of the command alone.
"""

from __future__ import annotations

import csv
import itertools
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from benchmark_arguments import new_parser, positive

_EVERY = 0.5  # seconds
_MIB = 2**20


def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--video", type=Path, help="File to write.")
    parser.add_argument("--minutes", type=positive, default=60)
    parser.add_argument("--images", type=Path, help="Folder to fill.")
    parser.add_argument("--from", dest="source", type=Path, help="Folder with the images.")
    parser.add_argument("--number", type=positive, default=100_000)
    parser.add_argument("--out", type=Path, help="Table to write, of the command after --.")
    parser.add_argument("--plot", type=Path, help="Figure to write.")
    parser.add_argument("words", nargs="*", help="The command, or titles and tables of a figure.")
    asked = parser.parse_args()
    if asked.video is not None:
        write_video(asked.video, asked.minutes * 60 * 25)
    elif asked.images is not None:
        link_images(asked.source, asked.images, asked.number)
    elif asked.plot is not None:
        plot(asked.plot, dict(zip(asked.words[::2], map(Path, asked.words[1::2]), strict=True)))
    else:
        return sample(asked.words, asked.out)
    return 0


def write_video(path: Path, frames: int) -> None:
    """Write a video in which a bright square crosses a still background, MPEG-4."""
    background = np.random.default_rng(0).integers(0, 120, (240, 320, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(frames):
            image = background.copy()
            at = number % 280
            image[100:140, at : at + 40] = 250
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def link_images(source: Path, folder: Path, number: int) -> None:
    """Fill a folder with hard links to images, a thousand in each folder below it."""
    images = itertools.cycle(sorted(source.rglob("*.jpg")))
    for count, image in zip(range(number), images, strict=False):
        place = folder / f"{count // 1000:03}" / f"{count:06}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(image, place)


def sample(words: list[str], out: Path) -> int:
    """Run a command, and write (seconds, PSS of all in MiB, RSS of the first in MiB)."""
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    with out.open("w", newline="") as file:
        rows = csv.writer(file)
        while process.poll() is None:
            found = [memory_of(pid) for pid in below(process.pid)]
            rows.writerow(
                [
                    round(time.monotonic() - began, 2),
                    round(sum(pss for pss, _ in found) / _MIB, 1),
                    round(found[0][1] / _MIB, 1),
                ]
            )
            file.flush()
            time.sleep(_EVERY)
    return process.returncode


def below(pid: int) -> list[int]:
    """Return a process and all below it, the first first."""
    found = [pid]
    for each in found:
        for tasks in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += map(int, tasks.read_text().split())
            except OSError:  # it has ended
                continue
    return found


def memory_of(pid: int) -> tuple[int, int]:
    """Return PSS and RSS of a process in bytes; zeros of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return sizes.get("Pss:", 0), sizes.get("Rss:", 0)


def plot(path: Path, tables: dict[str, Path]) -> None:
    """Draw the tables of :func:`sample` side by side, and print what they say."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(tables), 3.2), layout="constrained")
    for axes, (title, table) in zip(
        np.atleast_1d(figure.subplots(1, len(tables))), tables.items(), strict=True
    ):
        seconds, pss, rss = np.loadtxt(table, delimiter=",", unpack=True)
        axes.plot(seconds / 60, pss, label="all processes (PSS)")
        axes.plot(seconds / 60, rss, label="the command alone (RSS)", linewidth=1)
        axes.set(title=title, xlabel="minutes", ylabel="MiB", ylim=(0, None))
        axes.legend(loc="lower right", fontsize=8)
        parts = [part.mean() for part in np.array_split(pss[len(pss) // 10 :], 4)]
        print(
            f"{title}: {seconds[-1] / 60:.1f} minutes, PSS at most {pss.max():.0f} MiB; means of "
            f"the quarters after the first tenth: {', '.join(f'{part:.0f}' for part in parts)} MiB"
        )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
