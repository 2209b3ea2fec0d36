#!/usr/bin/env python
"""Seconds and resident memory of the exact evaluation of a gallery that does not fit in memory.

Writes a gallery of float32 features into a folder (4 N D bytes), evaluates queries among it in a
process of its own, and removes the file. Every query has two true matches, every fifth one a
camera of its own and hence one of them.

    python scripts/benchmarks/large_gallery.py /var/tmp --gallery 1000000 --dimension 2048
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_arguments import new_parser, positive

from reid.metrics.streaming import evaluate_features
from video_snl.utils.files import write_json
from video_snl.utils.json_text import to_json

ROWS = 2**14
NOISE = 9.0


def main() -> int:
    if sys.argv[1:2] == ["--evaluate"]:
        print(to_json(evaluate(json.loads(sys.argv[2]))))
        return 0
    parser = new_parser(__doc__)
    parser.add_argument("folder", type=Path, help="where the gallery is written for a while")
    parser.add_argument("--queries", type=positive, default=200, help="(default: 200)")
    parser.add_argument("--gallery", type=positive, default=1_000_000, help="(default: 1000000)")
    parser.add_argument("--dimension", type=positive, default=2048, help="(default: 2048)")
    parser.add_argument("--memory", type=positive, default=1024, help="MiB (default: 1024)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.gallery < 2 * options.queries:
        parser.error("--gallery must hold the matches: at least twice --queries")
    sizes = {name: getattr(options, name) for name in ("queries", "gallery", "dimension", "memory")}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = run({**sizes, "path": str(Path(folder) / "gallery.npy")})
    print_figures(found)
    if options.json:
        write_json(options.json, found)
    return 0


def run(sizes: dict[str, Any]) -> dict[str, Any]:
    """Write the gallery, evaluate it in a fresh process, and add what that took."""
    began = time.perf_counter()
    write_gallery(sizes)
    written = time.perf_counter() - began
    command = [sys.executable, __file__, "--evaluate", to_json(sizes)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    del sizes["path"]
    return {**sizes, "seconds_to_write": written, **json.loads(answer)}


def print_figures(found: dict[str, Any]) -> None:
    print(
        f"{found['queries']} queries, gallery {found['gallery']} x {found['dimension']} "
        f"({4 * found['gallery'] * found['dimension'] / 2**30:.2f} GiB), "
        f"memory={found['memory']} MiB, {found['threads']} threads\n"
        f"{found['seconds']:.1f} s ({found['cpu_seconds']:.1f} s of CPU), peak resident memory "
        f"{found['peak_gib']:.2f} GiB, {found['start_gib']:.2f} GiB of it before the evaluation\n"
        f"mAP {found['mean_ap']:.6f}, rank 1 {found['rank_1']:.4f}"
    )


def labels(sizes: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return identities and cameras; matches q and q + Q of :func:`spread` are of query q."""
    queries, gallery = sizes["queries"], sizes["gallery"]
    identities = np.zeros(gallery, dtype=np.int64)
    cameras = np.ones(gallery, dtype=np.int64)
    places = spread(queries, gallery)
    identities[places] = np.tile(np.arange(1, queries + 1), 2)
    cameras[places[:queries:5]] = 0
    return np.arange(1, queries + 1), identities, np.zeros(queries, dtype=np.int64), cameras


def spread(queries: int, gallery: int) -> np.ndarray:
    """Return the rows of the matches: 2 Q different ones, from the first to the last block."""
    return np.random.default_rng(1).permutation(gallery)[: 2 * queries]


def query_features(sizes: dict[str, Any]) -> np.ndarray:
    shape = sizes["queries"], sizes["dimension"]
    return np.random.default_rng(2).standard_normal(shape, dtype=np.float32)


def write_gallery(sizes: dict[str, Any]) -> None:
    """Write noise, and at the places of the matches their query's features under more of it."""
    gallery, dimension = sizes["gallery"], sizes["dimension"]
    _, identities, _, _ = labels(sizes)
    features = query_features(sizes)
    rng = np.random.default_rng(3)
    with open(sizes["path"], "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (gallery, dimension)}
        np.lib.format.write_array_header_1_0(file, header)
        for begin in range(0, gallery, ROWS):
            rows = min(ROWS, gallery - begin)
            block = rng.standard_normal((rows, dimension), dtype=np.float32)
            own = identities[begin : begin + rows].nonzero()[0]
            block[own] = block[own] * NOISE + features[identities[begin + own] - 1]
            block.tofile(file)


def evaluate(sizes: dict[str, Any]) -> dict[str, Any]:
    """Evaluate in the fresh process; all of its memory counts."""
    query_ids, identities, query_cameras, cameras = labels(sizes)
    gallery = np.load(sizes["path"], mmap_mode="r")
    start = peak_gib()
    began, cpu = time.perf_counter(), time.process_time()
    ranking = evaluate_features(
        query_features(sizes),
        gallery,
        query_ids,
        identities,
        query_cameras,
        cameras,
        memory=sizes["memory"] * 2**20,
    )
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)),
        "peak_gib": peak_gib(),
        "start_gib": start,
        "mean_ap": ranking.mean_ap,
        "rank_1": float(ranking.cmc[0]),
        "first_match_rank": ranking.first_match_rank.tolist(),
    }


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    sys.exit(main())
