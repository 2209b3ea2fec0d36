#!/usr/bin/env python
"""Clips per second and processor time per clip, from files to batches of normalised crops.

Compared are the loader of video-snl, with workers and without, a plain loop of torchcodec in this
process and bare decord (both: a resize of the very same frames; crop, flip and normalisation are
those of ours), and pytorchvideo's LabeledVideoDataset with both of its decoders: the same files,
random clips of 16 consecutive frames, shorter side 128, random crops of 112, flipped and
normalised, the same number of processes that decode. They take turns, round by round, each starting
afresh and timed once its first batches are there; ratios are those within a round. All of them
together have as many cores as they have processes that decode (at least one), the main process
included.

    python scripts/benchmarks/clip_loading.py --originals UCF101
    python scripts/benchmarks/clip_loading.py --originals UCF101 --prepared PREPARED --json out.json
    python scripts/benchmarks/clip_loading.py --prepared PREPARED --loaders video-snl torchcodec

The folders are in UCF-101's layout; the files are those below UCF-101/ that both of them have. In
each turn every loader is asked for --clips clips.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from video_snl.utils.files import write_json

if TYPE_CHECKING:
    from loading_variants import Setting

OURS, HERE, ANCHOR, BARE = "video-snl", "video-snl, in process", "torchcodec", "decord"
THEIRS = ("pytorchvideo/decord", "pytorchvideo/pyav")
NAMES = (OURS, HERE, ANCHOR, BARE, *THEIRS)
# loader of ours, the fastest of which others on the same files, least ratio of each kind of files
BARS = (
    (OURS, (ANCHOR,), {"originals": 0.95, "prepared": 0.9}),
    (HERE, (ANCHOR,), {"originals": 0.95, "prepared": 0.9}),
    (OURS, THEIRS, {"originals": 2.0, "prepared": 2.0}),
    (OURS, (BARE,), {"originals": 1.5, "prepared": 1.5}),
)
SUFFIXES = frozenset({".avi", ".mp4", ".mkv"})
# Of normalised pixels, on the average: decoders differ by a grey level or two, frames by more.
SAME_FRAMES = 0.1

Turn = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    roots = {"originals": options.originals, "prepared": options.prepared}
    files = common_files({name: root for name, root in roots.items() if root})
    cores = pin_to_cores(max(1, options.num_workers))
    from loading_variants import rates_of

    rates = {name: rates_of(some) for name, some in files.items()}
    turns: list[Turn] = []
    for number in range(options.rounds):
        turns += one_round(options, files, rates, number)
    result = {"setting": setting_of(options, files, cores), "turns": turns, **summary(turns)}
    print(table(result))
    if options.json:
        write_json(options.json, result)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    from benchmark_arguments import new_parser, positive

    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--originals", type=Path, metavar="DIR", help="the files as published (default: none)")
    add("--prepared", type=Path, metavar="DIR", help="those of video-snl prepare (default: none)")
    add("--num_workers", type=int, default=1, help="processes that decode (default: 1; 0: none)")
    add("--clips", type=positive, default=320, help="clips of each turn (default: 320)")
    add("--batch", type=positive, default=16, help="clips of a batch (default: 16)")
    add("--rounds", type=positive, default=5, help="turns of every loader (default: 5)")
    add(
        "--loaders",
        nargs="+",
        default=NAMES,
        choices=NAMES,
        metavar="NAME",
        help=f"which (default: all; {'; '.join(NAMES)})",
    )
    add("--json", type=Path, metavar="FILE", help="write all figures to this file, too")
    options = parser.parse_args(arguments)
    if options.num_workers < 0:
        parser.error("--num_workers must be at least 0")
    if not (options.originals or options.prepared):
        parser.error("give --originals, --prepared or both")
    return options


def common_files(roots: dict[str, Path]) -> dict[str, list[Path]]:
    """List the files below UCF-101/ (or below the root itself) that all roots have."""
    places = {
        name: root / "UCF-101" if (root / "UCF-101").is_dir() else root
        for name, root in roots.items()
    }
    found = [
        {path.relative_to(place) for path in place.rglob("*") if path.suffix.lower() in SUFFIXES}
        for place in places.values()
    ]
    common = sorted(set.intersection(*found))
    if not common:
        raise SystemExit(f"no video below {' and '.join(map(str, roots.values()))}")
    return {name: [place / path for path in common] for name, place in places.items()}


def pin_to_cores(count: int) -> list[int]:
    """Keep this process and all it starts on so many cores."""
    cores = sorted(os.sched_getaffinity(0))[:count]
    os.sched_setaffinity(0, cores)
    return cores


def one_round(
    options: argparse.Namespace,
    files: dict[str, list[Path]],
    rates: dict[str, tuple[float, ...]],
    number: int,
) -> list[Turn]:
    """Run every loader on every folder once; the one that leads changes with the round."""
    import torch
    from loading_variants import LOADERS, Setting

    torch.set_num_threads(1)
    batches = -(-options.clips // options.batch)
    ahead = 2 * max(1, options.num_workers) + 1  # batches made while others are used
    names = [(files_of, loader) for files_of in files for loader in options.loaders]
    shift = number % len(names)
    turns, first = [], {}
    for files_of, loader in names[shift:] + names[:shift]:
        setting = Setting(
            files=tuple(files[files_of]),
            rates=rates[files_of],
            frames=16,
            short_side=128,
            crop=112,
            batch=options.batch,
            num_workers=options.num_workers,
            clips=(2 * ahead + batches) * options.batch,
            seed=number,
        )
        turn, seen = one_turn(LOADERS[loader], setting, ahead, batches)
        turns.append({"round": number, "files": files_of, "loader": loader, **turn})
        first[files_of, loader] = seen
        print(_progress(turns[-1]), file=sys.stderr, flush=True)
    for files_of in files:
        if not {(files_of, OURS), (files_of, ANCHOR)} <= first.keys():
            continue
        difference = float((first[files_of, OURS] - first[files_of, ANCHOR]).abs().mean())
        if difference > SAME_FRAMES:
            raise SystemExit(
                f"{files_of}: {OURS} and {ANCHOR} differ by {difference:.3f} on the same clips: "
                "they do not read the same frames"
            )
    return turns


def one_turn(loader: Any, setting: Setting, ahead: int, batches: int) -> tuple[Turn, Any]:
    """Time ``batches`` batches of a fresh loader; returns the figures and the first batch."""
    shape = (setting.batch, 3, setting.frames, setting.crop, setting.crop)
    with loader(setting) as supply:
        first = next(supply.batches)
        for _ in range(ahead):
            next(supply.batches)
        stages = supply.stages()
        began, began_processor = time.perf_counter(), processor_seconds()
        for _ in range(batches):
            batch = next(supply.batches)
            if tuple(batch.shape) != shape or not batch.is_floating_point():
                raise SystemExit(f"a batch of {batch.dtype} {tuple(batch.shape)}, not {shape}")
        seconds = time.perf_counter() - began
        processor = processor_seconds() - began_processor
        after = supply.stages()
    clips = batches * setting.batch
    turn: Turn = {
        "clips_per_second": clips / seconds,
        "processor_ms_per_clip": 1000 * processor / clips,
    }
    if stages is not None and after is not None:
        turn["stages_ms_per_clip"] = {
            name: 1000 * (value - stages[name]) / clips for name, value in after.items()
        }
    return turn, first


def processor_seconds() -> float:
    """Return the processor time of this process, its descendants, and those that have ended."""
    parents, used = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # ended meanwhile
                continue
            parents[int(entry.name)] = int(words[1])
            used[int(entry.name)] = sum(map(int, words[11:15]))
    ours, total = {os.getpid()}, 0
    while new := {pid for pid, parent in parents.items() if parent in ours and pid not in ours}:
        ours |= new
    total = sum(used[pid] for pid in ours)
    return total / os.sysconf("SC_CLK_TCK")


def _progress(turn: Turn) -> str:
    return (
        f"round {turn['round'] + 1}  {turn['files']:9}  {turn['loader']:19}  "
        f"{turn['clips_per_second']:6.1f} clips/s  {turn['processor_ms_per_clip']:5.1f} ms"
    )


def setting_of(
    options: argparse.Namespace, files: dict[str, list[Path]], cores: list[int]
) -> dict[str, Any]:
    import torch

    return {
        "files": len(next(iter(files.values()))),
        "folders": list(files),
        "cores": len(cores),
        **{name: getattr(options, name) for name in ("num_workers", "clips", "batch", "rounds")},
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def summary(turns: list[Turn]) -> dict[str, Any]:
    """Compute medians over the rounds, and the ratios that are to be reached."""
    by: dict[tuple[str, str], list[Turn]] = {}
    for turn in turns:
        by.setdefault((turn["files"], turn["loader"]), []).append(turn)
    rates = {key: [turn["clips_per_second"] for turn in some] for key, some in by.items()}
    medians = [
        {
            "files": files,
            "loader": loader,
            "clips_per_second": spread(rates[files, loader]),
            "processor_ms_per_clip": spread([turn["processor_ms_per_clip"] for turn in some]),
        }
        for (files, loader), some in by.items()
    ]
    ratios = []
    for mine, others, bars in BARS:
        for files, least in bars.items():
            present = [other for other in others if (files, other) in rates]
            if (files, mine) in rates and present:
                fastest = max(present, key=lambda x: statistics.median(rates[files, x]))
                pairs = zip(rates[files, mine], rates[files, fastest], strict=True)
                ratio = spread([own / other for own, other in pairs])
                names = {"files": files, "loader": mine, "against": fastest}
                ratios.append({**names, "ratio": ratio, "least": least})
    stages = {
        files: {
            name: statistics.median(turn["stages_ms_per_clip"][name] for turn in some)
            for name in some[0]["stages_ms_per_clip"]
        }
        for (files, loader), some in by.items()
        if loader == OURS
    }
    return {"medians": medians, "ratios": ratios, "stages_ms_per_clip": stages}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return least, median and greatest."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def table(result: dict[str, Any]) -> str:
    setting = result["setting"]
    lines = [
        f"{setting['files']} files, {setting['num_workers']} processes that decode, "
        f"{setting['cores']} core(s), {setting['rounds']} rounds of {setting['clips']} clips; "
        f"torch {setting['torch']}, Python {setting['python']}",
        "",
        "| files | loader | clips/s (min - median - max) | CPU ms a clip |",
        "|---|---|---|---|",
    ]
    for row in result["medians"]:
        rate, processor = row["clips_per_second"], row["processor_ms_per_clip"]
        lines.append(
            f"| {row['files']} | {row['loader']} | {_written(rate, 1)} | {_written(processor, 1)} |"
        )
    lines += [
        "",
        "| files | ratio within a round | min - median - max | to reach |",
        "|---|---|---|---|",
    ]
    for row in result["ratios"]:
        met = "" if row["ratio"]["median"] >= row["least"] else ", missed"
        lines.append(
            f"| {row['files']} | {row['loader']} / {row['against']} "
            f"| {_written(row['ratio'], 2)} | {row['least']}{met} |"
        )
    for files, stages in result["stages_ms_per_clip"].items():
        words = "  ".join(f"{name} {value:.2f}" for name, value in stages.items())
        lines += ["", f"video-snl on {files}, ms a clip in the processes that decode: {words}"]
    return "\n".join(lines)


def _written(spread: dict[str, float], digits: int) -> str:
    return " - ".join(f"{value:.{digits}f}" for value in spread.values())


if __name__ == "__main__":
    sys.exit(main())
