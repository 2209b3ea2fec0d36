"""Datasets by name: which tracklets to train on, to search for and to search in.

A dataset is one module beside this one and one entry here; options and messages take the names from
the entries. Without NumPy and torch, since the command line reads the names.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reid.data.datasets.base import Counts, Dataset, Fault, Published, Report, refuse
from reid.data.tracklet import ReidData, Tracklet
from video_snl.data.duplicates import Same, find_repeats
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.text import examples, say_once

__all__ = ["DATASETS", "DatasetName", "load_dataset", "num_splits", "read_dataset", "root_of"]

DATASETS: dict[str, Dataset] = {
    "sample": Dataset(
        "reid.data.synthetic.sample",
        root=None,
        has_lists=True,
        all_protocols=True,
    ),
    "mars": Dataset(
        "reid.data.datasets.mars",
        root="the folder that holds bbox_train/, bbox_test/ and info/",
        published=Published(
            {
                "train": Counts(625, 6, 8298, 509_914),
                "query": Counts(626, 6, 1980, 114_493),
                "gallery": Counts(620, 6, 9330, 543_216),
                "junk": Counts(0, 6, 870, 23_380),
            },
            unmatched=140,
        ),
        has_lists=True,
        all_protocols=True,
    ),
    "ilids-vid": Dataset(
        "reid.data.datasets.ilids",
        root="the folder that holds i-LIDS-VID/ and 'train-test people splits/'",
        num_splits=10,
        published=Published(
            {
                "train": Counts(150, 2, 300, None),
                "query": Counts(150, 1, 150, None),
                "gallery": Counts(150, 1, 150, None),
            },
            unmatched=0,
        ),
    ),
    "prid2011": Dataset(
        "reid.data.datasets.prid",
        root="the folder that holds prid_2011/",
        num_splits=10,
        published=Published(
            {
                "train": Counts(89, 2, 178, None),
                "query": Counts(89, 1, 89, None),
                "gallery": Counts(89, 1, 89, None),
            },
            unmatched=0,
        ),
    ),
    "market1501": Dataset(
        "reid.data.datasets.market:load_market1501",
        root="the folder that holds bounding_box_train/, query/ and bounding_box_test/",
        published=Published(
            {
                "train": Counts(751, 6, 12_936, 12_936),
                "query": Counts(750, 6, 3368, 3368),
                "gallery": Counts(750, 6, 15_913, 15_913),
                "junk": Counts(0, None, 3819, 3819),
            },
            unmatched=0,
        ),
        single_images=True,
    ),
    "dukemtmc-reid": Dataset(
        "reid.data.datasets.market:load_dukemtmc",
        root="the folder that holds bounding_box_train/, query/ and bounding_box_test/",
        published=Published(
            {
                "train": Counts(702, 8, 16_522, 16_522),
                "query": Counts(702, 8, 2228, 2228),
                "gallery": Counts(1110, 8, 17_661, 17_661),
            },
            unmatched=None,
        ),
        single_images=True,
    ),
    "msmt17": Dataset(
        "reid.data.datasets.listed:load_msmt17",
        root="the folder of MSMT17_V1 or MSMT17_V2, that holds list_train.txt",
        published=Published(
            {
                "train": Counts(1041, 15, 30_248, 30_248),
                "query": Counts(3060, 15, 11_659, 11_659),
                "gallery": Counts(3060, 15, 82_161, 82_161),
            },
            unmatched=None,
        ),
        has_lists=True,
        single_images=True,
    ),
    "dukemtmc-videoreid": Dataset(
        "reid.data.datasets.duke_video",
        root="the folder that holds train/, query/ and gallery/",
        published=Published(
            {
                "train": Counts(702, 8, 2196, 369_656),
                "query": Counts(702, 8, 702, 111_848),
                "gallery": Counts(1110, 8, 2636, 445_764),
            },
            unmatched=None,
        ),
    ),
    "ls-vid": Dataset(
        "reid.data.datasets.listed:load_lsvid",
        root="the folder that holds list_sequence/, tracklet_train/ and tracklet_test/",
        published=Published(
            {
                "train": Counts(842, 15, 2831, None),
                "query": Counts(None, None, 3504, None),
                "gallery": Counts(None, None, 7829, None),
            },
            unmatched=None,
        ),
        has_lists=True,
        all_protocols=True,
    ),
    "folder": Dataset(
        "reid.data.datasets.folder",
        root="the folder that holds train/, query/ and gallery/",
    ),
}


# Type checkers know no types that are computed.
if TYPE_CHECKING:
    DatasetName = str
else:
    DatasetName = Literal[tuple(DATASETS)]


def load_dataset(name: str, root: str | Path | None = None, split: int = 0) -> ReidData:
    """Load the tracklets of a dataset, of one division of its identities.

    The same folder gives the same lists, always: frames in the order of time, tracklets in the
    order of identity, camera and time. MARS and MSMT17 are read from their lists alone; of the
    other datasets the folders are listed. ``reid check`` opens the images.

    Args:
        name: ``sample`` (generated on first use), ``mars``, ``ilids-vid``, ``prid2011``,
            ``market1501``, ``dukemtmc-reid``, ``msmt17``, ``dukemtmc-videoreid``, ``ls-vid`` or
            ``folder``.
        root: Folder of the dataset (docs/reid.md has the layouts); only ``sample`` has a default, a
            folder in the cache.
        split: Number of the division; iLIDS-VID and PRID-2011 have splits 0 to 9, the others only
            0.

    Raises:
        UserError: Not that layout; files missing or malformed; a tracklet without frames, or of
            several identities; identities both in train and query; nothing to search for or in.
    """
    return read_dataset(name, root, split, refuse)


def read_dataset(name: str, root: str | Path | None, split: int, report: Report) -> ReidData:
    """Load a dataset as :func:`load_dataset`, but tell ``report`` of faults that leave the rest.

    Tracklets with a fault are left out.

    Raises:
        UserError: What makes the dataset unusable as a whole.
    """
    if name not in DATASETS:
        raise UserError(f"there is no dataset {name!r}: give one of {', '.join(DATASETS)}")
    folder = root_of(name, root)
    if split != 0 and num_splits(name) == 1:
        raise UserError(
            f"split {split} of {name} does not exist: its identities are divided in one way, give 0"
        )
    module, _, function = DATASETS[name].module.partition(":")
    data = getattr(importlib.import_module(module), function or "load")(folder, split, report)
    if not DATASETS[name].has_lists:
        data = _distinct(data)
    for part, tracklets in (("query", data.query), ("gallery", data.gallery)):
        if not tracklets:
            raise UserError(
                f"the {part} of dataset {data.name} is empty (junk does not count): evaluation "
                "needs tracklets to search for and to search in, add some"
            )
    if not DATASETS[name].has_lists:
        _check_files(data, report)
    _check_identities(data, report)
    return data


def root_of(name: str, root: str | Path | None) -> Path:
    """Return the folder of a dataset; that of ``sample`` is made if it is not there.

    Raises:
        UserError: None was given where one is needed, or one that does not exist.
    """
    given = None if root is None else Path(root).expanduser()
    entry = DATASETS[name]
    if entry.root is None:
        return importlib.import_module(entry.module).ensure(given)
    if given is None:
        raise UserError(f"dataset {name} needs --root: {entry.root}")
    if not given.is_dir():
        found = "is a file" if given.exists() else "does not exist"
        raise UserError(f"--root {root} {found}: give {entry.root}")
    return given


def num_splits(name: str) -> int:
    """Return how many divisions a dataset has; 1 for a name that is not in the catalog."""
    return DATASETS[name].num_splits if name in DATASETS else 1


def _distinct(data: ReidData) -> ReidData:
    """Return the dataset with every tracklet once in its part, and say which came twice.

    Tracklets are the same if their frames are the same files, under whatever names.
    """
    parts = {"train": data.train, "query": data.query, "gallery": data.gallery}
    for part, tracklets in parts.items():
        frames = [(frame, None) for tracklet in tracklets for frame in tracklet.frames]
        first = {same.path: same.first for same in find_repeats({part: frames}).repeated}
        if not first:
            continue
        kept: dict[tuple[int, int, tuple[str, ...]], Tracklet] = {}
        twice = []
        for tracklet in tracklets:
            files = tuple(first.get(frame, frame) for frame in tracklet.frames)
            met = kept.setdefault((tracklet.person_id, tracklet.camera_id, files), tracklet)
            if met is not tracklet:
                twice.append(f"{tracklet.path} is {met.path}")
        if twice:
            parts[part] = list(kept.values())
            said = f"{counts(len(twice), 'tracklet')} listed twice and counted once"
        else:
            twice = [f"{path} is {original}" for path, original in first.items()]
            said = f"{counts(len(twice), 'image')} in more than one tracklet, and kept in each"
        say_once(f"dataset {data.name}, {part}: {said} ({examples(twice, 2)})")
    return replace(data, train=parts["train"], query=parts["query"], gallery=parts["gallery"])


def _check_files(data: ReidData, report: Report) -> None:
    """Report images that are trained on and searched for or in, by their device and inode."""
    parts = {
        "train": [(frame, None) for tracklet in data.train for frame in tracklet.frames],
        "query and gallery": [
            (frame, None)
            for tracklet in (*data.query, *data.gallery, *data.junk)
            for frame in tracklet.frames
        ],
    }
    folders: dict[str, list[Same]] = {}
    for same in find_repeats(parts).shared:
        folders.setdefault(os.path.dirname(same.path), []).append(same)
    for found in folders.values():
        more = f", and {len(found) - 1} more of its folder" if len(found) > 1 else ""
        report(Fault("leaked", found[0].path, f"is {found[0].first} of train, too{more}"))


def _check_identities(data: ReidData, report: Report) -> None:
    """Report identities that are trained on and searched for."""
    trained = {tracklet.person_id: tracklet for tracklet in data.train}
    shared = sorted({tracklet.person_id for tracklet in data.query} & trained.keys())
    if shared:
        first = trained[shared[0]]
        detail = (
            f"{counts(len(shared), 'identity')} both in train and in query, the first is "
            f"{first.person_name}"
        )
        report(Fault("shared", first.path, detail))
