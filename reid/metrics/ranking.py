"""CMC, mAP and mINP of a ranking, in the three protocols that papers on MARS use.

:func:`evaluate_ranking` takes a matrix of distances; :mod:`reid.metrics.streaming` takes features
and shares the checks of labels and the scores below. :mod:`reid.metrics.matches` finds the ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from reid.data.tracklet import NO_NUMBER, identity_numbers, special_person
from reid.metrics.matches import Cameras, Gallery, Hits, Matches, count_before, hits_of
from video_snl.errors import UserError
from video_snl.utils.media import natural_key

__all__ = [
    "QUERIES_IN_GALLERY",
    "RANKS",
    "Cameras",
    "Labels",
    "Names",
    "Pairs",
    "Protocol",
    "Ranking",
    "are_names",
    "check_labels",
    "check_options",
    "check_pairs",
    "count_as_wrong",
    "evaluate_ranking",
    "no_match",
    "numbers_of_names",
    "official_gallery",
    "own_pairs",
    "score_hits",
    "summarize",
    "with_a_match",
]

Protocol = Literal["common", "official", "queries-kept"]
Labels = Tensor | np.ndarray | Sequence[int]
Names = Sequence[str | None] | np.ndarray
Pairs = Tensor | np.ndarray | Sequence[tuple[int, int]]

QUERIES_IN_GALLERY: frozenset[Protocol] = frozenset({"official", "queries-kept"})
"""Protocols whose gallery holds the query tracklets, see :func:`official_gallery`."""

RANKS = (1, 5, 10, 20)
"""Ranks of the CMC curve that are printed."""

CHUNK = 2**22
"""Distances that are compared at once: this bounds the memory beside the matrix itself."""


@dataclass(frozen=True)
class Ranking:
    """Metrics of a ranking.

    Attributes:
        cmc: Share of the counted queries with a true match among the first 1, 2, ..., max_rank,
            shape (max_rank,), float64.
        mean_ap: Mean average precision of the counted queries.
        mean_inp: Mean inverse negative penalty: number of matches by rank of the last one.
        num_valid_queries: Queries with a match in the gallery.
        num_queries: All queries.
        protocol: ``official`` counts all queries, the others the valid ones.
        average_precision: Average precision of every query, shape (Q,), float64; NaN without a
            match.
        first_match_rank: Rank of every query's nearest match, from 1, shape (Q,); 0 without one.
        cameras: ``cross`` where a match is under another camera, ``ignore`` where under any.
    """

    cmc: Tensor
    mean_ap: float
    mean_inp: float
    num_valid_queries: int
    num_queries: int
    protocol: Protocol
    average_precision: Tensor
    first_match_rank: Tensor
    cameras: Cameras = "cross"


def evaluate_ranking(
    distances: Tensor | np.ndarray,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
    *,
    protocol: Protocol = "common",
    max_rank: int = 50,
    cameras: Cameras = "cross",
    own: Pairs | None = None,
) -> Ranking:
    r"""Evaluate the order of the gallery by distance from each query.

    Entries of identity -1 are junk and ignored, and so are, for each query, those of its own
    identity and camera, and its own tracklet (``own``). The others are ranked by distance; of equal
    ones the smaller gallery index comes first. With the n true matches of a query at ranks
    r_1 < ... < r_n,

        AP  = 1/n sum_i i / r_i                             (``common``, ``queries-kept``)
        AP  = 1/n sum_i [(i - 1) / (r_i - 1) + i / r_i] / 2                  (``official``)
        INP = n / r_n

    where (i - 1) / (r_i - 1) is 1 for r_i = 1. ``common`` is the protocol of Market-1501 as
    torchreid and most papers compute it: means over the queries that have a match. ``official`` is
    that of MARS's own evaluation code (trapezoids under the curve of precision over recall): means
    over all queries, those without a match as 0, in a gallery that still holds the queries'
    tracklets, see :func:`official_gallery`. It has no INP of its own; it is the same one, over all
    queries. ``queries-kept`` is what much public code reports on MARS (AP3D's, for one): the plain
    AP and means over the queries that have a match, as in ``common``, but in the gallery of
    ``official``.

    With ``cameras="ignore"`` entries of the query's own camera are not removed: a match is any
    other tracklet of the identity. This is for galleries of one camera. Name the query itself in
    ``own`` then, should the gallery hold it: it would be its own match at distance 0.

    Args:
        distances: Shape (Q, G), floating-point, on any device.
        query_ids: Identities, shape (Q,).
        gallery_ids: Identities, shape (G,). Distractors (0) are an identity like others, of no
            query.
        query_cameras: Cameras, shape (Q,).
        gallery_cameras: Cameras, shape (G,).
        protocol: ``common``, ``official`` or ``queries-kept``; the last two want the gallery of
            :func:`official_gallery`.
        max_rank: Length of the CMC curve. After the last entry of the gallery it stays constant.
        cameras: ``cross`` or ``ignore``.
        own: Pairs (query, gallery entry) that are the same tracklet, shape (N, 2); see
            :func:`own_pairs` for the gallery of :func:`official_gallery`.

    Raises:
        UserError: Shapes that do not fit, labels that are not integers, no queries, an empty
            gallery, NaN among the distances, or no query with a match.
    """
    matrix = _matrix(distances)
    labels = check_labels(
        matrix.shape, (query_ids, gallery_ids, query_cameras, gallery_cameras), matrix.device
    )
    check_options(protocol, max_rank, cameras)
    asked, searched, asked_views, searched_views = labels
    pairs = check_pairs(own, asked, searched)
    gallery = Gallery(searched, searched_views)
    rows = max(1, CHUNK // (matrix.shape[1] + 8 * gallery.most(asked)))
    scores = []
    for some in _slices(len(matrix), rows):
        _refuse_nan(matrix, some)
        here = pairs[(pairs[:, 0] >= some.start) & (pairs[:, 0] < some.stop)]
        matches = gallery.matches(
            asked[some], asked_views[some], cameras, here - here.new_tensor([some.start, 0])
        )
        scores.append(_score_rows(matrix[some], gallery, matches, protocol))
    return summarize(torch.cat(scores), protocol, max_rank, cameras)


def official_gallery(
    distances: Tensor,
    query_distances: Tensor,
    query_ids: Labels,
    gallery_ids: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gallery of ``official`` and ``queries-kept``, which keeps the queries' tracklets.

    A query's own tracklet is of its identity and camera, hence ignored, and named by
    :func:`own_pairs` where cameras are; those of the other queries count. Junk, which the official
    gallery has too, changes no number and may be in the gallery or not.

    Args:
        distances: From the queries to the gallery, shape (Q, G).
        query_distances: From the queries to the queries, shape (Q, Q).
        query_ids: Identities, shape (Q,).
        gallery_ids: Identities, shape (G,).
        query_cameras: Cameras, shape (Q,).
        gallery_cameras: Cameras, shape (G,).

    Returns:
        Distances (Q, G + Q), identities (G + Q,) and cameras (G + Q,) for :func:`evaluate_ranking`.
    """
    matrix, own = _matrix(distances), _matrix(query_distances)
    given = (query_ids, gallery_ids, query_cameras, gallery_cameras)
    asked, searched, asked_views, searched_views = check_labels(matrix.shape, given, matrix.device)
    if own.shape != (len(matrix), len(matrix)):
        raise UserError(
            f"query_distances has shape {tuple(own.shape)}; {len(matrix)} queries need "
            f"{(len(matrix), len(matrix))}"
        )
    return (
        torch.cat([matrix, own.to(matrix)], 1),
        torch.cat([searched, asked]),
        torch.cat([searched_views, asked_views]),
    )


def own_pairs(num_queries: int, num_gallery: int) -> Tensor:
    """Return the pairs (q, G + q) of the queries in :func:`official_gallery`, shape (Q, 2)."""
    query = torch.arange(num_queries)
    return torch.stack([query, query + num_gallery], 1)


def with_a_match(
    query_ids: Tensor,
    gallery_ids: Tensor,
    query_cameras: Tensor,
    gallery_cameras: Tensor,
    cameras: Cameras = "cross",
    own: Tensor | None = None,
) -> Tensor:
    """Tell which queries (Q,) have a match in the gallery (G,), see :meth:`Gallery.matches`."""
    gallery = Gallery(gallery_ids, gallery_cameras)
    return gallery.matches(query_ids, query_cameras, cameras, own).kept.any(1)


def count_as_wrong(ranking: Ranking, matched: int, lost: int) -> Ranking:
    """Add queries that could not be read to a ranking, as queries whose matches were never found.

    The protocol counts them as it counts others, with CMC, AP and INP 0. What the ranking holds of
    single queries stays that of those that were read.

    Args:
        ranking: Metrics of the queries that were read.
        matched: Number of the others that have a match in the gallery.
        lost: Queries that could not be read.
    """
    valid, queries = ranking.num_valid_queries + matched, ranking.num_queries + lost
    if ranking.protocol == "official":
        share = ranking.num_queries / queries
    else:
        share = ranking.num_valid_queries / valid if valid else 0.0
    return replace(
        ranking,
        cmc=ranking.cmc * share,
        mean_ap=ranking.mean_ap * share,
        mean_inp=ranking.mean_inp * share,
        num_valid_queries=valid,
        num_queries=queries,
    )


def are_names(labels: Labels | Names) -> bool:
    """Tell whether labels are names and not numbers; an empty list is of numbers."""
    if isinstance(labels, Tensor):
        return False
    return any(isinstance(label, str) or label is None for label in labels)


def numbers_of_names(lists: Sequence[Names], what: Literal["person", "camera"]) -> list[np.ndarray]:
    """Number the identities or the cameras of several lists by their names, over all at once.

    Names that mean junk and distractors are -1 and 0, see
    :func:`reid.data.tracklet.special_person`. All other names that differ get different numbers, in
    natural order of the names: identities start at 1, cameras at 0.

    Returns:
        Numbers of each list, int64, in the shape of the list.

    Raises:
        UserError: A name that is not known (None), or is not text; two names of identities that are
            equal as numbers, such as ``7`` and ``007``.
    """
    found: set[str] = set()
    for names in lists:
        for row, name in enumerate(names):
            if not isinstance(name, str):
                raise UserError(
                    f"row {row} of the {what}s is {name!r}, not a name: give names in all lists, "
                    "or numbers in all"
                )
            found.add(str(name))
    special = {}
    if what == "person":
        identity_numbers(found)
        special = {name: n for name in found if (n := special_person(name)) is not None}
    rest = sorted(found - special.keys(), key=natural_key)
    first = 1 if what == "person" else 0
    numbers = special | {name: number for number, name in enumerate(rest, start=first)}
    return [np.array([numbers[str(name)] for name in names], dtype=np.int64) for names in lists]


def check_options(protocol: str, max_rank: int, cameras: str = "cross") -> None:
    """Raise UserError for a protocol or rule that does not exist or a curve without a point."""
    if protocol not in get_args(Protocol):
        raise UserError(
            f"protocol={protocol!r} does not exist; choose {', '.join(get_args(Protocol))}"
        )
    if cameras not in get_args(Cameras):
        raise UserError(f"cameras={cameras!r} does not exist; choose cross or ignore")
    if max_rank < 1:
        raise UserError(f"max_rank={max_rank} must be at least 1")


def check_labels(
    shape: Sequence[int], given: Sequence[Labels], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return identities and cameras of Q queries and G gallery entries as int64 tensors.

    Args:
        shape: (Q, G).
        given: Identities of the queries and of the gallery, cameras of both.
        device: Device of the result.

    Raises:
        UserError: Lists of other lengths, without an entry, or of values that are not integers.
    """
    if 0 in shape:
        what = "no queries" if shape[0] == 0 else "an empty gallery"
        raise UserError(f"{what}: there is nothing to rank (distances of shape {tuple(shape)})")
    names = ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")
    sizes = (shape[0], shape[1]) * 2
    return tuple(  # type: ignore[return-value]
        _label(name, values, size, device)
        for name, values, size in zip(names, given, sizes, strict=True)
    )


def check_pairs(own: Pairs | None, query_ids: Tensor, gallery_ids: Tensor) -> Tensor:
    """Return the pairs (query, gallery entry) of one tracklet, int64, shape (N, 2).

    Raises:
        UserError: Pairs that are not integers of that shape, outside the two lists, or of two
            identities.
    """
    if own is None or len(own) == 0:
        return query_ids.new_zeros((0, 2))
    pairs = torch.as_tensor(own)
    if pairs.dim() != 2 or pairs.shape[1] != 2 or pairs.is_floating_point():
        raise UserError(
            f"own is {pairs.dtype} of shape {tuple(pairs.shape)}; integers of shape (N, 2) are "
            "needed: numbers of a query and of a gallery entry"
        )
    pairs = pairs.to(query_ids.device, torch.int64)
    sizes = pairs.new_tensor([len(query_ids), len(gallery_ids)])
    if ((pairs < 0) | (pairs >= sizes)).any():
        raise UserError(
            f"own names entries outside {sizes[0]} queries and {sizes[1]} gallery entries"
        )
    other = (query_ids[pairs[:, 0]] != gallery_ids[pairs[:, 1]]).nonzero()[:, 0]
    if len(other):
        query, entry = pairs[other[0]].tolist()
        raise UserError(
            f"own says that query {query} is gallery entry {entry}, but they are of person "
            f"{int(query_ids[query])} and of person {int(gallery_ids[entry])}"
        )
    return pairs


def score_hits(hits: Hits, protocol: Protocol) -> Tensor:
    """Compute per query the number of matches, first rank, AP and INP, shape (Q, 4), float64."""
    kept, rank, number = hits.kept, hits.rank.double(), hits.number.double()
    count = kept.sum(1).double()
    precision = number / rank
    if protocol == "official":
        earlier = torch.where(rank > 1, (number - 1) / (rank - 1).clamp(min=1), 1.0)
        precision = (precision + earlier) / 2
    first = rank.where(kept, torch.inf)
    last = rank.where(kept, 0)
    if kept.shape[1] == 0:
        return torch.zeros(len(kept), 4, dtype=torch.float64, device=kept.device)
    average = precision.where(kept, 0).sum(1) / count.clamp(min=1)
    inverse = count / last.amax(1).clamp(min=1)
    return torch.stack([count, first.amin(1), average, inverse], 1)


def summarize(
    scores: Tensor, protocol: Protocol, max_rank: int, cameras: Cameras = "cross"
) -> Ranking:
    """Compute the means over the queries of :func:`score_hits`.

    Raises:
        UserError: No query has a match.
    """
    count, first, average, inverse = scores.cpu().unbind(1)
    valid = count > 0
    if not valid.any():
        raise UserError(no_match(len(count), "in the gallery", cameras))
    counted = len(count) if protocol == "official" else int(valid.sum())
    first = first.where(valid, 0).long()
    at_rank = torch.bincount(first[valid & (first <= max_rank)], minlength=max_rank + 1)
    return Ranking(
        cmc=at_rank[1:].cumsum(0).double() / counted,
        mean_ap=float(average[valid].sum() / counted),
        mean_inp=float(inverse[valid].sum() / counted),
        num_valid_queries=int(valid.sum()),
        num_queries=len(count),
        protocol=protocol,
        average_precision=average.where(valid, torch.nan),
        first_match_rank=first,
        cameras=cameras,
    )


def no_match(queries: int, where: str, cameras: Cameras) -> str:
    """Say that no query has a match, and what helps."""
    text = f"none of the {queries} queries has a match {where}: another tracklet of the same person"
    if cameras == "ignore":
        return f"{text}; check the identities of both lists"
    return (
        f"{text} under another camera; check the identities and cameras of both lists, and where "
        "all tracklets are of one camera use --cameras ignore (in Python cameras='ignore')"
    )


def _matrix(distances: Tensor | np.ndarray) -> Tensor:
    """Return the distances as a floating-point tensor (Q, G), without a gradient."""
    matrix = torch.as_tensor(distances).detach()
    if matrix.dim() != 2:
        raise UserError(
            f"distances of shape {tuple(matrix.shape)}; a matrix (queries, gallery) is needed"
        )
    if not matrix.is_floating_point():
        raise UserError(f"distances are {matrix.dtype}; they have to be floating-point")
    return matrix


def _label(name: str, values: Labels, size: int, device: torch.device) -> Tensor:
    array = values if isinstance(values, Tensor) else np.asarray(values)
    integer = (
        not (array.is_floating_point() or array.is_complex())
        if isinstance(array, Tensor)
        else array.dtype.kind in "iub"
    )
    if not integer:
        raise UserError(f"{name} are {array.dtype}; identities and cameras are integers")
    if tuple(array.shape) != (size,):
        raise UserError(
            f"{name} has shape {tuple(array.shape)}, but the distances need {(size,)}: one number "
            f"per {name.split('_')[0]} entry"
        )
    if not isinstance(array, Tensor):
        array = torch.from_numpy(array.astype(np.int64))
    labels = array.to(device, torch.int64)
    if (labels == NO_NUMBER).any():
        raise UserError(
            f"{name} hold identities or cameras whose names are not numbers: give "
            "evaluate_features the names (persons and cameras of the tables), or the tables "
            "themselves"
        )
    return labels


def _slices(total: int, size: int) -> list[slice]:
    return [slice(begin, begin + size) for begin in range(0, total, size)]


def _refuse_nan(matrix: Tensor, rows: slice) -> None:
    if not matrix[rows].amax(1).isnan().any():  # a maximum passes NaN on
        return
    wrong = torch.cat([matrix[some].amax(1).isnan() for some in _slices(len(matrix), 1024)])
    first, count = int(wrong.nonzero()[0, 0]), int(wrong.sum())
    raise UserError(
        f"{int(matrix[first].isnan().sum())} distances of query {first} are NaN"
        + (f", and some of {count - 1} more queries" if count > 1 else "")
        + "; check the features it was computed from"
    )


def _score_rows(matrix: Tensor, gallery: Gallery, matches: Matches, protocol: Protocol) -> Tensor:
    if matrix.dtype not in (torch.float32, torch.float64):
        matrix = matrix.float()  # exact; NumPy has no bfloat16
    near = matrix.gather(1, matches.columns)
    everything = len(gallery.positions) == matrix.shape[1]
    block = matrix if everything else matrix[:, gallery.positions]
    before = count_before(block, gallery.positions, near, matches.columns, matches.kept)
    return score_hits(hits_of(matches, near, before), protocol)
