"""What may be wrong with a part of a data set, and the two ways to take it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from video_snl.errors import UserError

__all__ = ["REMEDIES", "Fault", "Kind", "Report", "refuse"]

Kind = Literal["missing", "empty", "leaked", "mixed", "shared"]

REMEDIES: dict[Kind, str] = {
    "missing": "unpack the data set again",
    "empty": "a tracklet needs at least one frame, add some",
    "leaked": "no image may be both trained on and searched for, list it in one part only",
    "mixed": "a tracklet shows one person under one camera, restore the published files",
    "shared": "people to search for must be unknown to the network, give them in one part only",
}


@dataclass(frozen=True)
class Fault:
    """Something wrong with one tracklet, or with a few.

    Attributes:
        kind: ``missing`` (a folder that should be there), ``empty`` (a tracklet without frames),
            ``leaked`` (an image that is in train and in query or gallery, under whatever name),
            ``mixed`` (a tracklet of several people or cameras, or of others than it is said to
            be of) or ``shared`` (people in train and in query).
        path: The file or folder where it is.
        detail: What was expected and what was found.
    """

    kind: Kind
    path: str
    detail: str


Report = Callable[[Fault], None]
"""Takes a fault: raises (:func:`refuse`), or notes it and returns, and the parser goes on."""


def refuse(fault: Fault) -> None:
    """Raises:
    UserError: Always: the fault and its remedy.
    """
    raise UserError(f"{fault.path}: {fault.detail}: {REMEDIES[fault.kind]}")
