#!/usr/bin/env python
"""Time and memory of ranking, search, re-ranking and lists of tracklets over their size.

Every case runs at several sizes, each in a process of its own; exponents are fitted to the medians
of processor time and to peak memory. Galleries of float32 features are written into a folder for a
while (512 bytes an entry) and memory-mapped; seeds are fixed. With ``--json`` the figures of the
cases that ran replace those in the file, and ``--plot`` draws all that it then holds.

    python scripts/benchmarks/scale_ranking.py /var/tmp --json scale.json --plot scale.png
    python scripts/benchmarks/scale_ranking.py /var/tmp --only evaluate search --largest 100000
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmark_arguments import new_parser, positive
from large_gallery import labels, query_features, write_gallery
from scaling import Cost, Panel, fit_growth, measure, plot_growth, rounded, spread, table

from reid import evaluate_features, evaluate_ranking
from reid.data.datasets.catalog import load_dataset
from reid.data.samplers import IdentitySampler
from reid.data.tracklet import Tracklet
from reid.metrics.rerank import rerank
from reid.retrieval.features import FeatureTable, read_features, write_features
from reid.retrieval.gallery import Gallery
from reid.retrieval.index import search
from video_snl.utils.files import write_json

DIMENSION, QUERIES, MEMORY = 128, 100, 2**28
Work = Callable[[], Any]


def sizes_of(gallery: int, folder: str) -> dict[str, Any]:
    """Write a gallery with two matches for each query, and describe it."""
    path = Path(folder) / f"{gallery}.npy"
    sizes = {"queries": QUERIES, "gallery": gallery, "dimension": DIMENSION, "path": str(path)}
    if not path.exists():
        write_gallery(sizes)
    return sizes


def evaluate(gallery: int, folder: str) -> Work:
    """CMC and mAP from a memory-mapped file."""
    sizes = sizes_of(gallery, folder)
    query_ids, ids, query_cameras, cameras = labels(sizes)
    features = np.load(sizes["path"], mmap_mode="r")
    query = query_features(sizes)
    given = (query, features, query_ids, ids, query_cameras, cameras)
    return lambda: evaluate_features(*given, memory=MEMORY).mean_ap


def evaluate_matrix(gallery: int, folder: str) -> Work:
    """CMC and mAP from a matrix of distances."""
    given = labels({"queries": QUERIES, "gallery": gallery})
    distances = np.random.default_rng(0).random((QUERIES, gallery), dtype=np.float32)
    return lambda: evaluate_ranking(distances, *given).mean_ap


def table_of(features: np.ndarray, ids: np.ndarray, cameras: np.ndarray) -> FeatureTable:
    size = len(features)
    return FeatureTable(
        names=[f"{row:08d}" for row in range(size)],
        person_ids=ids,
        camera_ids=cameras,
        num_frames=np.ones(size, np.int64),
        skipped_frames=np.zeros(size, np.int64),
        features=features,
        model="0" * 64,
        checkpoint="none",
    )


def tables(gallery: int, folder: str) -> tuple[FeatureTable, FeatureTable]:
    sizes = sizes_of(gallery, folder)
    query_ids, ids, query_cameras, cameras = labels(sizes)
    ids[ids == 0] = 10**6  # a name, not a distractor
    mapped = np.load(sizes["path"], mmap_mode="r")
    return (
        table_of(query_features(sizes), query_ids, query_cameras),
        table_of(mapped, ids, cameras),
    )


def find(gallery: int, folder: str, index: Any = "exact") -> Work:
    """Exact search for 10 neighbours, from a memory-mapped file."""
    query, table = tables(gallery, folder)
    return lambda: search(query, table, top=10, index=index).recall


def find_ivf(gallery: int, folder: str) -> Work:
    """Search through cells, which are built, and the exact answer beside it."""
    return find(gallery, folder, "ivf")


def find_hnsw(gallery: int, folder: str) -> Work:
    """Search through a graph, which is built, and the exact answer beside it."""
    return find(gallery, folder, "hnsw")


def files(gallery: int, folder: str) -> tuple[Path, Path]:
    paths = Path(folder) / f"query-{gallery}.parquet", Path(folder) / f"{gallery}.parquet"
    if not paths[1].exists():
        for path, content in zip(paths, tables(gallery, folder), strict=True):
            write_features(path, content)
    return paths


def command(gallery: int, folder: str) -> Work:
    """``reid search`` of a feature file in a feature file."""
    from reid.cli.main import main

    query, searched = map(str, files(gallery, folder))

    def work() -> int:
        with contextlib.redirect_stdout(io.StringIO()):
            return main(["search", query, "--gallery", searched, "--json"])

    return work


def evaluate_files(gallery: int, folder: str) -> Work:
    """CMC and mAP from feature files."""
    query, searched = files(gallery, folder)
    return lambda: evaluate_features(read_features(query), read_features(searched)).mean_ap


def add_one_by_one(gallery: int, folder: str) -> Work:
    """A gallery in memory that grows by single vectors, and one search."""
    features = np.random.default_rng(0).standard_normal((gallery, DIMENSION), dtype=np.float32)

    def work() -> str:
        grown = Gallery()
        for row in features:
            grown.add(row)
        return grown.search(features[0], top=1)[0][0].name

    return work


def rerank_all(entries: int, folder: str) -> Work:
    """k-reciprocal re-ranking of a tenth of the entries as queries."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((entries // 10, DIMENSION), dtype=np.float32)
    features = np.repeat(centres, 10, 0)
    features += rng.standard_normal(features.shape, dtype=np.float32)
    query, gallery = features[::10], np.delete(features, np.s_[::10], 0)
    return lambda: float(rerank(query, gallery).sum())


