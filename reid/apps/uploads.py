"""A tracklet from uploaded files: pictures, a ZIP file of pictures, or a video."""

from __future__ import annotations

import lzma
import shutil
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from reid.data.datasets.frames import list_frames
from reid.data.tracklet import UNKNOWN, Tracklet
from reid.data.tracklet_folders import images_of_one_tracklet
from video_snl.errors import UserError
from video_snl.serve.service import Limits, check_video
from video_snl.serve.uploads import MOST_FILES, safe_name
from video_snl.utils.media import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    VIDEO_SUFFIXES,
    is_image_name,
    is_system_name,
    natural_key,
)

__all__ = ["uploaded_tracklet"]

_MOST_CONTENTS = 4096 * MOST_FILES  # bytes
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError),
    *(RuntimeError, OSError, ValueError, struct.error),
)


def uploaded_tracklet(
    files: Sequence[Path], folder: Path, limits: Limits, deadline: float
) -> tuple[str, Tracklet]:
    """The tracklet of one person, and its folder or video, which names it.

    Pictures are in the order of the numbers in their names.

    Args:
        folder: Made here, for the pictures.
        deadline: Seconds for finding the length of a video.

    Raises:
        UserError: The files are something else, too many, too long or too large when unpacked.
    """
    suffixes = {file.suffix.lower() for file in files}
    if suffixes <= IMAGE_SUFFIXES:
        try:
            images_of_one_tracklet([file.name for file in files])
        except UserError as error:
            raise UserError(f"the upload {error}") from error
        folder.mkdir()
        for number, file in enumerate(sorted(files, key=lambda file: natural_key(file.name))):
            file.rename(folder / _frame(number, file.name))
    elif suffixes == {".zip"} and len(files) == 1:
        folder.mkdir()
        _unpack(files[0], folder, limits)
    elif suffixes <= VIDEO_SUFFIXES and len(files) == 1:
        most = MAX_PIXELS if limits.max_pixels is None else limits.max_pixels
        check_video(files[0], limits.seconds, deadline, most)
        return str(files[0]), Tracklet((str(files[0]),), UNKNOWN, UNKNOWN)
    else:
        raise UserError(
            f"{_listed(files)}: upload pictures of one person ({', '.join(sorted(IMAGE_SUFFIXES))})"
            f", one ZIP file of them, or one video ({', '.join(sorted(VIDEO_SUFFIXES))})"
        )
    return str(folder), Tracklet(list_frames(folder), UNKNOWN, UNKNOWN)


def _unpack(path: Path, folder: Path, limits: Limits) -> None:
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            pictures = [entry for entry in archive.infolist() if _is_picture(entry)]
            _check_pictures(path, pictures, limits)
            pictures = _of_one_tracklet(path, pictures)
            for number, entry in enumerate(pictures):
                target = folder / _frame(number, entry.filename)
                # Never more than the size that the archive declares.
                with archive.open(entry) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be unpacked ({reason}): make it again") from error


def _check_directory(path: Path) -> None:
    """Refuse an archive whose table of contents is out of proportion, before it is read.

    It is read as a whole, and takes some ten times its size in memory.
    """
    with path.open("rb") as file:
        # What ZipFile itself goes by; it has no public name.
        record = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if record is not None and record[zipfile._ECD_SIZE] > _MOST_CONTENTS:  # type: ignore[attr-defined]
        raise UserError(
            f"{path} holds far more than the {MOST_FILES:,} files that are allowed: leave some out"
        )


def _is_picture(entry: zipfile.ZipInfo) -> bool:
    parts = Path(entry.filename).parts
    return (
        not entry.is_dir()
        and is_image_name(entry.filename)
        and not any(is_system_name(part) for part in parts if part not in (".", ".."))
    )


def _of_one_tracklet(path: Path, pictures: Sequence[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The images of the only tracklet in an archive, in natural order."""
    named = {entry.filename: entry for entry in pictures}
    try:
        return [named[name] for name in images_of_one_tracklet(list(named))]
    except UserError as error:
        raise UserError(f"{path} {error}") from error


def _check_pictures(path: Path, pictures: Sequence[zipfile.ZipInfo], limits: Limits) -> None:
    if not pictures:
        raise UserError(f"{path} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if len(pictures) > MOST_FILES:
        raise UserError(
            f"{path} holds {len(pictures):,} pictures, and {MOST_FILES:,} are allowed: leave some "
            "out"
        )
    size = sum(entry.file_size for entry in pictures)
    if size > limits.bytes:
        raise UserError(
            f"{path} holds {size / 1e6:.1f} MB of pictures, and {limits.megabytes:g} MB are "
            "allowed: leave some out (or start the page with a larger --max_size)"
        )


def _frame(number: int, name: str) -> str:
    """A name that keeps the order."""
    return f"{number:05}-{safe_name(name)}"


def _listed(files: Sequence[Path]) -> str:
    first = files[0].name
    return first if len(files) == 1 else f"{first} and {len(files) - 1} more"
