"""``reid tracklets``: the boxes of tracks, cut out of a video in the layout of ``folder``."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from reid.galleries.entries import parse_time
from reid.tracks.boxes import Box, Picked, Selection, Track, check_boxes, read_boxes
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.video.streaming import frame_times
from video_snl.data.video.windows import FrameTimes
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.files import check_new_folder, writing
from video_snl.utils.locks import whole_folder
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.processes import ending_in_order
from video_snl.utils.progress import counted
from video_snl.utils.text import escaped, printable

__all__ = ["Source", "Tracked", "find_tracks", "run_tracklets", "write_crops"]

_QUALITY = 95  # without chroma subsampling
_LONGEST_NAME = 200  # bytes: the number of a track comes after it, and file systems take 255


@dataclass(frozen=True)
class Source:
    """The video and its tracks.

    Attributes:
        video: File.
        tracks: File of tracks in the format of MOTChallenge; None: of the detector.
        detector: ``motion`` or a dotted path; None: of the file.
        tracker: Key of :data:`reid.tracks.detecting.TRACKERS` for the boxes of the detector; None:
            ``overlap``.
        camera: Name of the camera; None: name of the file without its suffix.
        skip: Leave out boxes that the video has no pixels for, where they are an error else.
        selection: The boxes that are cut out.
        max_pixels: Most pixels of a frame.
    """

    video: str
    tracks: str | None = None
    detector: str | None = None
    tracker: str | None = None
    camera: str | None = None
    skip: bool = False
    selection: Selection = field(default_factory=Selection)
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not os.path.isfile(self.video):
            raise UserError(f"{self.video} is no file: name a video")
        if (self.tracks is None) == (self.detector is None):
            raise UserError(
                "name the tracks once: --tracks FILE of a tracker (MOTChallenge format), or "
                "--detector motion for a first try"
            )
        if self.tracker is not None and self.tracks is not None:
            raise UserError(
                f"--tracker {self.tracker} is for the boxes of a --detector, and --tracks "
                f"{self.tracks} has tracks already: leave one of the two out"
            )
        name = self.camera_name
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise UserError(
                f"--camera {printable(name)!r}: give a name that a folder can have, such as hall"
            )
        if (length := len(os.fsencode(name))) > _LONGEST_NAME:
            raise UserError(
                f"--camera {printable(name)!r:.40}... has {length} bytes: give a name of at most "
                f"{_LONGEST_NAME}, such as hall"
            )

    @property
    def camera_name(self) -> str:
        """Name of the camera."""
        return Path(self.video).stem if self.camera is None else self.camera


class Tracked(NamedTuple):
    """Tracklets of a video.

    Attributes:
        camera: Name of the camera.
        tracks: Tracklets in the order of their first frames.
        times: Times of the video's frames.
        left_out: What was left out, and why.
    """

    camera: str
    tracks: list[Track]
    times: FrameTimes
    left_out: list[str]

    def name(self, track: Track) -> str:
        """Return the name that stands for the person of a track: camera and number."""
        return f"{self.camera}-{track.number:04}"

    def folder(self, track: Track) -> str:
        """Return the folder of a tracklet: ``<camera>-<track>/<camera>/<first>-<last>``."""
        first, last = track.frames[0] + 1, track.frames[-1] + 1
        return f"{self.name(track)}/{self.camera}/{first:06}-{last:06}"

    def said(self) -> str:
        """Say how many there are, and what was left out."""
        numbers = {track.number for track in self.tracks}
        text = f"{counts(len(self.tracks), 'tracklet')} of {counts(len(numbers), 'track')}"
        return f"{text}; left out: {', '.join(self.left_out)}" if self.left_out else text


def run_tracklets(source: Source, output: str, start: str | None) -> int:
    """Cut out the tracklets of a video into a new folder, as a whole or not at all.

    Args:
        output: Folder; it must be empty, or not be there.
        start: Time of the first frame, in seconds since 1970 or ISO 8601; None: not known.

    Raises:
        UserError: Bad tracks, a video that breaks, no tracklet, or a folder that cannot be written.
    """
    begun = None if start is None else parse_time(start)
    check_new_folder("--output", output, " for every video (reid extract takes several)")
    with ending_in_order():
        found = find_tracks(source)
        if not found.tracks:
            raise UserError(f"{source.video}: {found.said()}: there is nothing to write")
        with writing("--output", output), whole_folder(Path(output)) as folder:
            write_crops(source, found, folder)
            _write_lists(found, folder, output, begun)
    print(found.said())
    print(f"crops: {output} (reid extract --layout folder {output})")
    return 0


def find_tracks(source: Source) -> Tracked:
    """Find the tracklets of a video by a file of tracks or a detector.

    Raises:
        UserError: Bad tracks, or a video that breaks.
    """
    boxes = None if source.tracks is None else read_boxes(source.tracks)
    times = frame_times(source.video, source.max_pixels)
    with closing(PyAVReader(source.video, source.max_pixels)) as reader:
        frames = len(reader)
        height, width = reader.frames([0]).shape[1:3]
    by = str(source.tracks)
    if boxes is None:
        from reid.tracks.detecting import detect  # and OpenCV

        by = f"--detector {source.detector}"
        boxes = detect(
            source.video,
            str(source.detector),
            source.max_pixels,
            source.selection.max_gap,
            source.tracker or "overlap",
        )
    inside = check_boxes(boxes, source.video, frames, (height, width), source=by, skip=source.skip)
    picked: Picked = source.selection.pick(inside.tracks)
    return Tracked(source.camera_name, picked.tracks, times, inside.left_out + picked.left_out)


def write_crops(source: Source, found: Tracked, folder: Path) -> None:
    """Write the boxes of tracklets as JPEG images, named by their frames, from 1.

    Raises:
        UserError: The video breaks.
        OSError: An image cannot be written.
    """
    by_frame: defaultdict[int, list[tuple[Path, Box]]] = defaultdict(list)
    for track in found.tracks:
        place = folder / found.folder(track)
        place.mkdir(parents=True)
        for box in track.boxes:
            by_frame[box.frame].append((place, box))
    what = f"cutting out of {Path(source.video).name}"
    with closing(PyAVReader(source.video, source.max_pixels)) as reader:
        for number in counted(iter(sorted(by_frame)), len(by_frame), what):
            pixels = reader.frames([number])[0].numpy()
            for place, box in by_frame[number]:
                left, top, width, height = (int(value) for value in box[2:6])
                crop = Image.fromarray(pixels[top : top + height, left : left + width])
                crop.save(place / f"{number + 1:06}.jpg", quality=_QUALITY, subsampling=0)


def _write_lists(found: Tracked, folder: Path, output: str, begun: float | None) -> None:
    """Write ``tracks.txt``, the boxes, and ``tracklets.csv``, a line of each tracklet."""
    boxes = sorted(box for track in found.tracks for box in track.boxes)
    text = "".join(f"{box.to_line()}\n" for box in boxes)
    (folder / "tracks.txt").write_text(text, encoding="utf-8")
    columns = ["name", "track", "camera", "first_frame", "last_frame", "frames", "start", "end"]
    with (folder / "tracklets.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(columns if begun is None else [*columns, "time"])
        for track in found.tracks:
            start, end = found.times.of(track.frames)
            name = escaped(os.path.join(output.rstrip("/") or "/", found.folder(track)))
            first, last = track.frames[0] + 1, track.frames[-1] + 1
            line = [name, track.number, escaped(found.camera), first, last, len(track.boxes)]
            line += [f"{start:.3f}", f"{end:.3f}"]
            lines.writerow(line if begun is None else [*line, f"{begun + start:.3f}"])
