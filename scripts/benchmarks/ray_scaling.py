"""Videos and empty tasks a second, by the worker processes of a command and by tasks of Ray.

python scripts/benchmarks/ray_scaling.py VIDEO --videos 200 --tasks 4000 --workers 1 2 --turns 3

One video is prepared again and again, as by ``video-snl prepare`` (decoded, written, verified), by
1 worker process or task at once, then by 2; empty tasks show what each result costs. Rates are
those of the last three quarters of the results, without the start of processes or of the cluster,
which listens on 127.0.0.1 alone. All ways take turns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from benchmark_arguments import new_parser, positive
from scaling import spread, table
from turns import in_turns

from video_snl.commands.prepare import Settings, prepare_one
from video_snl.data.workers.cluster import Cluster, map_files

_DEADLINE = 120.0  # seconds


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("video", type=Path, help="video that is prepared")
    parser.add_argument("--videos", type=positive, default=200, help="how often (default: 200)")
    parser.add_argument("--tasks", type=positive, default=4000, help="empty ones (default: 4000)")
    parser.add_argument("--workers", type=positive, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--turns", type=positive, default=3, help="default: 3")
    options = parser.parse_args()
    if min(options.videos, options.tasks) < 4:
        parser.error("give four --videos and --tasks or more")
    with tempfile.TemporaryDirectory() as folder:
        targets = [f"{folder}/{number}.avi" for number in range(options.videos)]
        sources = [(str(options.video), target) for target in targets]
        prepare = partial(prepare_one, settings=Settings(short_side=128, key_frame_every=8))
        works: dict[str, tuple[Callable[[Any], Any], Sequence[Any]]] = {
            "prepare": (prepare, sources),
            "nothing": (abs, range(options.tasks)),
        }
        rates: dict[tuple[str, str, int], list[float]] = {}
        ways: dict[str, Callable[[], None]] = {}
        for work, (function, items) in works.items():
            for workers in options.workers:
                for engine in ("local", "ray"):
                    mine = rates[work, engine, workers] = []
                    ways[f"{work} {engine} {workers}"] = partial(
                        _append_rate, mine, function, items, engine, workers
                    )
        in_turns(ways, options.turns)
    print(table(["work", "engine", "at once", "a second (min / median / max)"], _rows(rates)))


def _append_rate(
    rates: list[float],
    function: Callable[[Any], Any],
    items: Sequence[Any],
    engine: str,
    workers: int,
) -> None:
    cluster = Cluster(at_once=workers) if engine == "ray" else None
    results = map_files(function, items, num_workers=workers, deadline=_DEADLINE, cluster=cluster)
    with closing(results):
        ends = []
        for result in results:
            if result.kind != "ok":
                raise SystemExit(f"error: {result.item}: {result.failure}")
            ends.append(time.perf_counter())
    first = len(ends) // 4  # until here, results of the start may have waited for their turn
    rates.append((len(ends) - 1 - first) / (ends[-1] - ends[first]))


def _rows(rates: dict[tuple[str, str, int], list[float]]) -> list[tuple[object, ...]]:
    return [(*way, spread(values)) for way, values in rates.items()]


if __name__ == "__main__":
    main()
