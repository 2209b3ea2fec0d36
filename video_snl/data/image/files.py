"""Which images a folder holds: below one that a user names, and in the folders of classes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from video_snl.utils.media import (
    IMAGE_SUFFIXES,
    Ignored,
    MediaFiles,
    find_media,
    is_system_name,
)

__all__ = ["images_below", "list_class_images", "say_ignored"]


def images_below(folder: Path) -> tuple[list[Path], list[Ignored]]:
    """List the images below a folder in natural order, and what else is there.

    Raises:
        UserError: It is not a folder, or it cannot be read.
    """
    media = find_media(folder)
    videos = [Ignored(path, f"{path.suffix.lower()} file") for path in media.videos]
    return media.images, media.ignored + videos


def say_ignored(folder: str | Path, ignored: Sequence[Ignored]) -> None:
    """Say on stderr what was passed over in a folder, with counts and examples, if anything was."""
    text = MediaFiles(ignored=list(ignored)).ignored_text()
    if text is not None:
        print(f"{folder}: {text}", file=sys.stderr, flush=True)


def list_class_images(folder: str | Path) -> tuple[list[str], list[Ignored]]:
    """List the images of a class, those in folders below it too, and what else is there.

    Folders are sorted by path and files by name, as in torchvision's ImageFolder. It asks the
    system for no more than the names and kinds of entries, as a data set has a million of them.
    """
    found: list[tuple[str, list[str]]] = []
    ignored: list[Ignored] = []
    waiting, seen = [str(folder)], {os.path.realpath(folder)}
    while waiting:
        place = waiting.pop()
        names: list[str] = []
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if is_system_name(entry.name):
                        continue
                    suffix = os.path.splitext(entry.name)[1].lower()
                    try:
                        is_folder, is_file = entry.is_dir(), entry.is_file()
                    except OSError as error:  # a link to itself, for example
                        ignored.append(_ignored(entry, f"entry not found ({error.strerror})"))
                        continue
                    if is_folder:
                        real = os.path.realpath(entry.path)
                        if real in seen:
                            ignored.append(_ignored(entry, "link to a folder that is read already"))
                        else:
                            seen.add(real)
                            waiting.append(entry.path)
                    elif not is_file:
                        ignored.append(_ignored(entry, "link, pipe or device without a file"))
                    elif suffix in IMAGE_SUFFIXES:
                        names.append(entry.name)
                    else:
                        reason = f"{suffix} file" if suffix else "file without suffix"
                        ignored.append(_ignored(entry, reason))
        except OSError as error:
            reason = f"folder that cannot be read ({error.strerror})"
            ignored.append(Ignored(Path(place), reason))
        found.append((place, sorted(names)))
    return [os.path.join(place, name) for place, names in sorted(found) for name in names], ignored


def _ignored(entry: os.DirEntry[str], reason: str) -> Ignored:
    return Ignored(Path(entry.path), reason)
