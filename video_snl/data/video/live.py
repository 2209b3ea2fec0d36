"""Windows over a stream while it plays.

A thread reads, decodes and cuts the windows; whoever scores them takes them one by one. Between the
two there is room for one window: where another is ready before it is taken, it gives way to the
newer one, or the thread waits. Nothing else is queued, so that memory depends on the length of a
window alone.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av
import numpy as np
import torch
from torch import Tensor

from video_snl.config.video import DataConfig
from video_snl.data.decoding.opening import check_pixels, is_refused_size, too_large
from video_snl.data.decoding.pyav import RgbConverter
from video_snl.data.decoding.readers import shrink
from video_snl.data.video.clip_sampling import ClipRule, ShortVideoError
from video_snl.data.video.connection import (
    JUMP,
    STEP_BACK,
    Connection,
    open_stream,
    said_of,
)
from video_snl.data.video.dataset import clip_rule_at
from video_snl.data.video.inference import short_window
from video_snl.data.video.sources import Patience, Source
from video_snl.data.video.windows import GrowingWindows, Length
from video_snl.errors import UserError
from video_snl.utils.counts import counts

__all__ = ["LiveStream", "LiveWindow", "Missing"]

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between two attempts to connect
_LOOK_EVERY = 0.2  # seconds; the longest uninterrupted wait
_EVENTS = 16  # that wait to be taken
_LEAVE_AFTER = 2.0  # seconds that the thread has to end
_INDEX_AT_END = (
    "; an MP4 file whose index is at its end needs a server that can begin in the middle, or "
    "ffmpeg -i IN -c copy -movflags faststart OUT"
)
_MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, eq=False)
class LiveWindow:
    """A window over a stream.

    Attributes:
        start, end: Seconds from the first frame of the stream.
        arrived: When its last frame came, in seconds since 1970.
        views: Clips, uint8 (K, T, H, W, 3).
        dropped: Number of windows that were left out since the one before.
    """

    start: float
    end: float
    arrived: float
    views: np.ndarray
    dropped: int = 0


@dataclass(frozen=True)
class Missing:
    """A stretch of a stream of which there are no frames.

    Attributes:
        start, end: Seconds from the first frame of the stream.
        arrived: When the first frame after it came, in seconds since 1970.
        reason: Why there are none.
    """

    start: float
    end: float
    arrived: float
    reason: str


_Event = LiveWindow | Missing | str | BaseException | None  # None: the stream has ended


@dataclass
class Counts:
    """What has been read: frames, packets that are damaged, and what was left out."""

    frames: int = 0
    damaged: int = 0
    skipped: int = 0
    dropped_windows: int = 0
    short_windows: int = 0
    missing: float = 0.0


class LiveStream:
    """Windows over a stream, as they come.

    Args:
        source: The stream.
        config: Options of the clips.
        window, hop: Lengths of a window, and from the start of one to that of the next.
        clips: Clips of a window, evenly spaced over it.
        patience: What becomes of a stream that stops, or that is too fast.

    Raises:
        UserError: One length is in seconds and the other in frames.
    """

    def __init__(
        self,
        source: Source,
        config: DataConfig,
        window: Length,
        hop: Length,
        clips: int,
        patience: Patience,
    ) -> None:
        GrowingWindows(window, hop)  # refuses lengths before anything is opened
        self.source, self.config, self.patience = source, config, patience
        self.window, self.hop, self.clips = window, hop, clips
        self.counts = Counts()
        self._drops = False  # as soon as it is open, what patience says
        self._handover = _Handover()
        self._heard = time.monotonic()  # when the last frame came
        self._rgb = RgbConverter()
        self._stretch: _Stretch | None = None
        self._last = self._end = 0.0  # where the last frame begins, and where it ends
        self._broken = ""  # why the stretch before ended
        # Until an address has answered there is a message of another kind.
        self._reading_since = math.inf if source.kind == "network" else self._heard
        self._made = False  # a window
        self._short: ShortVideoError | None = None  # of the first window that was too short

    def events(self) -> Generator[LiveWindow | Missing | str, None, None]:
        """Yield windows, missing stretches, and messages for people, until the stream ends.

        Close the iterator to end the reading before.

        Raises:
            UserError: The stream cannot be opened, breaks (the standard input, a recording) or does
                not come back in time, or windows are shorter than a clip or too long for the
                memory.
        """
        thread = threading.Thread(target=self._run, name="stream", daemon=True)
        thread.start()
        told = 0.0  # the silence that a message was about
        try:
            while True:
                try:
                    event = self._handover.get(_LOOK_EVERY)
                except TimeoutError:
                    heard = max(self._heard, self._reading_since)
                    silence = time.monotonic() - heard
                    # A second more: of an address that is silent, the thread finds it out. There
                    # may be sound, though, or packets that give no frame.
                    if silence > self.patience.timeout + 1 and told != heard:
                        told = heard
                        yield f"no frame has come for {silence:.0f} s: still waiting"
                    continue
                if event is None:
                    return
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, LiveWindow):
                    self.counts.dropped_windows += event.dropped
                yield event
        finally:
            self._handover.close()
            thread.join(_LEAVE_AFTER)  # one that waits for a server ends with the process

    def _run(self) -> None:
        try:
            self._read_all()
        except BaseException as error:  # raised where the windows are taken
            self._handover.put(error)
        else:
            self._handover.put(None)

    def _read_all(self) -> None:
        connection: Connection | None
        connection = first = self._open()
        self._drops = self.patience.drops(self.source, recorded=first.recorded)
        self._handover.drops = self._drops
        attempts = _Attempts(self.patience.reconnect)
        while connection is not None:
            before = self.counts.frames
            with closing(connection.container):
                self._handover.put(f"connected: {connection.described()}")
                self._reading_since = time.monotonic()
                self._broken = self._read(connection)
                self._reading_since = math.inf
            if self._handover.closed:
                return
            if not self._broken:
                break
            if self.counts.frames > before:
                attempts = _Attempts(self.patience.reconnect)
            connection = self._connect_again(attempts)
        if self._short is not None and not self._made:
            raise short_window(self.source.called, self._short)

    def _open(self) -> Connection:
        return open_stream(self.source, self.config.max_pixels, self.patience.timeout)

    def _connect_again(self, attempts: _Attempts) -> Connection | None:
        """Connect after the stream was lost; None where nobody waits for it any more.

        Raises:
            UserError: It does not come back in time.
        """
        called, said = self.source.called, self._broken
        for pause in attempts.pauses():
            self._handover.put(f"{said}: trying again in {pause:.3g} s")
            if self._handover.wait_closed(pause):
                return None
            try:
                return self._open()
            except UserError as error:
                said = str(error).removeprefix(f"{called}: ")
        lasts = self.patience.reconnect
        raise UserError(f"{called}: {said}; it did not come back within {lasts:g} s (--reconnect)")

    def _read(self, connection: Connection) -> str:
        """Read until the stream ends or is lost; return why it was lost, else an empty string.

        Raises:
            UserError: The standard input or a recording breaks, or a frame is too large.
        """
        source, ended = self.source, False
        try:
            for packet in connection.packets():
                if self._handover.closed:
                    return ""
                if not (self._drops and self._skip(connection, packet)):
                    self._decode(connection, packet)
            reason, ended = "the stream ended", True
        except av.ExitError:
            reason = f"nothing came for {self.patience.timeout:g} s"
        except (av.FFmpegError, OSError) as error:
            said = getattr(error, "strerror", None) or type(error).__name__
            reason = f"the connection broke ({said})"
            if source.kind == "pipe" and not self.counts.frames:
                raise UserError(f"{source.called}: {said_of(source, error)}") from error
        if not ended:
            self._decode(connection, None)
        self._end_stretch(reason)
        if source.kind != "pipe" and not connection.recorded:
            return reason
        # A recording would begin anew with another connection, so that it ends here, too.
        read, lacks = counts(self.counts.frames, "frame"), connection.lacks(self._end)
        whole = connection.duration > 0 and lacks <= 1
        if not ended and (source.kind == "pipe" or not whole):
            hint = "" if source.kind == "pipe" or self.counts.frames else _INDEX_AT_END
            raise UserError(f"{source.called} breaks after {read}: {reason}{hint}")
        if not self.counts.frames:
            raise UserError(f"{source.called}: none of its frames can be decoded")
        if source.kind != "pipe" and lacks > 1:
            self._handover.put(f"its video ended {lacks:.1f} s before the recording should")
        return ""

    def _decode(self, connection: Connection, packet: av.Packet | None) -> None:
        """Decode a packet, or the frames that the decoder has held back where there is none."""
        try:
            frames = connection.stream.decode(packet)
        except av.FFmpegError as error:
            refused = isinstance(error, av.ArgumentError)
            if refused and is_refused_size(connection.stream, self.config.max_pixels):
                raise too_large(self.source.called, self.config.max_pixels) from error
            self.counts.damaged += 1
            return
        for frame in frames:
            self._take(connection, frame)

    def _skip(self, connection: Connection, packet: av.Packet) -> bool:
        """Tell whether a packet comes too late to be decoded, since decoding is too slow.

        What follows can be decoded from a key frame on: until then all are left out.
        """
        late = connection.lateness(packet)
        limit = self.patience.timeout / (2 if connection.skipping else 1)
        if late <= limit and not (connection.skipping and not packet.is_keyframe):
            connection.skipping = False
            return False
        if not connection.skipping:
            connection.skipping = True
            self._end_stretch(f"frames came more than {limit:g} s late, and were left out")
            connection.stream.codec_context.flush_buffers()
        self.counts.skipped += packet.size > 0  # the last one of all only empties the decoder
        return True

    def _take(self, connection: Connection, frame: av.VideoFrame) -> None:
        """Add a frame to the stretch, and hand over the windows that end before it."""
        arrived, now = time.time(), time.monotonic()
        check_pixels(self.source.called, frame.width, frame.height, self.config.max_pixels)
        start = connection.start_of(frame)
        step = 0.0 if start is None else start - self._last
        if not -STEP_BACK < step < JUMP:
            self._end_stretch("its time stamps jump")
            start = None
        if start is None:
            # A pipe that is read at the network's pace does not tell how long nothing was written.
            timed = self._drops or self.source.kind != "pipe"
            silence = now - self._heard if timed else 0.0
            start = max(self._end, self._last + silence) if self.counts.frames else 0.0
            connection.begin(frame, start)
        pixels = shrink(connection.pixels(frame, self._rgb), self.config.resize)[0]
        if self._stretch is None:
            if self.counts.frames:
                self.counts.missing += start - self._end
                self._handover.put(Missing(self._end, start, arrived, self._broken))
            rule = clip_rule_at(self.config, float(connection.rate))
            self._check_memory(self._window_frames(connection.rate), pixels)
            self._stretch = _Stretch(
                start, rule, connection.rate, GrowingWindows(self.window, self.hop)
            )
        else:
            start = max(start, self._last)
        self._heard, self._last = now, start
        self.counts.frames += 1
        self.counts.damaged += frame.is_corrupt
        stretch = self._stretch
        position = start - stretch.begin if self.window.unit == "s" else stretch.length
        stretch.add(_Frame(start, arrived, pixels))
        for part in stretch.growing.add(position):
            self._cut(stretch, part, start)
        stretch.forget_unneeded()

    def _window_frames(self, rate: Fraction) -> int:
        """Return the number of frames of a window that lacks none."""
        return math.ceil(self.window.value * (rate if self.window.unit == "s" else 1))

    def _check_memory(self, frames: int, pixels: Tensor) -> None:
        """Check the length of windows.

        Raises:
            UserError: They have more frames than memory can hold.
        """
        kept = frames * pixels.numel()
        if kept > _MEMORY / 2:
            raise UserError(
                f"{self.source.called}: the {frames:,} frames of a window take "
                f"{kept >> 30:,} GiB, more than half the memory of this machine: shorten "
                "--window"
            )

    def _end_stretch(self, reason: str) -> None:
        """Hand over the windows that are left where a stretch ends."""
        stretch, self._broken = self._stretch, reason
        if stretch is None:
            return
        # The last frame is taken to be as long as frames are on the average, as in a file.
        long = self._last - stretch.begin
        if stretch.length > 1 and long > 0:
            end = long * stretch.length / (stretch.length - 1)
        else:
            end = float(stretch.length / stretch.rate)
        self._end = stretch.begin + end
        for part in stretch.growing.finish(end if self.window.unit == "s" else stretch.length):
            self._cut(stretch, part, self._end)
        self._stretch = None

    def _cut(self, stretch: _Stretch, part: range, end: float) -> None:
        """Hand over a window; one that is too short for a clip, since frames lack, is left out.

        Args:
            end: Where it ends, if no frame follows.

        Raises:
            UserError: It is too short, and so will be all others.
        """
        try:
            clips = stretch.rule.several(len(part), self.clips)
        except ShortVideoError as error:
            if self._short is None:
                self._short = error
                if self._window_frames(stretch.rate) < error.span:
                    raise short_window(self.source.called, error) from error
                length = counts(len(part), "frame")
                self._handover.put(f"a window of {length} is too short for a clip: left out")
            self.counts.short_windows += 1
            return
        frames = stretch.frames
        views = [
            torch.stack([frames[part.start + index].pixels for index in clip]) for clip in clips
        ]
        following = frames.get(part.stop)
        self._made = True
        self._handover.put(
            LiveWindow(
                frames[part.start].start,
                end if following is None else following.start,
                frames[part.stop - 1].arrived,
                torch.stack(views).numpy(),
            )
        )


@dataclass(frozen=True)
class _Frame:
    """A frame: seconds from the first of the stream, arrival, uint8 (H, W, 3)."""

    start: float
    arrived: float
    pixels: Tensor


@dataclass
class _Stretch:
    """Frames without a break, of which those are kept that windows to come may have."""

    begin: float
    rule: ClipRule
    rate: Fraction
    growing: GrowingWindows
    length: int = 0
    frames: dict[int, _Frame] = field(default_factory=dict)

    def add(self, frame: _Frame) -> None:
        self.frames[self.length] = frame
        self.length += 1

    def forget_unneeded(self) -> None:
        needed = self.growing.needed
        for index in range(next(iter(self.frames)), needed):
            del self.frames[index]


class _Attempts:
    """Attempts to connect again, ever further apart, since a connection was lost."""

    def __init__(self, lasts: float) -> None:
        self._end = time.monotonic() + lasts
        self._pause = _FIRST_PAUSE

    def pauses(self) -> Iterator[float]:
        """Yield the seconds until each attempt, as long as there is time."""
        while (left := self._end - time.monotonic()) > 0:
            pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
            yield min(pause, left)


class _Handover:
    """Events on their way to whoever takes them: one window, and a few of other kinds."""

    def __init__(self) -> None:
        self.drops = self.closed = False
        self._changed = threading.Condition()
        self._events: deque[_Event] = deque()

    def put(self, event: _Event) -> None:
        """Add an event; a window takes the place of one that waits, or waits for it to be taken."""
        with self._changed:
            if isinstance(event, LiveWindow):
                if self.drops:
                    given_way = sum(1 + old.dropped for old in self._windows())
                    others = [old for old in self._events if not isinstance(old, LiveWindow)]
                    self._events = deque(others)
                    event = replace(event, dropped=given_way)
                else:
                    self._changed.wait_for(lambda: self.closed or not self._windows())
            self._changed.wait_for(lambda: self.closed or len(self._events) < _EVENTS)
            self._events.append(event)
            self._changed.notify_all()

    def get(self, seconds: float) -> _Event:
        """Take the next event.

        Raises:
            TimeoutError: There is none within these seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._events, seconds):
                raise TimeoutError
            event = self._events.popleft()
            self._changed.notify_all()
            return event

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def wait_closed(self, seconds: float) -> bool:
        """Wait for :meth:`close`; tell whether it was called."""
        with self._changed:
            return self._changed.wait_for(lambda: self.closed, seconds)

    def _windows(self) -> list[LiveWindow]:
        return [event for event in self._events if isinstance(event, LiveWindow)]
