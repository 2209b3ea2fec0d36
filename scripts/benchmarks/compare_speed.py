#!/usr/bin/env python
"""Time two checkouts against each other: A/B in one run, the two taking turns.

    python scripts/benchmarks/compare_speed.py ../old .
    python scripts/benchmarks/compare_speed.py ../old . --only block ranking --rounds 20

What is timed:

    block          forward and backward of SNL3d, 6272 positions, 64 transferred channels
    loader         clips of small videos as normalised crops, by one process that decodes
    ranking        evaluate_ranking: 400 queries, a gallery of 3000, 626 identities, 6 cameras
    help, reid help        video-snl --help and reid --help, each a new process
    first step     from the start of a new process to the first step of a tiny training
    training       from the start of the same process to its end

Each version has one process for the first three, which answers one question at a time, so that only
one of the two works at any moment; who goes first changes from round to round. The table has the
least and the median seconds of both, the ratio of the least ones, and the median of the ratios
within a round: below 1, NEW is faster. Times depend on what else the machine does: nothing is
asserted. --only with a checkout against itself shows what the ratios are worth.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmark_arguments import checkouts, new_parser, positive

__all__ = ["main", "table"]

WARM = ("block", "loader", "ranking")
HELP = {"help": "video_snl", "reid help": "reid"}
TRAINING = ("first step", "training")
NAMES = (*WARM, *HELP, *TRAINING)

Seconds = dict[str, list[float]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _arguments(arguments)
    versions = dict(zip(("OLD", "NEW"), checkouts([options.old, options.new]), strict=True))
    wanted = [name for name in NAMES if name in options.only]
    seconds: dict[str, Seconds] = {version: {name: [] for name in wanted} for version in versions}
    with (
        tempfile.TemporaryDirectory(prefix="compare-speed-") as scratch,
        contextlib.ExitStack() as stack,
    ):
        videos = _write_videos(Path(scratch) / "videos")
        timers = {
            version: stack.enter_context(Version(checkout, Path(scratch) / version, videos))
            for version, checkout in versions.items()
        }
        for name in wanted:
            if name == "training" and "first step" in wanted:
                continue  # timed with it
            for turn in range(options.rounds + 1):
                order = list(timers) if turn % 2 else list(timers)[::-1]
                for version in order:
                    for what, value in timers[version].measure(name).items():
                        if turn and what in seconds[version]:  # the first one warms caches up
                            seconds[version][what].append(value)
            print(f"{name}: {options.rounds} rounds", file=sys.stderr, flush=True)
    print(table(seconds["OLD"], seconds["NEW"]))
    return 0


def table(old: Seconds, new: Seconds) -> str:
    """Format a row for each thing that is timed; the ratios are NEW by OLD."""
    lines = [
        "| | OLD least, s | OLD median | NEW least | NEW median | ratio of least | median ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, before in old.items():
        after = new[name]
        ratio = statistics.median(b / a for a, b in zip(before, after, strict=True))
        figures = (min(before), statistics.median(before), min(after), statistics.median(after))
        lines.append(
            f"| {name} | "
            + " | ".join(f"{value:.4f}" for value in figures)
            + f" | {min(after) / min(before):.3f} | {ratio:.3f} |"
        )
    return "\n".join(lines)


class Version:
    """One checkout: its process that answers, started on first use, and its commands.

    Args:
        checkout: Root of the checkout.
        folder: Working folder, which is made.
        videos: Dataset for the loader and the training.
    """

    def __init__(self, checkout: Path, folder: Path, videos: Path) -> None:
        folder.mkdir()
        self.checkout, self.folder, self.videos = checkout, folder, videos
        self.worker: subprocess.Popen[str] | None = None
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(checkout),
            "SRC_ROOT": str(checkout),
            "OMP_NUM_THREADS": "1",
        }

    def __enter__(self) -> Version:
        return self

    def __exit__(self, *_: object) -> None:
        if self.worker is not None:
            assert self.worker.stdin is not None
            self.worker.stdin.close()
            self.worker.wait()

    def measure(self, name: str) -> dict[str, float]:
        """Measure one name: the seconds of each of its parts."""
        if name in HELP:
            began = time.perf_counter()
            self._start("-m", HELP[name], "--help").communicate()
            return {name: time.perf_counter() - began}
        return self._train() if name in TRAINING else {name: self._ask(name)}

    def _ask(self, name: str) -> float:
        if self.worker is None:
            words = [
                str(Path(__file__).resolve()),
                "--worker",
                str(self.checkout),
                str(self.videos),
            ]
            self.worker = self._start(*words, stdin=subprocess.PIPE)
        assert self.worker.stdin is not None and self.worker.stdout is not None
        print(name, file=self.worker.stdin, flush=True)
        answer = self.worker.stdout.readline()
        if not answer:
            raise SystemExit(f"the process of {self.checkout} ended; see above")
        return float(answer)

    def _train(self) -> dict[str, float]:
        output = self.folder / f"runs-{time.monotonic_ns()}"
        options = {
            "data.dataset": "folder",
            "data.root": self.videos,
            "data.short_side": 32,
            "data.crop": 32,
            "data.num_workers": 1,
            "optimizer.epochs": 1,
            "optimizer.batch_size": 4,
            "trainer.accelerator": "cpu",
            "trainer.loggers": "[csv]",
            "trainer.progress": "false",
            "trainer.output": output,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        began, first = time.perf_counter(), 0.0
        process = self._start("-m", "video_snl", "train", *words, stderr=subprocess.PIPE)
        while process.poll() is None:
            if not first and any(_has_begun(path) for path in output.glob("*/run.json")):
                first = time.perf_counter() - began
            time.sleep(0.005)
        ended = time.perf_counter() - began
        if process.returncode:
            raise SystemExit(process.communicate()[1])
        return {"first step": first or ended, "training": ended}

    def _start(
        self, *words: str, stdin: int = subprocess.DEVNULL, stderr: int | None = None
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )


def _has_begun(record: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads(record.read_text("utf-8")).get("first_step"))
    return False


def work(checkout: Path, videos: Path) -> None:
    """Answer the names on stdin with seconds on stdout; runs with the packages of ``checkout``."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a package prints is not an answer
    sys.path.insert(0, str(checkout / "scripts" / "benchmarks"))
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "block": _block,
        "loader": lambda: _loader(videos),
        "ranking": _ranking,
    }
    made: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in made:
            made[name] = makers[name]()
        began = time.perf_counter()
        made[name]()
        print(time.perf_counter() - began, file=answers, flush=True)


