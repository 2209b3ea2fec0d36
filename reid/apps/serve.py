"""``reid serve``: who is on uploaded pictures, and what do the blocks look at in them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import torch

from reid.apps.uploads import uploaded_tracklet
from reid.data.tracklet import Tracklet
from reid.report.search_page import write_search_page
from reid.retrieval.encode import encode, table_of
from reid.retrieval.features import FeatureTable
from reid.retrieval.index import search
from reid.retrieval.searching import filled_table
from reid.runs import find_checkpoint
from reid.task_spec import REID
from reid.trained import TrainedReid, load_trained
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.serve.models import about_network, explained_page
from video_snl.serve.server import check_installed, check_options, serve
from video_snl.serve.service import Answer, Limits, Service, ShownPage
from video_snl.tasks.operations import Reading
from video_snl.utils.counts import counts
from video_snl.utils.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES

__all__ = ["Gallery", "people_service", "serve_people"]

_MOST = 20  # tracklets that a page of a search shows


@dataclass(frozen=True)
class Gallery:
    """What is searched in: the features of a file, and how many of its tracklets are shown."""

    path: str
    table: FeatureTable
    top: int


def serve_people(
    *,
    checkpoint: str | None,
    gallery: str | None,
    top: int,
    host: str,
    port: int,
    limits: Limits,
    accelerator: str,
) -> NoReturn:
    """Show the page until a signal comes.

    Raises:
        UserError: A package, the checkpoint or the gallery is missing, an option does not fit, or
            the gallery is of another network.
    """
    check_installed()
    check_options(port, limits, None)
    if not 1 <= top <= _MOST:
        raise UserError(f"--top {top}: give a number of tracklets from 1 to {_MOST}.")
    device = device_of(accelerator)
    path = find_checkpoint(checkpoint)
    table = None if gallery is None else filled_table(gallery)

    def make() -> Service:
        start_forkserver()  # loads its modules while the network is made
        trained = REID.make().reading(load_trained(path), Reading(max_pixels=limits.max_pixels))
        searched = None if table is None else Gallery(str(gallery), table, top)
        return people_service(trained, searched, limits, device)

    serve(make, host=host, port=port, limits=limits)


def people_service(
    trained: TrainedReid, gallery: Gallery | None, limits: Limits, device: torch.device
) -> Service:
    """A network of tracklets, asked about one tracklet at a time.

    Raises:
        UserError: The gallery is of another network.
    """
    if gallery is not None:
        _check_network(trained, gallery)
    about = about_network(trained)
    if gallery is not None:
        about += f"; gallery {gallery.path} with {counts(len(gallery.table), 'tracklet')}"
    return Service(
        title="What does the network look at?" if gallery is None else "Who is this?",
        about=about,
        hint="Pictures of one person, or a ZIP file or video of such, of at most "
        f"{limits.megabytes:g} MB; videos of at most {limits.seconds:g} seconds.",
        accept=",".join([*sorted(IMAGE_SUFFIXES), ".zip", "video/*", *sorted(VIDEO_SUFFIXES)]),
        answer=_Answering(_reading(trained), gallery, limits, device),
        several=True,
    )


@dataclass(frozen=True)
class _Answering:
    trained: TrainedReid
    gallery: Gallery | None
    limits: Limits
    device: torch.device

    def __call__(self, files: Sequence[Path]) -> Answer:
        folder = files[0].parent / "frames"
        deadline = self.trained.experiment.data.deadline
        name, tracklet = uploaded_tracklet(files, folder, self.limits, deadline)
        called = files[0].name if len(files) == 1 else f"{len(files)} pictures"
        pages = []
        if self.gallery is not None:
            asked = self._features(name, tracklet, self.gallery.table.test_frames)
            page = files[0].parent / "found.html"
            pages = [ShownPage("Nearest in the gallery", _found(asked, self.gallery, page, called))]
        pages.append(explained_page(self.trained, called, tracklet, self.device)[0])
        return Answer(pages=pages)

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


def _found(asked: FeatureTable, gallery: Gallery, path: Path, called: str) -> str:
    found = search(asked, gallery.table, top=gallery.top)
    write_search_page(path, asked, gallery.table, found, gallery=gallery.path, called=called)
    return path.read_text(encoding="utf-8")


def _check_network(trained: TrainedReid, gallery: Gallery) -> None:
    table = gallery.table
    if table.model != trained.digest:
        raise UserError(
            f"--gallery {gallery.path} holds features of {table.checkpoint} (hash "
            f"{table.model[:12]}), and the network is {trained.path} (hash {trained.digest[:12]}): "
            "extract the gallery with this checkpoint"
        )


def _reading(trained: TrainedReid) -> TrainedReid:
    """Uploads are read in a process that can be killed, also where training had none."""
    data = replace(trained.experiment.data, num_workers=1)
    return replace(trained, experiment=replace(trained.experiment, data=data))
