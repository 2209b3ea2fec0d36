"""Tracklets below a folder: which files make up each of them, and which identity it shows.

The whole tree is listed before anything is decided. One line says what was found, and what was
passed over and why (:meth:`FoundTracklets.text`). A folder that may mean two things is refused with
the layouts (``--layout``) that decide. Without torch.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from reid.data.tracklet import (
    NO_NUMBER,
    UNKNOWN,
    Tracklet,
    camera_number,
    identity_numbers,
    people_in,
    person_number,
)
from reid.data.tracklet_layouts import (
    DEPTH,
    LAYOUTS,
    MARKET,
    MARS,
    NOUNS,
    Ambiguous,
    Layout,
    Unit,
    count_of,
    divide,
    order_of,
)
from video_snl.errors import UserError
from video_snl.utils.media import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Ignored,
    MediaFiles,
    check_named,
    find_media,
)
from video_snl.utils.text import escaped

__all__ = [
    "LAYOUTS",
    "FoundTracklets",
    "Layout",
    "find_tracklets",
    "images_of_one_tracklet",
    "tracklets_in",
]


@dataclass(frozen=True)
class FoundTracklets:
    """Tracklets of one given path.

    Attributes:
        path: Path as it was given.
        tracklets: Tracklets by their own path, in natural order: a folder of images, a video, or
            the first image where a folder is not one tracklet.
        ignored: Files that were passed over, and why.
    """

    path: str
    tracklets: dict[str, Tracklet]
    ignored: list[Ignored] = field(default_factory=list)

    def text(self) -> str:
        """Say what was found at the path, with counts, in one line.

        For example ``gallery: 600 tracklets (598 folders of images, 2 videos), 9,000 images;
        ignored 1 entry: 1 x .txt file (notes.txt)``.
        """
        kinds = Counter(_kind(name, tracklet) for name, tracklet in self.tracklets.items())
        parts = [count_of(kinds[kind], kind) for kind in NOUNS if kinds[kind]]
        images = sum(
            len(tracklet.frames)
            for name, tracklet in self.tracklets.items()
            if _kind(name, tracklet) != "video"
        )
        said = f"{self.path}: {count_of(len(self.tracklets), 'tracklet')} ({', '.join(parts)})"
        if images:
            said += f", {count_of(images, 'image')}"
        for names, noun in (
            (people_in(tracklet.person for tracklet in self.tracklets.values()), "person"),
            ({tracklet.camera for tracklet in self.tracklets.values()} - {None}, "camera"),
        ):
            if names:
                said += f", {count_of(len(names), noun)}"
        ignored = MediaFiles(ignored=self.ignored).ignored_text()
        said = said if ignored is None else f"{said}; {ignored}"
        return escaped(said)


def find_tracklets(
    paths: Sequence[str], layout: Layout = "auto", *, say: Callable[[str], None] | None = None
) -> dict[str, Tracklet]:
    """Find the tracklets that paths name, by their own path, in natural order within each.

    Args:
        paths: Folders or videos.
        layout: See :func:`tracklets_in`.
        say: Takes the line of :meth:`FoundTracklets.text` for each folder.

    Raises:
        UserError: As :func:`tracklets_in`; a tracklet that is named twice; names of identities that
            are equal as numbers, such as ``7`` and ``007``.
    """
    found: dict[str, Tracklet] = {}
    owners: dict[str, str] = {}
    for path in paths:
        of_path = tracklets_in(path, layout)
        for name, tracklet in of_path.tracklets.items():
            # One path cannot name a tracklet twice: each folder is read once.
            real = os.path.realpath(name) if len(paths) > 1 else name
            if real in owners:
                other = "" if owners[real] == name else f" (as {owners[real]}, too)"
                raise UserError(f"{name} is named twice{other}; name every tracklet once")
            owners[real] = name
            found[name] = tracklet
        if say is not None and os.path.isdir(path):
            say(of_path.text())
    names = [tracklet.person for tracklet in found.values() if tracklet.person is not None]
    identity_numbers(names, paths[0] if len(paths) == 1 else "")
    return found


def tracklets_in(path: str, layout: Layout = "auto") -> FoundTracklets:
    """Find the tracklets of one folder, with all that is below it, or of one video.

    Args:
        path: Folder or file.
        layout: Meaning of the folders.

            - ``auto`` (``none`` is its older name): every folder with images in it, and every
              video. A single image beside tracklets, and one with the name of a video beside it,
              is passed over. More images beside tracklets, or images in one folder whose names are
              of several identities or cameras, are refused.
            - ``folder``: the same, in ``<person>/<camera>/<tracklet>``; the names of these folders
              are kept. Where ``path`` holds tracklets three folders deep, what lies elsewhere in it
              is passed over, else all must be equally deep.
            - ``tracklets``: every folder with images in it, whatever is below it, and every video.
            - ``leaves``: every video, and every folder with images in it and no tracklet below it;
              other images are passed over.
            - ``images``: every image and every video.
            - ``videos``: every video; images are passed over.
            - ``market``: every image that is named as in Market-1501, DukeMTMC-reID or VeRi
              (``0002_c1s1_000451_03.jpg``), of the person and camera in its name.
            - ``mars``: the images of one folder that are named as in MARS (``0001C1T0001F001.jpg``)
              with one person, camera and tracklet.

            Identities and cameras are unknown but for ``folder``, ``market`` and ``mars``.

    Raises:
        UserError: A path that is not there, is neither folder nor video, holds no tracklet, or may
            mean two things; a layout that it does not have.
    """
    if layout not in LAYOUTS:
        raise UserError(f"--layout {layout}: choose one of {', '.join(LAYOUTS)}")
    check_named(path)
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist; name folders of frames, or videos")
    if not os.path.isdir(path):
        return FoundTracklets(path, _tracklets(path, [_of_file(path, layout)], layout))
    media = find_media(Path(path))
    root = Path(path)
    images = [file.relative_to(root) for file in media.images]
    videos, twice = _unlinked(root, [file.relative_to(root) for file in media.videos])
    try:
        units, passed = divide(images, videos, layout)
    except Ambiguous as error:
        place = os.path.join(path, error.folder) if error.folder.parts else path
        raise UserError(f"{place} {error.found}: {error.advice}") from None
    ignored = [*media.ignored, *twice, *(Ignored(root / p, why) for p, why in passed)]
    ignored.sort(key=lambda entry: order_of(entry.path))
    found = FoundTracklets(path, _tracklets(path, units, layout), ignored)
    if not units:
        text = MediaFiles(ignored=ignored).ignored_text()
        raise UserError(
            f"{path} holds no tracklet{_EXPECTED.get(layout, _EXPECTED_ANY)}"
            + ("" if text is None else f" ({text})")
        )
    return found


def images_of_one_tracklet(names: Sequence[str]) -> list[str]:
    """Choose the images of the one tracklet that some files hold, in natural order.

    Args:
        names: Paths of images below a common folder, such as those in a ZIP file.

    Raises:
        UserError: They are of several tracklets, or of several identities or cameras. The message
            does not name what holds them.
    """
    known = {PurePath(name): name for name in names}
    paths = sorted(known, key=order_of)
    try:
        units, _ = divide(paths, [], "auto")
    except Ambiguous as error:
        raise UserError(f"{error.found}: give the images of one tracklet") from None
    if len(units) != 1:
        places = ", ".join(str(unit.path) for unit in units[:2])
        raise UserError(
            f"holds {len(units)} tracklets ({places}, ...): give the images of one of them"
        )
    return [known[image] for image in units[0].images]


_EXPECTED_ANY = ": no image and no video of an accepted format is in it or below it"
_EXPECTED = {
    "videos": ": no video is in it or below it; --layout auto takes folders of images, too",
    "market": ": no image in it is named as in Market-1501 (0002_c1s1_000451_03.jpg)",
    "mars": ": no image in it is named as in MARS (0001C1T0001F001.jpg)",
}


def _tracklets(path: str, units: Sequence[Unit], layout: Layout) -> dict[str, Tracklet]:
    """Make the tracklets with their identities and cameras, by their paths."""
    found = {}
    for unit in units:
        name = _joined(path, unit.path)
        frames = tuple([_joined(path, image) for image in unit.images]) or (name,)
        person, camera = _labels(name, frames[0], layout)
        found[name] = Tracklet(
            frames,
            UNKNOWN if person is None else _number(person_number(person)),
            UNKNOWN if camera is None else _number(camera_number(camera)),
            person,
            camera,
        )
    return found


def _labels(name: str, first: str, layout: Layout) -> tuple[str | None, str | None]:
    """Return the names of the identity and the camera of a tracklet, where they are known."""
    if layout == "folder":
        parts = PurePath(os.path.normpath(Path(name).absolute())).parts
        if len(parts) < DEPTH + 1:  # with the root
            raise UserError(f"{name}: --layout folder needs <person>/<camera>/<tracklet>")
        return escaped(parts[-3]), escaped(parts[-2])
    if layout in ("market", "mars"):
        match = (MARKET if layout == "market" else MARS).match(os.path.basename(first))
        if match is not None:
            return match["person"], match["camera"].lstrip("0") or "0"
    return None, None


def _number(number: int | None) -> int:
    return NO_NUMBER if number is None else number


def _of_file(path: str, layout: Layout) -> Unit:
    suffix = PurePath(path).suffix.lower()
    if not os.path.isfile(path):
        raise UserError(f"{path} is not a regular file; name folders of frames, or videos")
    if suffix in VIDEO_SUFFIXES and layout not in ("market", "mars"):
        return Unit(PurePath(), ())
    if suffix in IMAGE_SUFFIXES:
        if layout in ("images", "market", "mars"):
            return Unit(PurePath(), (PurePath(),))
        raise UserError(
            f"{path} is a single image; name a folder of frames or a video, or choose --layout "
            "images (each image is a tracklet)"
        )
    raise UserError(
        f"{path} is neither a folder of frames nor a video"
        + (f" (which have suffixes such as .mp4 and .avi, not {suffix})" if suffix else "")
    )


def _unlinked(root: Path, videos: Sequence[PurePath]) -> tuple[list[PurePath], list[Ignored]]:
    """Leave out links to videos that are read by another name."""
    kept, twice = [], []
    own = {os.path.realpath(root / video) for video in videos if not (root / video).is_symlink()}
    for video in videos:
        path = root / video
        if path.is_symlink():
            target = os.path.realpath(path)
            if target in own:
                twice.append(Ignored(path, "link to a video that is read by another name"))
                continue
            own.add(target)
        kept.append(video)
    return kept, twice


def _kind(name: str, tracklet: Tracklet) -> str:
    if tracklet.frames == (name,):
        return "video" if PurePath(name).suffix.lower() in VIDEO_SUFFIXES else "single"
    return "group" if tracklet.frames[0] == name else "folder"


def _joined(path: str, inside: PurePath) -> str:
    """Join a path, which stays as it was given, and a file below it."""
    base = path.rstrip("/") or "/"
    return os.path.join(base, inside) if inside.parts else base
