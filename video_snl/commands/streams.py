"""``video-snl predict`` on streams: a line of JSON for every window, as it comes."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from video_snl.commands.view_scores import best_classes, score_views
from video_snl.data.video.live import LiveStream, LiveWindow, Missing
from video_snl.data.video.sources import Patience, Source
from video_snl.tasks.action import ActionRecognition
from video_snl.utils.counts import counts
from video_snl.utils.json_text import to_json
from video_snl.utils.processes import ending_in_order

if TYPE_CHECKING:
    from video_snl.commands.predict import Views

__all__ = ["predict_stream"]


def predict_stream(
    task: ActionRecognition, source: Source, top: int, views: Views, patience: Patience
) -> int:
    """Print the ``top`` classes of every window of a stream, as soon as it is over.

    Every line is a JSON object: ``video``, ``start``, ``end`` and ``predictions`` as of a file, and
    ``time``, when the last frame of the window came; ``dropped_windows`` says how many were left
    out before it. A stretch without frames has ``missing``, the reason, instead of predictions.
    Messages and a summary are on stderr.

    Args:
        task: The network; its crops are those of ``views``.
        source: The stream.
        top: Number of classes.
        views: Windows, and their clips and crops.
        patience: What becomes of a stream that stops, or that is too fast.

    Returns:
        0, after the end of the stream.

    Raises:
        UserError: The stream cannot be read, or does not come back in time, a window is too short,
            or its scores are not finite.
    """
    lengths = views.lengths()
    assert lengths is not None
    stream = LiveStream(source, task.experiment.data, *lengths, views.count, patience)
    written, began = 0, time.monotonic()
    with ending_in_order(), closing(stream.events()) as events:
        try:
            for event in events:
                if isinstance(event, str):
                    _say(f"{source.called}: {event}")
                elif isinstance(event, Missing):
                    _say(f"{source.called}: goes on after {event.end - event.start:.1f} s")
                    _write(source, event, {"missing": event.reason})
                else:
                    scores = score_views(task, event.views[None], source.called)[0]
                    found = best_classes(scores, task.class_names, top)
                    dropped = {"dropped_windows": event.dropped} if event.dropped else {}
                    written += 1  # before, since whoever reads the line may interrupt at once
                    _write(source, event, {"predictions": found} | dropped)
        finally:
            if stream.counts.frames:
                seconds = time.monotonic() - began
                _say(f"{source.called}: {counts(written, 'window')} {_summary(stream, seconds)}")
    return 0


def _write(source: Source, event: LiveWindow | Missing, found: Mapping[str, Any]) -> None:
    """Write a line, in one piece.

    Waits until there is room: what a signal interrupts in a blocked write would be written again,
    and block again, where Python ends.
    """
    times = {"start": round(event.start, 3), "end": round(event.end, 3)}
    came = datetime.fromtimestamp(event.arrived, UTC).isoformat(timespec="milliseconds")
    line = to_json({"video": source.shown, **times, **found, "time": came})
    with suppress(OSError, ValueError):  # no file of the system's
        select.select([], [sys.stdout], [])
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _summary(stream: LiveStream, seconds: float) -> str:
    read = stream.counts
    parts = [f"of {counts(read.frames, 'frame')} in {seconds:.1f} s"]
    if read.dropped_windows:
        parts.append(f"{counts(read.dropped_windows, 'window')} dropped")
    if read.short_windows:
        parts.append(f"{counts(read.short_windows, 'window')} too short for a clip")
    if read.skipped:
        parts.append(f"{counts(read.skipped, 'frame')} too late")
    if read.missing:
        parts.append(f"{read.missing:.1f} s missing")
    if read.damaged:
        parts.append(f"{counts(read.damaged, 'frame')} damaged")
    return ", ".join(parts)


def _say(line: str) -> None:
    print(f"video-snl predict: {line}", file=sys.stderr, flush=True)
