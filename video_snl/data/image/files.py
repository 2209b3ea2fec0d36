"""Which images the folders of classes hold."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from video_snl.utils.media import Ignored, MediaFiles, entry_kind, is_system_name

__all__ = ["list_class_images", "say_ignored"]


def say_ignored(folder: str | Path, ignored: Sequence[Ignored]) -> None:
    """Say on stderr what was passed over in a folder, with counts and examples, if anything was."""
    text = MediaFiles(ignored=list(ignored)).ignored_text()
    if text is not None:
        print(f"{folder}: {text}", file=sys.stderr, flush=True)


def list_class_images(folder: str | Path) -> tuple[list[str], list[Ignored]]:
    """List the images of a class, those in folders below it too, and what else is there.

    Folders are sorted by path and files by name, as in torchvision's ImageFolder. A link to a
    folder is followed unless that folder contains the class or is read by another name; folders
    under their own names come first. It asks the system for no more than the names and kinds of
    entries, as a data set has a million of them.
    """
    found: list[tuple[str, list[str]]] = []
    ignored: list[Ignored] = []
    seen = set(map(str, Path(os.path.realpath(folder)).parents))
    folders, links = [str(folder)], list[str]()
    while folders or links:
        place = folders.pop() if folders else links.pop()
        names: list[str] = []
        real = os.path.realpath(place)
        if real in seen:
            ignored.append(Ignored(Path(place), "link to a folder that is read by another name"))
            continue
        seen.add(real)
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if is_system_name(entry.name):
                        continue
                    kind, reason = entry_kind(entry)
                    if kind == "image":
                        names.append(entry.name)
                        continue
                    if kind == "folder":
                        (links if entry.is_symlink() else folders).append(entry.path)
                        continue
                    ignored.append(Ignored(Path(entry.path), reason))
        except OSError as error:
            reason = f"folder that cannot be read ({error.strerror})"
            ignored.append(Ignored(Path(place), reason))
        found.append((place, sorted(names)))
    return [f"{place}/{name}" for place, names in sorted(found) for name in names], ignored
