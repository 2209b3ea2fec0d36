r"""Open-set measures: how well distances tell who is in a gallery and who is not.

A *trial* compares one query with one gallery entry. It is genuine if both are of one identity, else
an impostor's. Which entries count is the protocol of the ranking (:mod:`reid.metrics.ranking`):
junk (-1) never does, nor does the query's own person under the query's own camera; with
``cameras="ignore"`` only the query's own tracklet is left out. Distractors (0) are impostors. A
trial is accepted at the threshold t if its distance is at most t:

    FAR(t) = accepted impostor trials / impostor trials
    TAR(t) = accepted genuine trials / genuine trials

A *search* compares one query with the whole gallery. Each query is searched for twice: with its
person's entries in the gallery (*mated*, if there are any that count) and without them, as somebody
who is not there. With d_1 the distance of the nearest entry that counts:

    false-alarm rate(t) = searches for those not there with d_1 <= t / all of them
    DIR(t)              = mated searches whose nearest entry is right, with d_1 <= t / all of them

(rank 1; Grother, Micheals and Phillips, Face Recognition Vendor Test 2002 Performance Metrics,
AVBPA 2003). "At a rate f" means at the largest threshold whose rate is at most f.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid.data.tracklet import DISTRACTOR, JUNK
from reid.metrics.distances import Distances, Metric
from reid.metrics.ranking import Cameras, Labels, Pairs, check_labels, check_options, check_pairs
from video_snl.errors import UserError

__all__ = [
    "FEWEST",
    "RATES",
    "Histogram",
    "OpenSet",
    "largest_threshold",
    "open_set",
    "open_set_of_features",
    "threshold_interval",
]

RATES = (1e-1, 1e-2, 1e-3, 1e-4)
"""False-accept and false-alarm rates that are reported."""

FEWEST = 10
"""Trials or searches that must be expected to fail at a rate; with fewer it is not measurable."""

_BLOCK = 2**22  # distances that are computed at once,
_QUERIES = 32  # or those of so many queries: each block of them passes over the whole gallery
_BINS = 60
_DRAWS = 2000


@dataclass(frozen=True)
class Histogram:
    """Numbers of genuine and impostor trials by distance.

    Attributes:
        edges: Edges of the B bins, shape (B + 1,).
        genuine, impostor: Numbers of trials, int64, shape (B,).
    """

    edges: np.ndarray
    genuine: np.ndarray
    impostor: np.ndarray


@dataclass(frozen=True)
class OpenSet:
    """Distances of the trials and searches of Q queries, in a form that all rates come from.

    Attributes:
        genuine: Distances of the genuine trials, ascending, float32, shape (M,).
        accepted: Impostor trials at most as far as each genuine one, int64, shape (M,).
        nearer: Impostor trials nearer than each genuine one, int64, shape (M,).
        impostors: Number of impostor trials.
        others: Distance d_1 of each search without the query's person, float32, shape (Q,);
            infinite where no entry is left.
        first: Distance d_1 of each search with the query's person, float32, shape (Q,).
        right: True where that entry is the query's person, shape (Q,).
        mated: True where some entry is the query's person, shape (Q,).
        persons: Identities of the queries, int64, shape (Q,).
        histogram: Distances of all trials.
        left_out: Queries of junk or distractors, whom nobody can search for.
    """

    genuine: np.ndarray
    accepted: np.ndarray
    nearer: np.ndarray
    impostors: int
    others: np.ndarray
    first: np.ndarray
    right: np.ndarray
    mated: np.ndarray
    persons: np.ndarray
    histogram: Histogram
    left_out: int

    @property
    def searches(self) -> int:
        """Number of searches for somebody who is not there: Q."""
        return len(self.others)

    def area(self) -> float:
        """Return the area under TAR over FAR: P(genuine < impostor) + P(equal) / 2."""
        further = self.impostors - (self.accepted + self.nearer) / 2
        return float(further.mean() / self.impostors)

    def true_accept_rate(self, rate: float) -> float | None:
        """Return TAR at a FAR; None where there are too few impostor trials to measure it."""
        if self.impostors * rate < FEWEST:
            return None
        return float((self.accepted <= _most(rate, self.impostors)).mean())

    def threshold(self, rate: float) -> float | None:
        """Return the largest threshold with at most this false-alarm rate; None as above."""
        if self.searches * rate < FEWEST:
            return None
        return largest_threshold(self.others, rate)

    def false_alarm_rate(self, threshold: float) -> tuple[int, int]:
        """Return the false alarms at a threshold, and the number of searches."""
        return int((self.others <= threshold).sum()), self.searches

    def detected(self, threshold: float) -> tuple[int, int]:
        """Return the mated searches that are answered rightly, and the number of mated ones."""
        answered = self.right & self.mated & (self.first <= threshold)
        return int(answered.sum()), int(self.mated.sum())

    def detection_rate(self, rate: float) -> float | None:
        """Return DIR at a false-alarm rate; None where there are too few searches."""
        threshold = self.threshold(rate)
        if threshold is None:
            return None
        found, mated = self.detected(threshold)
        return found / mated


def largest_threshold(distances: np.ndarray, rate: float) -> float:
    """Return the largest float32 t with (number of distances <= t) <= rate N; of (N,) distances."""
    ordered = np.sort(np.asarray(distances, dtype=np.float32))
    most = _most(rate, len(ordered))
    if most >= len(ordered):
        return float(np.inf)
    return float(np.nextafter(ordered[most], np.float32(-np.inf)))


def threshold_interval(
    found: OpenSet, rate: float, *, draws: int = _DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Compute the 95 % bootstrap interval of the threshold at a false-alarm rate.

    The queries' identities are drawn anew with replacement, each with all its queries, since those
    of one identity depend on each other. The gallery stays as it is.
    """
    order = np.argsort(found.others, kind="stable")
    ordered = found.others[order].astype(np.float32)
    identities, owner = np.unique(found.persons[order], return_inverse=True)
    random = np.random.default_rng(seed)
    thresholds = np.empty(draws)
    for draw in range(draws):
        times = np.bincount(random.integers(len(identities), size=len(identities)))
        weights = np.pad(times, (0, len(identities) - len(times)))[owner]
        reached = np.cumsum(weights)
        place = int(np.searchsorted(reached, _most(rate, int(reached[-1])), side="right"))
        thresholds[draw] = (
            np.nextafter(ordered[place], np.float32(-np.inf)) if place < len(ordered) else np.inf
        )
    low, high = np.percentile(thresholds, (2.5, 97.5), method="inverted_cdf")
    return float(low), float(high)


