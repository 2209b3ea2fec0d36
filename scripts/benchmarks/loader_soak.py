"""Many clips from a folder with bad files in it, while workers are killed: do the counts add up?

    python scripts/benchmarks/loader_soak.py VIDEOS --clips 20000 --output soak.json

VIDEOS holds one folder of videos per class. Links to them and a share of bad files (cut, empty,
garbage) make the dataset; every epoch tries all files anew. Meanwhile workers are killed by
SIGKILL at random moments, except the oldest, whose memory is to show what a worker loses over the
whole run. Exit code 1 where a count does not add up, memory grows or something is left behind.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from video_snl.config.video import DataConfig
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.video.dataset import ClipDataset, ClipLoader, EpochSampler, make_loader
from video_snl.data.video.folders import VIDEO_SUFFIXES
from video_snl.data.video.records import Video
from video_snl.utils.files import write_json

MEGABYTE = 1 << 20
# What memory may grow by and still be called flat: allocators keep some of what they were given.
GROWTH, SLACK = 0.10, 16.0  # share; megabytes


@dataclass
class Watch:
    """Numbers sampled while the clips come."""

    kills: int = 0
    process: list[float] = field(default_factory=list)  # megabytes resident
    oldest: list[float] = field(default_factory=list)  # megabytes resident, of the oldest worker
    files: list[int] = field(default_factory=list)


@dataclass
class Counts:
    """Sums over the epochs."""

    epochs: int = 0
    clips: int = 0
    replaced: int = 0
    waited: float = 0.0  # seconds
    failures: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def main(words: Sequence[str] | None = None) -> int:
    options = _options(words)
    with tempfile.TemporaryDirectory(prefix="video-snl-soak-") as folder:
        videos, bad = make_data(options.videos, Path(folder), options.bad, options.seed)
        report = soak(videos, bad, options)
    print(table(report), flush=True)
    if options.output is not None:
        write_json(options.output, report)
    return 1 if report["problems"] else 0


def make_data(source: Path, folder: Path, share: float, seed: int) -> tuple[list[Video], set[str]]:
    """Link all videos of a folder per class, and add a share of bad files; returns the paths, too.

    Bad files are cut to a third, empty, or random bytes, in turn.
    """
    files = sorted(p for p in source.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if not files:
        raise SystemExit(f"{source} holds no videos in folders of classes")
    names = sorted({file.parent.name for file in files})
    chosen = random.Random(seed)
    videos, bad = [], set()
    for number, file in enumerate(files):
        link = folder / f"{number}{file.suffix}"
        link.symlink_to(file.resolve())
        videos.append(Video(str(link), names.index(file.parent.name)))
    for number in range(round(share / (1 - share) * len(files))):
        model = chosen.choice(files)
        path = folder / f"bad-{number}{model.suffix}"
        content = model.read_bytes()
        path.write_bytes((content[: len(content) // 3], b"", chosen.randbytes(9999))[number % 3])
        videos.append(Video(str(path), names.index(model.parent.name)))
        bad.add(str(path))
    return videos, bad


def soak(videos: list[Video], bad: set[str], options: argparse.Namespace) -> dict[str, Any]:
    loader, watch, counts = _loader(videos, options), Watch(), Counts()
    stopped = threading.Event()
    killer = threading.Thread(target=_kill, args=(loader, watch, stopped, options), daemon=True)
    killer.start()
    began = time.monotonic()
    while counts.clips < options.clips:
        _epoch(loader, videos, bad, counts)
        print(f"{counts.clips} clips, {watch.kills} kills", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    stopped.set()
    killer.join()
    pids = loader.pids()
    loader.close()
    left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    memory = {"process": quarters(watch.process), "oldest_worker": quarters(watch.oldest)}
    files = [watch.files[0], watch.files[-1]] if watch.files else []
    return {
        "clips": counts.clips,
        "epochs": counts.epochs,
        "files": len(videos),
        "bad_files": len(bad),
        "seconds": round(seconds, 1),
        "clips_per_second": round(counts.clips / seconds, 1),
        "waited_seconds": round(counts.waited, 1),
        "failures": dict(counts.failures),
        "expected_failures": counts.epochs * len(bad),
        "kills": watch.kills,
        "replaced": counts.replaced,
        "workers": options.workers,
        "cores": len(os.sched_getaffinity(0)),
        "memory_megabytes": memory,
        "open_files": files,
        "problems": [*counts.problems, *_remains(left, memory, watch.files, options.workers)],
    }


def _loader(videos: list[Video], options: argparse.Namespace) -> ClipLoader:
    config = DataConfig(
        clip_frames=options.frames,
        short_side=128,
        crop=112,
        short_videos="wrap",
        deadline=options.deadline,
        num_workers=options.workers,
        max_failures=1.0,
    )
    dataset = ClipDataset(videos, config, options.seed)
    sampler = EpochSampler(len(videos), options.seed)
    return make_loader(dataset, sampler, options.batch, options.workers, pin_memory=False)


def _epoch(loader: ClipLoader, videos: list[Video], bad: set[str], counts: Counts) -> None:
    loader.quarantine = quarantine = Quarantine(None, 1.0)
    loader.sampler.set_epoch(counts.epochs)
    shown = Counter[int]()
    for batch in loader:
        shown.update(batch["label"].tolist())
        if bad & {videos[i].path for i in batch["index"].tolist()}:
            counts.problems.append(f"epoch {counts.epochs}: a bad file was shown")
    counts.problems += _check_epoch(counts.epochs, videos, bad, shown, quarantine)
    counts.failures.update(note.kind for note in quarantine.bad.values())
    counts.clips += shown.total()
    counts.waited += loader.profile.waited
    counts.replaced += loader.profile.replaced
    counts.epochs += 1


def _remains(
    left: list[int], memory: dict[str, dict[str, Any]], files: list[int], workers: int
) -> list[str]:
    problems = [f"process {pid} is left" for pid in left]
    problems += [f"memory of the {what} grows" for what, q in memory.items() if not q["flat"]]
    if files and max(files) > files[0] + 8 * workers:
        problems.append(f"open files grow from {files[0]} to {max(files)}")
    return problems


def _check_epoch(
    epoch: int, videos: list[Video], bad: set[str], shown: Counter[int], quarantine: Quarantine
) -> list[str]:
    problems = []
    if shown != Counter(video.label for video in videos):
        problems.append(f"epoch {epoch}: classes are not shown as often as they have files")
    found = set(quarantine.bad)
    if bad - found:
        problems.append(f"epoch {epoch}: {len(bad - found)} bad files were not noticed")
    problems += [
        f"epoch {epoch}: a good file was given up ({quarantine.bad[path].reason})"
        for path in found - bad
    ]
    return problems


def _kill(
    loader: ClipLoader, watch: Watch, stopped: threading.Event, options: argparse.Namespace
) -> None:
    """Kill a worker now and then, and take note of memory and open files."""
    chosen, step = random.Random(options.seed), 0.25
    killed: set[int] = set()  # a busy machine may take a while to bury them
    while not stopped.wait(step):
        pids = loader.pids()
        if len(pids) < options.workers:
            continue
        watch.process.append(_resident(os.getpid()))
        watch.oldest.append(_resident(pids[0]))
        watch.files.append(len(os.listdir("/proc/self/fd")))
        victims = [pid for pid in pids[1:] or pids if pid not in killed]
        if victims and options.kill_every > 0 and chosen.random() < step / options.kill_every:
            victim = chosen.choice(victims)
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
            watch.kills += 1


def _resident(pid: int) -> float:
    """Return megabytes; those of a worker that has just ended are 0."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return pages * os.sysconf("SC_PAGESIZE") / MEGABYTE


