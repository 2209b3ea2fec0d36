"""``reid extract``: features of tracklets that stand in folders or videos."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from reid.datasets.folder import camera_numbers, person_numbers
from reid.datasets.frames import list_frames, natural
from reid.encode import encode, table_of
from reid.features import FeatureTable, write_features
from reid.options import check_data
from reid.outputs import check_file, writing
from reid.runs import find_checkpoint
from reid.tracklet import Tracklet
from reid.trained import load_trained
from video_snl.data.folders import VIDEO_SUFFIXES
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError

__all__ = ["Layout", "extract", "extract_tracklets", "find_tracklets"]

Layout = Literal["none", "folder"]
_UNKNOWN = -1


def extract(
    paths: Sequence[str],
    *,
    checkpoint: str | None,
    output: str,
    layout: Layout,
    test_frames: int | None,
    num_workers: int | None,
    accelerator: str,
    max_pixels: int | None = None,
) -> int:
    """Write the features of all tracklets to a file, or nothing at all.

    Raises:
        UserError: A path that is not there or holds no tracklet, a tracklet that cannot be read, a
            file that cannot be written.
    """
    check_file("--output", output, "feats.parquet")
    table = extract_tracklets(
        find_checkpoint(checkpoint),
        paths,
        layout=layout,
        test_frames=test_frames,
        num_workers=num_workers,
        accelerator=accelerator,
        max_pixels=max_pixels,
    )
    with writing("--output", output):
        write_features(Path(output), table)
    skipped = int(table.skipped_frames.sum())
    frames = int(table.num_frames.sum())
    print(f"{len(table.names)} tracklets, {frames} frames, {table.features.shape[1]} numbers each")
    if skipped:
        print(f"frames that could not be read and were skipped: {skipped}")
    print(f"features: {output}")
    return 0


def extract_tracklets(
    checkpoint: Path,
    paths: Sequence[str],
    *,
    layout: Layout = "none",
    test_frames: int | None = None,
    num_workers: int | None = None,
    accelerator: str = "auto",
    max_pixels: int | None = None,
) -> FeatureTable:
    """The features of tracklets, named by their folders or videos.

    Args:
        checkpoint: File of the network.
        paths: See :func:`find_tracklets`.
        layout: ``folder`` takes the numbers of people and cameras from the last folders of a path,
            ``<person>/<camera>/<tracklet>``, as the data set ``folder`` does; otherwise they are
            unknown, -1.
        test_frames: N evenly spaced frames instead of all.
        num_workers: Processes that read; default as in training.
        max_pixels: Most pixels of an image; default as in training.

    Raises:
        UserError: A path that is not there or holds no tracklet, a tracklet that cannot be read.
    """
    found = find_tracklets(paths)
    tracklets = _numbered(found) if layout == "folder" else list(found.values())
    trained = load_trained(checkpoint)
    data = trained.experiment.data
    if num_workers is not None:
        data = replace(data, num_workers=num_workers)
    if max_pixels is not None:
        data = replace(data, max_pixels=max_pixels)
    check_data(data)
    encoded = encode(
        trained.model,
        tracklets,
        data,
        test_frames=test_frames,
        device=device_of(accelerator),
        channels_last=trained.experiment.trainer.channels_last,
    )
    table = table_of(encoded, tracklets, trained)
    return replace(table, names=list(found), test_frames=test_frames)


def find_tracklets(paths: Sequence[str]) -> dict[str, Tracklet]:
    """The tracklets that paths name, by their own path, in natural order within each.

    A folder of pictures is one tracklet, a video is one. Of a folder without pictures, all folders
    with pictures and all videos below it are.

    Raises:
        UserError: A path that is not there, holds no tracklet, or is neither folder nor video; a
            tracklet named twice.
    """
    found: dict[str, Tracklet] = {}
    for path in paths:
        before = len(found)
        for name, frames in _below(path):
            if name in found:
                raise UserError(f"{name} is named twice; name every tracklet once")
            found[name] = Tracklet(frames, _UNKNOWN, _UNKNOWN)
        if len(found) == before:
            raise UserError(
                f"{path} holds no tracklet: neither pictures (.jpg, .jpeg, .png) nor videos "
                f"({', '.join(sorted(VIDEO_SUFFIXES))}) are in it or below it"
            )
    return found


def _below(path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist; name folders of frames, or videos")
    if not os.path.isdir(path):
        if Path(path).suffix.lower() not in VIDEO_SUFFIXES:
            raise UserError(
                f"{path} is neither a folder of frames nor a video "
                f"({', '.join(sorted(VIDEO_SUFFIXES))})"
            )
        yield path, (path,)
        return
    frames = list_frames(path)
    if frames:
        yield path.rstrip("/"), frames
        return
    for name in sorted(os.listdir(path), key=natural):
        inside = os.path.join(path, name)
        if not name.startswith(".") and (
            os.path.isdir(inside) or Path(name).suffix.lower() in VIDEO_SUFFIXES
        ):
            yield from _below(inside)


def _numbered(found: dict[str, Tracklet]) -> list[Tracklet]:
    """The tracklets with the people and cameras of their folders."""
    paths = [Path(name).absolute() for name in found]
    places = [path.parts[-3:-1] for path in paths]
    for name, place in zip(found, places, strict=True):
        if len(place) < 2:
            raise UserError(f"{name}: --layout folder needs <person>/<camera>/<tracklet>")
    people = person_numbers({person for person, _ in places}, Path(os.path.commonpath(paths)))
    cameras = camera_numbers({camera for _, camera in places})
    return [
        Tracklet(tracklet.frames, people[person], cameras[camera])
        for tracklet, (person, camera) in zip(found.values(), places, strict=True)
    ]
