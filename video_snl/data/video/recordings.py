"""Recordings that clips were cut from: clips of one look alike, and count together in intervals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from video_snl.data.video.division import SPLIT_FILE, group_of_name, read_split

__all__ = ["recordings_of"]


def recordings_of(
    paths: Sequence[str], run: Path | None = None, known: Mapping[str, str] | None = None
) -> list[str] | None:
    """Return the recording of each video: by the dataset, the run's list, or the video's name.

    A video whose recording is not known is one of its own.

    Args:
        paths: Paths of the videos.
        run: Folder of the run they were evaluated for, with a list or without.
        known: Recordings that the dataset says, by path.

    Returns:
        None where the recording of no video is known.

    Raises:
        UserError: The run's list cannot be read.
    """
    stored = None if run is None else read_split(run / SPLIT_FILE)
    listed = {} if stored is None else {path: row[2] for path, row in stored.rows.items() if row[2]}
    said = known or {}
    found = [said.get(path) or _listed(path, listed) or group_of_name(path) for path in paths]
    if not any(found):
        return None
    return [
        f"file {path}" if group is None else group for path, group in zip(paths, found, strict=True)
    ]


def _listed(path: str, groups: Mapping[str, str]) -> str | None:
    """Look a path up as it is, or by its end: those of a list start at the dataset's folder."""
    while groups and path:
        if path in groups:
            return groups[path]
        path = path.partition(os.sep)[2]
    return None
