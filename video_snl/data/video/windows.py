"""Sliding windows over a long video: index arithmetic, knowing no decoder and no tensor.

Windows start every ``hop`` and are half-open: [0, window), [hop, hop + window), ... as far as they
fit; where the last of these does not reach the end of the video, one more ends there. A video
shorter than a window is one window. Lengths are seconds, by the time stamps of the frames (a
window holds the frames that begin in it), or frames.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from video_snl.errors import UserError

__all__ = ["FrameTimes", "GrowingWindows", "Length", "frame_windows", "parse_length"]

# Time stamps are whole numbers of some unit, and these are their sums in floating point.
_ROUNDING = 1e-6
_SHORTEST, _LONGEST = 1e-3, 1e9  # seconds; the longest in frames, too


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
        UserError: It is neither, or less than a millisecond or a frame, or more than 10^9.
    """
    unit: Literal["s", "f"] = "f" if text.endswith("f") else "s"
    number = text.removesuffix(unit)
    try:
        value = float(number) if unit == "s" else int(number)
    except ValueError:
        value = 0
    if not (_SHORTEST if unit == "s" else 1) <= value <= _LONGEST:
        raise UserError(
            f"{option} {text}: give seconds, such as 2.5s, or frames, such as 64f; at least "
            f"{_SHORTEST:g}s, and at most {_LONGEST:.0e}"
        )
    return Length(value, unit)


def frame_windows(times: FrameTimes, window: Length, hop: Length) -> list[range]:
    """Return the frames of every window, in order; one without a frame (a gap) is left out.

    Raises:
        UserError: One length is in seconds and the other in frames.
    """
    growing = GrowingWindows(window, hop)
    length = len(times.starts)
    positions, end = (times.starts, times.end) if window.unit == "s" else (range(length), length)
    found = [part for position in positions for part in growing.add(position)]
    return found + growing.finish(end)


class GrowingWindows:
    """The windows over a video whose frames come one by one, and whose end is not known before.

    The position of a frame is the time when it begins, in seconds from the first one, or its index:
    the unit is that of the lengths.

    Raises:
        UserError: One length is in seconds and the other in frames.
    """

    def __init__(self, window: Length, hop: Length) -> None:
        if window.unit != hop.unit:
            raise UserError(f"--window {window} and --hop {hop}: give both in seconds or in frames")
        self._window, self._hop = window.value, hop.value
        self._tolerance = _ROUNDING if window.unit == "s" else 0
        self._number = 0  # of the next window
        self._stop: int | None = None  # of the last one
        self._positions: list[float] = []  # of the frames from the first that is kept
        self._kept_from = 0

    @property
    def needed(self) -> int:
        """The first frame that some window to come may have."""
        last = self._positions[-1] if self._positions else 0
        return self._first(min(self._number * self._hop, last - self._window))

    def add(self, position: float) -> list[range]:
        """Add the next frame, and return the windows that end before it."""
        self._positions.append(position)
        found = list(self._until(position))
        unneeded = self.needed - self._kept_from
        if 2 * unneeded > len(self._positions):
            del self._positions[:unneeded]
            self._kept_from += unneeded
        return [part for part in found if part]

    def finish(self, end: float) -> list[range]:
        """Return the windows that are left where the video ends: at a time, or after n frames."""
        stop = self._stop
        found = list(self._until(end))
        reached = (self._number - 1) * self._hop + self._window if self._number else 0
        if reached < end - self._tolerance:
            found.append(self._frames(max(0, end - self._window), end))
        # The last one may end after all frames have begun, and the one more then has none of its
        # own.
        if found and found[-1].stop == (found[-2].stop if len(found) > 1 else stop):
            found.pop()
        return [part for part in found if part]

    def _until(self, position: float) -> Iterator[range]:
        """Yield the windows that end there or before."""
        while (end := self._number * self._hop + self._window) <= position + self._tolerance:
            part = self._frames(self._number * self._hop, end)
            self._number, self._stop = self._number + 1, part.stop
            yield part

    def _frames(self, start: float, end: float) -> range:
        return range(self._first(start), self._first(end))

    def _first(self, position: float) -> int:
        """Return the first frame that begins at ``position`` or later."""
        return self._kept_from + bisect_left(self._positions, position - self._tolerance)
