"""``reid explain``: what do the blocks look at in this tracklet?"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from reid.data.loading import SampledDataset, in_order, make_loader
from reid.data.tracklet import Tracklet
from reid.data.tracklet_folders import Layout, tracklets_in
from reid.data.transforms import evaluation_clips
from reid.models.heads import NonlocalHead
from reid.options import check_data
from reid.runs import find_checkpoint
from reid.trained import TrainedReid, load_trained
from video_snl.analysis.explain.output import output_folder, report, write_explanations
from video_snl.analysis.explain.positions import parse_at
from video_snl.analysis.model_input import Subject, explained
from video_snl.blocks.insertion import inserted_blocks
from video_snl.engine.fitting import tell
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.utils.counts import counts

__all__ = ["block_name", "blocks_of", "explain", "tracklet_subject"]


def explain(
    source: str,
    *,
    layout: Layout = "auto",
    checkpoint: str | None,
    compare: str | None,
    output: str | None,
    at: str | None,
    accelerator: str,
) -> int:
    """Write the folder of an explanation, and print where it is.

    Raises:
        UserError: Something named is not there, cannot be read or written, or no position.
    """
    position = None if at is None else parse_at(at)
    device = device_of(accelerator)
    name, tracklet = _only_tracklet(source, layout)
    named = [find_checkpoint(checkpoint)]
    named += [] if compare is None else [find_checkpoint(compare, option="--compare")]
    folder = output_folder(output, name)
    subjects = [tracklet_subject(name, tracklet, load_trained(path), device) for path in named]
    explanations = explained(subjects, position)
    page = write_explanations(folder, explanations, position)
    report(explanations, page)
    return 0


def tracklet_subject(
    name: str, tracklet: Tracklet, trained: TrainedReid, device: torch.device
) -> Subject:
    """As many frames of a tracklet as the network was trained on, evenly spaced.

    Raises:
        UserError: None of the frames can be read, or reading takes too long.
    """
    data = trained.experiment.data
    check_data(data)
    loader = make_loader(SampledDataset([tracklet], data), in_order(1), 1)
    try:
        [sample] = loader
    finally:
        loader.close()
    video, used, skipped = sample["video"], int(sample["frames"]), int(sample["skipped"])
    notes = [f"{counts(data.frames, 'frame')}, evenly spaced over the tracklet."]
    if used < data.frames:
        notes.append(f"Only {used} of them differ, the others stand in for frames there are not.")
    if skipped:
        notes.append(f"Frames that could not be read, in whose place others stand: {skipped}.")
    model = trained.model.to(device)
    return Subject(
        source=name,
        checkpoint=Path(trained.path),
        run=model,
        scores=None,
        blocks=blocks_of(trained),
        block=block_name(trained),
        frames=video[0].numpy(),
        clip=evaluation_clips(video.to(device)),
        notes=notes,
    )


def _only_tracklet(source: str, layout: Layout) -> tuple[str, Tracklet]:
    found = tracklets_in(source, layout)
    if len(found.tracklets) > 1:
        raise UserError(
            f"{source} holds {len(found.tracklets)} tracklets: name one of them, such as "
            f"{next(iter(found.tracklets))}"
        )
    if found.ignored:
        tell(found.text())
    return next(iter(found.tracklets.items()))


def blocks_of(trained: TrainedReid) -> dict[str, nn.Module]:
    """Those in the trunk, and that of the head."""
    model = trained.model
    blocks = inserted_blocks(model.trunk)
    return blocks | ({"head": model.head.block} if isinstance(model.head, NonlocalHead) else {})


def block_name(trained: TrainedReid) -> str:
    """A head of its own has a block where the trunk has none, too."""
    name = trained.experiment.model.block
    return "snl" if name == "none" else name
