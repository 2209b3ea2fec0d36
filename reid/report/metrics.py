"""The numbers of an evaluation as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reid.data.tracklet import DISTRACTOR
from reid.metrics.ranking import QUERIES_IN_GALLERY

if TYPE_CHECKING:
    from reid.data.tracklet import Tracklet
    from reid.metrics.ranking import Ranking
    from reid.report.evaluation import Evaluation
    from reid.retrieval.features import FeatureTable

__all__ = ["RANKS", "flat_settings", "metrics", "ranking_metrics"]

RANKS = (1, 5, 10, 20)


def ranking_metrics(ranking: Ranking) -> dict[str, Any]:
    """CMC at ranks 1, 5, 10 and 20, mAP, mINP and the counts.

    Raises:
        ValueError: The CMC curve ends before rank 20.
    """
    cmc = np.asarray(ranking.cmc, dtype=np.float64)
    if len(cmc) < max(RANKS):
        raise ValueError(f"a CMC curve of {len(cmc)} ranks does not hold rank {max(RANKS)}")
    official = ranking.protocol == "official"  # which counts those without a match, as zero
    counted = ranking.num_queries if official else ranking.num_valid_queries
    return {
        "protocol": ranking.protocol,
        "cameras": ranking.cameras,
        **{f"rank{rank}": float(cmc[rank - 1]) for rank in RANKS},
        "mAP": float(ranking.mean_ap),
        "mINP": float(ranking.mean_inp),
        "queries": int(ranking.num_queries),
        "queries_counted": int(counted),
        "queries_without_match": int(ranking.num_queries - ranking.num_valid_queries),
    }


def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """All that ``metrics.json`` holds."""
    data, query, gallery = evaluation.data, evaluation.query, evaluation.gallery
    first = next(iter(evaluation.rankings.values()))
    return {
        "data": {
            "name": data.name,
            "queries": len(data.query),
            "gallery": len(data.gallery),
            "distractors": sum(t.person_id == DISTRACTOR for t in data.gallery),
            "junk": len(data.junk),
            "people": len({t.person_id for t in data.query}),
            "cameras": data.num_cameras,
        },
        "rankings": {
            name: ranking_metrics(ranking) for name, ranking in evaluation.rankings.items()
        },
        "queries_without_match": _without_match(evaluation, first),
        "skipped_frames": {**_skipped(query), **_skipped(gallery)},
        "unreadable": [*_unreadable(query, data.query), *_unreadable(gallery, data.gallery)],
        "settings": dict(flat_settings(evaluation.settings)),
    }


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as ``section.name`` with plain values, in their order."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat_settings(value, f"{prefix}{name}.")
        else:
            plain = value is None or isinstance(value, (bool, int, float, str))
            yield f"{prefix}{name}", value if plain else str(value)


def _without_match(evaluation: Evaluation, ranking: Ranking) -> list[str]:
    """Queries without a match, those that were read first, then those that were not."""
    query, gallery = evaluation.query, evaluation.gallery
    rows = np.flatnonzero(np.isnan(np.asarray(ranking.average_precision)))
    searched = (gallery, query) if ranking.protocol in QUERIES_IN_GALLERY else (gallery,)
    views: dict[int, set[int]] = {}
    for table in searched:
        for person, camera in zip(table.person_ids, table.camera_ids, strict=True):
            views.setdefault(int(person), set()).add(int(camera))
    unread = set(_unreadable(query, evaluation.data.query))
    cross = evaluation.cameras == "cross"
    lost = [
        tracklet.path
        for tracklet in evaluation.data.query
        if tracklet.path in unread
        and not views.get(tracklet.person_id, set()) - ({tracklet.camera_id} if cross else set())
    ]
    return [*(query.names[row] for row in rows), *lost]


def _skipped(table: FeatureTable) -> dict[str, int]:
    counts = zip(table.names, table.skipped_frames, strict=True)
    return {name: int(count) for name, count in counts if count}


def _unreadable(table: FeatureTable, tracklets: Sequence[Tracklet]) -> list[str]:
    """First frames of the tracklets that have no row."""
    known = set(table.names)
    return [t.path for t in tracklets if known.isdisjoint((t.path, t.name))]
