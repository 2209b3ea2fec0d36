"""Train and evaluate one configuration with several blocks and seeds, and compare them.

    python scripts/benchmarks/compare_blocks.py --config configs/ucf101/sample.yaml
    python scripts/benchmarks/compare_blocks.py --config configs/ucf5/i3d_small_snl.yaml \
        --root UCF5 --output runs/compare-ucf5

Every block gets the same seeds, data order and budget. The first block is the baseline. Finished
runs are kept and interrupted ones resumed, so the command can be given again. Prints a Markdown
table with the mean and standard deviation over the seeds, and for the difference to the baseline
a paired bootstrap interval over the test videos (each video's correctness averaged over seeds),
and writes it with a plot of the accuracies over the epochs (curves.png) into the output folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from video_snl.config.task_spec import VIDEO, TaskSpec

LEVELS = ("clip", "video")


def main() -> int:
    arguments = _arguments()
    cells: dict[str, list[dict[str, Any]]] = {}
    for seed in arguments.seeds:
        for block in arguments.blocks:
            cells.setdefault(block, []).append(_cell(arguments, block, seed))
    text = table(cells, arguments.blocks[0])
    print(text)
    (arguments.output / "table.md").write_text(text + "\n", encoding="utf-8")
    curves({block: [run["curve"] for run in runs] for block, runs in cells.items()}, arguments)
    return 0


def paired_bootstrap(
    ours: np.ndarray, baseline: np.ndarray, *, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Compute the 95 % interval of the mean difference, over resampled test videos.

    Shapes: ours, baseline (seeds, videos), 1 where the video was classified rightly. A video's
    difference is the mean over seeds; videos are drawn with replacement, the same for both.
    """
    if ours.shape != baseline.shape:
        raise ValueError(f"paired results differ in shape: {ours.shape} and {baseline.shape}.")
    difference = ours.mean(0) - baseline.mean(0)
    random = np.random.default_rng(seed)
    picks = random.integers(0, len(difference), (draws, len(difference)))
    low, high = np.percentile(difference[picks].mean(1), [2.5, 97.5])
    return float(low), float(high)


def curves(accuracy: dict[str, list[np.ndarray]], arguments: argparse.Namespace) -> None:
    """Draw the accuracy over the epochs: a thin line a seed, a thick one their mean."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for number, (block, seeds) in enumerate(accuracy.items()):
        epochs = np.arange(1, len(seeds[0]) + 1)
        for curve in seeds:
            axes.plot(epochs, 100 * curve, color=f"C{number}", alpha=0.3, linewidth=1)
        label = "no block" if block == "none" else block.upper()
        axes.plot(epochs, 100 * np.mean(seeds, 0), color=f"C{number}", linewidth=2.5, label=label)
    classes = f"{Path(arguments.config).stem}, {len(arguments.seeds)} seeds"
    axes.set(xlabel="epoch", ylabel="clip-level top-1 (%)", ylim=(0, 102), title=classes)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(arguments.output / "curves.png", dpi=130)


def table(cells: dict[str, list[dict[str, Any]]], baseline: str) -> str:
    """Format a row for each block: accuracy at both levels, and the difference to the baseline."""
    seeds = len(cells[baseline])
    lines = [
        f"| block | clip top-1 (%, {seeds} seeds) | difference (95 % interval) | video top-1 (%) "
        "| difference (95 % interval) | best epoch, clip top-1 (%) | minutes a run |",
        "|---|---|---|---|---|---|---|",
    ]
    for block, runs in cells.items():
        columns = [block]
        for level in LEVELS:
            columns.append(_mean(np.array([run["right"][level].mean() for run in runs])))
            columns.append("-" if block == baseline else _difference(cells, block, baseline, level))
        columns.append(_mean(np.array([run["best"] for run in runs])))
        columns.append(f"{np.mean([run['minutes'] for run in runs]):.1f}")
        lines.append("| " + " | ".join(columns) + " |")
    per_seed = [
        f"{block}: " + ", ".join(f"{100 * run['right']['video'].mean():.1f}" for run in runs)
        for block, runs in cells.items()
    ]
    return "\n".join([*lines, "", f"Video top-1 by seed: {'; '.join(per_seed)}."])


def _mean(values: np.ndarray) -> str:
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{100 * values.mean():.1f} ± {100 * deviation:.1f}"


def _difference(cells: dict[str, list[dict[str, Any]]], block: str, base: str, level: str) -> str:
    ours, theirs = (np.stack([run["right"][level] for run in cells[b]]) for b in (block, base))
    low, high = paired_bootstrap(ours, theirs)
    mean = ours.mean() - theirs.mean()
    return f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _cell(arguments: argparse.Namespace, block: str, seed: int) -> dict[str, Any]:
    """Train and evaluate the last epoch of one block with one seed, where not done already."""
    folder = arguments.output / f"{block}-seed{seed}"
    run = finished_run(VIDEO, arguments, block, seed, folder)
    if not (run / "evaluation" / "metrics.json").is_file():
        last = str(run / "checkpoints" / "last.ckpt")
        views = ["--clips", str(arguments.clips), "--crops", str(arguments.crops)]
        command(VIDEO, "evaluate", "--checkpoint", last, *views)
    with (run / "evaluation" / "predictions.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    right = {
        level: np.array([row["true class"] == row[f"{level} prediction"] for row in rows], float)
        for level in LEVELS
    }
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    minutes = float((folder / "minutes").read_text(encoding="utf-8"))
    best = record["metrics"]["best"]["val/top1"]
    with (run / "metrics.csv").open(encoding="utf-8") as lines:
        curve = np.array([float(row["val/top1"]) for row in csv.DictReader(lines)])
    return {"right": right, "best": best, "minutes": minutes, "curve": curve}


def finished_run(
    spec: TaskSpec, arguments: argparse.Namespace, block: str, seed: int, folder: Path
) -> Path:
    """Return the run of a block and a seed, trained or resumed where it is not finished."""
    records = sorted(folder.glob("*/run.json"))
    if records and json.loads(records[-1].read_text(encoding="utf-8"))["status"] == "finished":
        return records[-1].parent
    began = time.monotonic()
    if records:
        command(spec, "train", "--resume", str(records[-1].parent))
    else:
        root = ["--data.root", arguments.root] if arguments.root else []
        options = ["--model.block", block, "--trainer.seed", str(seed)]
        if arguments.epochs is not None:
            options += ["--optimizer.epochs", str(arguments.epochs)]
        where = ["--trainer.output", str(folder), "--trainer.progress", "false"]
        command(spec, "train", "--config", arguments.config, *root, *options, *where)
    (folder / "minutes").write_text(f"{(time.monotonic() - began) / 60:.2f}", encoding="utf-8")
    return sorted(folder.glob("*/run.json"))[-1].parent


def command(spec: TaskSpec, *words: str) -> None:
    """Run one of the two commands as a user gives it."""
    module = spec.command.replace("-", "_")
    print(f"$ {spec.command} " + " ".join(words), file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", module, *words], check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="configuration to train")
    parser.add_argument("--root", help="data root; default as in the configuration")
    parser.add_argument("--blocks", nargs="+", default=["none", "snl"], help="first: baseline")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="default as in the configuration")
    parser.add_argument("--clips", type=int, default=10, help="clips of a video at video level")
    parser.add_argument("--crops", type=int, default=3, choices=[1, 3])
    parser.add_argument("--output", type=Path, default=Path("runs/compare"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
