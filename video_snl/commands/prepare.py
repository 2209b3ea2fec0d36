"""``video-snl prepare``: a copy of a data set that is quick to decode; see docs/own-videos.md."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from video_snl.commands.reencode import Settings, reencode
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.data.video.file_lists import find_videos
from video_snl.data.workers.bounded import map_with_timeout
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.files import (
    FULL,
    UNLOCKABLE,
    check_folder,
    is_left_over,
    replace_file,
    write_json,
)
from video_snl.utils.json_text import parse_json
from video_snl.utils.media import MAX_PIXELS, VIDEO_SUFFIXES, MediaFiles
from video_snl.utils.progress import counted
from video_snl.utils.text import decode_text, printable

__all__ = ["prepare"]

MANIFEST = "prepared.json"
LISTS = frozenset({".txt", ".csv", ".json"})
SHOWN = 20  # failures in the report


@dataclass(frozen=True)
class DiskFull:
    """Instead of a prepared file: why it could not be written."""

    reason: str


def prepare(
    root: Path,
    out: Path,
    *,
    short_side: int,
    key_frame_every: int,
    num_workers: int,
    deadline: float,
    max_pixels: int = MAX_PIXELS,
) -> int:
    """Re-encode every video below ``root`` to the same place below ``out``; see the module.

    Returns:
        1 when a file could not be prepared, else 0.

    Raises:
        UserError: Bad arguments, another preparation in ``out``, or a disk that is full.
    """
    settings = Settings(short_side, key_frame_every)
    _check_folders(root, out)
    check_folder("--out", str(out))
    media = find_videos(root)
    videos, lists = media.videos, _lists(media)
    if ignored := _other(media).ignored_text("videos"):
        print(f"video-snl prepare: {root}: {ignored}", file=sys.stderr)
    _claim(out, settings)
    with _alone(out):
        _remove_left_overs(out)
        _copy_lists(lists, root, out)
        tasks = _to_do({str(video): out / video.relative_to(root) for video in videos})
        try:
            failures = _run(tasks, settings, num_workers, deadline, max_pixels)
        finally:
            _remove_left_overs(out)
    return _report(out, len(videos), failures)


def prepare_one(
    task: tuple[str, str], settings: Settings, max_pixels: int = MAX_PIXELS
) -> int | DiskFull:
    """Re-encode (source, target), whose folder need not exist; returns the number of frames.

    Raises:
        UserError: The source cannot be read, or what was written is not what was to be written.
    """
    source, target = task
    try:
        frames = 0

        def write(temporary: Path) -> None:
            nonlocal frames
            frames = reencode(source, temporary, settings, max_pixels)

        replace_file(Path(target), write)
        return frames
    except OSError as error:
        if error.errno in FULL:
            return DiskFull(error.strerror or "no space left on device")
        raise UserError(f"{target} cannot be written ({error.strerror})") from error


def _run(
    tasks: list[tuple[str, str]],
    settings: Settings,
    num_workers: int,
    deadline: float,
    max_pixels: int,
) -> dict[str, str]:
    """Source -> why it failed."""
    failures = {}
    function = partial(prepare_one, settings=settings, max_pixels=max_pixels)
    outcomes = map_with_timeout(function, tasks, num_workers=num_workers, deadline=deadline)
    with closing(outcomes):  # type: ignore[type-var]
        for number, outcome in enumerate(counted(outcomes, len(tasks), "looked at")):
            source, target = outcome.item
            if isinstance(outcome.value, DiskFull):
                raise UserError(
                    f"{Path(target).parent}: {outcome.value.reason} after {number:,} of "
                    f"{len(tasks):,} videos: make room and give the command again, it goes on "
                    "from there"
                )
            if outcome.kind == "timeout":
                failures[source] = f"{source} took more than {deadline:g} s (--deadline)"
            elif outcome.kind != "ok":
                failures[source] = outcome.failure or outcome.kind
    return dict(sorted(failures.items()))


def _check_folders(root: Path, out: Path) -> None:
    source, target = root.resolve(), out.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise UserError(
            f"--out {out} and --root {root} lie in one another: give a folder beside it, the "
            "originals are never touched"
        )
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: give a folder")


def _claim(out: Path, settings: Settings) -> None:
    """Write down how the files in ``out`` are made, or make sure that it is said already."""
    manifest = out / MANIFEST
    wanted = {"version": 1, **asdict(settings)}
    if not manifest.exists():
        if out.exists() and any(out.iterdir()):
            raise UserError(f"--out {out} is not empty and has no {MANIFEST}: give a new folder")
        _write_manifest(manifest, wanted)
        return
    try:
        found = parse_json(manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{manifest} is no JSON file, so that it cannot be known how {out} was prepared: give "
            "another --out"
        ) from error
    if found != wanted:
        raise UserError(
            f"{out} was prepared with {_words(found)}, not with {_words(wanted)}: give the same "
            "options, or another --out"
        )


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other preparations out of ``out``, by a lock of its manifest, which ends with us."""
    with (out / MANIFEST).open("rb") as manifest:
        try:
            fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another video-snl prepare is writing to {out}: wait for it, or stop it"
            ) from error
        except OSError as error:
            if error.errno not in UNLOCKABLE:
                raise
        yield


