"""Is a picture there and sound? Loads little, for the processes that open a million of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from video_snl.data.image.reading import UnreadableImage, read_image
from video_snl.utils.media import MAX_PIXELS

__all__ = ["Finding", "Verdict", "inspect"]

Verdict = Literal["counts", "empty", "leaked", "missing", "mixed", "shared", "unreadable"]


@dataclass(frozen=True)
class Finding:
    """Something wrong with a data set: of which kind, in which file or folder, and what."""

    kind: Verdict
    path: str
    detail: str


def inspect(paths: tuple[str, ...], max_pixels: int = MAX_PIXELS) -> list[Finding]:
    """Decode images as training does, and tell what is wrong with those it could not use."""
    found = []
    for path in paths:
        try:
            read_image(path, max_pixels=max_pixels)
        except UnreadableImage as error:
            if isinstance(error.__cause__, FileNotFoundError):
                found.append(Finding("missing", path, ""))
            else:
                found.append(Finding("unreadable", path, str(error).replace(path, "it")))
    return found
