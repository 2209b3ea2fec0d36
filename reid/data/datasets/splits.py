"""Divisions of the people into training and test halves."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from video_snl.errors import UserError
from video_snl.utils.json_text import to_json

__all__ = ["NUM_SPLITS", "Split", "choose", "digest", "only_split_0", "random_splits", "say_random"]

NUM_SPLITS = 10


@dataclass(frozen=True)
class Split:
    """Names of the training and of the test people, each sorted."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def random_splits(dataset: str, people: Sequence[str]) -> list[Split]:
    """Ten random divisions into halves, as the literature makes them where none are published.

    In split s the people are put in the order of the SHA-256 of ``<dataset>/<s>/<person>``; the
    first half, rounded down, are the test people. That depends on no version of any library.
    """

    def rank(number: int, person: str) -> str:
        return hashlib.sha256(f"{dataset}/{number}/{person}".encode()).hexdigest()

    splits = []
    for number in range(NUM_SPLITS):
        order = sorted(people, key=lambda person, number=number: rank(number, person))  # type: ignore[misc]
        half = len(order) // 2
        splits.append(Split(tuple(sorted(order[half:])), tuple(sorted(order[:half]))))
    return splits


def say_random(dataset: str, wanted: Path, splits: list[Split]) -> None:
    """Tell on stderr that the divisions are not the published ones, and which they are."""
    print(
        f"{dataset}: there is no {wanted}; uses {len(splits)} random divisions of the people "
        f"instead (sha256 {digest(splits)[:16]}), so compare with published numbers with care",
        file=sys.stderr,
    )


def digest(splits: Sequence[Split]) -> str:
    """SHA-256 of the splits as JSON: ``[{"train": [names], "test": [names]}, ...]``."""
    values = [{"train": split.train, "test": split.test} for split in splits]
    return hashlib.sha256(to_json(values).encode()).hexdigest()


def choose(dataset: str, splits: Sequence[Split], split: int) -> Split:
    """Raises:
    UserError: There is no split of this number.
    """
    if not 0 <= split < len(splits):
        raise UserError(
            f"split {split} of {dataset} does not exist: give one from 0 to {len(splits) - 1}"
        )
    return splits[split]


def only_split_0(dataset: str, split: int) -> None:
    """Raises:
    UserError: Another split of a data set that has one division only.
    """
    if split != 0:
        raise UserError(
            f"split {split} of {dataset} does not exist: its people are divided in one way, give 0"
        )
