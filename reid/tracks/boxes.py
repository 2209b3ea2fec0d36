"""Boxes of people in a video: files in the format of MOTChallenge, and which boxes are cut out.

A line of such a file is ``frame,id,left,top,width,height,conf,x,y,z``. Frames count from 1; left
and top are pixels from the upper left corner. Without torch.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.text import printable, read_text

__all__ = ["Box", "Picked", "Selection", "Track", "check_boxes", "overlaps", "read_boxes"]

_FIELDS = ("frame", "id", "left", "top", "width", "height", "conf", "x", "y", "z")
_LEAST_FIELDS = 6
_PAIRS = 2**18  # of boxes that are compared at once: a file may have any number in a frame
_LARGEST = 2**53  # whole numbers beyond are not exact in float64


class Box(NamedTuple):
    """A person in a frame.

    Attributes:
        frame: Number of the frame, from 0.
        track: Number of the track.
        left, top, width, height: Pixels.
        score: Confidence of the detector.
        line: Number of the line that it is from, from 1; 0 for boxes of a detector.
    """

    frame: int
    track: int
    left: float
    top: float
    width: float
    height: float
    score: float = 1.0
    line: int = 0

    def to_line(self) -> str:
        """Return the line of a file."""
        place = f"{self.left:.10g},{self.top:.10g},{self.width:.10g},{self.height:.10g}"
        return f"{self.frame + 1},{self.track},{place},{self.score:.6g},-1,-1,-1"


class Track(NamedTuple):
    """Boxes of a person in frames without a long gap: a tracklet.

    Attributes:
        number: Number of the track. A track with long gaps is several tracklets.
        boxes: Boxes in the order of the frames, within the image, in whole pixels.
    """

    number: int
    boxes: tuple[Box, ...]

    @property
    def frames(self) -> range:
        """Frames from the first to the last box, from 0."""
        return range(self.boxes[0].frame, self.boxes[-1].frame + 1)


class Picked(NamedTuple):
    """Tracklets in the order of their first frames, and what was left out."""

    tracks: list[Track]
    left_out: list[str]


def read_boxes(path: str) -> list[Box]:
    """Read the boxes of a file, by frame and track.

    Raises:
        UserError: The file cannot be read or has no boxes, all of them have the confidence 0, or a
            line is no box of a track or stands twice; it names the line.
    """
    found: dict[tuple[int, int], Box] = {}
    for number, line in enumerate(read_text(Path(path)).splitlines(), start=1):
        if not line.strip():
            continue
        box = _parsed(line, f"{path}, line {number}", number)
        first = found.setdefault((box.frame, box.track), box)
        if first is not box:
            raise UserError(
                f"{path}, line {number}: track {box.track} in frame {box.frame + 1} stands in line "
                f"{first.line}, too: a track has one box a frame"
            )
    if not any(box.score for box in found.values()):
        said = f": all of its {counts(len(found), 'line')} have confidence 0" if found else ""
        raise UserError(
            f"{path} has no boxes{said}; expected lines such as "
            "1,3,794.2,47.5,71.2,174.8,1,-1,-1,-1"
        )
    return [box for _, box in sorted(found.items())]


def _parsed(line: str, said: str, number: int) -> Box:
    fields = line.split(",")
    if not _LEAST_FIELDS <= len(fields) <= len(_FIELDS):
        raise UserError(
            f"{said}: expected {','.join(_FIELDS)} (x, y, z and conf may be left out), found "
            f"{counts(len(fields), 'field')}: {printable(line)!r:.80}"
        )
    values = {}
    for name, text in zip(_FIELDS, fields, strict=False):
        try:
            values[name] = math.nan if "_" in text else float(text)  # Python's 1_0 is 10
        except ValueError:
            values[name] = math.nan
        if name in _FIELDS[:7] and not math.isfinite(values[name]):
            shown = printable(text.strip())
            raise UserError(f"{said}: {name} is {shown!r:.60}, expected a number")
    for name, least in (("frame", 1), ("id", 0)):
        value = values[name]
        if value == -1 and name == "id":
            raise UserError(
                f"{said}: id is -1, so these are detections without tracks: run a tracker on them "
                "first, and give its file"
            )
        if value != int(value) or not least <= value <= _LARGEST:
            raise UserError(f"{said}: {name} is {value:g}, expected a whole number from {least}")
    for name in ("width", "height"):
        if values[name] <= 0:
            raise UserError(f"{said}: {name} is {values[name]:g}, expected more than 0 pixels")
    return Box(
        int(values["frame"]) - 1,
        int(values["id"]),
        values["left"],
        values["top"],
        values["width"],
        values["height"],
        values.get("conf", 1.0),
        number,
    )


def check_boxes(
    boxes: Iterable[Box],
    video: str,
    frames: int,
    size: tuple[int, int],
    *,
    source: str,
    skip: bool = False,
) -> Picked:
    """Keep the boxes that a video has pixels for, cut off at the edges of the image.

    Boxes of confidence 0 are left out, as MOTChallenge's ground truth means it, and counted.

    Args:
        boxes: Boxes of the tracks.
        video: Name of the video, for messages.
        frames: Number of its frames.
        size: Height and width of its frames.
        source: File of the tracks, for messages.
        skip: Leave out boxes after the last frame, or outside the image, and count them.

    Returns:
        Whole tracks, and what was left out.

    Raises:
        UserError: A box lies after the last frame or outside the image; it names the line, or the
            frame where there is none.
    """
    height, width = size
    found: defaultdict[int, list[Box]] = defaultdict(list)
    missing: Counter[str] = Counter()
    for box in boxes:
        if box.score == 0:
            missing["of confidence 0"] += 1
            continue
        late = box.frame >= frames
        left, top = math.floor(max(0.0, box.left)), math.floor(max(0.0, box.top))
        right = math.ceil(min(width, box.left + box.width))  # the sum may be infinite
        bottom = math.ceil(min(height, box.top + box.height))
        if late or left >= right or top >= bottom:
            if not skip:
                where = f"line {box.line}" if box.line else f"frame {box.frame + 1}"
                said = (
                    f"frame {box.frame + 1:,}, but {video} has {counts(frames, 'frame')}"
                    if late
                    else f"the box {box.left:g},{box.top:g},{box.width:g},{box.height:g} lies "
                    f"outside the image of {width} x {height} pixels of {video}"
                )
                wanted = "tracks of this video in this size" if box.line else "boxes in pixels"
                raise UserError(
                    f"{source}, {where}: {said}: give {wanted}, or --outside skip to leave such "
                    "boxes out"
                )
            missing["after the last frame" if late else "outside the image"] += 1
            continue
        place = float(left), float(top), float(right - left), float(bottom - top)
        found[box.track].append(Box(box.frame, box.track, *place, box.score, box.line))
    tracks = [Track(number, tuple(sorted(found[number]))) for number in sorted(found)]
    return Picked(tracks, [f"{counts(n, 'box', 'boxes')} {why}" for why, n in missing.items()])


@dataclass(frozen=True)
class Selection:
    """The boxes that are cut out.

    Attributes:
        min_frames: Fewest boxes of a tracklet.
        max_gap: Most frames without a box within a tracklet; at longer gaps a track is cut.
        min_height: Least height of a box in pixels, within the image.
        max_overlap: Largest share of a box, from 0 to 1, that another box of its frame may cover.
    """

    min_frames: int = 5
    max_gap: int = 25
    min_height: int = 32
    max_overlap: float = 0.7

    def __post_init__(self) -> None:
        for name, least in (("min_frames", 1), ("max_gap", 0), ("min_height", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} {getattr(self, name)}: give {least} or more")
        if not 0 <= self.max_overlap <= 1:
            raise UserError(f"--max_overlap {self.max_overlap:g}: give a share from 0 to 1")

    def pick(self, tracks: Sequence[Track]) -> Picked:
        """Pick tracklets out of whole tracks."""
        every = [box for track in tracks for box in track.boxes]
        high = [box for box in every if box.height >= self.min_height]
        covered = _covered(every)
        clear = [box for box in high if covered[box] <= self.max_overlap]
        pieces = [piece for track in _by_track(clear) for piece in self._cut(track)]
        long = [piece for piece in pieces if len(piece.boxes) >= self.min_frames]
        lost = (
            (len(every) - len(high), "box", f"less than {self.min_height} pixels high"),
            (len(high) - len(clear), "box", f"covered by more than {self.max_overlap:.0%}"),
            (len(pieces) - len(long), "tracklet", f"of fewer than {self.min_frames} boxes"),
        )
        nouns = {"box": "boxes", "tracklet": "tracklets"}
        left_out = [f"{counts(n, noun, nouns[noun])} {why}" for n, noun, why in lost if n]
        return Picked(sorted(long, key=lambda each: (each.frames.start, each.number)), left_out)

    def _cut(self, boxes: Sequence[Box]) -> list[Track]:
        starts = [0]
        for place, (one, two) in enumerate(zip(boxes, boxes[1:], strict=False), start=1):
            if two.frame - one.frame - 1 > self.max_gap:
                starts.append(place)
        ends = [*starts[1:], len(boxes)]
        return [
            Track(boxes[0].track, tuple(boxes[start:end]))
            for start, end in zip(starts, ends, strict=True)
        ]


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the areas (N, M) that boxes (N, 4) and (M, 4) share: left, top, width, height."""
    one, two = first[:, None], second[None]
    starts = np.maximum(one[..., :2], two[..., :2])
    ends = np.minimum(one[..., :2] + one[..., 2:4], two[..., :2] + two[..., 2:4])
    return np.clip(ends - starts, 0, None).prod(-1)


def _covered(boxes: Iterable[Box]) -> dict[Box, float]:
    """Return, of every box, the largest share that another one of its frame covers."""
    frames: defaultdict[int, list[Box]] = defaultdict(list)
    for box in boxes:
        frames[box.frame].append(box)
    found: dict[Box, float] = {}
    for some in frames.values():
        places = np.array([box[2:6] for box in some])
        step = max(1, _PAIRS // len(some))
        for start in range(0, len(some), step):
            part = places[start : start + step]
            shared = overlaps(part, places) / part[:, 2:].prod(1)[:, None]
            shared[range(len(part)), range(start, start + len(part))] = 0  # with itself
            found |= zip(some[start : start + step], shared.max(1).tolist(), strict=True)
    return found


def _by_track(boxes: Iterable[Box]) -> list[list[Box]]:
    tracks: defaultdict[int, list[Box]] = defaultdict(list)
    for box in boxes:
        tracks[box.track].append(box)
    return list(tracks.values())