def _block() -> Callable[[], object]:
    import torch

    from video_snl import SNL3d

    torch.manual_seed(0)
    block = SNL3d(128, 64)
    x = torch.randn(1, 128, 8, 28, 28, requires_grad=True)

    def run() -> None:
        for _ in range(3):
            block(x).square().mean().backward()

    return run


def _loader(videos: Path) -> Callable[[], object]:
    # Of the checkout that is timed: it knows where its loader is.
    variants = importlib.import_module("loading_variants")
    files = tuple(sorted(videos.rglob("*.avi")))
    setting = variants.Setting(
        files=files,
        rates=variants.rates_of(list(files)),
        frames=8,
        short_side=32,
        crop=32,
        batch=8,
        num_workers=1,
        clips=400,
        seed=0,
    )

    def run() -> None:
        clips = 0
        with variants.LOADERS["video-snl"](setting) as supply:
            for batch in supply.batches:
                clips += len(batch)
                if clips >= setting.clips:
                    return

    return run


def _ranking() -> Callable[[], object]:
    import torch

    import reid

    generator = torch.Generator().manual_seed(0)
    queries, entries = 400, 3000
    distances = torch.rand(queries, entries, generator=generator)
    labels = [
        torch.randint(high, (count,), generator=generator)
        for high in (626, 6)
        for count in (queries, entries)
    ]
    return lambda: reid.evaluate_ranking(distances, *labels)


def _write_videos(root: Path) -> Path:
    """Write twelve small videos, two classes of them to train on and to test."""
    import av
    import numpy as np

    for place, number in (
        (p, n) for p in ("train/a", "train/b", "test/a", "test/b") for n in range(3)
    ):
        path = root / place / f"{number}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            random = np.random.default_rng(number)
            for _ in range(16):
                pixels = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            container.mux(stream.encode())
    return root


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("old", type=Path, help="folder of the one checkout")
    parser.add_argument("new", type=Path, help="folder of the other")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--rounds", type=positive, default=5, help="of each (default: 5)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*map(Path, sys.argv[2:4]))
    else:
        sys.exit(main())
