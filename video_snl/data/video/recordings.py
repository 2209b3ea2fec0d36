"""Recordings that clips were cut from: clips of one look alike, and count together in intervals."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

from video_snl.utils.text import read_text

__all__ = ["recordings_of"]

SPLIT_FILE = "split.csv"
# UCF-101's names, such as v_JumpingJack_g08_c01.avi.
_RECORDING = re.compile(r"(?:.*_)?g\d+(?=_c\d+)")


def recordings_of(paths: Sequence[str], run: Path | None = None) -> list[str] | None:
    """Return the recording of each video, by the run's ``split.csv`` or the videos' names.

    A video whose recording is not known is one of its own.

    Args:
        paths: Paths of the videos.
        run: Folder of the run they were evaluated for.

    Returns:
        None where the recording of no video is known.

    Raises:
        UserError: The run's ``split.csv`` cannot be read.
    """
    listed = {} if run is None else _listed_groups(run / SPLIT_FILE)
    found = [_listed(path, listed) or _named(path) for path in paths]
    if not any(found):
        return None
    return [
        f"file {path}" if group is None else group for path, group in zip(paths, found, strict=True)
    ]


def _named(path: str) -> str | None:
    match = _RECORDING.match(os.path.basename(path))
    return None if match is None else match[0]


def _listed_groups(file: Path) -> dict[str, str]:
    """Read the column ``group`` of a run's list, by the paths as they stand there."""
    if not file.is_file():
        return {}
    rows = csv.DictReader(io.StringIO(read_text(file), newline=""))
    if not {"path", "group"} <= set(rows.fieldnames or ()):
        return {}
    return {row["path"]: row["group"] for row in rows if row["group"]}


def _listed(path: str, groups: dict[str, str]) -> str | None:
    """Look a path up as it is, or by its end: those of a list start at the dataset's folder."""
    while groups and path:
        if path in groups:
            return groups[path]
        path = path.partition(os.sep)[2]
    return None
