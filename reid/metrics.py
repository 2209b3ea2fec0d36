"""The numbers of an evaluation as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from reid.tracklet import DISTRACTOR

if TYPE_CHECKING:
    from reid.evaluation import Evaluation
    from reid.features import FeatureTable
    from reid.protocols import Ranking

__all__ = ["RANKS", "flat_settings", "metrics", "ranking_metrics"]

RANKS = (1, 5, 10, 20)


def ranking_metrics(ranking: Ranking) -> dict[str, Any]:
    """CMC at ranks 1, 5, 10 and 20 (of a smaller gallery: at its end), mAP, mINP and the counts."""
    cmc = np.asarray(ranking.cmc, dtype=np.float64)
    return {
        "protocol": ranking.protocol,
        **{f"rank{rank}": float(cmc[min(rank, len(cmc)) - 1]) for rank in RANKS},
        "mAP": float(ranking.mean_ap),
        "mINP": float(ranking.mean_inp),
        "queries": int(ranking.num_queries),
        "queries_counted": int(ranking.num_valid_queries),
        "queries_without_match": int(ranking.num_queries - ranking.num_valid_queries),
    }


def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """All that ``metrics.json`` holds."""
    query, gallery = evaluation.query, evaluation.gallery
    people = np.asarray(gallery.person_ids)
    first = next(iter(evaluation.rankings.values()))
    without = np.flatnonzero(np.isnan(np.asarray(first.average_precision)))
    return {
        "data": {
            "name": evaluation.data.name,
            "queries": len(query.names),
            "gallery": len(gallery.names),
            "distractors": int((people == DISTRACTOR).sum()),
            "people": len(set(map(int, query.person_ids))),
            "cameras": evaluation.data.num_cameras,
        },
        "rankings": {
            name: ranking_metrics(ranking) for name, ranking in evaluation.rankings.items()
        },
        "queries_without_match": [query.names[row] for row in without],
        "skipped_frames": {**_skipped(query), **_skipped(gallery)},
        "unreadable": [*_unreadable(query), *_unreadable(gallery)],
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


def _skipped(table: FeatureTable) -> dict[str, int]:
    counts = zip(table.names, table.skipped_frames, strict=True)
    return {name: int(count) for name, count in counts if count}


def _unreadable(table: FeatureTable) -> list[str]:
    return [name for name, count in zip(table.names, table.num_frames, strict=True) if not count]
