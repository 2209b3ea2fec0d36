"""Service of a page: its text, the uploads it takes and its answers, for all networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from video_snl.data.loading.quarantine import named
from video_snl.data.video.streaming import frame_times
from video_snl.data.workers.pool import map_with_timeout
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

__all__ = [
    "Answer",
    "Answering",
    "Limits",
    "Service",
    "ShownPage",
    "check_no_playlist",
    "check_video",
]

MEGABYTE = 1_000_000
_LOOKED_AT = 4096  # bytes

# FFmpeg would open what a playlist names: other files of this machine, or addresses.
_BEGINNINGS = (b"#extm3u", b"ffconcat", b"<?xml", b"<mpd")
_ANYWHERE = (b"c=in ip",)


@dataclass(frozen=True)
class Limits:
    """Limits on an upload.

    Attributes:
        megabytes: Size of all files of one upload together, 1 MB being 1,000,000 bytes.
        seconds: Length of a video.
        max_pixels: Most pixels of an image; None as in the training of the network.
        upload_seconds: Longest time for sending the upload.
        stall_seconds: Longest time with next to nothing sent, less than 1,000 bytes a second.
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
    """Answer to an upload.

    Attributes:
        classes: The best, with their scores; none where there are no classes.
        notes: Sentences.
        pages: Pages in the order in which they are shown.
    """

    classes: list[tuple[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pages: list[ShownPage] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Return the answer as JSON values."""
        return asdict(self)


Answering = Callable[[Sequence[Path]], Answer]
"""Function from uploaded files to the answer. A ``UserError`` is shown to whoever uploaded them."""


@dataclass(frozen=True)
class Service:
    """A network and how it is asked.

    Attributes:
        title: Title of the page.
        about: A sentence about the network.
        hint: Sentence on what to upload.
        accept: The same for the browser's choice of files, as the attribute of that name.
        answer: Function called in the main thread, for one upload at a time.
        several: True where several files make one upload.
        records: True where a recording of the camera may stand for a file.
    """

    title: str
    about: str
    hint: str
    accept: str
    answer: Answering
    several: bool = False
    records: bool = False


def check_video(path: Path, seconds: float, deadline: float, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse what is not a video, or too long, in bounded time and without decoding.

    Args:
        seconds: The longest that a video may be.
        deadline: Seconds for looking through the file.
        max_pixels: Most pixels of a frame.

    Raises:
        UserError: It says what is wrong.
    """
    check_no_playlist(path)
    length = partial(_length, max_pixels=max_pixels)
    [result] = map_with_timeout(length, [str(path)], num_workers=1, deadline=deadline)
    if result.kind == "timeout":
        raise UserError(
            f"{path}: to find its length took longer than {deadline:g} s, and was given up: "
            "write the file again"
        )
    if result.kind != "ok" or result.value is None:
        raise UserError(named(str(path), str(result.failure)))
    if result.value > seconds:
        raise UserError(
            f"{path} is {result.value:.1f} s long, and {seconds:g} s are allowed: cut it "
            "(or start the page with a larger --max_seconds)"
        )


def check_no_playlist(path: Path) -> None:
    """Refuse files that name others instead of holding a video.

    Raises:
        UserError: It is one, or empty.
    """
    with path.open("rb") as file:
        begin = file.read(_LOOKED_AT).lower()
    if not begin:
        raise UserError(f"{path} is empty: upload a file that holds a video or images")
    text = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(_BEGINNINGS) or any(part in text for part in _ANYWHERE):
        raise UserError(f"{path} is a playlist, which names other files: upload the video itself")


def _length(path: str, max_pixels: int) -> float:
    """Measure a video in seconds."""
    return frame_times(path, max_pixels).end
