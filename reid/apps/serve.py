"""``reid serve``: who is on uploaded images, and what do the blocks look at in them?"""

from __future__ import annotations

import lzma
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from reid.data.datasets.frames import list_frames
from reid.data.tracklet import UNKNOWN, Tracklet
from reid.data.tracklet_folders import images_of_one_tracklet
from reid.galleries.places import Searchable
from reid.retrieval.encode import encode, table_of
from reid.retrieval.features import FeatureTable
from reid.retrieval.searching import Limit, answer_of, limit_of, verdict_of, write_page
from reid.task_spec import REID
from reid.trained import TrainedReid
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.serve.models import about_network, explained_page
from video_snl.serve.server import check_options, serve
from video_snl.serve.service import Answer, Limits, Service, ShownPage, check_video
from video_snl.serve.uploads import MOST_FILES, safe_name
from video_snl.tasks.operations import Reading
from video_snl.utils.counts import counts
from video_snl.utils.extras import require
from video_snl.utils.media import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    VIDEO_SUFFIXES,
    is_image_name,
    is_system_name,
    natural_key,
)

__all__ = ["people_service", "serve_people", "uploaded_tracklet"]

_MOST = 20  # tracklets that a page of a search shows
_MOST_CONTENTS = 4096 * MOST_FILES  # bytes
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError),
    *(RuntimeError, OSError, ValueError, struct.error),
)


def serve_people(
    find: Callable[[], TrainedReid],
    *,
    gallery: str | None,
    top: int,
    threshold: float | None,
    calibration: str | None,
    host: str,
    port: int,
    limits: Limits,
    accelerator: str,
) -> NoReturn:
    """Show the page until a signal comes.

    Args:
        find: Loads the network.

    Raises:
        UserError: A package, the network or the gallery is missing, an option does not fit, or the
            gallery is of another network.
    """
    require("serve")
    check_options(port, limits, None)
    if not 1 <= top <= _MOST:
        raise UserError(f"--top {top}: give a number of tracklets from 1 to {_MOST}.")
    device = device_of(accelerator)
    limit = limit_of(threshold, calibration)
    if limit is not None and gallery is None:
        raise UserError("--threshold and --calibrate are of a --gallery: name one")
    searched = None if gallery is None else Searchable.open(gallery, top)
    if limit is not None and searched is not None:
        limit.check(searched)

    def make() -> Service:
        start_forkserver()  # loads its modules while the network is made
        trained = REID.make().reading(find(), Reading(max_pixels=limits.max_pixels))
        return people_service(trained, searched, limits, device, limit)

    serve(make, host=host, port=port, limits=limits)


def people_service(
    trained: TrainedReid,
    gallery: Searchable | None,
    limits: Limits,
    device: torch.device,
    threshold: Limit | None = None,
) -> Service:
    """A network of tracklets, asked about one tracklet at a time.

    Args:
        trained: The network.
        gallery: Where people are searched for; None: nowhere.
        limits: Of uploads.
        device: Where the network runs.
        threshold: Distance beyond which nobody of the gallery is meant; None: nothing is said.

    Raises:
        UserError: The gallery is of another network.
    """
    if gallery is not None:
        _check_network(trained, gallery)
    about = about_network(trained)
    if gallery is not None:
        about += f"; gallery {gallery.path} with {counts(gallery.size, 'tracklet')}"
    return Service(
        title="What does the network look at?" if gallery is None else "Who is this?",
        about=about,
        hint="Images of one person, or a ZIP file or video of such, of at most "
        f"{limits.megabytes:g} MB; videos of at most {limits.seconds:g} seconds.",
        accept=",".join([*sorted(IMAGE_SUFFIXES), ".zip", "video/*", *sorted(VIDEO_SUFFIXES)]),
        answer=_Answering(_reading(trained), gallery, limits, device, threshold),
        several=True,
    )


