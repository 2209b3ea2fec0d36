"""Latency, processor time and memory of ``video-snl predict`` on a stream.

python scripts/benchmarks/streams.py --video FILE --seconds 60 --paced -- video-snl predict \\
    --window 2s --hop 1s --pretrained x3d_xs --weights X3D_XS.pyth -

FFmpeg repeats the video, without decoding it, into the standard input of the command: as fast as
it plays (--paced), or as fast as it is read. Latency is the time from the arrival of the last frame
of a window, which its line says, to the line. Times are those of the second half of the windows:
while the command starts, FFmpeg has to wait, and then makes up for it.
"""

from __future__ import annotations

import os
import subprocess
import time
from datetime import datetime
from pathlib import Path
from statistics import median

from benchmark_arguments import new_parser, positive

from video_snl.utils.json_text import parse_json

_MIB = 2**20


def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--video", type=Path, required=True, help="Video that is repeated.")
    parser.add_argument("--seconds", type=positive, default=60, help="Length of the stream.")
    parser.add_argument("--paced", action="store_true", help="Write as fast as it plays.")
    parser.add_argument("words", nargs="+", help="The command.")
    asked = parser.parse_args()
    feeding = subprocess.Popen(
        ["ffmpeg", "-v", "error", *(["-re"] if asked.paced else []), "-stream_loop", "-1"]
        + ["-i", str(asked.video), "-c", "copy", "-an", "-t", str(asked.seconds)]
        + ["-f", "nut", "-flush_packets", "1", "-"],
        stdout=subprocess.PIPE,
    )
    with subprocess.Popen(asked.words, stdin=feeding.stdout, stdout=subprocess.PIPE) as process:
        assert feeding.stdout is not None and process.stdout is not None
        feeding.stdout.close()  # the command alone reads it
        rows = []
        for line in process.stdout:
            now = time.time()
            rows.append((parse_json(line), now, *_used(process.pid)))
    windows = [row for row in rows if "predictions" in row[0]]
    if len(windows) < 4:
        print("fewer than four windows")
        return 1
    half = windows[len(windows) // 2 :]
    (first, began, cpu_before, _), (last, ended, cpu_after, _) = half[0], half[-1]
    seconds, cpu = last["end"] - first["end"], cpu_after - cpu_before
    dropped = sum(row[0].get("dropped_windows", 0) for row in windows)
    print(f"windows: {len(windows)} scored, {dropped} dropped")
    print(f"second half: {seconds:.1f} s of the stream in {ended - began:.1f} s")
    print(f"processor time for one second of it: {1000 * cpu / seconds:.0f} ms")
    delays = sorted(1000 * (row[1] - _seconds(row[0]["time"])) for row in half[1:])
    print(f"latency, ms: {delays[0]:.0f} - {median(delays):.0f} - {delays[-1]:.0f}")
    sizes = [row[3] for row in windows]
    quarters = [sizes[len(sizes) * part // 4] for part in range(4)] + [sizes[-1]]
    print(f"resident at each quarter, MiB: {', '.join(f'{size:.0f}' for size in quarters)}")
    return process.returncode


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _used(process: int) -> tuple[float, float]:
    """Return processor time in seconds, and resident memory in MiB, of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    pages = int(fields[21])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / _MIB


if __name__ == "__main__":
    raise SystemExit(main())
