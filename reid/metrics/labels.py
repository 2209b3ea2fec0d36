"""What the evaluations accept, and the errors for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from reid.data.tracklet import NO_NUMBER, special_person
from video_snl.errors import UserError
from video_snl.utils.media import natural_key

__all__ = [
    "QUERIES_IN_GALLERY",
    "Cameras",
    "Labels",
    "Names",
    "Pairs",
    "Protocol",
    "are_names",
    "check_labels",
    "check_matrix",
    "check_options",
    "check_pairs",
    "numbers_of_names",
]

Protocol = Literal["common", "official", "queries-kept"]
Cameras = Literal["cross", "ignore"]
Labels = Tensor | np.ndarray | Sequence[int]
Pairs = Tensor | np.ndarray | Sequence[tuple[int, int]]

QUERIES_IN_GALLERY: frozenset[Protocol] = frozenset({"official", "queries-kept"})
"""Protocols whose gallery holds the query tracklets, see reid.metrics.ranking.official_gallery."""
Names = Sequence[str | None] | np.ndarray


def are_names(labels: Labels | Names) -> bool:
    """Tell whether labels are names and not numbers; an empty list is of numbers."""
    if isinstance(labels, Tensor):
        return False
    return any(isinstance(label, str) or label is None for label in labels)


def numbers_of_names(lists: Sequence[Names], what: Literal["person", "camera"]) -> list[np.ndarray]:
    """Number the people or the cameras of several lists by their names, over all lists at once.

    Names that mean junk and distractors are -1 and 0, see
    :func:`reid.data.tracklet.special_person`. All other names that differ get different numbers,
    also ``7`` and ``007``, in natural order of the names: people start at 1, cameras at 0.

    Returns:
        Numbers of each list, int64, in the shape of the list.

    Raises:
        UserError: A name that is not known (None), or is no name.
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
    """People and cameras of Q queries and G gallery entries as int64 tensors, checked."""
    if 0 in shape:
        what = "no queries" if shape[0] == 0 else "an empty gallery"
        raise UserError(f"{what}: there is nothing to rank (distances of shape {tuple(shape)})")
    names = ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")
    sizes = (shape[0], shape[1]) * 2
    return tuple(  # type: ignore[return-value]
        _label(name, values, size, device)
        for name, values, size in zip(names, given, sizes, strict=True)
    )


def check_pairs(own: Pairs | None, query_people: Tensor, gallery_people: Tensor) -> Tensor:
    """Return the pairs (query, gallery entry) of one tracklet, int64, shape (N, 2), checked.

    Raises:
        UserError: Pairs that are no integers of that shape, outside the two lists, or of two
            people.
    """
    if own is None or len(own) == 0:
        return query_people.new_zeros((0, 2))
    pairs = torch.as_tensor(own)
    if pairs.dim() != 2 or pairs.shape[1] != 2 or pairs.is_floating_point():
        raise UserError(
            f"own is {pairs.dtype} of shape {tuple(pairs.shape)}; integers of shape (N, 2) are "
            "needed: numbers of a query and of a gallery entry"
        )
    pairs = pairs.to(query_people.device, torch.int64)
    sizes = pairs.new_tensor([len(query_people), len(gallery_people)])
    if ((pairs < 0) | (pairs >= sizes)).any():
        raise UserError(
            f"own names entries outside {sizes[0]} queries and {sizes[1]} gallery entries"
        )
    other = (query_people[pairs[:, 0]] != gallery_people[pairs[:, 1]]).nonzero()[:, 0]
    if len(other):
        query, entry = pairs[other[0]].tolist()
        raise UserError(
            f"own says that query {query} is gallery entry {entry}, but they are of person "
            f"{int(query_people[query])} and of person {int(gallery_people[entry])}"
        )
    return pairs


def _label(name: str, values: Labels, size: int, device: torch.device) -> Tensor:
    array = values if isinstance(values, Tensor) else np.asarray(values)
    integer = (
        not (array.is_floating_point() or array.is_complex())
        if isinstance(array, Tensor)
        else array.dtype.kind in "iub"
    )
    if not integer:
        raise UserError(f"{name} are {array.dtype}; people and cameras are integers")
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
            f"{name} hold people or cameras whose names are no numbers: give evaluate_features the "
            "names (persons and cameras of the tables), or the tables themselves"
        )
    return labels


def check_matrix(distances: Tensor | np.ndarray) -> Tensor:
    """The distances as a floating-point tensor (Q, G), without a gradient."""
    matrix = torch.as_tensor(distances).detach()
    if matrix.dim() != 2:
        raise UserError(
            f"distances of shape {tuple(matrix.shape)}; a matrix (queries, gallery) is needed"
        )
    if not matrix.is_floating_point():
        raise UserError(f"distances are {matrix.dtype}; they have to be floating-point")
    return matrix