def open_set(
    distances: Tensor | np.ndarray,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
    *,
    cameras: Cameras = "cross",
    own: Pairs | None = None,
) -> OpenSet:
    """Measure distances (Q, G); the arguments are those of :func:`evaluate_ranking`.

    Raises:
        UserError: As :func:`evaluate_ranking`; or there is no genuine or no impostor trial.
    """
    matrix = torch.as_tensor(distances).float()
    labels = check_labels(
        matrix.shape, (query_ids, gallery_ids, query_cameras, gallery_cameras), torch.device("cpu")
    )
    if matrix.isnan().any():
        raise UserError("some distances are NaN; check the features they were computed from")
    return _measure(lambda rows: matrix[rows], *labels, cameras, own)


def open_set_of_features(
    query: Tensor | np.ndarray,
    gallery: Tensor | np.ndarray,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
    *,
    metric: Metric = "cosine",
    cameras: Cameras = "cross",
    own: Pairs | None = None,
) -> OpenSet:
    """Measure features (Q, D) and (G, D) without the whole matrix of their distances.

    Raises:
        UserError: As :func:`open_set`, and as :func:`pairwise_distances`.
    """
    asked, searched = torch.as_tensor(query), torch.as_tensor(gallery)
    shape = len(asked), len(searched)
    labels = check_labels(
        shape, (query_ids, gallery_ids, query_cameras, gallery_cameras), torch.device("cpu")
    )
    distances = lambda rows: Distances(asked[rows], metric).to(searched).float()  # noqa: E731
    return _measure(distances, *labels, cameras, own)


@dataclass(frozen=True)
class _Block:
    """Distances of some queries, and which of them are genuine and impostor trials, (B, G)."""

    distances: Tensor
    genuine: Tensor
    impostor: Tensor