def uploaded_tracklet(
    files: Sequence[Path], folder: Path, limits: Limits, deadline: float
) -> tuple[str, Tracklet]:
    """The tracklet of one person, and its folder or video, which names it.

    Images are in the order of the numbers in their names.

    Args:
        folder: Made here, for the images.
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
            f"{_listed(files)}: upload images of one person ({', '.join(sorted(IMAGE_SUFFIXES))})"
            f", one ZIP file of them, or one video ({', '.join(sorted(VIDEO_SUFFIXES))})"
        )
    return str(folder), Tracklet(list_frames(folder), UNKNOWN, UNKNOWN)


@dataclass(frozen=True)
class _Answering:
    trained: TrainedReid
    gallery: Searchable | None
    limits: Limits
    device: torch.device
    threshold: Limit | None

    def __call__(self, files: Sequence[Path]) -> Answer:
        folder = files[0].parent / "frames"
        deadline = self.trained.experiment.data.deadline
        name, tracklet = uploaded_tracklet(files, folder, self.limits, deadline)
        called = files[0].name if len(files) == 1 else f"{len(files)} images"
        pages, notes = [], []
        if self.gallery is not None:
            asked = self._features(name, tracklet, self.gallery.table.test_frames)
            found = self.gallery.search(asked)
            answer = answer_of(asked, found, self.gallery, self.threshold)
            page = files[0].parent / "found.html"
            write_page(page, asked, found, answer, called=called)
            html = page.read_text(encoding="utf-8")
            pages = [ShownPage("Nearest in the gallery", html)]
            notes = [_note(answer)] if self.threshold is not None else []
        pages.append(explained_page(self.trained, called, tracklet, self.device)[0])
        return Answer(notes=notes, pages=pages)

    def _features(self, name: str, tracklet: Tracklet, test_frames: int | None) -> FeatureTable:
        encoded = encode(
            self.trained.model,
            [tracklet],
            self.trained.experiment.data,
            test_frames=test_frames,
            device=self.device,
            channels_last=self.trained.experiment.trainer.channels_last,
            what="uploads",
        )
        table = table_of(encoded, [tracklet], self.trained)
        return replace(table, names=[name], test_frames=test_frames)


def _note(answer: dict[str, Any]) -> str:
    """Say in a sentence whether the person of the only query is known."""
    [query] = answer["queries"]
    said = verdict_of(query, answer["threshold"])
    return f"{'Known' if query['in_gallery'] else 'Unknown'} person, {said}."


def _check_network(trained: TrainedReid, gallery: Searchable) -> None:
    table = gallery.table
    if table.model != trained.digest:
        raise UserError(
            f"--gallery {gallery.path} holds features of {table.checkpoint} (hash "
            f"{table.model[:12]}), and the network is {trained.said} (hash {trained.digest[:12]}): "
            "extract the gallery with this network"
        )


def _reading(trained: TrainedReid) -> TrainedReid:
    """Uploads are read in a process that can be killed, also where training had none."""
    data = replace(trained.experiment.data, num_workers=1)
    return replace(trained, experiment=replace(trained.experiment, data=data))


def _unpack(path: Path, folder: Path, limits: Limits) -> None:
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            images = [entry for entry in archive.infolist() if _is_image(entry)]
            _check_images(path, images, limits)
            images = _of_one_tracklet(path, images)
            for number, entry in enumerate(images):
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


def _is_image(entry: zipfile.ZipInfo) -> bool:
    parts = Path(entry.filename).parts
    return (
        not entry.is_dir()
        and is_image_name(entry.filename)
        and not any(is_system_name(part) for part in parts if part not in (".", ".."))
    )


def _of_one_tracklet(path: Path, images: Sequence[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The images of the only tracklet in an archive, in natural order."""
    named = {entry.filename: entry for entry in images}
    try:
        return [named[name] for name in images_of_one_tracklet(list(named))]
    except UserError as error:
        raise UserError(f"{path} {error}") from error


def _check_images(path: Path, images: Sequence[zipfile.ZipInfo], limits: Limits) -> None:
    if not images:
        raise UserError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if len(images) > MOST_FILES:
        raise UserError(
            f"{path} holds {len(images):,} images, and {MOST_FILES:,} are allowed: leave some out"
        )
    size = sum(entry.file_size for entry in images)
    if size > limits.bytes:
        raise UserError(
            f"{path} holds {size / 1e6:.1f} MB of images, and {limits.megabytes:g} MB are "
            "allowed: leave some out (or start the page with a larger --max_size)"
        )


def _frame(number: int, name: str) -> str:
    """A name that keeps the order."""
    return f"{number:05}-{safe_name(name)}"


def _listed(files: Sequence[Path]) -> str:
    first = files[0].name
    return first if len(files) == 1 else f"{first} and {len(files) - 1} more"
