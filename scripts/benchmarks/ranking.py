#!/usr/bin/env python
"""Seconds of the ranking metrics at the size of MARS: torchreid's, ours, and sorting the rows.

The three take turns in one process on the same random distances (float32; 1980 queries, a gallery
of 9330, 626 identities, 6 cameras). Torchreid's is its Python version: the wheel holds no other.
Wall seconds depend on what else the machine does; CPU seconds are those of this process.

    OMP_NUM_THREADS=1 python scripts/benchmarks/ranking.py --json ranking.json
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_arguments import new_parser, positive
from scaling import spread, table
from turns import in_turns, ratio

from reid import evaluate_ranking
from video_snl.utils.files import write_json


def main() -> None:
    options = parse()
    inputs = draw(options)
    rows = measure(works(inputs), options.turns)
    values = {row["what"]: row["value"] for row in rows}
    difference = abs(values["ours"] - values["torchreid"])
    threads = {"torch": torch.get_num_threads(), "OMP_NUM_THREADS": os.getenv("OMP_NUM_THREADS")}
    print(table_of(rows))
    print(f"threads: {threads}; mAP differs by {difference:.1e}")
    if options.json:
        sizes = {name: getattr(options, name) for name in ("queries", "gallery", "people")}
        write_json(
            options.json, {**sizes, "threads": threads, "rows": rows, "map_difference": difference}
        )


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--queries", type=positive, default=1980, help="(default: 1980)")
    parser.add_argument("--gallery", type=positive, default=9330, help="(default: 9330)")
    parser.add_argument("--people", type=positive, default=626, help="(default: 626)")
    parser.add_argument("--cameras", type=positive, default=6, help="(default: 6)")
    parser.add_argument("--turns", type=positive, default=3, help="of each (default: 3)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


def draw(options: argparse.Namespace) -> list[np.ndarray]:
    """Draw distances, identities of queries and gallery, cameras of both."""
    rng = np.random.default_rng(0)
    sizes = options.queries, options.gallery
    labels = [
        rng.integers(high, size=n) for high in (options.people, options.cameras) for n in sizes
    ]
    return [rng.random(sizes, dtype=np.float32), *labels]


def works(inputs: list[np.ndarray]) -> dict[str, Callable[[], float]]:
    """Return the functions to time, by name; each returns its mAP, the bare sort some number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the compiled version is not there
        from torchreid.reid.metrics.rank import evaluate_rank
    tensors = [torch.from_numpy(values) for values in inputs]
    distances, *labels = tensors
    return {
        "torchreid": lambda: float(evaluate_rank(*inputs, use_cython=False)[1]),
        "ours": lambda: evaluate_ranking(distances, *labels).mean_ap,
        "argsort of the rows": lambda: float(np.argsort(inputs[0], axis=1)[0, 0]),
    }


def measure(timed: dict[str, Callable[[], float]], turns: int) -> list[dict[str, Any]]:
    """Return seconds of each turn; the ratio is the median of the ratios of the same turn."""
    times = in_turns(timed, turns)
    slow = times["torchreid"]
    return [
        {
            "what": name,
            "value": mine.value,
            "seconds": mine.seconds,
            "cpu_seconds": mine.cpu,
            "torchreid_by_this": ratio(slow.seconds, mine.seconds),
            "torchreid_by_this_cpu": ratio(slow.cpu, mine.cpu),
        }
        for name, mine in times.items()
    ]


def table_of(rows: list[dict[str, Any]]) -> str:
    titles = [
        "",
        "s, min / median / max",
        "CPU s, min / median / max",
        "torchreid / this",
        "the same in CPU s",
    ]
    lines = [
        [
            row["what"],
            spread(row["seconds"]),
            spread(row["cpu_seconds"]),
            f"{row['torchreid_by_this']:.1f}",
            f"{row['torchreid_by_this_cpu']:.1f}",
        ]
        for row in rows
    ]
    return table(titles, lines)


if __name__ == "__main__":
    main()
