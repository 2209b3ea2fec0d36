"""``reid identify``: who the people of a video are, by a gallery.

Its crops and features are those of ``reid tracklets`` and ``reid extract``.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from reid.galleries.places import Searchable
from reid.retrieval.extract import extract_tracklets
from reid.retrieval.features import comparable
from reid.retrieval.searching import Limit, decision, is_nobody, limit_of, meaning_of
from reid.tracks.boxes import Box, Track
from reid.tracks.crops import Source, Tracked, find_tracks, write_crops
from reid.trained import TrainedReid, find_network
from video_snl.errors import UserError
from video_snl.render.fonts import letters_for, line_height, shortened, spelled, text_size
from video_snl.render.image import class_colours
from video_snl.render.video import FORMATS, draw_video
from video_snl.utils.counts import counts
from video_snl.utils.files import check_file, writing
from video_snl.utils.json_text import to_json
from video_snl.utils.processes import ending_in_order
from video_snl.utils.text import printable

if TYPE_CHECKING:
    from reid.cli.tracks import Identify

__all__ = ["draw_people", "run_identify"]

_COLOURS = 12
_UNKNOWN = "unknown"


def run_identify(source: Source, given: Identify) -> int:
    """Print a table of the tracklets of a video with the nearest entry of a gallery each.

    Args:
        source: Video and tracks.
        given: Options of the command.

    Raises:
        UserError: Bad tracks, a video that breaks, a gallery that is not there or of another
            network, or a file that cannot be written.
    """
    limit = limit_of(given.threshold, given.calibrate)
    if given.render is not None:
        _check_render(given.render, source.video, source.tracks, given.gallery)
    searched = Searchable.open(given.gallery, 1, given.metric)
    if limit is not None:
        limit.check(searched)
    network = find_network(given.checkpoint, given.pretrained, given.weights)
    with ending_in_order():
        found = find_tracks(source)
        print(found.said(), file=sys.stderr, flush=True)
        rows = _identified(network, source, found, searched, limit, given.accelerator)
        size = searched.size
        answer = {
            "video": source.video,
            "gallery": given.gallery,
            "gallery_tracklets": size,
            "metric": searched.metric,
            "threshold": None if limit is None else limit.threshold,
            "scores": meaning_of(limit, size),
            "tracks": rows,
        }
        print(to_json(answer, indent=2) if given.json else _text(answer), flush=True)
        if given.render is not None:
            with writing("--render", given.render):
                draw_people(source, found, rows, Path(given.render))
            if not given.json:
                print(f"rendered, without sound: {given.render}")
    return 0


def _check_render(render: str, *inputs: str | None) -> None:
    path = Path(render)
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--render {render}: name a file of {', '.join(FORMATS)}")
    check_file("--render", render, "people.mp4", inputs)


def _identified(
    network: Path | TrainedReid,
    source: Source,
    found: Tracked,
    gallery: Searchable,
    limit: Limit | None,
    accelerator: str,
) -> list[dict[str, Any]]:
    """Return a row for each tracklet, in their order."""
    if not found.tracks:
        return []
    with tempfile.TemporaryDirectory(prefix="reid-") as folder:
        with writing("crops in", folder):
            write_crops(source, found, Path(folder))
        asked = extract_tracklets(
            network,
            [str(Path(folder, found.folder(track))) for track in found.tracks],
            layout="folder",
            test_frames=gallery.table.test_frames,
            accelerator=accelerator,
        )
    # Tracks have names of their own, which are compared with nobody's.
    comparable([gallery.table])
    answer = gallery.search(asked)
    table, nearest = answer.table, answer.result
    names, rows = table.person_names, []
    for row, track in enumerate(found.tracks):
        start, end = found.times.of(track.frames)
        entry, distance = int(nearest.indices[row, 0]), float(nearest.distances[row, 0])
        one = {"distance": distance, "person_name": names[entry]} if entry >= 0 else None
        decided = decision(limit, one)
        person = None
        if one is not None and not is_nobody(one) and decided["in_gallery"] is not False:
            person = table.names[entry] if names[entry] is None else names[entry]
        rows.append(
            {
                "track": found.name(track),
                "start": start,
                "end": end,
                "first_frame": track.frames[0] + 1,
                "last_frame": track.frames[-1] + 1,
                "frames": len(track.boxes),
                "identity": person,
                "distance": distance if entry >= 0 else None,
                "entry": table.names[entry] if entry >= 0 else None,
                **decided,
            }
        )
    return rows


def _text(answer: dict[str, Any]) -> str:
    head = ("track", "start (s)", "end (s)", "frames", "identity", "distance", "nearest entry")
    lines = [head]
    for row in answer["tracks"]:
        distance = "-" if row["distance"] is None else f"{row['distance']:.4f}"
        entry = "-" if row["entry"] is None else printable(row["entry"])
        times = f"{row['start']:.2f}", f"{row['end']:.2f}"
        person = _shown(row)
        lines.append((printable(row["track"]), *times, str(row["frames"]), person, distance, entry))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        f"{counts(answer['gallery_tracklets'], 'tracklet')} in {answer['gallery']}",
        "",
        *(
            "  ".join(
                text.ljust(width) if place in (0, 4, 6) else text.rjust(width)
                for place, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ),
        "",
        answer["scores"],
    ]
    return "\n".join(texts)


def _shown(row: dict[str, Any]) -> str:
    return _UNKNOWN if row["identity"] is None else printable(row["identity"])


def draw_people(
    source: Source, found: Tracked, rows: Sequence[dict[str, Any]], target: Path
) -> None:
    """Write the video with the boxes of its tracklets, and the identity and distance of each.

    Unknown people are grey.

    Args:
        rows: The row of each tracklet.

    Raises:
        UserError: The video breaks, or the target cannot be written.
    """
    palette = [tuple(colour) for colour in class_colours(_COLOURS).tolist()]
    people = sorted({row["identity"] for row in rows} - {None})
    colours = {person: palette[n % _COLOURS] for n, person in enumerate(people)}
    by_frame: defaultdict[int, list[tuple[Box, str, tuple[int, ...]]]] = defaultdict(list)
    each: tuple[Track, dict[str, Any]]
    for each in zip(found.tracks, rows, strict=True):
        track, row = each
        distance = "" if row["distance"] is None else f"  {row['distance']:.3f}"
        label = f"{_shown(row)}{distance}"
        colour = colours.get(row["identity"], (128, 128, 128))
        for box in track.boxes:
            by_frame[box.frame].append((box, label, colour))

    def draw(image: Image.Image, number: int, _: float) -> Image.Image:
        drawing = ImageDraw.Draw(image)
        for box, label, colour in by_frame.get(number, ()):
            _draw_box(drawing, image.size, box, label, colour)
        return image

    draw_video(source.video, target, draw, source.max_pixels)


def _draw_box(
    drawing: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: Box,
    label: str,
    colour: tuple[int, ...],
) -> None:
    width, height = size
    letters = text_size(height)
    edge = max(1, letters // 6)
    right, bottom = box.left + box.width - 1, box.top + box.height - 1
    drawing.rectangle((box.left, box.top, right, bottom), outline=colour, width=edge)
    text = spelled(label)
    font = letters_for([text, "…"], letters)
    text = shortened(text, font, width - letters)
    wide, tall = font.getlength(text) + letters, line_height(letters)
    # Above the box, or within it where there is no room; never over the edge of the image.
    left = max(0.0, min(box.left, width - wide))
    top = box.top - tall if box.top >= tall else box.top
    drawing.rectangle((left, top, left + wide, top + tall), fill=colour)
    font.draw(
        drawing,
        (left + letters / 2, top),
        text,
        fill="white",
        stroke_width=1,
        stroke_fill="black",
    )
