"""What stands on a frame: the predictions of the windows that cover it, with their times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from video_snl.render.lettering import Line
from video_snl.utils.text import printable

__all__ = ["Caption", "caption_at", "captions_of"]

_AT_ONCE = 3  # windows shown on one frame


class Caption(NamedTuple):
    """Predictions for the seconds from ``start`` to before ``end``; both None for all of them."""

    start: float | None
    end: float | None
    lines: list[Line]


def captions_of(result: Mapping[str, Any]) -> list[Caption]:
    """Of what ``predict`` found in a video: of every window, or of the whole."""
    return [
        Caption(
            part.get("start"),
            part.get("end"),
            [
                Line(printable(best["class"]), f"{best['score']:.1%}")
                for best in part["predictions"]
            ],
        )
        for part in result.get("windows", [result])
    ]


def caption_at(captions: Sequence[Caption], seconds: float) -> list[Line]:
    """The lines for a frame that is shown at a time, which is the last of them.

    Where several windows cover it, those whose middles are nearest, in their order, share the
    lines of one.
    """
    covering = [c for c in captions if _covers(c, seconds)]
    nearest = sorted(covering, key=lambda caption: _distance(caption, seconds))[:_AT_ONCE]
    lines: list[Line] = []
    for caption in (c for c in covering if c in nearest):
        if caption.start is not None and caption.end is not None:
            lines.append(Line(f"{caption.start:.2f} s – {caption.end:.2f} s"))
        lines += caption.lines[: max(1, len(caption.lines) // len(nearest))]
    return [*lines, Line(_clock(seconds))]


def _covers(caption: Caption, seconds: float) -> bool:
    if caption.start is None or caption.end is None:
        return True
    return caption.start <= seconds < caption.end


def _distance(caption: Caption, seconds: float) -> float:
    if caption.start is None or caption.end is None:
        return 0
    return abs((caption.start + caption.end) / 2 - seconds)


def _clock(seconds: float) -> str:
    """``1:02:03.45``, the hours only where there are any."""
    hundredths = round(100 * seconds)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes}:{rest / 100:05.2f}"
    return f"{hours}:{int(minutes):02}:{rest / 100:05.2f}" if hours else clock
