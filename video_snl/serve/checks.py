"""What is looked at before anything is decoded: is it a video at all, and how long is it?"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from video_snl.data.loading.quarantine import named
from video_snl.data.video.streaming import frame_times
from video_snl.data.workers.bounded import map_with_timeout
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

__all__ = ["check_no_playlist", "check_video"]

_LOOKED_AT = 4096  # bytes
# FFmpeg would open what a playlist names: other files of this machine, or addresses.
_BEGINNINGS = (b"#extm3u", b"ffconcat", b"<?xml", b"<mpd")
_ANYWHERE = (b"c=in ip",)


def check_video(path: Path, seconds: float, deadline: float, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse what is no video, or too long; nothing is decoded, and that in bounded time.

    Args:
        seconds: The longest that a video may be.
        deadline: Seconds for looking through the file.
        max_pixels: Most pixels of a frame.

    Raises:
        UserError: It says what is wrong.
    """
    check_no_playlist(path)
    length = partial(_length, max_pixels=max_pixels)
    [outcome] = map_with_timeout(length, [str(path)], num_workers=1, deadline=deadline)
    if outcome.kind == "timeout":
        raise UserError(
            f"{path}: to find its length took longer than {deadline:g} s, and was given up: "
            "write the file again"
        )
    if outcome.kind != "ok" or outcome.value is None:
        raise UserError(named(str(path), str(outcome.failure)))
    if outcome.value > seconds:
        raise UserError(
            f"{path} is {outcome.value:.1f} s long, and {seconds:g} s are allowed: cut it "
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
        raise UserError(f"{path} is empty: upload a file that holds a video or pictures")
    text = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(_BEGINNINGS) or any(part in text for part in _ANYWHERE):
        raise UserError(f"{path} is a playlist, which names other files: upload the video itself")


def _length(path: str, max_pixels: int) -> float:
    """Measure a video in seconds."""
    return frame_times(path, max_pixels).end
