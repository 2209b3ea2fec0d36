#!/usr/bin/env python
"""How loading and lists grow: with workers, list rows and faults.

    python scripts/benchmarks/scale_data.py workers VIDEOS --plot docs/pictures/scale_workers.png
    python scripts/benchmarks/scale_data.py lists --plot docs/pictures/scale_lists.png
    python scripts/benchmarks/scale_data.py tables
    python scripts/benchmarks/scale_data.py faults

``workers``: clips a second and memory of our loader with 1 to 8 workers, from the files as they are
and from a simulated remote disk. VIDEOS holds one folder of videos per class. The remote disk is a
wait before a clip is read: 20 ms for opening its file and 20 ms for each MiB that is then read (one
request after the other), and the bytes at 100 MB/s, during which no other worker gets bytes. Every
clip counts as a whole file that is not in any cache.

``lists``, ``tables``: processor seconds and memory from generated lists in UCF-101's layout to the
first key of an epoch and to a worker that has them, and of a CSV file to its division by recording;
each size in a new process. The files do not exist: looking at them depends on the disk.

``faults``: a quarantine that takes so many faults one by one, as a loader notes them.

Exponents are slopes of the logarithms over the three largest sizes.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmark_arguments import new_parser, positive
from scaling import fit_growth

LATENCY, BANDWIDTH, READ = 0.020, 100e6, 1 << 20  # seconds, bytes a second, bytes of a request
CLASSES, OF_GROUP = 400, 25
LOOKED_UP = 100_000

Turn = dict[str, float]


def main(words: Sequence[str] | None = None) -> int:
    options = parse(words)
    if options.one is not None:
        from video_snl.utils.json_text import to_json

        print(to_json(ONE[options.what](options.one)))
        return 0
    turns = workers(options) if options.what == "workers" else sizes(options)
    if options.plot:
        draw = draw_workers if options.what == "workers" else draw_sizes
        draw(turns, options.plot)
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("what", choices=("workers", *ONE))
    add("videos", type=Path, nargs="?", help="of workers: folder with one folder per class")
    add("--most", type=positive, default=8, help="of workers: most of them (default: 8)")
    add("--clips", type=positive, default=96, help="of workers: clips timed (default: 96)")
    add("--rounds", type=positive, default=3, help="of workers: turns (default: 3)")
    add("--sizes", type=positive, nargs="+", help="default: 10^3 to 10^6 rows or faults")
    add("--plot", type=Path, metavar="PNG")
    add("--one", type=positive, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.what == "workers" and options.videos is None:
        parser.error("workers needs a folder of videos")
    options.sizes = options.sizes or [10**power for power in range(3, 7)]
    return options


# -- workers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RemoteDisk:
    """A dataset whose files lie on a slow disk.

    Args:
        source: The dataset.
        lock: File that a worker locks while it gets bytes.
    """

    source: Any
    lock: str

    @property
    def items(self) -> Any:
        return self.source.items

    @property
    def config(self) -> Any:
        return self.source.config

    @property
    def what(self) -> str:
        return self.source.what

    def sample(self, key: Any, index_read: int) -> Any:
        size = os.path.getsize(self.items[index_read].path)
        time.sleep(LATENCY * (1 + -(-size // READ)))
        with open(self.lock, "w") as link:
            fcntl.flock(link, fcntl.LOCK_EX)
            time.sleep(size / BANDWIDTH)
        return self.source.sample(key, index_read)

    def fallback_index(self, key: Any, avoided: Any) -> int | None:
        return self.source.fallback_index(key, avoided)


def workers(options: argparse.Namespace) -> list[Turn]:
    import torch
    from pool_or_dataloader import WARM, samples

    from video_snl.data.workers.pool import map_with_timeout

    torch.set_num_threads(1)
    options.batch = 8
    dataset, sampler = samples(options)
    list(map_with_timeout(abs, [0], num_workers=1, deadline=600))  # the forkserver is ready
    turns = []
    with tempfile.NamedTemporaryFile() as lock:
        for _ in range(options.rounds):
            for number in range(1, options.most + 1):
                local = one_loader(dataset, sampler, number, options, WARM)
                remote = one_loader(RemoteDisk(dataset, lock.name), sampler, number, options, WARM)
                turns.append(
                    {
                        "workers": number,
                        **{f"local_{key}": value for key, value in local.items()},
                        **{f"remote_{key}": value for key, value in remote.items()},
                    }
                )
                print(turns[-1], file=sys.stderr, flush=True)
    keys = ("local_clips", "remote_clips", "local_pss", "local_rss", "local_all_pss")
    print("| workers | clips/s | clips/s, remote | MB of one (PSS) | (RSS) | MB of all (PSS) |")
    print("|---|---|---|---|---|---|")
    for number in range(1, options.most + 1):
        some = [turn for turn in turns if turn["workers"] == number]
        cells = [spread([turn[key] for turn in some]) for key in keys]
        print(f"| {number} | {' | '.join(cells)} |")
    return turns


def one_loader(
    dataset: Any, sampler: Any, number: int, options: argparse.Namespace, warm: int
) -> Turn:
    from benchmark_processes import proportional_megabytes

    from video_snl.data.video.dataset import make_loader
    from video_snl.data.workers.forkserver import start_forkserver

    loader = make_loader(dataset, sampler, options.batch, number, pin_memory=False)
    with contextlib.closing(loader):
        loaded = iter(loader)
        for _ in range(warm):
            next(loaded)
        began, clips = time.perf_counter(), 0
        while clips < options.clips:
            clips += len(next(loaded)["index"])
        seconds = time.perf_counter() - began
        shares = [proportional_megabytes(pid) for pid in loader.pids()]
        whole = [resident_megabytes(pid) for pid in loader.pids()]
        everything = sum(shares) + proportional_megabytes(start_forkserver().pid)
    return {
        "clips": clips / seconds,
        "pss": statistics.mean(shares),
        "rss": statistics.mean(whole),
        "all_pss": everything,
    }


def resident_megabytes(pid: int | str = "self") -> float:
    """Return the memory of a process, with all that it shares with others."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# -- lists and faults ------------------------------------------------------------------------------