def image_folder(images: int, folder: str) -> Work:
    """Lists of a dataset ``folder`` with 10 images in a tracklet and 10 tracklets a person."""
    root = Path(folder) / f"images-{images}"
    for number in range(images // 10):
        person, part = divmod(number // 10, 3)
        person = 3 * person + (1 if part == 0 else 2)  # of query and gallery, the same
        name = ("train", "query", "gallery")[part]
        place = root / name / f"{person:06d}" / f"{number % 2}" / f"{number % 10:04d}"
        place.mkdir(parents=True)
        for frame in range(10):
            (place / f"{frame:04d}.jpg").touch()
    return lambda: len(load_dataset("folder", root).gallery)


def sampler_epoch(tracklets: int, folder: str) -> Work:
    """Keys of an epoch of 16 identities x 4 tracklets, 10 tracklets an identity."""
    rng = np.random.default_rng(0)
    cameras = rng.integers(6, size=tracklets).tolist()
    listed = [Tracklet(("a",), row // 10, camera) for row, camera in enumerate(cameras)]
    return lambda: sum(1 for _ in IdentitySampler(listed, 0, identities=16, per_person=4))


def sampler_one(tracklets: int, folder: str) -> Work:
    """Keys of an epoch, all tracklets of 16 identities."""
    listed = [Tracklet(("a",), row % 16, row % 6) for row in range(tracklets)]
    return lambda: sum(1 for _ in IdentitySampler(listed, 0, identities=16, per_person=4))


class Case(NamedTuple):
    """Work over its sizes; ``panel`` is the plot it is drawn in."""

    prepare: Callable[[int, str], Work]
    sizes: list[int]
    panel: str


def powers(first: int, last: int) -> list[int]:
    return [10**power for power in range(first, last + 1)]


CASES = {
    "evaluate": Case(evaluate, powers(4, 7), "gallery entries"),
    "evaluate-matrix": Case(evaluate_matrix, powers(4, 6), "gallery entries"),
    "evaluate-files": Case(evaluate_files, powers(4, 6), "gallery entries"),
    "search": Case(find, powers(4, 7), "gallery entries"),
    "search-ivf": Case(find_ivf, powers(4, 5), "gallery entries"),
    "search-hnsw": Case(find_hnsw, [3000, 10_000, 30_000], "gallery entries"),
    "search-command": Case(command, powers(4, 6), "gallery entries"),
    "grow": Case(add_one_by_one, [1000, 3000, 10_000, 30_000, 100_000], "gallery entries"),
    "rerank": Case(rerank_all, [1000, 2000, 5000, 10_000, 20_000], "gallery entries"),
    "images": Case(image_folder, powers(3, 6), "tracklets"),
    "sampler": Case(sampler_epoch, powers(3, 6), "tracklets"),
    "sampler-16": Case(sampler_one, powers(3, 6), "tracklets"),
}


def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument("folder", type=Path, help="where files are written for a while")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--largest", type=positive, help="leave larger sizes out")
    parser.add_argument("--turns", type=positive, default=3, help="of each size (default: 3)")
    parser.add_argument("--json", type=Path, help="figures, of earlier runs, too")
    parser.add_argument("--plot", type=Path, help="draw the figures into this PNG file")
    options = parser.parse_args()
    figures = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for name in options.only:
        rows = []
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            for size in CASES[name].sizes:
                if options.largest is None or size <= options.largest:
                    cost = measure(CASES[name].prepare, size, folder, turns=options.turns)
                    rows.append(row_of(size, cost))
                    print(f"{name} {size:,}: {cost}", file=sys.stderr, flush=True)
        figures[name] = rows
        print(f"{name}\n\n{report(rows)}\n", flush=True)
        if options.json:
            write_json(options.json, figures)
    if options.plot:
        plot_growth(options.plot, panels(figures))
    return 0


def panels(figures: dict[str, list[dict[str, Any]]]) -> list[Panel]:
    """Return a plot of time and one of memory for galleries, and for tracklets."""
    found = []
    for what in dict.fromkeys(case.panel for case in CASES.values()):
        mine = [(name, figures[name]) for name in figures if CASES[name].panel == what]
        time = {name: ([r["size"] for r in rows], [r["cpu"] for r in rows]) for name, rows in mine}
        memory = {
            name: ([r["size"] for r in rows], [[max(0.1, r["peak_mib"])] for r in rows])
            for name, rows in mine
        }
        found.append(Panel(f"{what}: time", "CPU s", time))
        found.append(Panel(f"{what}: peak memory", "MiB beyond the start", memory))
    return found


def row_of(size: int, cost: Cost) -> dict[str, Any]:
    memory = {"peak_mib": cost.peak_mib, "total_mib": cost.total_mib}
    return {"size": size, "seconds": cost.seconds, "cpu": cost.cpu, **memory}


def report(rows: list[dict[str, Any]]) -> str:
    titles = ["size", "CPU s, min / median / max", "peak MiB beyond the start", "in all"]
    lines = [
        [
            f"{row['size']:,}",
            spread(row["cpu"]),
            rounded(row["peak_mib"]),
            rounded(row["total_mib"]),
        ]
        for row in rows
    ]
    if len(rows) > 1:
        sizes = [row["size"] for row in rows]
        exponents = [
            str(fit_growth(sizes, values))
            for values in (
                [float(np.median(row["cpu"])) for row in rows],
                [max(0.1, row["peak_mib"]) for row in rows],
            )
        ]
        lines.append(["exponent", *exponents, ""])
    return table(titles, lines)


if __name__ == "__main__":
    sys.exit(main())
