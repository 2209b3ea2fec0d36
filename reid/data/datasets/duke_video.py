"""DukeMTMC-VideoReID in its published layout: a folder for each identity and tracklet.

::

    root/train/0001/0019/0001_C6_F0001_X30823.jpg    person 1, camera 6, frame 1 of the tracklet
    root/query/...
    root/gallery/...

Names without underscores (``0001C6F0001X30823.jpg``), of an earlier release, are read, too. Wu,
Lin, Dong, Yan, Ouyang and Yang, Exploit the Unknown Gradually: One-Shot Video-Based Person
Re-Identification by Stepwise Learning (CVPR 2018).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reid.data.datasets.base import Fault, Report
from reid.data.datasets.frames import list_folders, list_frames
from reid.data.datasets.two_cameras import find_folder, numbers_in_names
from reid.data.tracklet import ReidData, Tracklet

__all__ = ["load"]

_NAME = "dukemtmc-videoreid"
_FRAME = re.compile(r"(?P<person>\d+)_?C(?P<camera>[1-9])_?F\d+")


def load(root: Path, split: int, report: Report) -> ReidData:
    """Load the three parts; identities of the gallery whom no query shows have own numbers.

    Raises:
        UserError: Not that layout.
    """
    train, query, gallery = (
        list(_tracklets(find_folder(root, (part, f"DukeMTMC-VideoReID/{part}"), _NAME), report))
        for part in ("train", "query", "gallery")
    )
    num_cameras = 1 + max((t.camera_id for t in (*train, *query, *gallery)), default=-1)
    return ReidData(_NAME, train, query, gallery, num_cameras=num_cameras)


def _tracklets(folder: Path, report: Report) -> Iterator[Tracklet]:
    persons = list_folders(folder)
    numbers = numbers_in_names(persons)
    for person in persons:
        for tracklet in list_folders(folder / person):
            frames = list_frames(folder / person / tracklet)
            if not frames:
                report(Fault("empty", str(folder / person / tracklet), "has no images"))
                continue
            cameras = {_camera(frame, numbers[person]) for frame in frames}
            camera = cameras.pop()
            if camera is None or cameras:
                detail = f"expected images of person {person} and one camera"
                report(Fault("mixed", str(folder / person / tracklet), detail))
            else:
                yield Tracklet(frames, numbers[person], camera)


def _camera(frame: str, person: int) -> int | None:
    """Return the camera that a frame's name says, from 0; None where it is of somebody else."""
    name = _FRAME.match(frame.rpartition("/")[2])
    return int(name["camera"]) - 1 if name and int(name["person"]) == person else None
