"""Evaluation of features without the matrix of all distances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from reid.metrics.distances import (
    Distances,
    Metric,
    check_features,
    pairwise_distances,
    read_rows,
)
from reid.metrics.matches import Gallery, Matches, count_before, hits_of
from reid.metrics.ranking import (
    Cameras,
    Labels,
    Names,
    Pairs,
    Protocol,
    Ranking,
    are_names,
    check_labels,
    check_options,
    check_pairs,
    numbers_of_names,
    score_hits,
    summarize,
)
from reid.retrieval.features import FeatureTable, same_model, shared_numbers
from video_snl.errors import UserError

__all__ = ["Metric", "evaluate_features", "pairwise_distances"]

LARGEST_BLOCK = 2**16


def evaluate_features(
    query: Tensor | np.ndarray | FeatureTable,
    gallery: Tensor | np.ndarray | FeatureTable,
    query_ids: Labels | Names | None = None,
    gallery_ids: Labels | Names | None = None,
    query_cameras: Labels | Names | None = None,
    gallery_cameras: Labels | Names | None = None,
    *,
    metric: Metric = "cosine",
    protocol: Protocol = "common",
    max_rank: int = 50,
    memory: int = 2**30,
    cameras: Cameras = "cross",
    own: Pairs | None = None,
) -> Ranking:
    """Evaluate features as :func:`reid.metrics.ranking.evaluate_ranking` does, in bounded memory.

    The gallery is read twice in blocks: for the distances of the queries' own identities, then to
    count for each of these how many others come before it. Both times a block's distances are
    computed alike, to the last bit, so that the ranks are those of the matrix of these distances.

    Identities and cameras are numbers, or names in all lists: then identities called ``-1`` are
    junk, those with a name of zeros distractors, and two are the same if their names are.

    Args:
        query: Features, shape (Q, D); computed on its device. Or a table of
            :func:`reid.retrieval.features.read_features`, if the gallery is one, too: then
            identities and cameras are compared by the names in the tables, and the other four lists
            are left out.
        gallery: Features, shape (G, D): a tensor, an array, or a memory-mapped file
            (``numpy.load(path, mmap_mode="r")``), of which only a block at a time is resident; or
            a table.
        query_ids: Identities, shape (Q,), see :func:`reid.metrics.ranking.evaluate_ranking`.
        gallery_ids: Identities, shape (G,).
        query_cameras: Cameras, shape (Q,).
        gallery_cameras: Cameras, shape (G,).
        metric: ``cosine`` or ``euclidean``, see :func:`pairwise_distances`.
        protocol: ``common``, ``official`` or ``queries-kept``.
        max_rank: Length of the CMC curve.
        memory: Bytes for the blocks, beside the queries and 40 bytes for each pair of a query and
            a gallery entry of its identity.
        cameras: ``ignore`` lets tracklets of the query's own camera be matches.
        own: Pairs (query, gallery entry) that are the same tracklet, shape (N, 2).

    Raises:
        UserError: As in :func:`reid.metrics.ranking.evaluate_ranking`; features of different
            dimensions or not finite; tables of different models, or whose identities cannot be
            compared.
    """
    given = (query_ids, gallery_ids, query_cameras, gallery_cameras)
    labels = _numbers(query, gallery, given)
    query = query.features if isinstance(query, FeatureTable) else query
    gallery = gallery.features if isinstance(gallery, FeatureTable) else gallery
    query = torch.as_tensor(query)
    check_features("query", query)
    check_features("gallery", gallery, dimension=query.shape[1])
    check_options(protocol, max_rank, cameras)
    shape = len(query), len(gallery)
    asked, searched, asked_views, searched_views = check_labels(shape, labels, query.device)
    pairs = check_pairs(own, asked, searched)
    entries = Gallery(searched, searched_views)
    matches = entries.matches(asked, asked_views, cameras, pairs)
    stream = _Stream(
        Distances(query, metric), gallery, entries.positions, _rows(shape, query, memory)
    )
    near = _near(stream, matches)
    before = _before(stream, matches, near)
    scores = score_hits(hits_of(matches, near, before), protocol)
    return summarize(scores, protocol, max_rank, cameras)


def _numbers(
    query: Tensor | np.ndarray | FeatureTable,
    gallery: Tensor | np.ndarray | FeatureTable,
    given: tuple[Labels | Names | None, ...],
) -> tuple[Labels, Labels, Labels, Labels]:
    """Return identities and cameras of both lists as numbers that mean the same in both."""
    if isinstance(query, FeatureTable) and isinstance(gallery, FeatureTable):
        if any(labels is not None for labels in given):
            raise UserError(
                "two tables of features have identities and cameras: give no others beside them"
            )
        same_model(query, gallery)
        (asked, asked_in), (searched, searched_in) = shared_numbers([query, gallery])
        return asked, searched, asked_in, searched_in
    if isinstance(query, FeatureTable) or isinstance(gallery, FeatureTable):
        raise UserError("query and gallery must both be tables of features, or both be arrays")
    if any(labels is None for labels in given):
        raise UserError("arrays of features need query_ids, gallery_ids and the cameras of both")
    lists = cast("tuple[Labels, Labels, Labels, Labels]", given)
    identities, cameras = (lists[0], lists[1]), (lists[2], lists[3])
    if any(map(are_names, identities)):
        identities = cast("Any", numbers_of_names(cast("Any", identities), "person"))
    if any(map(are_names, cameras)):
        cameras = cast("Any", numbers_of_names(cast("Any", cameras), "camera"))
    return identities[0], identities[1], cameras[0], cameras[1]


@dataclass(frozen=True)
class _Block:
    distances: Tensor  # (Q, B)
    positions: Tensor  # numbers of the B entries in the gallery, ascending


@dataclass(frozen=True)
class _Stream:
    """Distances to the gallery without its junk, in blocks of ``rows`` entries."""

    distances: Distances
    gallery: Tensor | np.ndarray
    positions: Tensor
    rows: int

    def blocks(self, wanted: Tensor | None = None) -> Iterator[_Block]:
        """Yield the blocks; with ``wanted``, only those that hold an entry of these numbers."""
        for begin in range(0, len(self.gallery), self.rows):
            end = min(begin + self.rows, len(self.gallery))
            if wanted is not None and not ((wanted >= begin) & (wanted < end)).any():
                continue
            low, high = torch.searchsorted(
                self.positions, self.positions.new_tensor([begin, end])
            ).tolist()
            if low == high:
                continue
            positions = self.positions[low:high]
            block = read_rows(self.gallery, slice(begin, end))
            if high - low < end - begin:
                block = block[(positions - begin).to(block.device)]
            yield _Block(self.distances.to(block, positions), positions)


def _rows(shape: tuple[int, int], query: Tensor, memory: int) -> int:
    """Return the number of entries of a block.

    In memory at once are its features three times, its distances, and these sorted and once more.
    """
    each = 12 * query.shape[1] + 16 * shape[0]
    rows = min(memory // each, LARGEST_BLOCK, shape[1])
    if rows < 1:
        raise UserError(
            f"memory={memory} bytes are too few: one gallery entry and {shape[0]} queries of "
            f"dimension {query.shape[1]} need {each}"
        )
    return rows


def _near(stream: _Stream, matches: Matches) -> Tensor:
    """Compute the distances of the queries' own identities, shape (Q, P)."""
    wanted = matches.columns[matches.valid].unique()
    near: Tensor | None = None
    for block in stream.blocks(wanted):
        if near is None:
            near = block.distances.new_zeros(matches.columns.shape)
        here, local = _inside(block, matches)
        near[here] = block.distances.gather(1, local)[here]
    empty = torch.zeros(matches.columns.shape, device=matches.columns.device)
    return empty if near is None else near


def _before(stream: _Stream, matches: Matches, near: Tensor) -> Tensor:
    """Count how many entries come before each of these, shape (Q, P)."""
    count = torch.zeros_like(matches.columns)
    if not matches.kept.any():
        return count
    for block in stream.blocks():
        here, local = _inside(block, matches)
        if not torch.equal(block.distances.gather(1, local)[here], near[here]):
            raise RuntimeError(
                "the same block of the gallery gave different distances in the second pass; "
                "use deterministic algorithms on this device"
            )
        count += count_before(block.distances, block.positions, near, matches.columns, matches.kept)
    return count


def _inside(block: _Block, matches: Matches) -> tuple[Tensor, Tensor]:
    """Tell which of the matches are in a block, and their columns in it (0 elsewhere)."""
    last = block.positions[-1]
    here = matches.valid & (matches.columns >= block.positions[0]) & (matches.columns <= last)
    local = torch.searchsorted(block.positions, matches.columns.contiguous())
    return here, local.where(here, 0)
