"""The rankings and the re-ranking as plain loops, written from their definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Rows = Sequence[Sequence[float]]


class Scores(NamedTuple):
    """Figures of one query; ``matches`` is 0 and the rest zeros where it has none."""

    matches: int
    first: int
    average_precision: float
    inverse_penalty: float


def ranked(distances: Sequence[float]) -> list[int]:
    """Gallery entries by distance, equal ones by number."""
    return sorted(range(len(distances)), key=lambda g: (distances[g], g))


def score(
    distances: Sequence[float],
    person: int,
    camera: int,
    identities: Sequence[int],
    cameras: Sequence[int],
    protocol: str,
    rule: str = "cross",
    own: Sequence[int] = (),
) -> Scores:
    """Walk down the ranked list and keep account; ``own`` entries are the query itself."""

    def ignored(g: int) -> bool:
        same_camera = identities[g] == person and cameras[g] == camera
        return identities[g] == -1 or g in own or (rule == "cross" and same_camera)

    total = sum(identities[g] == person and not ignored(g) for g in range(len(identities)))
    if total == 0:
        return Scores(0, 0, 0.0, 0.0)
    seen = found = first = last = 0
    area, recall_before, precision_before = 0.0, 0.0, 1.0
    precisions = []
    for g in ranked(distances):
        if ignored(g):
            continue
        seen += 1
        if identities[g] == person:
            found += 1
            first, last = first or seen, seen
            precisions.append(found / seen)
        recall, precision = found / total, found / seen
        area += (recall - recall_before) * (precision_before + precision) / 2
        recall_before, precision_before = recall, precision
    mean = area if protocol == "official" else sum(precisions) / total
    return Scores(total, first, mean, total / last)


class Summary(NamedTuple):
    cmc: list[float]
    mean_ap: float
    mean_inp: float
    valid: int
    scores: list[Scores]


def evaluate(
    distances: Rows,
    query_ids: Sequence[int],
    gallery_ids: Sequence[int],
    query_cameras: Sequence[int],
    gallery_cameras: Sequence[int],
    protocol: str,
    max_rank: int,
    rule: str = "cross",
    own: Sequence[tuple[int, int]] = (),
) -> Summary | None:
    """Means over the queries that count; None if no query has a match."""
    scores = []
    for query, (row, person, camera) in enumerate(
        zip(distances, query_ids, query_cameras, strict=True)
    ):
        mine = [entry for asked, entry in own if asked == query]
        scores.append(
            score(row, person, camera, gallery_ids, gallery_cameras, protocol, rule, mine)
        )
    valid = [s for s in scores if s.matches]
    if not valid:
        return None
    counted = len(scores) if protocol == "official" else len(valid)
    cmc = [sum(s.first <= rank for s in valid) / counted for rank in range(1, max_rank + 1)]
    mean_ap = sum(s.average_precision for s in scores) / counted
    mean_inp = sum(s.inverse_penalty for s in scores) / counted
    return Summary(cmc, mean_ap, mean_inp, len(valid), scores)


def rerank(distances: Rows, queries: int, k1: int, k2: int, weight: float) -> np.ndarray:
    """k-reciprocal re-ranking with Python's sets, from all distances (N, N)."""
    size = len(distances)
    squared = [[value**2 for value in row] for row in distances]
    scaled = [[value / max(row) for value in row] for row in squared]
    nearest = [ranked(row) for row in scaled]

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in nearest[i][: k + 1] if i in nearest[j][: k + 1]}

    encoding = np.zeros((size, size))
    for i in range(size):
        near = reciprocal(i, k1)
        members = set(near)
        for j in near:
            candidates = reciprocal(j, round(k1 / 2))
            if 3 * len(candidates & near) > 2 * len(candidates):
                members |= candidates
        total = sum(math.exp(-scaled[i][j]) for j in members)
        for j in members:
            encoding[i, j] = math.exp(-scaled[i][j]) / total
    if k2 > 1:
        encoding = np.stack([encoding[nearest[i][:k2]].mean(0) for i in range(size)])
    result = np.zeros((queries, size - queries))
    for q in range(queries):
        for g in range(queries, size):
            shared = np.minimum(encoding[q], encoding[g]).sum()
            jaccard = 1 - shared / (2 - shared)
            result[q, g - queries] = (1 - weight) * jaccard + weight * scaled[q][g]
    return result
