"""What the page is about, and what is answered on it: plain values, the same for all networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["Answer", "Answering", "Limits", "Service", "ShownPage", "best_classes"]

MEGABYTE = 1_000_000
_TOP = 5


@dataclass(frozen=True)
class Limits:
    """What an upload may be.

    Attributes:
        megabytes: Of all files of one upload together, 1 MB being 1,000,000 bytes.
        seconds: Length of a video.
        max_pixels: Most pixels of an image; None as in the training of the network.
        upload_seconds: How long the client may take to send the upload.
        stall_seconds: How long it may send next to nothing, less than 1,000 bytes a second.
    """

    megabytes: float
    seconds: float
    max_pixels: int | None = None
    upload_seconds: float = 600.0
    stall_seconds: float = 10.0

    @property
    def bytes(self) -> int:
        return int(self.megabytes * MEGABYTE)


@dataclass(frozen=True)
class ShownPage:
    """An HTML page that holds all it shows, to be seen inside the answer."""

    title: str
    html: str


@dataclass(frozen=True)
class Answer:
    """What is said of an upload.

    Attributes:
        classes: The best, with their scores; none where there are no classes.
        notes: Sentences.
        pages: In the order in which they are shown.
    """

    classes: list[tuple[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pages: list[ShownPage] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As values of JSON."""
        return asdict(self)


Answering = Callable[[Sequence[Path]], Answer]
"""From uploaded files to the answer. A ``UserError`` is shown to whoever uploaded them."""


@dataclass(frozen=True)
class Service:
    """A network and how it is asked.

    Attributes:
        title: Of the page.
        about: A sentence about the network.
        hint: What is to be uploaded.
        accept: The same for the browser's choice of files, as the attribute of that name.
        answer: Called in the main thread, for one upload at a time.
        several: Whether several files make one upload.
        records: Whether a recording of the camera may stand for a file.
    """

    title: str
    about: str
    hint: str
    accept: str
    answer: Answering
    several: bool = False
    records: bool = False


def best_classes(scores: Tensor, names: Sequence[str]) -> list[tuple[str, float]]:
    """The five highest of (classes,) scores."""
    values, labels = torch.as_tensor(scores).topk(min(_TOP, len(scores)))
    return [
        (names[label], value) for value, label in zip(values.tolist(), labels.tolist(), strict=True)
    ]
