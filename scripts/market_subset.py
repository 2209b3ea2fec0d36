#!/usr/bin/env python
"""Lay a part of Market-1501 out as tracklets, for the dataset `folder` of reid.

    python scripts/market_subset.py market1501_subset.zip market1501_subset_tracklets.json OUT

The ZIP file holds Market's images in its own folders (bounding_box_train/, bounding_box_test/,
query/), the JSON file {"train": [...], "gallery": [...]} with lists of {"pid", "cam", "frames"}:
the images of one person under one camera, taken as a tracklet. Of each person of "gallery" the
tracklet of the first camera becomes the query, the others the gallery; every distractor (0000) and
every junk image (-1 or 00-1) of bounding_box_test/ is a tracklet of its own in the gallery.
Market's own query/ is not used: its images show what the tracklets show.

OUT is complete or absent. Given once more, the command does nothing if OUT holds the result.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.data.tracklet import special_person
from video_snl.data.synthetic.generated import Generated
from video_snl.errors import UserError
from video_snl.utils.counts import counts

FORMAT = 1  # raise it when the same files give another layout
# Two of the published names end in .jpg.jpg.
_IMAGE = re.compile(r"bounding_box_test/([-0-9]+)_c(\d+)s\d+_\d+_\d+(\.jpg)+$")


@dataclass(frozen=True)
class Placed:
    """A tracklet: its folder below OUT and its images in the ZIP file."""

    folder: str
    frames: list[str]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, said in (
        ("images", "ZIP file of the images"),
        ("tracklets", "JSON file that groups them"),
        ("out", "folder to make"),
    ):
        parser.add_argument(name, type=Path, help=said)
    arguments = parser.parse_args(words)
    try:
        placed = lay_out(arguments.images, arguments.tracklets, arguments.out)
    except UserError as error:
        print(f"market_subset: {error}", file=sys.stderr)
        return 2
    for part in ("train", "query", "gallery"):
        of_part = [tracklet for tracklet in placed if tracklet.folder.startswith(part)]
        named = {tracklet.folder.split("/")[1] for tracklet in of_part}
        identities = {name for name in named if special_person(name) is None}
        print(f"{part}: {counts(len(of_part), 'tracklet')}, {counts(len(identities), 'identity')}")
    print(f"{arguments.out}: use it by --dataset folder --root {arguments.out}")
    return 0


def lay_out(images: Path, tracklets: Path, out: Path) -> list[Placed]:
    """Unpack the images into folders of tracklets below ``out``; says where each went.

    Raises:
        UserError: A file is missing, malformed, or does not fit the other; ``out`` holds other
            files or cannot be written.
    """
    groups = _groups(tracklets)
    try:
        with zipfile.ZipFile(images) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{images} is not a readable ZIP file ({error}): give Market's") from error
    placed = [*_places(groups), *_strangers(names)]
    _check_names(placed, set(names), images, tracklets)
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (images, tracklets)]
    Generated(
        what="the Market subset",
        values={"format": FORMAT, "pictures": digests[0], "tracklets": digests[1]},
        generate=lambda root: _unpack(images, placed, root),
        marker="market_subset.json",
        place="the argument OUT",
    ).ensure(out)
    return placed


def _groups(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a readable JSON file ({error}): give the tracklets'"
        ) from error
    for part in ("train", "gallery"):
        tracklets = groups.get(part) if isinstance(groups, dict) else None
        if not isinstance(tracklets, list) or not tracklets or not all(map(_is_group, tracklets)):
            raise UserError(
                f'{path}: expected "{part}": [{{"pid": 2, "cam": 1, "frames": [names]}}, ...]: '
                "give the JSON file that belongs to the images"
            )
    return groups


def _is_group(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(key), int) and value[key] > 0 for key in ("pid", "cam"))
        and isinstance(value.get("frames"), list)
        and bool(value["frames"])
        and all(isinstance(frame, str) for frame in value["frames"])
    )


def _places(groups: dict[str, list[dict[str, Any]]]) -> Iterator[Placed]:
    for part in ("train", "gallery"):
        numbers: dict[tuple[int, int], int] = {}
        searched: set[int] = set()
        for group in sorted(groups[part], key=lambda group: (group["pid"], group["cam"])):
            person, camera = group["pid"], group["cam"]
            number = numbers[person, camera] = numbers.get((person, camera), 0) + 1
            first = part == "gallery" and person not in searched
            searched.add(person)
            folder = f"{'query' if first else part}/{person:04d}/{camera}/{number:04d}"
            yield Placed(folder, group["frames"])


def _strangers(names: Sequence[str]) -> Iterator[Placed]:
    """Yield distractors and junk; each image may show somebody else."""
    numbers: dict[str, int] = {}
    for name in sorted(names):
        found = _IMAGE.match(name)
        if found and special_person(found[1]) is not None:
            folder = f"gallery/{found[1]}/{found[2]}"
            numbers[folder] = numbers.get(folder, 0) + 1
            yield Placed(f"{folder}/{numbers[folder]:04d}", [name])


def _check_names(placed: list[Placed], names: set[str], images: Path, tracklets: Path) -> None:
    wanted = [frame for tracklet in placed for frame in tracklet.frames]
    missing = [frame for frame in wanted if frame not in names]
    if missing:
        raise UserError(
            f"{images} lacks {len(missing):,} of the {len(wanted):,} images that {tracklets} "
            f"names, the first is {missing[0]}: give files that belong together"
        )


def _unpack(images: Path, placed: list[Placed], root: Path) -> None:
    try:
        with zipfile.ZipFile(images) as archive:
            for tracklet in placed:
                folder = root / tracklet.folder
                folder.mkdir(parents=True)
                for frame in tracklet.frames:
                    (folder / Path(frame).name).write_bytes(archive.read(frame))
    except zipfile.BadZipFile as error:
        raise UserError(f"{images} is damaged ({error}): copy it again") from error


if __name__ == "__main__":
    sys.exit(main())