def _write_manifest(manifest: Path, values: dict[str, object]) -> None:
    try:
        write_json(manifest, values)
    except OSError as error:
        raise UserError(f"{manifest.parent} cannot be written ({error.strerror})") from error


def _words(values: object) -> str:
    if not isinstance(values, dict):
        return repr(values)
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _lists(media: MediaFiles) -> list[Path]:
    """The files that are no videos and may be lists.

    Raises:
        UserError: A CSV file whose copy would lead to the originals.
    """
    found = [entry.path for entry in media.ignored if _is_list(entry.path)]
    for file in found:
        if file.suffix.lower() == ".csv":
            _check_relative(file)
    return found


def _is_list(path: Path) -> bool:
    return path.suffix.lower() in LISTS and path.name != MANIFEST and path.is_file()


def _other(media: MediaFiles) -> MediaFiles:
    """What is neither prepared nor copied."""
    ignored = [entry for entry in media.ignored if not _is_list(entry.path)]
    return MediaFiles(media.videos, media.images, ignored)


def _check_relative(file: Path) -> None:
    try:
        text = decode_text(file.read_bytes(), str(file))
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from error
    except UserError:
        return  # it is copied as it is, and no list that a command could read
    try:
        for row in csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True):
            if os.path.isabs(row.get("path") or ""):
                raise UserError(
                    f"{file} names videos by absolute paths ({printable(row['path'])}), so that "
                    "its copy would lead to the originals: make them relative to its folder"
                )
    except csv.Error:
        return


def _copy_lists(lists: list[Path], root: Path, out: Path) -> None:
    for file in lists:
        target = out / file.relative_to(root)
        try:
            replace_file(target, partial(shutil.copyfile, file))  # type: ignore[arg-type]
        except OSError as error:
            raise UserError(f"{target} cannot be written ({error.strerror})") from error


def _to_do(targets: dict[str, Path]) -> list[tuple[str, str]]:
    """(source, target) of what is not there yet."""
    tasks = [(s, str(target)) for s, target in targets.items() if not _is_done(Path(s), target)]
    if len(tasks) < len(targets):
        there = len(targets) - len(tasks)
        print(f"{there:,} of {len(targets):,} are there", file=sys.stderr)
    return tasks


def _is_done(source: Path, target: Path) -> bool:
    """Whether a verified file is in place: whole, and made after its source was changed last."""
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        return False
    try:
        return find_stream_info(str(target)).stamps is not None
    except UserError:
        return False


def _remove_left_overs(out: Path) -> None:
    for file in _left_overs(out):
        file.unlink(missing_ok=True)


def _left_overs(out: Path) -> Iterator[Path]:
    for file in out.rglob(".*"):
        if file.suffix.lower() in VIDEO_SUFFIXES | LISTS and is_left_over(file):
            yield file


def _report(out: Path, total: int, failures: dict[str, str]) -> int:
    for reason in list(failures.values())[:SHOWN]:
        print(f"video-snl prepare: not prepared: {reason}", file=sys.stderr)
    if len(failures) > SHOWN:
        print(f"and {len(failures) - SHOWN:,} more", file=sys.stderr)
    print(f"{out}: {total - len(failures):,} of {counts(total, 'video')} prepared")
    return 1 if failures else 0
