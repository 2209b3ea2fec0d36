"""Counts in sentences."""

from __future__ import annotations

import pytest

from video_snl.utils.counts import counts, noun


@pytest.mark.parametrize(
    ("number", "word", "text"),
    [
        (1, "video", "1 video"),
        (0, "video", "0 videos"),
        (2, "test video", "2 test videos"),
        (1, "class", "1 class"),
        (101, "class", "101 classes"),
        (3, "person", "3 people"),
        (1, "query", "1 query"),
        (12_180, "query", "12,180 queries"),
    ],
)
def test_counts(number: int, word: str, text: str) -> None:
    assert counts(number, word) == text


def test_other_plurals() -> None:
    assert counts(2, "more query", "more queries") == "2 more queries"
    assert noun(1, "index", "indices") == "index" and noun(4, "index", "indices") == "indices"
