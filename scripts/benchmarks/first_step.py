#!/usr/bin/env python
"""Time ``video-snl train`` to its first optimiser step, against a plain script with Lightning.

    python scripts/benchmarks/first_step.py VIDEOS --rounds 7

VIDEOS holds one folder of videos per class; four of each of two classes train. The contenders take
turns, each a fresh process that is ended after its first optimiser step:

    plain        scripts/benchmarks/plain_lightning.py
    video-snl    video-snl train, with its defaults
    FOLDER       the same of another checkout, for every --against FOLDER

Both have the same network, clips, batch, optimiser and number of workers. Seconds are from the
start of the process to the end of the step; CPU seconds are those of the process and of all that it
has started by then. Ratios are to ``plain`` within a round.
"""

from __future__ import annotations

import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark_processes import process_tree, processor_seconds

ROOT = Path(__file__).resolve().parents[2]
PLAIN = ROOT / "scripts/benchmarks/plain_lightning.py"
VIDEOS = 4  # of a class


def main(words: Sequence[str]) -> int:
    if words and words[0] == "--contender":
        return contender(words[1:])
    from benchmark_arguments import checkouts, new_parser, positive

    parser = new_parser(__doc__)
    add = parser.add_argument
    add("videos", type=Path, help="folder with one folder of videos per class")
    add("--rounds", type=positive, default=7, help="turns of every contender (default: 7)")
    add("--num_workers", type=positive, default=1, help="processes that decode (default: 1)")
    add("--against", type=Path, action="append", default=[], metavar="FOLDER", help="a checkout")
    options = parser.parse_args(words)
    against = checkouts(options.against)
    turns: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="first-step-") as scratch:
        root = lay_out(options.videos, Path(scratch) / "videos")
        train = ["video_snl", "train", "--data.root", str(root), "--optimizer.batch_size", "8"]
        train += ["--trainer.output", f"{scratch}/runs", "--optimizer.epochs", "1"]
        train += ["--data.num_workers", str(options.num_workers)]
        contenders = {
            "plain": (ROOT, [str(PLAIN), str(root), str(options.num_workers)]),
            "video-snl": (ROOT, train),
            **{str(other): (other, train) for other in against},
        }
        for number in range(options.rounds + 1):
            names = list(contenders)
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                turn = run(*contenders[name], scratch)
                print(number, name, turn, file=sys.stderr, flush=True)
                if number:  # the first round warms the disk
                    turns.setdefault(name, []).append(turn)
    print(table(turns))
    return 0


def lay_out(videos: Path, folder: Path) -> Path:
    """Make a folder of links to the videos that train, and two that test."""
    classes = [found for found in sorted(videos.iterdir()) if found.is_dir()][:2]
    for found in classes:
        files = sorted(file for file in found.iterdir() if file.is_file())[: VIDEOS + 1]
        if len(files) <= VIDEOS:
            raise SystemExit(f"{found} holds fewer than {VIDEOS + 1} videos")
        for number, file in enumerate(files):
            place = folder / ("train" if number < VIDEOS else "test") / found.name / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file.resolve())
    return folder


def run(checkout: Path, words: Sequence[str], folder: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--contender", f"{time.time()}", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    times = done.stdout.split()
    if len(times) != 2:
        raise SystemExit(f"{' '.join(words)} made no step:\n{done.stdout}{done.stderr}")
    return {"seconds": float(times[0]), "cpu_seconds": float(times[1])}


def contender(words: Sequence[str]) -> int:
    """Run a module or script, and end with a line of the times of its first optimiser step."""
    began, target, *rest = words
    out = os.dup(1)
    os.dup2(2, 1)  # what it prints goes elsewhere
    threading.Thread(target=watch, args=(float(began), out), daemon=True).start()
    sys.argv = [target, *rest]
    sys.path.pop(0)  # the folder of this script
    if target.endswith(".py"):
        runpy.run_path(target, run_name="__main__")
    else:
        runpy.run_module(target, run_name="__main__", alter_sys=True)
    return 0


def watch(began: float, out: int) -> None:
    """Wait until torch's optimisers are imported, and hook their first step."""
    while getattr(sys.modules.get("torch.optim"), "swa_utils", None) is None:
        time.sleep(0.05)
    from torch.optim.optimizer import register_optimizer_step_post_hook

    def stepped(*_: object) -> None:
        seconds = time.time() - began
        used = sum(processor_seconds(pid, ended=True) for pid in process_tree(os.getpid()))
        os.write(out, f"{seconds} {used}\n".encode())
        os._exit(0)

    register_optimizer_step_post_hook(stepped)


def table(turns: dict[str, list[dict[str, float]]]) -> str:
    lines = ["| | seconds | against plain | CPU seconds | against plain |", "|---|---|---|---|---|"]
    for name, some in turns.items():
        cells = []
        for key in ("seconds", "cpu_seconds"):
            cells.append(spread([turn[key] for turn in some]))
            pairs = zip(some, turns["plain"], strict=True)
            cells.append(spread([turn[key] / plain[key] for turn, plain in pairs]))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Median (least-most)."])


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
