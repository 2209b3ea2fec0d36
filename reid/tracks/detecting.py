"""Boxes without a file of tracks: a detector, and the boxes of neighbouring frames put together.

Both are weak, and meant for a first try: a detector of people and a tracker of one's own give much
better tracks, by their file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from reid.tracks.boxes import Box, overlaps
from video_snl.blocks.user_blocks import import_named, reason_of
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.errors import UserError
from video_snl.utils.extras import require
from video_snl.utils.processes import is_signalled
from video_snl.utils.progress import counted

__all__ = [
    "TRACKERS",
    "Detector",
    "MotionDetector",
    "associate",
    "detect",
    "detector_named",
    "predict_and_associate",
]

Detector = Callable[[np.ndarray, int], Any]
"""From a frame, RGB, uint8 (H, W, 3), and its number from 0, to boxes (N, 4) or (N, 5): left, top,
width and height in pixels, and a score. Called with every frame in turn."""

_AT_ONCE = 8  # frames in memory, at their full size
_LEAST_IOU = 0.3
_SIDE = 216  # pixels of the shorter side that motion is looked for in
_HISTORY = 3000  # frames: who stands still for a tenth of it becomes background
_FAR = 16  # squared deviations from the background
_LEAST_SHARE, _LARGEST_SHARE = 0.01, 0.5  # of the image; a change of the light is all of it
_LARGEST = 1e6  # pixels of a place or side: areas stay finite
_FOREGROUND = 255  # in the mask, where shadows are 127


class MotionDetector:
    """Boxes of what moves before a fixed camera: OpenCV's mixture of Gaussians (MOG2).

    Upright regions of 1 % to 50 % of the image are taken for people. It finds all that moves, one
    box for people who touch, none for who stands still for long, and wrong ones when the light
    changes.
    """

    def __init__(self) -> None:
        self._background = cv2.createBackgroundSubtractorMOG2(_HISTORY, _FAR, True)

    def __call__(self, frame: np.ndarray, number: int) -> np.ndarray:
        """Return the boxes of a frame; frames must be given in their order."""
        scale = min(1.0, _SIDE / min(frame.shape[:2]))
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        moved = (self._background.apply(small) == _FOREGROUND).astype(np.uint8)
        # Specks go; parts of a person, one above the other, are joined.
        side = min(small.shape[:2])
        joining = np.ones((max(3, side // 9), max(3, side // 20)), np.uint8)
        moved = cv2.morphologyEx(moved, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        moved = cv2.morphologyEx(moved, cv2.MORPH_CLOSE, joining)
        _, _, regions, _ = cv2.connectedComponentsWithStats(moved)
        places, areas = regions[1:, :4].astype(float), regions[1:, 4] / moved.size
        kept = (areas >= _LEAST_SHARE) & (areas <= _LARGEST_SHARE) & (places[:, 2] < places[:, 3])
        return places[kept] / scale


def detector_named(name: str) -> Detector:
    """Return the detector that an option names: ``motion``, or a callable by its dotted path.

    A class is called without arguments, and gives the detector.

    Raises:
        UserError: There is none of that name.
    """
    if name == "motion":
        return MotionDetector()
    if "." not in name:
        raise UserError(
            f"--detector {name}: choose motion, or name a function of your own by its dotted path, "
            "such as my_package.detect"
        )
    try:
        found = import_named(name, "--detector", "a function of a frame and its number", callable)
    except ValueError as error:
        raise UserError(str(error)) from error
    with _code_of_others(f"--detector {name} cannot be made"):
        made: Detector = found() if isinstance(found, type) else found
    return made


@contextmanager
def _code_of_others(said: str) -> Iterator[None]:
    """Turn whatever the body raises into one line, but for an end by a signal."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if is_signalled(error):
            raise
        raise UserError(f"{said}: {reason_of(error)}") from error


def detect(
    video: str, name: str, max_pixels: int, max_gap: int, tracker: str = "overlap"
) -> list[Box]:
    """Find tracks in a video by a detector and a tracker.

    Args:
        video: File.
        name: Detector, as for :func:`detector_named`.
        max_pixels: Most pixels of a frame.
        max_gap: Most frames without a box within a track.
        tracker: Key of :data:`TRACKERS`.

    Raises:
        UserError: The video breaks; the detector fails, or returns something else than boxes; the
            tracker is not installed.
    """
    if tracker == "norfair":
        require("tracks")
    detector = detector_named(name)

    def frames() -> Iterator[np.ndarray]:
        for start in range(0, len(reader), _AT_ONCE):
            yield from reader.frames(range(start, min(start + _AT_ONCE, len(reader)))).numpy()

    def detected() -> Iterator[np.ndarray]:
        shown = counted(frames(), len(reader), f"detecting in {Path(video).name}")
        for number, frame in enumerate(shown):
            with _code_of_others(f"--detector {name} fails in frame {number + 1} of {video}"):
                boxes = detector(frame, number)
            yield _checked(boxes, f"--detector {name}, frame {number + 1} of {video}")

    with closing(PyAVReader(video, max_pixels)) as reader:
        return TRACKERS[tracker](detected(), max_gap)


