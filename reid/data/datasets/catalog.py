"""The data sets: which tracklets to train on, to search for and to search in."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from reid.data.datasets.faults import Fault, Report, refuse
from reid.data.datasets.folder import load_folder
from reid.data.datasets.ilids import load_ilids
from reid.data.datasets.mars import load_mars
from reid.data.datasets.prid import load_prid
from reid.data.tracklet import ReidData, Tracklet
from video_snl.data.duplicates import Same, find_repeats
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.text import examples, say_once

__all__ = ["LOADERS", "NEEDED", "load_dataset", "read_dataset", "root_of"]


def _sample(root: Path, split: int, report: Report) -> ReidData:
    return load_mars(root, split, report, name="sample")


LOADERS: dict[str, Callable[[Path, int, Report], ReidData]] = {
    "sample": _sample,
    "mars": load_mars,
    "ilids-vid": load_ilids,
    "prid2011": load_prid,
    "folder": load_folder,
}

NEEDED: dict[str, str] = {
    "mars": "the folder that holds bbox_train/, bbox_test/ and info/",
    "ilids-vid": "the folder that holds i-LIDS-VID/ and 'train-test people splits/'",
    "prid2011": "the folder that holds prid_2011/",
    "folder": "the folder that holds train/, query/ and gallery/",
}
"""What the root of a data set is."""


def load_dataset(name: str, root: str | Path | None = None, split: int = 0) -> ReidData:
    """The tracklets of a data set, of one division of its people.

    The same folder gives the same lists, always: frames in the order of time, tracklets in the
    order of person, camera and time. Of MARS no picture is looked at; of the other data sets the
    folders are listed. ``reid check`` opens the pictures.

    Args:
        name: ``sample`` (generated on first use), ``mars``, ``ilids-vid``, ``prid2011`` or
            ``folder``.
        root: Folder of the data set (docs/reid.md has the layouts); only ``sample`` has a default,
            a folder in the cache.
        split: iLIDS-VID and PRID-2011 have splits 0 to 9, the others only 0.

    Raises:
        UserError: Not that layout; files missing or malformed; a tracklet without frames, or of
            several people; people both in training and query; nothing to search for or in.
    """
    return read_dataset(name, root, split, refuse)


def read_dataset(name: str, root: str | Path | None, split: int, report: Report) -> ReidData:
    """:func:`load_dataset`, which tells ``report`` of every fault that leaves the rest usable.

    Tracklets with a fault are left out.

    Raises:
        UserError: What makes the data set unusable as a whole.
    """
    if name not in LOADERS:
        raise UserError(f"there is no data set {name!r}: give one of {', '.join(LOADERS)}")
    data = _distinct(LOADERS[name](root_of(name, root), split, report))
    _check_parts(data, report)
    return data


def root_of(name: str, root: str | Path | None) -> Path:
    """The folder of a data set; that of ``sample`` is made if it is not there.

    Raises:
        UserError: None was given where one is needed, or none that exists.
    """
    given = None if root is None else Path(root).expanduser()
    if name == "sample":
        from reid.data.synthetic.sample import ensure_sample

        return ensure_sample(given)
    if given is None:
        raise UserError(f"data set {name} needs --root: {NEEDED[name]}")
    if not given.is_dir():
        found = "is a file" if given.exists() else "does not exist"
        raise UserError(f"--root {root} {found}: give {NEEDED[name]}")
    return given


def _distinct(data: ReidData) -> ReidData:
    """Return the dataset with every tracklet once in its part, and say which came twice.

    Tracklets are the same if their frames are the same files, under whatever names. Of MARS, whose
    lists alone are read, no file is looked at.
    """
    if data.name in ("mars", "sample"):
        return data
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
    """Report images that are trained on and searched for or in, by their device and inode.

    Of MARS, whose lists alone are read, no file is looked at.
    """
    if data.name in ("mars", "sample"):
        return
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


def _check_parts(data: ReidData, report: Report) -> None:
    for part, tracklets in (("query", data.query), ("gallery", data.gallery)):
        if not tracklets:
            raise UserError(
                f"the {part} of data set {data.name} is empty (junk does not count): evaluation "
                "needs tracklets to search for and to search in, add some"
            )
    _check_files(data, report)
    trained = {tracklet.person_id: tracklet for tracklet in data.train}
    shared = sorted({tracklet.person_id for tracklet in data.query} & trained.keys())
    if shared:
        first = trained[shared[0]]
        detail = f"{len(shared)} people are in train and in query, the first is {first.person_name}"
        report(Fault("shared", first.path, detail))
