#!/usr/bin/env python
"""Our worker pool and loader against torch's DataLoader, on the same samples.

    python scripts/benchmarks/pool_or_dataloader.py VIDEOS --json out.json

VIDEOS holds one folder of videos per class. The contenders read the same clips with the same
``dataset.sample(key)``:

    pool        ClipLoader: worker processes with a deadline for every sample
    dataloader  torch.utils.data.DataLoader, persistent workers, forked from this process
    rebuilt     RebuiltLoader: a DataLoader that is built anew after a worker hangs or dies

They take turns, round by round, in one process whose modules are imported; figures are medians, and
ratios medians of the ratios within a round, since the machine's own speed drifts.

    first batch     seconds from making the loader to its first batch; the pool's forkserver runs
                    already, as in a training, which starts it before it imports and builds
    clips/s         after the first batches
    CPU ms/clip     processor time of all processes meanwhile
    processes       in all, this one included
    MB              proportional set size (PSS) of all but this one
    lines           of code, without blank lines, comments and docstrings

Then, ``--commands`` times in turn, a fresh process does what a training does until its first batch:
it starts the forkserver (the pool), imports torch and the engine, builds a network and makes the
loader. Printed are seconds and processor time of all processes from its start, and the seconds from
making the loader. ``late`` is the pool in a process that starts its forkserver with the loader.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import statistics
import subprocess
import sys
import time
import tokenize
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmark_processes import process_tree, processor_seconds, proportional_megabytes

from video_snl.utils.json_text import to_json

ROOT = Path(__file__).resolve().parents[2]
CONTENDERS = ("pool", "dataloader", "rebuilt")
COMMANDS = ("pool", "dataloader", "late")
# What each needs beyond the dataset, the samplers and the collating of samples.
CODE = {
    "pool": (
        "video_snl/data/workers/channel.py",
        "video_snl/data/workers/forkserver.py",
        "video_snl/data/workers/pool.py",
        "video_snl/data/workers/worker.py",
        "video_snl/data/loading/collate.py",
        "video_snl/data/loading/loader.py",
    ),
    "dataloader": (),
    "rebuilt": ("scripts/benchmarks/rebuilt_loader.py",),
}
WARM = 4  # batches before those that are timed

Turn = dict[str, Any]


def main(words: Sequence[str] | None = None) -> int:
    options = parse(words)
    if options.command:
        print(to_json(one_command(options)))
        return 0
    turns: list[Turn] = []
    for number in range(options.rounds):
        shift = number % len(CONTENDERS)
        for name in CONTENDERS[shift:] + CONTENDERS[:shift]:
            turns.append({"round": number, "loader": name, **one_turn(options, name)})
            print(to_json(turns[-1]), file=sys.stderr, flush=True)
    if len({turn["digest"] for turn in turns}) > 1:
        raise SystemExit("the loaders do not give the same batches")
    commands: list[Turn] = []
    for number in range(options.commands):
        for name in COMMANDS if number % 2 else COMMANDS[::-1]:
            commands.append({"round": number, "loader": name, **run_command(options, name)})
            print(to_json(commands[-1]), file=sys.stderr, flush=True)
    print(table(turns, commands, options))
    if options.json:
        options.json.write_text(to_json({"turns": turns, "commands": commands}, indent=1))
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    from benchmark_arguments import new_parser, positive

    parser = new_parser(__doc__)
    add = parser.add_argument
    add("videos", type=Path, help="folder with one folder of videos per class")
    add("--num_workers", type=positive, default=2, help="processes that decode (default: 2)")
    add("--clips", type=positive, default=320, help="clips that are timed (default: 320)")
    add("--batch", type=positive, default=16, help="clips of a batch (default: 16)")
    add("--rounds", type=positive, default=5, help="turns of every loader (default: 5)")
    add("--json", type=Path, metavar="FILE", help="write all turns to this file, too")
    add("--commands", type=int, default=3, help="fresh processes of both kinds (default: 3)")
    add("--command", choices=COMMANDS, help=argparse.SUPPRESS)
    add("--began", type=float, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def run_command(options: argparse.Namespace, name: str) -> Turn:
    command = [sys.executable, __file__, str(options.videos), "--command", name]
    for option in ("num_workers", "clips", "batch"):
        command += [f"--{option}", str(getattr(options, option))]
    command += ["--began", str(time.time())]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True, text=True)
    turn: Turn = json.loads(done.stdout)
    return turn


def one_command(options: argparse.Namespace) -> Turn:
    """Do what a training does until its first batch."""
    if options.command == "pool":
        from video_snl.data.workers.forkserver import start_forkserver

        start_forkserver()
    from video_snl.utils.quick_imports import quick_imports

    with quick_imports():
        import video_snl.engine.train  # noqa: F401
    from video_snl.models.i3d import i3d_r50

    i3d_r50(101)
    dataset, sampler = samples(options)
    made = time.perf_counter()
    with LOADERS[options.command](dataset, sampler, options) as loaded:
        next(loaded)
        return {
            "first_s": time.perf_counter() - made,
            "seconds": time.time() - options.began,
            "cpu_seconds": sum(map(processor_seconds, process_tree(os.getpid()))),
        }


def one_turn(options: argparse.Namespace, name: str) -> Turn:
    import torch

    from video_snl.data.workers.forkserver import start_forkserver
    from video_snl.data.workers.pool import map_with_timeout

    torch.set_num_threads(1)
    dataset, sampler = samples(options)
    list(map_with_timeout(abs, [0], num_workers=1, deadline=600))  # the forkserver is ready
    others = set(process_tree(os.getpid()))
    made = time.perf_counter()
    with LOADERS[name](dataset, sampler, options) as loaded:
        first = next(loaded)
        turn: Turn = {
            "first_s": time.perf_counter() - made,
            "digest": int(first["video"].sum(dtype=torch.int64)),
        }
        for _ in range(WARM - 1):
            next(loaded)
        running = process_tree(os.getpid())
        before = sum(map(processor_seconds, running))
        began, clips = time.perf_counter(), 0
        while clips < options.clips:
            clips += len(next(loaded)["index"])
        seconds = time.perf_counter() - began
        used = sum(map(processor_seconds, running)) - before
        mine = set(running) - others
        if name == "pool":
            mine.add(start_forkserver().pid)
        turn |= {
            "clips_per_second": clips / seconds,
            "cpu_ms": 1000 * used / clips,
            "processes": 1 + len(mine),
            "megabytes": sum(map(proportional_megabytes, mine)),
        }
    return turn


def samples(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return a dataset that is long enough, and the sampler of its keys."""
    from video_snl.config.video import DataConfig
    from video_snl.data.video.dataset import ClipDataset, EpochSampler
    from video_snl.data.video.folders import VIDEO_SUFFIXES
    from video_snl.data.video.records import Video

    files = sorted(p for p in options.videos.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    names = sorted({file.parent.name for file in files})
    batches = WARM + -(-options.clips // options.batch) + 8  # those read ahead, too
    wanted = [files[i % len(files)] for i in range(batches * options.batch)]
    config = DataConfig(
        clip_frames=16, short_side=128, crop=112, short_videos="wrap", deadline=60.0
    )
    videos = [Video(str(file), names.index(file.parent.name)) for file in wanted]
    return ClipDataset(videos, config, 0), EpochSampler(len(videos), 0)


@contextmanager
def pool(dataset: Any, sampler: Any, options: argparse.Namespace) -> Iterator[Iterator[Any]]:
    from video_snl.data.video.dataset import make_loader

    loader = make_loader(dataset, sampler, options.batch, options.num_workers, pin_memory=False)
    with closing(loader):
        yield iter(loader)


@contextmanager
def dataloader(dataset: Any, sampler: Any, options: argparse.Namespace) -> Iterator[Iterator[Any]]:
    from torch.utils.data import DataLoader

    from video_snl.data.video.dataset import collate

    yield iter(
        DataLoader(
            dataset,  # its __getitem__ takes a key
            options.batch,
            sampler=sampler,
            num_workers=options.num_workers,
            collate_fn=collate,
            persistent_workers=True,
            multiprocessing_context="fork",
        )
    )


@contextmanager
def rebuilt(dataset: Any, sampler: Any, options: argparse.Namespace) -> Iterator[Iterator[Any]]:
    from rebuilt_loader import RebuiltLoader

    loader = RebuiltLoader(
        dataset, sampler, options.batch, num_workers=options.num_workers, deadline=60.0
    )
    with closing(loader):
        yield iter(loader)


LOADERS = {"pool": pool, "late": pool, "dataloader": dataloader, "rebuilt": rebuilt}


def lines_of_code(path: Path) -> int:
    """Count the lines that hold code: no blank ones, comments and docstrings."""
    source = path.read_text(encoding="utf-8")
    skipped = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            assert node.end_lineno is not None
            held.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(held)


def table(turns: Sequence[Turn], commands: Sequence[Turn], options: argparse.Namespace) -> str:
    columns = (
        ("first_s", "first batch (s)", ".2f"),
        ("clips_per_second", "clips/s", ".1f"),
        ("cpu_ms", "CPU ms/clip", ".1f"),
        ("processes", "processes", ".0f"),
        ("megabytes", "MB", ".0f"),
    )
    lines = [
        f"{options.rounds} rounds of {options.clips} clips, {options.num_workers} workers on "
        f"{len(os.sched_getaffinity(0))} cores, batches of {options.batch} clips",
        "",
        "| loader | " + " | ".join(title for _, title, _ in columns) + " | lines |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for name in CONTENDERS:
        cells = [cell(turns, name, key, form) for key, _, form in columns]
        code = sum(lines_of_code(ROOT / file) for file in CODE[name])
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {code} |")
    if commands:
        lines += ["", "| a command, to its first batch | seconds | CPU seconds | of the loader |"]
        lines += ["|---|---|---|---|"]
        for name in COMMANDS:
            keys = ("seconds", "cpu_seconds", "first_s")
            cells = [cell(commands, name, key, ".2f") for key in keys]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "In brackets: against `dataloader` in the same round."])


def cell(turns: Sequence[Turn], name: str, key: str, form: str) -> str:
    """Return the median of a figure and, in brackets, of its ratio to that of ``dataloader``."""
    some, others = (
        [turn[key] for turn in turns if turn["loader"] == loader] for loader in (name, "dataloader")
    )
    median = f"{statistics.median(some):{form}}"
    ratio = statistics.median(a / b for a, b in zip(some, others, strict=True))
    return median if key == "processes" or name == "dataloader" else f"{median} ({ratio:.2f})"


if __name__ == "__main__":
    sys.exit(main())
