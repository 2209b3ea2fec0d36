"""Which files of a folder are videos, which are images, and which are neither.

The one place that knows the accepted formats and the names to pass over; every command of both
programs lists folders through it, so that all of them see the same files. Without torch.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from video_snl.errors import UserError

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "VIDEO_SUFFIXES",
    "Ignored",
    "MediaFiles",
    "find_media",
    "is_image_name",
    "is_system_name",
    "is_video_name",
    "natural_key",
]

MAX_PIXELS = 1 << 26
"""Default of ``max_pixels``: pixels of an image or of one frame, checked before memory is taken."""

# What FFmpeg's demuxers read and people have. `.gif` is a video here: it has frames and times.
VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".amv", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264"}
    | {".h265", ".hevc", ".ivf", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg"}
    | {".mjpg", ".mkv", ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf"}
    | {".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".tp", ".ts", ".vob", ".webm"}
    | {".wmv", ".wtv", ".y4m"}
)
"""Suffixes of files that are taken for videos, in any letter case."""

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".dib", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
"""Suffixes of files that are taken for still images, in any letter case."""

# Written by operating systems and file servers beside people's files.
_SYSTEM_NAMES = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "thumbs.db", "ehthumbs.db", "desktop.ini"}
    | {"system volume information", "lost+found"}
)

_DIGITS = re.compile(r"(\d+)")
_SHOWN = 3


def is_system_name(name: str) -> bool:
    """Tell whether a file or folder name is hidden or an operating system's own.

    Names that start with a dot (``._clip.avi``, ``.DS_Store``), and ``__MACOSX``, ``@eaDir``,
    ``Thumbs.db`` and the like. They are skipped everywhere, without being counted.
    """
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def is_video_name(name: str | PurePath) -> bool:
    """Tell whether a path has the suffix of a video and is not a system's own name."""
    path = PurePath(name)
    return path.suffix.lower() in VIDEO_SUFFIXES and not is_system_name(path.name)


def is_image_name(name: str | PurePath) -> bool:
    """Tell whether a path has the suffix of a still image and is not a system's own name."""
    path = PurePath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_system_name(path.name)


# Sorting paths asks for the same folders again and again.
@functools.lru_cache(maxsize=4096)
def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return a sorting key in which digits compare as the numbers they are: 9 before 10."""
    parts = _DIGITS.split(name)
    key = [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]
    return key, name


@dataclass(frozen=True)
class Ignored:
    """A path that was passed over, and why in a few words (``.txt file``, ``named pipe``)."""

    path: Path
    reason: str


@dataclass(frozen=True)
class MediaFiles:
    """The files below a folder, by what they are taken for.

    Attributes:
        videos: In the natural order of their paths.
        images: In the natural order of their paths.
        ignored: Everything else but system files: other suffixes, links that lead nowhere or to a
            folder that was read already, pipes, sockets, folders that cannot be read.
    """

    videos: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)

    def ignored_text(self) -> str | None:
        """Say what was passed over, with counts and examples; None where nothing was.

        For example ``ignored 3 files: 2 x .txt file (a.txt, b.txt), 1 x named pipe (p)``.
        """
        if not self.ignored:
            return None
        reasons: dict[str, list[Path]] = {}
        for entry in self.ignored:
            reasons.setdefault(entry.reason, []).append(entry.path)
        parts = [
            f"{len(paths)} x {reason} ({_examples(paths)})" for reason, paths in reasons.items()
        ]
        count = len(self.ignored)
        return f"ignored {count} {'entry' if count == 1 else 'entries'}: {', '.join(parts)}"


def find_media(root: Path) -> MediaFiles:
    """List the videos and images below a folder, through links too, each folder once.

    A link to a folder is followed unless that folder contains ``root`` or is read by another name;
    folders under their own names come first. A folder that cannot be read is named among the
    ignored.

    Raises:
        UserError: ``root`` is not a folder or cannot be read.
    """
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{root} {found}: give a folder")
    try:
        with os.scandir(root):
            pass
    except OSError as error:
        raise UserError(
            f"{root} cannot be read ({error.strerror}): check its permissions"
        ) from error
    return _sorted(_entries(root))


def _entries(root: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield (kind, path, reason) for all entries below; kind is video, image or ignored."""
    real = Path(os.path.realpath(root))
    seen = {_identity(os.stat(folder)) for folder in real.parents}
    folders: list[Path] = [root]
    links: list[Path] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        try:
            identity = _identity(os.stat(folder))
            if identity in seen:
                yield "ignored", folder, "link to a folder that is read by another name"
                continue
            seen.add(identity)
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: natural_key(entry.name), reverse=True)
        except OSError as error:
            yield "ignored", folder, f"folder that cannot be read ({error.strerror})"
            continue
        for entry in entries:
            if is_system_name(entry.name):
                continue
            path = folder / entry.name
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                yield "ignored", path, _unreachable(entry, error)
                continue
            if stat.S_ISDIR(mode):
                (links if entry.is_symlink() else folders).append(path)
            elif not stat.S_ISREG(mode):
                yield "ignored", path, _special(mode)
            elif is_video_name(entry.name):
                yield "video", path, ""
            elif is_image_name(entry.name):
                yield "image", path, ""
            else:
                yield (
                    "ignored",
                    path,
                    f"{path.suffix.lower()} file" if path.suffix else "file without suffix",
                )


def _sorted(entries: Iterable[tuple[str, Path, str]]) -> MediaFiles:
    media = MediaFiles()
    for kind, path, reason in entries:
        if kind == "video":
            media.videos.append(path)
        elif kind == "image":
            media.images.append(path)
        else:
            media.ignored.append(Ignored(path, reason))
    for paths in (media.videos, media.images):
        paths.sort(key=lambda path: [natural_key(part) for part in path.parts])
    media.ignored.sort(key=lambda entry: [natural_key(part) for part in entry.path.parts])
    return media


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _unreachable(entry: os.DirEntry[str], error: OSError) -> str:
    if entry.is_symlink():
        return "link that leads nowhere"
    return f"entry that cannot be read ({error.strerror})"


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "named pipe"
    if stat.S_ISSOCK(mode):
        return "socket"
    return "device"


def _examples(paths: list[Path]) -> str:
    names = [path.name for path in paths[:_SHOWN]]
    return ", ".join(names) + (", ..." if len(paths) > _SHOWN else "")
