"""Sort the files of a folder into videos, images, and others.

The one place that knows the accepted formats and the names to pass over; every command of both
programs lists folders through it, so that all of them see the same files. Without torch.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

from video_snl.errors import UserError
from video_snl.utils.counts import noun
from video_snl.utils.text import examples, say_once, without_password

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "VIDEO_SUFFIXES",
    "Ignored",
    "Kind",
    "MediaFiles",
    "by_folder",
    "check_named",
    "entry_kind",
    "find_media",
    "is_image_name",
    "is_system_name",
    "is_video_name",
    "list_folder",
    "named_media",
    "named_once",
    "natural_key",
]

MAX_PIXELS = 1 << 26
"""Default of ``max_pixels``: pixels of an image or of one frame, checked before memory is taken."""

Kind = Literal["folder", "video", "image", "other"]

# What FFmpeg's demuxers read and users have. `.gif` is a video here: it has frames and times.
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

# Written by operating systems and file servers beside users' files.
_SYSTEM_NAMES = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "thumbs.db", "ehthumbs.db", "desktop.ini"}
    | {"system volume information", "lost+found"}
)

_DIGITS = re.compile(r"(\d+)")


def is_system_name(name: str) -> bool:
    """Tell whether a file or folder name is hidden or an operating system's own.

    Names that start with a dot (``._clip.avi``, ``.DS_Store``), and ``__MACOSX``, ``@eaDir``,
    ``Thumbs.db`` and the like. They are skipped everywhere, without being counted.
    """
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def is_video_name(name: str | PurePath) -> bool:
    """Tell whether a path has the suffix of a video and is not a system's own name."""
    own = _own_name(name)
    return _suffix(own) in VIDEO_SUFFIXES and not is_system_name(own)


def is_image_name(name: str | PurePath) -> bool:
    """Tell whether a path has the suffix of a still image and is not a system's own name."""
    own = _own_name(name)
    return _suffix(own) in IMAGE_SUFFIXES and not is_system_name(own)


def _own_name(path: str | PurePath) -> str:
    return path.name if isinstance(path, PurePath) else path.rstrip("/").rpartition("/")[2]


