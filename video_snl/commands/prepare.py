"""``video-snl prepare``: a copy of a dataset that is quick to decode; see docs/own-videos.md.

Every video is written again as MPEG-4 without B-frames: of the codecs that an .avi file may hold it
is decoded fastest, and as its packets lie in the order of presentation, the index of the file finds
every frame exactly.
"""

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
from fractions import Fraction
from functools import partial
from io import FileIO
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.frame import PictureType
from torch import Tensor

from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import decode_in_chunks, resize
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.data.video.file_lists import find_videos
from video_snl.data.workers.cluster import Cluster, map_files
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

__all__ = ["Settings", "prepare", "reencode"]

MANIFEST = "prepared.json"
LISTS = frozenset({".txt", ".csv", ".json"})
SHOWN = 20  # failures in the report
FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "matroska",
}  # by suffix; elsewhere AVI, which every reader recognises whatever the name is

CLOCK = 65535  # the finest time base that MPEG-4 can write


@dataclass(frozen=True)
class DiskFull:
    """Reason why a prepared file could not be written, in its place."""

    reason: str


@dataclass(frozen=True)
class Settings:
    """Settings of a preparation.

    Args:
        short_side: Pixels of the shorter side, even; smaller videos keep their size.
        key_frame_every: Largest distance of key frames.
        codec, quantiser: Codec and quantiser of MPEG-4, whose finest quantiser is 1; 2 keeps files
            smaller than UCF-101's originals.

    Raises:
        UserError: A value that cannot be.
    """

    short_side: int
    key_frame_every: int
    codec: str = "mpeg4"
    quantiser: int = 2

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.short_side % 2:
            raise UserError(f"--short_side {self.short_side}: give an even number from 16 on")
        if not 1 <= self.key_frame_every <= 600:
            raise UserError(f"--key_frame_every {self.key_frame_every}: give 1 to 600")


def prepare(
    root: Path,
    out: Path,
    *,
    short_side: int,
    key_frame_every: int,
    num_workers: int,
    deadline: float,
    max_pixels: int = MAX_PIXELS,
    cluster: Cluster | None = None,
) -> int:
    """Re-encode every video below ``root`` to the same place below ``out``.

    Returns:
        1 when a file could not be prepared, else 0.

    Raises:
        UserError: Bad arguments, another preparation in ``out``, a full disk, or a cluster that
            cannot be used.
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
            failures = _run(tasks, settings, num_workers, deadline, max_pixels, cluster)
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


def reencode(source: str, target: Path, settings: Settings, max_pixels: int = MAX_PIXELS) -> int:
    """Write ``source`` to ``target`` (its suffix says the container), and read it back.

    Returns:
        The number of frames: those of the source, in its order, also where they repeat.

    Raises:
        UserError: The source cannot be read; or the frames read back are not as many, or not where
            the index says.
        OSError: The target cannot be written.
    """
    with target.open("wb", buffering=0) as file:
        sink = _Sink(file)
        # FFmpeg names the container by the suffix, which datasets get wrong now and then.
        with av.open(sink, "w", format=FORMATS.get(target.suffix.lower(), "avi")) as writer:
            count = _write(source, writer, sink, settings, max_pixels)
    if sink.failure is not None:
        raise sink.failure
    _verify(source, str(target), count, settings)
    return count


def _run(
    tasks: list[tuple[str, str]],
    settings: Settings,
    num_workers: int,
    deadline: float,
    max_pixels: int,
    cluster: Cluster | None,
) -> dict[str, str]:
    """Re-encode all; returns source -> why it failed."""
    failures = {}
    function = partial(prepare_one, settings=settings, max_pixels=max_pixels)
    results = map_files(
        function, tasks, num_workers=num_workers, deadline=deadline, cluster=cluster
    )
    with closing(results):  # type: ignore[type-var]
        for number, result in enumerate(counted(results, len(tasks), "looked at")):
            source, target = result.item
            if isinstance(result.value, DiskFull):
                raise UserError(
                    f"{Path(target).parent}: {result.value.reason} after {number:,} of "
                    f"{len(tasks):,} videos: make room and give the command again, it goes on "
                    "from there"
                )
            if result.kind == "timeout":
                failures[source] = f"{source} took more than {deadline:g} s (--deadline)"
            elif result.kind != "ok":
                failures[source] = result.failure or result.kind
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
            f"{manifest} is not a JSON file, so that it cannot be known how {out} was prepared: "
            "give another --out"
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
    """Return the files that are not videos and may be lists.

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
    """Return what is neither prepared nor copied."""
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
    """Return (source, target) of what is not there yet."""
    tasks = [(s, str(target)) for s, target in targets.items() if not _is_done(Path(s), target)]
    if len(tasks) < len(targets):
        there = len(targets) - len(tasks)
        print(f"{there:,} of {len(targets):,} are there", file=sys.stderr)
    return tasks


