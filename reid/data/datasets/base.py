"""Entry of a dataset in the catalog, and faults that its reader reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from video_snl.errors import UserError

__all__ = ["Counts", "Dataset", "Fault", "FaultKind", "Published", "Report", "refuse"]

FaultKind = Literal["counts", "empty", "leaked", "missing", "mixed", "shared", "unreadable"]

_REMEDIES: dict[FaultKind, str] = {
    "missing": "unpack the dataset again",
    "empty": "a tracklet needs at least one frame, add some",
    "leaked": "no image may be both trained on and searched for, list it in one part only",
    "mixed": "a tracklet shows one person under one camera, restore the published files",
    "shared": "identities to search for must be unknown to the network, give them in one part only",
}


@dataclass(frozen=True)
class Fault:
    """Fault of one tracklet, of a few, or of a dataset.

    Attributes:
        kind: ``missing`` (a folder or image that should be there), ``empty`` (a tracklet without
            frames), ``leaked`` (an image that is in train and in query or gallery, under whatever
            name), ``mixed`` (a tracklet of several identities or cameras, or of others than it is
            said to be of) or ``shared`` (identities in train and in query); ``reid check`` also
            finds ``unreadable`` images and other ``counts`` than the published ones.
        path: File or folder where it is.
        detail: Expected and found value.
    """

    kind: FaultKind
    path: str
    detail: str


Report = Callable[[Fault], None]
"""Takes a fault: raises (:func:`refuse`), or notes it and returns, and the reader goes on."""


def refuse(fault: Fault) -> None:
    """Raise UserError with the fault and its remedy."""
    raise UserError(f"{fault.path}: {fault.detail}: {_REMEDIES[fault.kind]}")


@dataclass(frozen=True)
class Counts:
    """Sizes of one list of a dataset.

    Attributes:
        people: Identities, without junk and distractors.
        cameras: Cameras.
        tracklets: Tracklets.
        frames: Frames; None where it depends on the split.

    In what is published, None where it is not.
    """

    people: int | None
    cameras: int | None
    tracklets: int
    frames: int | None


@dataclass(frozen=True)
class Published:
    """Sizes of a published dataset, to compare a copy with.

    Attributes:
        parts: Sizes of each list.
        unmatched: Queries without a match under the common protocol; None where this is not
            published.
    """

    parts: dict[str, Counts]
    unmatched: int | None


@dataclass(frozen=True)
class Dataset:
    """Entry of the catalog.

    Attributes:
        module: Module with the function ``load(root, split, report)``, imported on first use; or
            ``module:function`` where it reads several datasets.
        root: Description of the root, for messages. None where the module has a function
            ``ensure(root)`` that makes the dataset where there is none, and returns its folder.
        num_splits: Divisions into training and test identities.
        published: Published sizes, if any.
        has_lists: The dataset lists its files or tracklets, each once, and ``load`` follows these
            lists: no file is looked up to see whether it is there twice.
        all_protocols: Papers give figures by all protocols of MARS, so ``reid evaluate`` does.
        single_images: Tracklets are single images, on which networks are trained with clips of one
            frame.
    """

    module: str
    root: str | None
    num_splits: int = 1
    published: Published | None = None
    has_lists: bool = False
    all_protocols: bool = False
    single_images: bool = False
