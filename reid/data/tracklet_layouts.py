"""Layouts of tracklets below a folder: which images and videos make up each of them.

Files are paths below the given folder; none of them is looked at. A folder that may mean two things
is :class:`Ambiguous`. Without torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import Literal, NamedTuple, get_args

from video_snl.utils.media import natural_key

__all__ = [
    "DEPTH",
    "LAYOUTS",
    "MARKET",
    "MARS",
    "NOUNS",
    "Ambiguous",
    "Layout",
    "Unit",
    "count_of",
    "divide",
    "order_of",
]

Layout = Literal[
    "auto", "none", "folder", "tracklets", "leaves", "images", "videos", "market", "mars"
]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

# Names that say who is in the image. They are strict, since they may lead to a refusal: Market-1501
# (0002_c1s1_000451_03.jpg), DukeMTMC-reID (0001_c2_f0046182.jpg) and VeRi; frames of whole streets
# (c1s1_001051.jpg); MARS (0001C1T0001F001.jpg).
MARKET = re.compile(
    r"(?P<person>-1|\d{4,5})_c(?P<camera>\d+)(s\d+_\d+_\d+|_f\d+|_\d{6,8}_\d+)(?!\d)"
)
_STREET = re.compile(r"(?P<person>)c(?P<camera>\d+)s\d+_\d+(?!\d)")
MARS = re.compile(r"(?P<person>00-1|\d{4})C(?P<camera>\d)(?P<track>T\d+)F\d+(?!\d)")

DEPTH = 3  # of <person>/<camera>/<tracklet> below the folder of a gallery
NOUNS = {
    "folder": ("folder of images", "folders of images"),
    "group": ("group of images by name", "groups of images by name"),
    "single": ("single image", "single images"),
    "video": ("video", "videos"),
    "tracklet": ("tracklet", "tracklets"),
    "image": ("image", "images"),
    "person": ("identity", "identities"),
    "camera": ("camera", "cameras"),
}


class Unit(NamedTuple):
    """Files of one tracklet: the path that names it, and its images; a video has none."""

    path: PurePath
    images: tuple[PurePath, ...]


class Ambiguous(Exception):
    """Folder that may mean two things: where it is, what was found there, and what decides."""

    def __init__(self, folder: PurePath, found: str, advice: str) -> None:
        super().__init__(found)
        self.folder, self.found, self.advice = folder, found, advice


_Passed = list[tuple[PurePath, str]]
_Folders = dict[PurePath, tuple[PurePath, ...]]


def divide(
    images: Sequence[PurePath], videos: Sequence[PurePath], layout: Layout
) -> tuple[list[Unit], _Passed]:
    """Divide files, named below the given folder and in natural order, into tracklets.

    Returns:
        The tracklets in natural order, and the files that were passed over with the reason.
    """
    folders: _Folders = {}
    passed: _Passed = []
    if layout == "videos":
        passed = [(image, "image") for image in images]
    elif layout in ("market", "mars"):
        return _by_name(images, videos, MARKET if layout == "market" else MARS)
    elif layout == "images":
        folders = {image: (image,) for image in images}
    elif layout == "tracklets":
        folders = _by_folder(images)
    else:
        shown, passed = _without_stills(images, videos)
        folders = _by_folder(shown)
        kept = _CHOSEN[layout](folders, videos)
        if layout != "leaves":
            for folder, some in folders.items():
                if folder in kept:
                    _check_names(folder, some)
        passed += [
            (image, "image beside tracklets")
            for folder, some in folders.items()
            if folder not in kept
            for image in some
        ]
        passed += [(video, "video beside tracklets") for video in videos if video not in kept]
        folders = {folder: some for folder, some in folders.items() if folder in kept}
        videos = [video for video in videos if video in kept]
    units = [Unit(video, ()) for video in videos]
    units += [Unit(folder, some) for folder, some in folders.items()]
    return sorted(units, key=lambda unit: order_of(unit.path)), passed


def _by_folder(images: Iterable[PurePath]) -> _Folders:
    folders: dict[PurePath, list[PurePath]] = {}
    for image in images:
        folders.setdefault(image.parent, []).append(image)
    return {folder: tuple(some) for folder, some in folders.items()}


def _without_stills(
    images: Sequence[PurePath], videos: Sequence[PurePath]
) -> tuple[list[PurePath], _Passed]:
    """Leave out the images that stand for a video of the same name."""
    stems = {video.with_suffix("") for video in videos}
    stills = {image for image in images if stems and image.with_suffix("") in stems}
    return (
        [image for image in images if image not in stills],
        [(image, "image with the name of a video") for image in images if image in stills],
    )


def _sure(folders: _Folders, videos: Sequence[PurePath]) -> set[PurePath]:
    """Return the tracklets, where it is clear which these are.

    Raises:
        Ambiguous: A folder holds images and, beside them, tracklets.
    """
    holders = _holders(folders, videos)
    for folder, some in folders.items():
        if folder in holders and len(some) > 1:
            raise Ambiguous(
                folder,
                f"holds {count_of(len(some), 'image')} (such as {some[0].name}) and, beside them, "
                f"{_below(folder, folders, videos)}",
                "choose by --layout leaves (without those images), --layout tracklets (those "
                "images are a tracklet, too), --layout images or --layout videos",
            )
    return _leaves(folders, videos)


def _leaves(folders: _Folders, videos: Sequence[PurePath]) -> set[PurePath]:
    """Return the tracklets that no other is below."""
    return {*folders, *videos} - _holders(folders, videos)


def _in_layout(folders: _Folders, videos: Sequence[PurePath]) -> set[PurePath]:
    """Return the tracklets of ``<person>/<camera>/<tracklet>``.

    Raises:
        Ambiguous: Others are elsewhere, and may be meant, too.
    """
    everything = [*folders, *videos]
    holders = _holders(folders, videos)
    plausible = [path for path in everything if path not in holders or len(folders[path]) > 1]
    kept = {path for path in plausible if len(path.parts) == DEPTH}
    if not kept:
        kept = set(plausible)
        depths = {len(path.parts): path for path in sorted(kept, key=order_of, reverse=True)}
        if len(depths) > 1:
            first, other = (depths[depth] for depth in sorted(depths)[:2])
            raise Ambiguous(
                PurePath(),
                f"holds images or videos in {_named(first)} and, deeper, in {_named(other)}",
                "--layout folder takes identities and cameras from the folders "
                "<person>/<camera>/<tracklet>, of one depth; name the folders of the identities, "
                "or choose --layout leaves, where identities and cameras stay unknown",
            )
        return kept
    for path in everything:
        depth = len(path.parts)
        stray = depth == 0 or path in folders and depth < DEPTH and len(folders[path]) == 1
        outside = path in videos and depth == 1
        inside = depth > DEPTH and PurePath(*path.parts[:DEPTH]) in kept
        if path not in kept and not (stray or outside or inside):
            raise Ambiguous(
                path,
                "is not in <person>/<camera>/<tracklet>, as others are",
                "lay it out like those, or choose --layout leaves, where identities and cameras "
                "stay unknown",
            )
    return kept


_CHOSEN: dict[str, Callable[[_Folders, Sequence[PurePath]], set[PurePath]]] = {
    "auto": _sure,
    "none": _sure,
    "leaves": _leaves,
    "folder": _in_layout,
}


def _holders(folders: _Folders, videos: Sequence[PurePath]) -> set[PurePath]:
    """Return all folders that a tracklet is below."""
    holders: set[PurePath] = set()
    for path in (*folders, *videos):
        for parent in path.parents:
            if parent in holders:
                break
            holders.add(parent)
    return holders


def _below(folder: PurePath, folders: _Folders, videos: Sequence[PurePath]) -> str:
    counts = {
        "folder": sum(folder in other.parents for other in folders),
        "video": sum(folder in video.parents for video in videos),
    }
    return " and ".join(count_of(count, kind) for kind, count in counts.items() if count)


def _check_names(folder: PurePath, images: Sequence[PurePath]) -> None:
    """Refuse a folder whose images are of several identities or cameras by their names."""
    for pattern, layout in ((MARKET, "market"), (MARS, "mars"), (_STREET, None)):
        groups: dict[tuple[str | None, ...], str] = {}
        for image in images:
            if match := pattern.match(image.name):
                groups.setdefault(tuple(match.groupdict().values()), image.name)
        if len(groups) > 1:
            first, second = list(groups.values())[:2]
            named = f"--layout {layout} (by the names), " if layout else ""
            raise Ambiguous(
                folder,
                f"holds {count_of(len(images), 'image')} whose names are of {len(groups)} "
                f"identities, cameras or tracklets ({first}, {second})",
                f"choose by {named}--layout images (each image is a tracklet) or --layout "
                "tracklets (all of them are one tracklet)",
            )


def _by_name(
    images: Sequence[PurePath], videos: Sequence[PurePath], pattern: re.Pattern[str]
) -> tuple[list[Unit], _Passed]:
    """Group images into tracklets by their names: several images each for MARS, else one."""
    groups: dict[tuple[object, ...], list[PurePath]] = {}
    passed: _Passed = [(video, "video") for video in videos]
    for image in images:
        match = pattern.match(image.name)
        if match is None:
            passed.append((image, "image with another name"))
        elif pattern is MARS:
            groups.setdefault((image.parent, *match.groups()), []).append(image)
        else:
            groups[image,] = [image]
    return [Unit(some[0], tuple(some)) for some in groups.values()], passed


def count_of(number: int, noun: str) -> str:
    """Return a number and a word of :data:`NOUNS` for it."""
    return f"{number:,} {NOUNS[noun][number != 1]}"


def _named(path: PurePath) -> str:
    return str(path) if path.parts else "the folder itself"


def order_of(path: PurePath) -> list[tuple[list[tuple[int, str]], str]]:
    """Return the key of the natural order of a path, folder by folder."""
    return [natural_key(part) for part in path.parts]