def _checked(boxes: Any, said: str) -> np.ndarray:
    """Return boxes as float64 (N, 5).

    Raises:
        UserError: They are no boxes.
    """
    try:
        found = np.asarray(boxes, np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # the last of tensors with gradients
        raise UserError(f"{said}: expected boxes of shape (N, 4) or (N, 5): {error}") from error
    if not found.size:
        return np.zeros((0, 5))
    if found.ndim != 2 or found.shape[1] not in (4, 5):
        raise UserError(
            f"{said}: expected boxes of shape (N, 4) or (N, 5), found shape {found.shape}"
        )
    near = (np.abs(found[:, :4]) <= _LARGEST).all(1) & np.isfinite(found).all(1)
    good = near & (found[:, 2:4] > 0).all(1)
    if not good.all():
        box = ", ".join(f"{value:g}" for value in found[~good][0])
        raise UserError(
            f"{said}: expected left, top, width and height in pixels, the last two above 0, found "
            f"{box}"
        )
    return found if found.shape[1] == 5 else np.column_stack([found, np.ones(len(found))])


def associate(detections: Iterator[np.ndarray], max_gap: int) -> list[Box]:
    """Number the boxes of a person alike, by their overlap: the shares of areas of greatest sum.

    A box continues the track whose last box, at most ``max_gap`` frames before it, has an
    intersection over union of at least 0.3 with it. No motion is predicted and no appearance
    compared, so people who cross may swap their tracks.

    Args:
        detections: Boxes (N, 5) of every frame in turn, with their scores.
    """
    found: list[Box] = []
    last: dict[int, Box] = {}
    begun = 0
    for frame, boxes in enumerate(detections):
        last = {track: box for track, box in last.items() if frame - box.frame - 1 <= max_gap}
        tracks: list[int | None] = [None] * len(boxes)
        if last and len(boxes):
            before = np.array([box[2:6] for box in last.values()])
            shared = overlaps(before, boxes[:, :4])
            areas = before[:, 2:].prod(1)[:, None] + boxes[:, 2:4].prod(1)[None]
            iou = shared / (areas - shared)
            numbers = list(last)
            for row, column in zip(*linear_sum_assignment(iou, maximize=True), strict=True):
                if iou[row, column] >= _LEAST_IOU:
                    tracks[column] = numbers[row]
        for place, track in zip(boxes.tolist(), tracks, strict=True):
            if track is None:
                begun += 1
                track = begun
            last[track] = Box(frame, track, *place)
            found.append(last[track])
    return found


def predict_and_associate(detections: Iterator[np.ndarray], max_gap: int) -> list[Box]:
    """Number the boxes of a person alike by Norfair's tracker, which predicts motion.

    A box continues the track with which it shares most, where a Kalman filter of constant velocity
    predicts its box: an intersection over union of more than 0.3, the largest ones first. A track
    waits for its next box at most as many frames as it has boxes, and at most ``max_gap``.

    Args:
        detections: Boxes (N, 5) of every frame in turn, with their scores.
    """
    import norfair

    tracker = norfair.Tracker(
        distance_function="iou",
        distance_threshold=1 - _LEAST_IOU,
        hit_counter_max=max(1, max_gap),
        initialization_delay=0,  # every box is of a track; short ones are left out later
    )
    found: list[Box] = []
    for frame, boxes in enumerate(detections):
        corners = np.stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], 1)
        given = [norfair.Detection(each, data=(frame, n)) for n, each in enumerate(corners)]
        people = tracker.update(given)
        tracks = {each.last_detection.data: each.id for each in people if each.id is not None}
        found += [Box(frame, tracks[frame, n], *box) for n, box in enumerate(boxes.tolist())]
    return found


TRACKERS = {"overlap": associate, "norfair": predict_and_associate}
"""Functions from the boxes of every frame and the longest gap to the boxes of tracks, by name."""
