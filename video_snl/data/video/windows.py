"""Sliding windows over a long video: index arithmetic, knowing no decoder and no tensor.

Windows start every ``hop`` and are half-open: [0, window), [hop, hop + window), ... as far as they
fit; where the last of these does not reach the end of the video, one more ends there. A video
shorter than a window is one window. Lengths are seconds, by the time stamps of the frames (a
window holds the frames that begin in it), or frames.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from video_snl.errors import UserError

__all__ = ["FrameTimes", "Length", "frame_windows", "parse_length"]

# Time stamps are whole numbers of some unit, and these are their sums in floating point.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Length:
    """A length of time, or a number of frames."""

    value: float
    unit: Literal["s", "f"]

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"


@dataclass(frozen=True)
class FrameTimes:
    """Times of a video's frames: when each begins, and when the last one ends, in seconds.

    Args:
        starts: Ascending times, the first is 0.
    """

    starts: Sequence[float]
    end: float

    def of(self, window: range) -> tuple[float, float]:
        """Return start and end of some consecutive frames."""
        over = window.stop >= len(self.starts)
        return self.starts[window.start], self.end if over else self.starts[window.stop]


def parse_length(option: str, text: str) -> Length:
    """Read ``2.5`` or ``2.5s`` as seconds and ``64f`` as frames.

    Args:
        option: Name of the option, for the message.

    Raises:
        UserError: It is neither, or not above zero.
    """
    unit: Literal["s", "f"] = "f" if text.endswith("f") else "s"
    number = text.removesuffix(unit)
    try:
        value = float(number) if unit == "s" else int(number)
    except ValueError:
        value = 0
    if not 0 < value < math.inf:
        raise UserError(f"{option} {text}: give seconds, such as 2.5s, or frames, such as 64f")
    return Length(value, unit)


def frame_windows(times: FrameTimes, window: Length, hop: Length) -> list[range]:
    """Return the frames of every window, in order; one without a frame (a gap) is left out.

    Raises:
        UserError: One length is in seconds and the other in frames.
    """
    if window.unit != hop.unit:
        raise UserError(f"--window {window} and --hop {hop}: give both in seconds or in frames")
    if window.unit == "f":
        length = len(times.starts)
        spans = _spans(length, window.value, hop.value, 0)
        return [range(int(start), min(int(stop), length)) for start, stop in spans]
    spans = _spans(times.end, window.value, hop.value, _ROUNDING)
    frames = [range(*(_first(times.starts, time) for time in span)) for span in spans]
    # The last one may end after all frames have begun, and the one more then has none of its own.
    if len(frames) > 1 and frames[-1].stop == frames[-2].stop:
        frames.pop()
    return [part for part in frames if part]


def _spans(
    end: float, window: float, hop: float, tolerance: float
) -> Iterator[tuple[float, float]]:
    number, reached = 0, 0.0
    while number * hop + window <= end + tolerance:
        reached = number * hop + window
        yield number * hop, reached
        number += 1
    if reached < end - tolerance:
        yield max(0, end - window), end


def _first(starts: Sequence[float], time: float) -> int:
    """Return the first frame that begins at ``time`` or later."""
    return bisect_left(starts, time - _ROUNDING)