def sizes(options: argparse.Namespace) -> list[Turn]:
    turns = []
    for size in options.sizes:
        command = [sys.executable, __file__, options.what, "--one", str(size)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        turns.append({"size": size, **json.loads(done.stdout)})
        print(turns[-1], file=sys.stderr, flush=True)
    print("| | " + " | ".join(f"{turn['size']:,}" for turn in turns) + " | exponent |")
    print("|---" * (len(turns) + 2) + "|")
    for key in [key for key in turns[0] if key != "size"]:
        cells = [f"{turn[key]:.3g}" for turn in turns]
        print(f"| {key} | {' | '.join(cells)} | {exponent(turns, key):.2f} |")
    return turns


def exponent(turns: Sequence[Turn], key: str) -> float:
    last = [turn for turn in turns[-3:] if turn[key] > 0]
    if len(last) < 2:
        return float("nan")
    return fit_growth([turn["size"] for turn in last], [turn[key] for turn in last]).exponent


def one_list(size: int) -> Turn:
    """Measure a list of so many rows."""
    from video_snl.config.video import DataConfig
    from video_snl.data.loading.collate import ReadSample
    from video_snl.data.loading.samplers import EpochSampler
    from video_snl.data.video.dataset import ClipDataset
    from video_snl.data.video.records import Video
    from video_snl.data.video.ucf101 import parse_split
    from video_snl.engine.resume import fingerprints

    turn: Turn = {}
    with tempfile.TemporaryDirectory(prefix="scale-lists-") as scratch:
        folder = Path(scratch)
        write_lists(folder, size)
        before = resident_megabytes()
        with timed(turn, "read the lists, s"):
            train, test, _ = parse_split(folder, 1)
            videos = [Video(f"{folder}/{path}", label) for path, label in train]
        del train, test
        turn["videos, bytes a row"] = (resident_megabytes() - before) * 2**20 / size
        with timed(turn, "first key of an epoch, s"):
            next(iter(EpochSampler(len(videos), 0)))
        with timed(turn, "keys from the middle on, s"):
            next(islice(iter(EpochSampler(len(videos), 0)), len(videos) // 2, None))
        with timed(turn, "fingerprint, s"):
            fingerprints({"training": [(v.path, v.label) for v in videos]}, scratch)
        config = DataConfig(clip_frames=16, short_side=128, crop=112)
        with timed(turn, "list sent to a worker, s"):
            pickled = pickle.dumps(ReadSample(ClipDataset(videos, config, 0)), protocol=5)
            before = resident_megabytes()
            received = pickle.loads(pickled)
        assert len(received.source) == size
        turn["videos of a worker, bytes a row"] = (resident_megabytes() - before) * 2**20 / size
    return turn


def one_table(size: int) -> Turn:
    """Measure a CSV file of so many rows."""
    from video_snl.data.video.csv_lists import csv_rows
    from video_snl.data.video.labelled import Source, labelled_set

    turn: Turn = {}
    with tempfile.TemporaryDirectory(prefix="scale-lists-") as scratch:
        folder = Path(scratch)
        write_lists(folder, size)
        before = resident_megabytes()
        with timed(turn, "read the table, s"):
            rows = csv_rows(folder / "list.csv")
        turn["rows, bytes a row"] = (resident_megabytes() - before) * 2**20 / size
        groups = {row.path: row.group for row in rows if row.group is not None}
        found = {"all": [(row.path, row.label) for row in rows]}
        source = Source("list.csv", folder, "group", None, "the column group", groups)
        with timed(turn, "divide by group, s"):
            labelled_set(found, source, None)
    return turn


def write_lists(folder: Path, size: int) -> None:
    """Write ``size`` rows as lists of UCF-101 and as a table."""
    names = [f"Class{number:03}" for number in range(CLASSES)]
    (folder / "classInd.txt").write_text(
        "".join(f"{number} {name}\n" for number, name in enumerate(names, 1))
    )
    with (
        open(folder / "trainlist01.txt", "w") as train,
        open(folder / "list.csv", "w") as table,
    ):
        table.write("path,label,group\n")
        for number in range(size):
            name, group = names[number % CLASSES], number // OF_GROUP
            file = f"{name}/v_{name}_g{group:07}_c{number % OF_GROUP:02}.avi"
            train.write(f"{file} {number % CLASSES + 1}\n")
            table.write(f"{file},{name},{group:07}\n")
    (folder / "testlist01.txt").write_text(f"{names[0]}/v_test.avi\n")


def one_quarantine(size: int) -> Turn:
    """Measure a quarantine of so many faults, of a list a tenth longer."""
    from video_snl.data.loading.quarantine import Quarantine

    turn: Turn = {}
    paths = [f"/data/Class{number % CLASSES:03}/{number:09}.avi" for number in range(size)]
    listed = [*paths, *(f"/data/other/{number:09}.avi" for number in range(size // 10))]
    with (
        tempfile.TemporaryDirectory(prefix="scale-faults-") as scratch,
        open(os.devnull, "w") as nowhere,
    ):
        file = Path(scratch) / "quarantine.jsonl"
        quarantine = Quarantine(file, 1.0)
        checked = -1
        before = resident_megabytes()
        with timed(turn, "add and check, s"), contextlib.redirect_stderr(nowhere):
            for path in paths:
                quarantine.add(path, "error", f"{path}: Invalid data found", 0.01)
                if len(quarantine.bad) > checked:
                    checked = len(quarantine.bad) + quarantine.check(listed, "training")
        turn["bytes a fault, in memory"] = (resident_megabytes() - before) * 2**20 / size
        turn["bytes a fault, in the file"] = file.stat().st_size / size
        with timed(turn, f"{LOOKED_UP:,} look-ups, s"):
            found = sum(listed[number % len(listed)] in quarantine for number in range(LOOKED_UP))
        assert 0 < found <= LOOKED_UP
        with timed(turn, "read again, s"):
            again = Quarantine(file, 1.0)
        assert len(again.bad) == size
    return turn


ONE = {"lists": one_list, "tables": one_table, "faults": one_quarantine}


@contextlib.contextmanager
def timed(turn: Turn, key: str) -> Any:
    began = time.process_time()
    yield
    turn[key] = time.process_time() - began


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})"


# -- pictures --------------------------------------------------------------------------------------


def draw_workers(turns: Sequence[Turn], file: Path) -> None:
    numbers = sorted({turn["workers"] for turn in turns})

    def medians(key: str) -> list[float]:
        return [
            statistics.median(turn[key] for turn in turns if turn["workers"] == number)
            for number in numbers
        ]

    def panels(axes: Any) -> None:
        speed, memory = axes
        speed.plot(numbers, medians("local_clips"), "o-", label="files on this machine")
        remote = medians("remote_clips")
        speed.plot(numbers, remote, "s-", label="remote disk, 20 ms and 100 MB/s (simulated)")
        ideal = [remote[0] * number for number in numbers]
        speed.plot(numbers, ideal, ":", color="grey", label="remote disk, in proportion")
        speed.set(xlabel="workers", ylabel="clips a second", ylim=(0, None))
        memory.plot(numbers, medians("local_all_pss"), "o-", label="all workers, forkserver (PSS)")
        memory.plot(numbers, medians("local_rss"), "s-", label="one worker (RSS)")
        memory.plot(numbers, medians("local_pss"), "^-", label="one worker (PSS)")
        memory.set(xlabel="workers", ylabel="MB", ylim=(0, None))

    draw(file, panels)


def draw_sizes(turns: Sequence[Turn], file: Path) -> None:
    def panels(axes: Any) -> None:
        seconds, memory = axes
        for key in [key for key in turns[0] if key != "size"]:
            if key.endswith(", s"):
                label = f"{key.removesuffix(', s')} (n^{exponent(turns, key):.2f})"
                of = [(turn["size"], turn[key]) for turn in turns]
                seconds.loglog(*zip(*of, strict=True), "o-", label=label)
            else:  # of fewer rows it is lost among the pages of the process
                of = [(turn["size"], turn[key]) for turn in turns if turn["size"] >= 100_000]
                memory.semilogx(*zip(*of, strict=True), "o-", label=key.partition(", ")[0])
        seconds.set(xlabel="rows", ylabel="seconds")
        memory.set(xlabel="rows", ylabel="bytes a row", ylim=(0, None))

    draw(file, panels)


def draw(file: Path, panels: Callable[[Any], None]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    panels(axes)
    for panel in axes:
        panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, fontsize="small")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