def _is_done(source: Path, target: Path) -> bool:
    """Tell whether a verified file is in place: whole, and newer than its source."""
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


class _Sink:
    """A file that keeps its first failure for the end: PyAV would bury it under others."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest and self.failure is None:
            try:
                rest = rest[self._file.write(rest) :]
            except OSError as error:
                self.failure = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _write(
    source: str, writer: OutputContainer, sink: _Sink, settings: Settings, max_pixels: int
) -> int:
    rate = _rate(find_stream_info(source, max_pixels).rate)
    stream: av.VideoStream | None = None
    count = 0
    for pixels in _resized(source, settings.short_side, max_pixels):
        if sink.failure is not None:
            break
        stream = stream or _add_stream(writer, rate, pixels, settings)
        frame = av.VideoFrame.from_ndarray(pixels.numpy(), "rgb24")
        frame.pts, frame.time_base = count, 1 / rate
        frame.pict_type = PictureType.NONE
        writer.mux(stream.encode(frame))
        count += 1
    if stream is not None:
        writer.mux(stream.encode())
    return count


def _resized(source: str, short_side: int, max_pixels: int) -> Iterator[Tensor]:
    """Yield the frames (H, W, 3) of a video, at most ``short_side``, with even sides."""
    with closing(PyAVReader(source, max_pixels)) as reader:
        for frames in decode_in_chunks(reader, range(len(reader))):
            height, width = _even_size(frames.shape[1], frames.shape[2], short_side)
            yield from resize(frames, height, width).contiguous()


def _add_stream(
    writer: OutputContainer, rate: Fraction, pixels: Tensor, settings: Settings
) -> av.VideoStream:
    # Key frames where they are wanted and nowhere else, such as at a change of the shot.
    options = {"sc_threshold": "1000000000"}
    stream = writer.add_stream(settings.codec, rate=rate, options=options)
    assert isinstance(stream, av.VideoStream)
    stream.height, stream.width, stream.pix_fmt = pixels.shape[0], pixels.shape[1], "yuv420p"
    context = stream.codec_context
    context.thread_count = 1  # processes are what runs side by side
    context.gop_size, context.max_b_frames = settings.key_frame_every, 0
    context.qmin = context.qmax = settings.quantiser
    return stream


def _verify(source: str, target: str, count: int, settings: Settings) -> None:
    facts = find_stream_info(target)
    with closing(PyAVReader(target)) as reader:
        held, damaged = reader.decode_all()
    gaps = [b - a for a, b in zip(facts.entries, (*facts.entries[1:], count), strict=True)]
    if held != count or facts.length != count or damaged:
        raise UserError(f"{source}: {count} frames were written, {held} read back: report this")
    if facts.stamps is None or max(gaps) > settings.key_frame_every:
        raise UserError(f"{source}: its frames cannot be reached as they should: report this")


def _rate(rate: Fraction) -> Fraction:
    """Return the rate, or the nearest that MPEG-4 can write."""
    near = rate.limit_denominator(1001)
    return near if near.numerator <= CLOCK else Fraction(round(rate))


def _even_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the nearest even sides of frames at most ``short_side``."""
    scale = min(short_side, height, width) / min(height, width)
    height, width = (max(2 * round(side * scale / 2), 2) for side in (height, width))
    return height, width
