"""``reid check``: open every image of a dataset and print what is missing or wrong.

Worker processes import this module to inspect images: it loads no torch.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

from reid.config import ReidDataConfig
from reid.data.datasets.base import Counts, Fault, FaultKind, Published
from reid.data.datasets.catalog import DATASETS, read_dataset, root_of
from reid.data.tracklet import DISTRACTOR, JUNK, ReidData, Tracklet
from video_snl.data.image.reading import UnreadableImage, read_image
from video_snl.data.workers.pool import map_with_timeout
from video_snl.utils.counts import counts
from video_snl.utils.json_text import to_json
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.progress import counted

__all__ = ["check", "count", "inspect", "parts_of", "unmatched_queries"]

_BATCH = 32  # images that a process reads at a time
_SHOWN = 20  # faults of each kind in the table

_MEANING: dict[FaultKind, str] = {
    "counts": "not as published",
    "empty": "without images",
    "leaked": "the same image in train and in query or gallery",
    "missing": "named, and not there",
    "mixed": "of several identities or cameras, or of others than named",
    "shared": "identities to train on and to search for at once",
    "unreadable": "not an image, damaged, or not read in time",
}


def check(config: ReidDataConfig, *, as_json: bool, num_workers: int | None = None) -> int:
    """Open every image, print what is wrong, and return 1 where anything is, else 0.

    Faults are missing and damaged images, tracklets without images or of several identities,
    identities both in train and query, other counts than the published dataset has, and a gallery
    with no match for any query. Queries without a match are printed; they are a fault only where
    the published dataset has another number of them.

    Args:
        config: Dataset, root, split, the deadline of a batch of 32 images in seconds, and the limit
            on the pixels of an image.
        as_json: Print JSON instead of a table.
        num_workers: Processes; default as many as there are cores.

    Raises:
        UserError: There is no such dataset, or it is unusable as a whole.
    """
    root = root_of(config.dataset, config.root)
    faults: list[Fault] = []
    data = read_dataset(config.dataset, root, config.split, faults.append)
    workers = num_workers or len(os.sched_getaffinity(0))
    faults += _whole_folders(data, _inspect_all(data, workers, config))
    faults += _wrong_counts(data, str(root))
    faults.sort(key=lambda fault: (fault.kind, fault.path))
    if as_json:
        print(_json(root, config.split, data, faults))
    else:
        _print_table(root, data, faults)
    return 1 if faults else 0


def inspect(paths: tuple[str, ...], max_pixels: int = MAX_PIXELS) -> list[Fault]:
    """Decode images as training does, and return the faults of those that it could not use."""
    found = []
    for path in paths:
        try:
            read_image(path, max_pixels=max_pixels)
        except UnreadableImage as error:
            if isinstance(error.__cause__, FileNotFoundError):
                found.append(Fault("missing", path, ""))
            else:
                found.append(Fault("unreadable", path, str(error).replace(path, "it")))
    return found


def parts_of(data: ReidData) -> dict[str, list[Tracklet]]:
    """Return the lists of a dataset by name; ``junk`` only where there is some."""
    parts = {"train": data.train, "query": data.query, "gallery": data.gallery}
    return parts | {"junk": data.junk} if data.junk else parts


def count(tracklets: Sequence[Tracklet]) -> Counts:
    """Count identities, cameras, tracklets and frames of a list."""
    return Counts(
        people=len({tracklet.person_id for tracklet in tracklets} - {JUNK, DISTRACTOR}),
        cameras=len({tracklet.camera_id for tracklet in tracklets}),
        tracklets=len(tracklets),
        frames=sum(len(tracklet.frames) for tracklet in tracklets),
    )


def unmatched_queries(data: ReidData) -> list[Tracklet]:
    """List the queries whose identity is under no other camera in the gallery.

    The common protocol leaves them out of every mean. Under the official one of MARS, queries of
    other cameras are in the gallery, too, and may match them.
    """
    seen: dict[int, set[int]] = {}
    for tracklet in data.gallery:
        seen.setdefault(tracklet.person_id, set()).add(tracklet.camera_id)
    return [q for q in data.query if not seen.get(q.person_id, set()) - {q.camera_id}]


def _inspect_all(data: ReidData, workers: int, config: ReidDataConfig) -> list[Fault]:
    batches = list(_batches(data))
    found, given_up = _run(batches, workers, config, f"checked batches of {_BATCH} images")
    # Each image of a batch that was given up is tried alone, to name the one that is at fault.
    single = [(path,) for batch, _ in given_up for path in batch]
    if single:
        more, lost = _run(single, workers, config, "checked again one by one")
        found += more + [Fault("unreadable", path, why) for (path,), why in lost]
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
    while batch := tuple(islice(frames, _BATCH)):
        yield batch


def _run(
    batches: Sequence[tuple[str, ...]], workers: int, config: ReidDataConfig, what: str
) -> tuple[list[Fault], list[tuple[tuple[str, ...], str]]]:
    """Return the faults, and the batches that could not be read to their end, with the reason."""
    found: list[Fault] = []
    given_up = []
    deadline = config.deadline
    look = partial(inspect, max_pixels=config.max_pixels)
    results = map_with_timeout(look, batches, num_workers=workers, deadline=deadline, ahead=2)
    with closing(results):
        for result in counted(results, len(batches), what):
            if result.value is not None:
                found += result.value
            elif result.kind == "timeout":
                given_up.append((result.item, f"not read within {deadline:g} s"))
            else:
                given_up.append((result.item, str(result.failure)))
    return found, given_up


def _whole_folders(data: ReidData, faults: list[Fault]) -> list[Fault]:
    """Replace the faults of a folder of which all images are missing by one."""
    named = Counter(
        os.path.dirname(frame)
        for tracklets in parts_of(data).values()
        for tracklet in tracklets
        for frame in tracklet.frames
    )
    missing: dict[str, list[Fault]] = {}
    for fault in faults:
        if fault.kind == "missing":
            missing.setdefault(os.path.dirname(fault.path), []).append(fault)
    kept = [fault for fault in faults if fault.kind != "missing"]
    for folder, of_folder in missing.items():
        if len(of_folder) == named[folder] > 1:
            kept.append(Fault("missing", folder, f"all its {counts(named[folder], 'image')}"))
        else:
            kept += of_folder
    return kept


def _wrong_counts(data: ReidData, root: str) -> list[Fault]:
    """Compare a dataset with its published counts, and its gallery with its queries."""
    found = []
    unmatched, published = len(unmatched_queries(data)), _published(data)
    if published is None:
        if unmatched == len(data.query):
            detail = (
                "no query has a match in the gallery (same person, another camera); data of one "
                "camera is evaluated with reid evaluate --cameras ignore"
            )
            found.append(Fault("counts", root, detail))
        return found
    parts = parts_of(data)
    for name, expected in published.parts.items():
        held = count(parts.get(name, []))
        for what in ("people", "cameras", "tracklets", "frames"):
            right, is_there = getattr(expected, what), getattr(held, what)
            if right is not None and is_there != right:
                word = "identities" if what == "people" else what
                detail = f"{name} has {is_there:,} {word}, published are {right:,}"
                found.append(Fault("counts", root, detail))
    if published.unmatched not in (None, unmatched):
        detail = f"queries without a match: {unmatched}, published are {published.unmatched}"
        found.append(Fault("counts", root, detail))
    return found


def _published(data: ReidData) -> Published | None:
    return DATASETS[data.name].published


def _json(root: Path, split: int, data: ReidData, faults: list[Fault]) -> str:
    """Return everything that was found; numbers of identities are those of the dataset."""
    published, unmatched = _published(data), unmatched_queries(data)
    report = {
        "root": str(root),
        "dataset": data.name,
        "split": split,
        "parts": {name: asdict(count(part)) for name, part in parts_of(data).items()},
        "distractors": _distractors(data),
        "published": published and {name: asdict(part) for name, part in published.parts.items()},
        "unmatched_queries": {
            "count": len(unmatched),
            "published": published and published.unmatched,
            "people": sorted({query.person_id for query in unmatched}),
            "tracklets": [query.name for query in unmatched],
        },
        "counts": dict(Counter(fault.kind for fault in faults)),
        "problems": [asdict(fault) for fault in faults],
    }
    return to_json(report, indent=2)


def _print_table(root: Path, data: ReidData, faults: list[Fault]) -> None:
    """Print the lists' sizes, queries without a match, and the first faults of each kind."""
    print(f"{'list':8} {'identities':>11} {'cameras':>8} {'tracklets':>10} {'frames':>10}")
    for name, part in parts_of(data).items():
        held = count(part)
        print(
            f"{name:8} {held.people:11,} {held.cameras:8,} {held.tracklets:10,} {held.frames:10,}"
        )
    print(f"\ndistractors in the gallery: {counts(_distractors(data), 'tracklet')}")
    print(_unmatched_text(data))
    for kind, meaning in _MEANING.items():
        _print_faults(root, kind, meaning, [fault for fault in faults if fault.kind == kind])
    total = sum(len(part) for part in parts_of(data).values())
    state = counts(len(faults), "problem") if faults else "all intact"
    print(f"\n{root}: {counts(total, 'tracklet')}, {state}")


def _distractors(data: ReidData) -> int:
    return sum(tracklet.person_id == DISTRACTOR for tracklet in data.gallery)


def _unmatched_text(data: ReidData) -> str:
    unmatched = unmatched_queries(data)
    text = (
        f"{len(unmatched):,} of {counts(len(data.query), 'query')} without a match in the gallery "
        "(same person, another camera)"
    )
    names = {tracklet.person_id: str(tracklet.person_name) for tracklet in unmatched}
    if not names:
        return text
    shown = ", ".join(names[number] for number in sorted(names)[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more: --json lists all" if len(names) > _SHOWN else ""
    return f"{text}: identities {shown}{more}"


def _print_faults(root: Path, kind: str, meaning: str, found: list[Fault]) -> None:
    if not found:
        return
    print(f"\n{kind}: {len(found):,} ({meaning})")
    for fault in found[:_SHOWN]:
        name = fault.path.removeprefix(f"{root}/")
        print(f"  {name}: {fault.detail}" if fault.detail else f"  {name}")
    if len(found) > _SHOWN:
        print(f"  and {len(found) - _SHOWN:,} more: --json lists all")