def quarters(samples: list[float]) -> dict[str, Any]:
    """Compare the second and the last quarter of a run; tell whether they are about the same.

    Means, and the lowest samples, by which flatness is judged: batches that happen to wait (16 MB
    each, some at a time) come and go, a leak raises the lowest, too. The first quarter warms up.
    """
    quarter = max(1, len(samples) // 4)
    second, last = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    return {
        "second_quarter": round(sum(second) / max(1, len(second)), 1),
        "last_quarter": round(sum(last) / max(1, len(last)), 1),
        "lowest": [round(min(part, default=0.0), 1) for part in (second, last)],
        "flat": not last or min(last) <= min(second) * (1 + GROWTH) + SLACK,
    }


def table(report: dict[str, Any]) -> str:
    memory = report["memory_megabytes"]
    lines = [
        f"{report['clips']} clips of {report['files']} files ({report['bad_files']} bad) in "
        f"{report['epochs']} epochs, {report['workers']} workers on {report['cores']} cores: "
        f"{report['clips_per_second']} clips/s",
        f"failures: {report['failures']}, expected {report['expected_failures']}",
        f"workers killed: {report['kills']}, replaced: {report['replaced']}",
        *(
            f"memory of the {what.replace('_', ' ')}: {q['second_quarter']} MB in the second "
            f"quarter, {q['last_quarter']} MB in the last, lowest {q['lowest'][0]} and "
            f"{q['lowest'][1]} MB{'' if q['flat'] else ': GROWS'}"
            for what, q in memory.items()
        ),
        f"open files, first and last: {report['open_files']}",
        *(f"PROBLEM: {problem}" for problem in report["problems"]),
    ]
    return "\n".join(lines if report["problems"] else [*lines, "all counts add up"])


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("videos", type=Path, help="folder with one folder of videos per class")
    parser.add_argument("--clips", type=int, default=20_000, help="at least so many, whole epochs")
    parser.add_argument("--bad", type=float, default=0.05, help="share of bad files")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--frames", type=int, default=16, help="of a clip")
    parser.add_argument("--deadline", type=float, default=20.0, help="seconds for one file")
    parser.add_argument("--kill_every", type=float, default=3.0, help="mean seconds; 0 for never")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the report")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