def _suffix(name: str) -> str:
    """Return the suffix that pathlib finds, in small letters, but faster."""
    at = name.rfind(".")
    return name[at:].lower() if 0 < at < len(name) - 1 else ""


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
        videos: Videos in the natural order of their paths.
        images: Images in the natural order of their paths.
        ignored: Everything else but system files: other suffixes, links that lead nowhere or to a
            folder that was read already, pipes, sockets, folders that cannot be read.
    """

    videos: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)

    def ignored_text(self, wanted: Literal["videos", "images"] | None = None) -> str | None:
        """Say what was passed over, with counts and examples; None where nothing was.

        For example ``ignored 3 entries: 2 x .txt file (a.txt, b.txt), 1 x named pipe (p)``.

        Args:
            wanted: The kind of file that is used; the other kind counts as passed over.
        """
        reasons: dict[str, list[Path]] = {}
        for entry in self.ignored:
            reasons.setdefault(entry.reason, []).append(entry.path)
        if wanted == "videos" and self.images:
            reasons["image"] = self.images
        if wanted == "images" and self.videos:
            reasons["video"] = self.videos
        if not reasons:
            return None
        parts = [
            f"{len(paths)} x {reason} ({examples(path.name for path in paths)})"
            for reason, paths in reasons.items()
        ]
        count = sum(map(len, reasons.values()))
        return f"ignored {count} {'entry' if count == 1 else 'entries'}: {', '.join(parts)}"


def by_folder(paths: Iterable[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Group paths by their folder, in order: each path with its own name. ``""`` is the current."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for path in paths:
        folder, slash, name = path.rpartition("/")
        groups.setdefault(folder or slash, []).append((path, name))
    return sorted(groups.items())


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


def list_folder(folder: Path) -> tuple[list[Path], MediaFiles]:
    """List one folder: the folders in it, in natural order, and its files by kind.

    Folders and files with a system's own names are left out.

    Raises:
        UserError: It cannot be read.
    """
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not is_system_name(entry.name)]
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read ({error.strerror}): check its permissions"
        ) from error
    found = [(*entry_kind(entry), folder / entry.name) for entry in entries]
    folders = [path for kind, _, path in found if kind == "folder"]
    folders.sort(key=lambda path: natural_key(path.name))
    files = _sorted((kind, path, reason) for kind, reason, path in found if kind != "folder")
    return folders, files


def named_once(files: Sequence[Path], program: str) -> list[Path]:
    """Return files in their order, each once; a line on stderr says which were named again.

    A file is the same where its folder and its name are: links of other names stay.

    Args:
        program: The command, which begins that line.
    """
    found: dict[str, Path] = {}
    again: list[str] = []
    for path in files:
        key = os.path.join(os.path.realpath(path.parent), path.name)
        if found.setdefault(key, path) is not path:
            again.append(key)
    if again:
        names = list(dict.fromkeys(str(found[key]) for key in again))
        what = f"{examples(names)} {noun(len(names), 'is', 'are')} named more than once"
        say_once(f"{program}: {what}, and done once")
    return list(found.values())


def check_named(path: str | Path) -> None:
    """Refuse an empty path, which :class:`~pathlib.Path` takes for the working directory.

    Raises:
        UserError: It is empty.
    """
    if not str(path):
        raise UserError("a path is empty: name a file or a folder; the folder you are in is .")


def named_media(
    paths: Iterable[str | Path], wanted: Literal["videos", "images"], program: str
) -> list[Path]:
    """Return the files that paths name: themselves, or those of a kind below a folder.

    What is passed over in a folder is said in a line on stderr. A file that is named counts
    whatever its suffix.

    Args:
        program: The command, which begins that line.

    Raises:
        UserError: A path is empty, is not there or is not a file, or a folder holds none of that
            kind.
    """
    files: list[Path] = []
    for named in paths:
        check_named(named)
        path = Path(named)
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError)
            reason = "" if missing else f" ({getattr(error, 'strerror', None) or error})"
            shown = examples([without_password(str(path))])
            raise UserError(f"{shown}: no such file or folder{reason}") from error
        if stat.S_ISREG(mode):
            files.append(path)
            continue
        if not stat.S_ISDIR(mode):
            raise UserError(f"{path} is a {_special(mode)}: give a file or a folder")
        media = find_media(path)
        found = media.videos if wanted == "videos" else media.images
        ignored = media.ignored_text(wanted)
        if not found:
            suffixes = VIDEO_SUFFIXES if wanted == "videos" else IMAGE_SUFFIXES
            raise UserError(
                f"{path}: found no {wanted} in this folder{f' ({ignored})' if ignored else ''}; "
                f"expected files that end in {', '.join(sorted(suffixes))}"
            )
        if ignored:
            say_once(f"{program}: {path}: {ignored}")
        files += found
    return files


def _entries(root: Path) -> Iterator[tuple[Kind, Path, str]]:
    """Yield (kind, path, reason) for all files below; see :func:`entry_kind`."""
    real = Path(os.path.realpath(root))
    seen = {_identity(os.stat(folder)) for folder in real.parents}
    folders: list[Path] = [root]
    links: list[Path] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        try:
            identity = _identity(os.stat(folder))
            if identity in seen:
                yield "other", folder, "link to a folder that is read by another name"
                continue
            seen.add(identity)
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: natural_key(entry.name), reverse=True)
        except OSError as error:
            yield "other", folder, f"folder that cannot be read ({error.strerror})"
            continue
        for entry in entries:
            if is_system_name(entry.name):
                continue
            path = folder / entry.name
            kind, reason = entry_kind(entry)
            if kind == "folder":
                (links if entry.is_symlink() else folders).append(path)
            else:
                yield kind, path, reason


def entry_kind(entry: os.DirEntry[str]) -> tuple[Kind, str]:
    """Return what an entry of a folder is, and what it is called where it is passed over.

    Most file systems tell files from folders in the listing, so that only links, and what is
    neither, cost a look at the file itself.
    """
    try:
        if entry.is_dir():
            return "folder", "folder"
        if not entry.is_file():
            return "other", _special(entry.stat().st_mode)
    except OSError as error:
        return "other", _unreachable(entry, error)
    suffix = _suffix(entry.name)
    kind: Kind = "other"
    if not is_system_name(entry.name):
        kind = "image" if suffix in IMAGE_SUFFIXES else kind
        kind = "video" if suffix in VIDEO_SUFFIXES else kind
    return kind, f"{suffix} file" if suffix else "file without suffix"


def _sorted(entries: Iterable[tuple[Kind, Path, str]]) -> MediaFiles:
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
