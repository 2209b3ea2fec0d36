"""Train and evaluate one re-identification configuration with several blocks and seeds.

    python scripts/benchmarks/compare_reid.py --config configs/reid/sample.yaml
    python scripts/benchmarks/compare_reid.py --config configs/reid/market_subset.yaml \
        --root market --seeds 0 1 --output runs/compare-market

Every block gets the same seeds, batches and budget. The first block is the baseline. Evaluated are
whole tracklets, by the last epoch. Finished runs are kept and interrupted ones resumed, so the
command can be given again, also several times at once with other --seeds or --blocks. Prints a
Markdown table with mean and standard deviation over the seeds, and for the mAP a paired bootstrap
interval of the difference to the baseline over the queries (average precisions averaged over the
seeds), and writes it with a plot of the training into the output folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_arguments import new_parser
from compare_blocks import finished_run, paired_bootstrap
from matplotlib.figure import Figure
from torch import Tensor

from reid.evaluate import Options, evaluate_trained
from reid.report.evaluation import ranking_metrics
from reid.task_spec import REID
from reid.trained import load_trained
from video_snl.utils.files import write_json, write_text

FIGURES = {"rank1": "rank-1", "rank5": "rank-5", "mAP": "mAP", "mINP": "mINP"}


def main() -> int:
    options = _options()
    cells: dict[str, list[dict[str, Any]]] = {}
    for seed in options.seeds:
        for block in options.blocks:
            cells.setdefault(block, []).append(_cell(options, block, seed))
    text = table(cells, options.blocks[0])
    print(text)
    write_text(options.output / "table.md", text + "\n")
    curves(cells, options)
    return 0


def table(cells: dict[str, list[dict[str, Any]]], baseline: str) -> str:
    """Format a row for each block and protocol; the baseline's is the first of a protocol."""
    seeds = len(cells[baseline])
    names = " | ".join(f"{name} (%)" for name in FIGURES.values())
    lines = [
        f"| protocol | block ({seeds} seeds) | {names} | mAP against {baseline} (95 % interval) "
        "| minutes a run |",
        "|---|---|" + "---|" * (len(FIGURES) + 2),
    ]
    for protocol in cells[baseline][0]["rankings"]:
        for block, runs in cells.items():
            rankings = [run["rankings"][protocol] for run in runs]
            shown = [_mean([ranking[name] for ranking in rankings]) for name in FIGURES]
            base = [run["rankings"][protocol] for run in cells[baseline]]
            difference = "-" if block == baseline else _difference(rankings, base)
            minutes = f"{np.mean([run['minutes'] for run in runs]):.1f}"
            lines.append("| " + " | ".join([protocol, block, *shown, difference, minutes]) + " |")
    return "\n".join([*lines, "", _by_seed(cells)])


def curves(cells: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """Plot the validated mAP over the epochs: thin lines for seeds, a thick one for the mean."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for number, (block, runs) in enumerate(cells.items()):
        epochs = [epoch for epoch, _ in runs[0]["curve"]]
        values = 100 * np.array([[value for _, value in run["curve"]] for run in runs])
        for curve in values:
            axes.plot(epochs, curve, color=f"C{number}", alpha=0.3, linewidth=1)
        label = "no block" if block == "none" else block.upper()
        axes.plot(epochs, values.mean(0), color=f"C{number}", linewidth=2.5, label=label)
    title = f"{Path(options.config).stem}, {len(options.seeds)} seeds"
    axes.set(xlabel="epoch", ylabel="mAP of 4 frames each (%)", title=title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(options.output / "curves.png", dpi=130)


def _by_seed(cells: dict[str, list[dict[str, Any]]]) -> str:
    found = []
    for block, runs in cells.items():
        values = [next(iter(run["rankings"].values()))["mAP"] for run in runs]
        found.append(f"{block}: " + ", ".join(f"{100 * value:.1f}" for value in values))
    return f"mAP by seed (first protocol): {'; '.join(found)}."


def _mean(values: list[float]) -> str:
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{100 * np.mean(values):.1f} ± {100 * deviation:.1f}"


def _difference(ours: list[dict[str, Any]], base: list[dict[str, Any]]) -> str:
    mine, theirs = (
        np.array([ranking["average_precision"] for ranking in rankings], dtype=float)
        for rankings in (ours, base)
    )
    # Queries that do not count are the same ones for all.
    counted = ~np.isnan(mine).any(0)
    mine, theirs = mine[:, counted], theirs[:, counted]
    low, high = paired_bootstrap(mine, theirs)
    mean = mine.mean() - theirs.mean()
    return f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _cell(options: argparse.Namespace, block: str, seed: int) -> dict[str, Any]:
    """Train and evaluate one block with one seed, where not done already."""
    folder = options.output / f"{block}-seed{seed}"
    result = folder / "result.json"
    if not result.is_file():
        run = finished_run(REID, options, block, seed, folder)
        write_json(result, {"run": run.name, "rankings": _rankings(run / "checkpoints/last.ckpt")})
    found = json.loads(result.read_text(encoding="utf-8"))
    found["minutes"] = float((folder / "minutes").read_text(encoding="utf-8"))
    with (folder / found["run"] / "metrics.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row.get("val/mAP")]
    found["curve"] = [(float(row["epoch"]), float(row["val/mAP"])) for row in rows]
    return found


def _rankings(checkpoint: Path) -> dict[str, dict[str, Any]]:
    trained = load_trained(checkpoint)
    rankings = evaluate_trained(trained, trained.experiment, Options()).rankings
    return {
        name: ranking_metrics(ranking) | {"average_precision": _plain(ranking.average_precision)}
        for name, ranking in rankings.items()
    }


def _plain(values: Tensor) -> list[float | None]:
    """Return the values as JSON has them, without NaN."""
    return [None if value != value else value for value in values.tolist()]


def _options() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--config", required=True, help="configuration to train")
    parser.add_argument("--root", help="data root; default as in the configuration")
    parser.add_argument("--blocks", nargs="+", default=["none", "nl", "snl"], help="first: base")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="default as in the configuration")
    parser.add_argument("--output", type=Path, default=Path("runs/compare-reid"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    sys.exit(main())