def _measure(
    distances: Callable[[slice], Tensor],
    query_ids: Tensor,
    gallery_ids: Tensor,
    query_cameras: Tensor,
    gallery_cameras: Tensor,
    cameras: Cameras,
    own: Pairs | None,
) -> OpenSet:
    """Pass over the distances twice: for the genuine trials, then to count impostors by them."""
    check_options("common", 1, cameras)
    pairs = check_pairs(own, query_ids, gallery_ids)
    asked = (query_ids != JUNK) & (query_ids != DISTRACTOR)

    def blocks() -> Iterator[_Block]:
        size = max(_QUERIES, _BLOCK // len(gallery_ids))
        for begin in range(0, len(query_ids), size):
            rows = slice(begin, begin + size)
            same = query_ids[rows, None] == gallery_ids
            counts = asked[rows, None] & (gallery_ids != JUNK)
            if cameras == "cross":
                counts = counts & ~(same & (query_cameras[rows, None] == gallery_cameras))
            here = pairs[(pairs[:, 0] >= begin) & (pairs[:, 0] < begin + size)]
            counts[here[:, 0] - begin, here[:, 1]] = False
            kept = asked[rows]
            yield _Block(distances(rows)[kept], (same & counts)[kept], (~same & counts)[kept])

    columns: list[list[Tensor]] = [[] for _ in range(5)]
    low, high = np.inf, -np.inf
    for block in blocks():
        trials = block.genuine | block.impostor
        far = block.distances.where(trials, torch.inf)
        if far.numel() == 0:
            continue
        first, place = far.min(1)  # of equal ones the first, as in the ranking
        values = block.distances[trials]
        if len(values):
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        for column, value in zip(
            columns,
            (
                block.distances[block.genuine],
                block.distances.where(block.impostor, torch.inf).amin(1),
                first,
                block.genuine.gather(1, place[:, None])[:, 0],
                block.genuine.any(1),
            ),
            strict=True,
        ):
            column.append(value)
    genuine = np.sort(_joined(columns[0]))
    if len(genuine) == 0:
        raise UserError(
            "there is no genuine trial: no query has another tracklet of its person in the gallery "
            "that counts; check identities and cameras of both lists, and where all tracklets are "
            "of one camera use --cameras ignore (in Python cameras='ignore')"
        )
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1, dtype=np.float32)
    accepted, nearer, counted = _count(blocks(), genuine, edges)
    impostors = int(counted.sum())
    if impostors == 0:
        raise UserError("there is no impostor trial: all queries and entries are of one person")
    return OpenSet(
        genuine=genuine,
        accepted=accepted,
        nearer=nearer,
        impostors=impostors,
        others=_joined(columns[1]),
        first=_joined(columns[2]),
        right=_joined(columns[3]),
        mated=_joined(columns[4]),
        persons=query_ids[asked].numpy(),
        histogram=Histogram(edges, _by_bins(genuine, edges), counted),
        left_out=int((~asked).sum()),
    )


def _count(
    blocks: Iterator[_Block], genuine: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count impostors at most as far as, and nearer than, each genuine trial, and by bins."""
    accepted, nearer = (np.zeros(len(genuine), dtype=np.int64) for _ in range(2))
    counted = np.zeros(len(edges) - 1, dtype=np.int64)
    for block in blocks:
        # Bare values sort fast: several times as fast as each is looked up among the genuine.
        values = np.sort(block.distances[block.impostor].numpy())
        accepted += np.searchsorted(values, genuine, side="right")
        nearer += np.searchsorted(values, genuine, side="left")
        counted += _by_bins(values, edges)
    return accepted, nearer, counted


def _by_bins(ordered: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count ascending values in bins [a, b), of which the last one holds its upper edge, too."""
    before = np.searchsorted(ordered, edges, side="left")
    before[-1] = len(ordered)
    return np.diff(before)


def _joined(parts: list[Tensor]) -> np.ndarray:
    return torch.cat(parts).numpy() if parts else np.zeros(0, np.float32)


def _most(rate: float, total: int) -> int:
    """Return the most that may fail of a total at a rate; products such as 0.29 x 100 are 29."""
    return int(np.floor(rate * total + 1e-9))
