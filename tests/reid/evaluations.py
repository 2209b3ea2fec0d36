"""Evaluations with images that were drawn for a test, and their numbers by plain loops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from reid.data.tracklet import JUNK, ReidData, Tracklet
from reid.metrics.ranking import evaluate_ranking
from reid.report.evaluation import Evaluation
from reid.retrieval.features import FeatureTable

Row = tuple[int, int]  # person, camera


def make_table(tracklets: Sequence[Tracklet], features: np.ndarray, **changes: Any) -> FeatureTable:
    """Rows of these tracklets, named by their first frames."""
    values: dict[str, Any] = {
        "names": [tracklet.path for tracklet in tracklets],
        "person_ids": np.array([tracklet.person_id for tracklet in tracklets]),
        "camera_ids": np.array([tracklet.camera_id for tracklet in tracklets]),
        "num_frames": np.array([len(tracklet.frames) for tracklet in tracklets]),
        "skipped_frames": np.zeros(len(tracklets), dtype=np.int64),
        "features": features.astype(np.float32),
        "model": "0" * 64,
        "checkpoint": "runs/a/checkpoints/best.ckpt",
    }
    return FeatureTable(**{**values, **changes})


def draw_tracklet(folder: Path, person: int, camera: int, frames: int, size: Row) -> Tracklet:
    """Frames of a colour of the person's, brighter with the camera."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(person + 7)
    colour = rng.integers(0, 200, 3) + 10 * camera
    paths = []
    for frame in range(frames):
        path = folder / f"{frame:03}.jpg"
        Image.new("RGB", size, tuple(map(int, colour))).save(path)
        paths.append(str(path))
    return Tracklet(tuple(paths), person, camera)


def make_evaluation(
    root: Path,
    query: Sequence[Row] = ((1, 0), (2, 0), (3, 1), (4, 1)),
    gallery: Sequence[Row] = (
        *((person, camera) for person in (1, 2, 3, 4) for camera in (0, 1, 2)),
        *((0, 1), (0, 2)),
    ),
    *,
    seed: int = 0,
    name: str = "drawn",
    settings: dict[str, Any] | None = None,
    size: Row = (16, 32),
) -> Evaluation:
    """Random features around one point per person; tracklets of one to five frames."""
    rng = np.random.default_rng(seed)
    centre = {person: rng.normal(size=8) for person, _ in [*query, *gallery]}
    lists, features = [], []
    for part, rows in (("query", query), ("gallery", gallery)):
        lists.append(
            [
                draw_tracklet(root / part / f"{index:03}", *row, 1 + index % 5, size)
                for index, row in enumerate(rows)
            ]
        )
        noise = rng.normal(size=(len(rows), 8))
        features.append(np.array([centre[person] for person, _ in rows]) + noise)
    cameras = {camera for _, camera in [*query, *gallery]}
    junk = [tracklet for tracklet in lists[1] if tracklet.person_id == JUNK]
    counted = [tracklet for tracklet in lists[1] if tracklet.person_id != JUNK]
    tables = make_table(lists[0], features[0]), make_table(lists[1], features[1])
    units = [table / np.linalg.norm(table, axis=1, keepdims=True) for table in features]
    distances = torch.tensor(1 - units[0] @ units[1].T)
    ranking = evaluate_ranking(
        distances,
        torch.from_numpy(tables[0].person_ids),
        torch.from_numpy(tables[1].person_ids),
        torch.from_numpy(tables[0].camera_ids),
        torch.from_numpy(tables[1].camera_ids),
    )
    return Evaluation(
        ReidData(name, [], lists[0], counted, junk, len(cameras)),
        *tables,
        distances,
        {"common": ranking},
        settings or {"metric": "cosine"},
    )


def naive_list(evaluation: Evaluation, query: int) -> list[tuple[float, int, str]]:
    """Distance, gallery row and verdict of all tracklets, the nearest first."""
    asked, table = evaluation.query, evaluation.gallery
    rows = []
    for row in range(len(table.names)):
        same = int(table.person_ids[row]) == int(asked.person_ids[query])
        here = int(table.camera_ids[row]) == int(asked.camera_ids[query])
        junk = int(table.person_ids[row]) == JUNK or (same and here)
        verdict = "junk" if junk else "right" if same else "wrong"
        rows.append((float(evaluation.distances[query, row]), row, verdict))
    return sorted(rows)


def naive_pair(
    evaluation: Evaluation, query_camera: int, gallery_camera: int
) -> tuple[int, Any, Any]:
    """Count one camera's queries among another's tracklets; compute their rank-1 and mAP."""
    first, precision = [], []
    for query in range(len(evaluation.query.names)):
        if int(evaluation.query.camera_ids[query]) != query_camera:
            continue
        verdicts = [
            verdict
            for _, row, verdict in naive_list(evaluation, query)
            if int(evaluation.gallery.camera_ids[row]) == gallery_camera and verdict != "junk"
        ]
        hits = [rank for rank, verdict in enumerate(verdicts, 1) if verdict == "right"]
        if hits:
            first.append(float(hits[0] == 1))
            precision.append(sum(n / rank for n, rank in enumerate(hits, 1)) / len(hits))
    if not first:
        return 0, None, None
    return len(first), sum(first) / len(first), sum(precision) / len(precision)
