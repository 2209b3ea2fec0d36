"""Counts in sentences: ``1 video``, ``2 videos``, ``1,980 queries``."""

from __future__ import annotations

__all__ = ["counts", "noun", "views_named"]

_PLURALS = {"person": "people", "identity": "identities", "query": "queries", "class": "classes"}


def counts(number: int, word: str, plural: str | None = None) -> str:
    """Return a number and its noun, which is in the singular for 1 alone.

    Args:
        number: Number; thousands are separated by commas from 10,000 on.
        word: The noun in the singular, with what stands before it, such as ``test video``.
        plural: The noun in the plural, where it is not known here and not formed by an s.
    """
    digits = f"{number:,}" if abs(number) >= 10_000 else str(number)
    return f"{digits} {noun(number, word, plural)}"


def noun(number: int, word: str, plural: str | None = None) -> str:
    """Return the noun alone, in the form that ``number`` wants."""
    if number == 1:
        return word
    if plural is not None:
        return plural
    before, space, last = word.rpartition(" ")
    return f"{before}{space}{_PLURALS.get(last, f'{last}s')}"


def views_named(clips: int, crops: int) -> str:
    """Return the views of a test of videos as reports name them: ``3 clips x 1 crop``.

    Tables of results find a test by this name.
    """
    return f"{counts(clips, 'clip')} x {counts(crops, 'crop')}"
