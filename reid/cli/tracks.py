"""``reid tracklets`` and ``reid identify``: from tracks in a video to identities. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from reid.cli.common import GalleryMetric, Threshold
from reid.cli.evaluate import PretrainedReid, check_network
from video_snl.config.options import (
    Accelerator,
    Checkpoint,
    Json,
    MaxPixels,
    option,
    option_group,
    options_of,
    positional,
)
from video_snl.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from reid.tracks.crops import Source

__all__ = ["IDENTIFY", "TRACKLETS", "Identify", "Tracklets", "identify", "tracklets"]

TRACKLETS = """Cut people out of a video along their tracks, for reid extract --layout folder.
Tracks are a file of any tracker in the format of MOTChallenge, or those of --detector, which is
weak. A new folder has the crops of each tracklet in CAMERA-TRACK/CAMERA/FIRST-LAST/FRAME.jpg, all
boxes in tracks.txt, and times in tracklets.csv; it appears as a whole or not at all.
Exit code 0: done; 2: bad tracks, a video that breaks, or no tracklet, and nothing is written."""
IDENTIFY = """Tell who the people of a video are, by a gallery of known people.
Each tracklet of the video is searched for in the gallery. Without --threshold or --calibrate the
nearest person is named, however far; with it people who are not in the gallery are unknown.
Exit code 0: done, whoever was found; 2: bad tracks, a video that breaks, or a bad gallery."""


@option_group
class _Tracks(MaxPixels):
    """The video and its tracks.

    Args:
        video: A video.
        tracks: File in the format of MOTChallenge: frame,id,left,top,width,height,conf,x,y,z in a
            line, frames from 1. Boxes of conf 0 are left out. Default: those of --detector.
        detector: motion: whatever moves before a fixed camera, by OpenCV's background subtraction;
            or the dotted path of a function, such as my_package.detect, from a frame (RGB, uint8)
            and its number (from 0) to boxes (left, top, width, height, perhaps a score), which is
            imported and so run. Default none.
        tracker: What puts the boxes of a detector into tracks: overlap (with the last box alone) or
            norfair (with where a Kalman filter predicts it; extra tracks). Default overlap.
        camera: Name of the camera. Default: name of the file without its suffix.
        min_frames: Fewest boxes of a tracklet; shorter ones are left out.
        max_gap: Most frames without a box within a tracklet; at longer gaps a track is cut.
        min_height: Least height of a box in pixels; lower ones are left out.
        max_overlap: Largest share of a box that another one may cover, 0-1; others are left out.
        outside: refuse: a box outside the image, or after the last frame, is an error, since the
            tracks may be of another video; skip: such boxes are left out and counted.
    """

    video: str = positional("VIDEO")
    tracks: str | None = option(metavar="FILE")
    detector: str | None = option(metavar="motion|MODULE.NAME")
    tracker: Literal["overlap", "norfair"] | None = None
    camera: str | None = option(metavar="NAME")
    min_frames: int = 5
    max_gap: int = 25
    min_height: int = 32
    max_overlap: float = 0.7
    outside: Literal["refuse", "skip"] = "refuse"


@option_group
class Tracklets(_Tracks):
    """Options of ``tracklets``.

    Args:
        output: New folder for the crops.
        start: Time of the first frame, in seconds since 1970 or ISO 8601 (UTC where no zone is
            named); tracklets.csv then has a column time, for reid gallery add --times. Default: not
            known.
    """

    output: str = option(short="-o", required=True, metavar="DIR")
    start: str | None = option(metavar="TIME")


@option_group
class Identify(Json, Threshold, GalleryMetric, Accelerator, PretrainedReid, Checkpoint, _Tracks):
    """Options of ``identify``.

    Args:
        gallery: Feature file of reid extract, or gallery of reid gallery, in a folder or a
            database, of the same network.
        render: Write the video with boxes and identities drawn on it (.mp4, .m4v, .mov or .mkv);
            default none.
    """

    gallery: str = option(required=True, metavar="FILE|GALLERY")
    render: str | None = option(metavar="FILE")


def _source(options: _Tracks) -> Source:
    from reid.tracks.boxes import Selection
    from reid.tracks.crops import Source
    from video_snl.utils.media import MAX_PIXELS

    most = MAX_PIXELS if options.max_pixels is None else options.max_pixels
    if most < 1:
        raise UserError(f"--max_pixels {most}: give 1 or more")
    return Source(
        options.video,
        options.tracks,
        options.detector,
        options.tracker,
        options.camera,
        options.outside == "skip",
        Selection(options.min_frames, options.max_gap, options.min_height, options.max_overlap),
        most,
    )


def tracklets(arguments: Namespace) -> int:
    options = options_of(Tracklets, arguments)
    from reid.tracks.crops import run_tracklets

    return run_tracklets(_source(options), options.output, options.start)


def identify(arguments: Namespace) -> int:
    options = options_of(Identify, arguments)
    check_network(options.checkpoint, options.pretrained, options.weights)
    source = _source(options)
    from reid.tracks.identify import run_identify

    return run_identify(source, options)
