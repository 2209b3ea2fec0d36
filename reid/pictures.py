"""Is a picture there and sound? Loads little, for the processes that open a million of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

__all__ = ["Finding", "Verdict", "inspect"]

Verdict = Literal["counts", "empty", "leaked", "missing", "mixed", "shared", "unreadable"]


@dataclass(frozen=True)
class Finding:
    """Something wrong with a data set: of which kind, in which file or folder, and what."""

    kind: Verdict
    path: str
    detail: str


def inspect(paths: tuple[str, ...]) -> list[Finding]:
    """Decode pictures; what is wrong with those that are not there or not sound."""
    found = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                picture.load()
        except FileNotFoundError:
            found.append(Finding("missing", path, ""))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            found.append(Finding("unreadable", path, str(error).replace(path, "it")))
    return found
