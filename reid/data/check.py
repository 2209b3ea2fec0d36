"""``reid check``: is every picture of a data set there, sound and where it belongs?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice

from reid.config import ReidDataConfig
from reid.data.check_report import print_table, to_json
from reid.data.datasets.catalog import read_dataset, root_of
from reid.data.datasets.faults import Fault
from reid.data.datasets.official import OFFICIAL, count, parts_of, unmatched_queries
from reid.data.tracklet import ReidData
from reid.report.pictures import Finding, inspect
from video_snl.data.workers.pool import map_with_timeout
from video_snl.utils.counts import counts
from video_snl.utils.progress import counted

__all__ = ["check"]

BATCH = 32  # pictures read by a process at a time


def check(config: ReidDataConfig, *, as_json: bool, num_workers: int | None = None) -> int:
    """Open every picture and print what is wrong; 1 when anything is, else 0.

    Wrong are missing and damaged pictures, tracklets without pictures or of several people,
    people both in train and query, other counts than the published data set has, and a gallery
    with no match for any query. That some queries have none is told, and wrong only where the
    published data set has another number of them.

    Args:
        config: Data set, root, split, the deadline of a batch of 32 images in seconds, and the
            limit on the pixels of an image.
        num_workers: Processes; default as many as there are cores.

    Raises:
        UserError: There is no such data set, or it is unusable as a whole.
    """
    root = root_of(config.dataset, config.root)
    faults: list[Fault] = []
    data = read_dataset(config.dataset, root, config.split, faults.append)
    workers = num_workers or len(os.sched_getaffinity(0))
    findings = [Finding(fault.kind, fault.path, fault.detail) for fault in faults]
    findings += _whole_folders(data, _look_at_pictures(data, workers, config))
    findings += _wrong_counts(data, str(root))
    findings.sort(key=lambda finding: (finding.kind, finding.path))
    if as_json:
        print(to_json(root, config.split, data, findings))
    else:
        print_table(root, data, findings)
    return 1 if findings else 0


def _look_at_pictures(data: ReidData, workers: int, config: ReidDataConfig) -> list[Finding]:
    batches = list(_batches(data))
    found, given_up = _run(batches, workers, config, f"checked batches of {BATCH} pictures")
    # Which picture of its batch was it?
    single = [(path,) for batch, _ in given_up for path in batch]
    if single:
        more, lost = _run(single, workers, config, "checked again one by one")
        found += more + [Finding("unreadable", path, why) for (path,), why in lost]
    return found


def _batches(data: ReidData) -> Iterator[tuple[str, ...]]:
    frames = iter(
        dict.fromkeys(
            frame
            for tracklets in parts_of(data).values()
            for tracklet in tracklets
            for frame in tracklet.frames
        )
    )
    while batch := tuple(islice(frames, BATCH)):
        yield batch


def _run(
    batches: Sequence[tuple[str, ...]], workers: int, config: ReidDataConfig, what: str
) -> tuple[list[Finding], list[tuple[tuple[str, ...], str]]]:
    """What was found, and the batches that could not be read to their end, with the reason."""
    found: list[Finding] = []
    given_up = []
    deadline = config.deadline
    look = partial(inspect, max_pixels=config.max_pixels)
    outcomes = map_with_timeout(look, batches, num_workers=workers, deadline=deadline, ahead=2)
    with closing(outcomes):
        for outcome in counted(outcomes, len(batches), what):
            if outcome.value is not None:
                found += outcome.value
            elif outcome.kind == "timeout":
                given_up.append((outcome.item, f"not read within {deadline:g} s"))
            else:
                given_up.append((outcome.item, str(outcome.failure)))
    return found, given_up


def _whole_folders(data: ReidData, findings: list[Finding]) -> list[Finding]:
    """The findings, with one for each folder of which all pictures are missing."""
    named: dict[str, int] = {}
    for tracklets in parts_of(data).values():
        for tracklet in tracklets:
            for frame in tracklet.frames:
                folder = os.path.dirname(frame)
                named[folder] = named.get(folder, 0) + 1
    missing: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.kind == "missing":
            missing.setdefault(os.path.dirname(finding.path), []).append(finding)
    kept = [finding for finding in findings if finding.kind != "missing"]
    for folder, of_folder in missing.items():
        if len(of_folder) == named[folder] > 1:
            kept.append(Finding("missing", folder, f"all its {counts(named[folder], 'picture')}"))
        else:
            kept += of_folder
    return kept


def _wrong_counts(data: ReidData, root: str) -> list[Finding]:
    """Differences from the published counts; a gallery that answers no query."""
    found = []
    unmatched, official = len(unmatched_queries(data)), OFFICIAL.get(data.name)
    if official is None:
        if unmatched == len(data.query):
            detail = (
                "no query has a match in the gallery (same person, another camera); data of one "
                "camera is evaluated with reid evaluate --cameras ignore"
            )
            found.append(Finding("counts", root, detail))
        return found
    parts = parts_of(data)
    for name, expected in official.parts.items():
        held = count(parts.get(name, []))
        for what in ("people", "cameras", "tracklets", "frames"):
            right, is_there = getattr(expected, what), getattr(held, what)
            if right is not None and is_there != right:
                detail = f"{name} has {is_there:,} {what}, published are {right:,}"
                found.append(Finding("counts", root, detail))
    if unmatched != official.unmatched:
        detail = f"queries without a match: {unmatched}, published are {official.unmatched}"
        found.append(Finding("counts", root, detail))
    return found
