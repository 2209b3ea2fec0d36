"""``reid extract``: features of tracklets in folders or videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from reid.data.tracklet_folders import Layout, find_tracklets
from reid.options import check_data
from reid.pretrained import describe_input
from reid.retrieval.encode import encode, table_of
from reid.retrieval.features import FeatureTable, write_features
from reid.runs import find_checkpoint
from reid.trained import TrainedReid, load_trained, pretrained
from video_snl.engine.fit import tell
from video_snl.engine.trainer import device_of
from video_snl.utils.counts import counts
from video_snl.utils.files import check_file, writing

__all__ = ["Layout", "extract", "extract_tracklets", "find_tracklets"]


def extract(
    paths: Sequence[str],
    *,
    checkpoint: str | None,
    published: str | None = None,
    weights: str | None = None,
    output: str,
    layout: Layout,
    test_frames: int | None,
    num_workers: int | None,
    accelerator: str,
    max_pixels: int | None = None,
) -> int:
    """Write the features of all tracklets to a file, or nothing at all.

    What was found in each folder is printed before work starts.

    Args:
        checkpoint: Checkpoint, as for :func:`reid.runs.find_checkpoint`.
        published: Name of a published network in its place, with the file of its ``weights``.

    Raises:
        UserError: A path that does not exist or holds no tracklet, a tracklet that cannot be read,
            a file that cannot be written.
    """
    check_file("--output", output, "feats.parquet")
    network: Path | TrainedReid
    if published is None:
        network = find_checkpoint(checkpoint)
    else:
        network = pretrained(published, weights)
        tell(describe_input(published))
    table = extract_tracklets(
        network,
        paths,
        layout=layout,
        test_frames=test_frames,
        num_workers=num_workers,
        accelerator=accelerator,
        say=lambda line: print(line, flush=True),
        max_pixels=max_pixels,
    )
    with writing("--output", output):
        write_features(Path(output), table)
    skipped = int(table.skipped_frames.sum())
    frames = int(table.num_frames.sum())
    print(
        f"{counts(len(table.names), 'tracklet')}, {counts(frames, 'frame')}, "
        f"{counts(table.dimension, 'number')} each"
    )
    if skipped:
        print(f"frames that could not be read and were skipped: {skipped}")
    print(f"features: {output}")
    return 0


def extract_tracklets(
    checkpoint: Path | TrainedReid,
    paths: Sequence[str],
    *,
    layout: Layout = "auto",
    test_frames: int | None = None,
    num_workers: int | None = None,
    accelerator: str | torch.device = "auto",
    say: Callable[[str], None] | None = None,
    max_pixels: int | None = None,
) -> FeatureTable:
    """Compute the features of tracklets, named by their folders, videos or first images.

    Args:
        checkpoint: File of the network, or the network itself.
        paths: Folders or videos.
        layout: Meaning of the folders, and of identity and camera in their names, see
            :func:`reid.data.tracklet_folders.tracklets_in`.
        test_frames: N evenly spaced frames; None for all.
        num_workers: Processes that read; default as in training.
        accelerator: ``auto``, ``cpu`` or ``gpu``, or the device itself.
        say: Takes a line for each folder: what was found in it.
        max_pixels: Most pixels of an image; default as in training.

    Raises:
        UserError: A path that does not exist, holds no tracklet or may mean two things; a tracklet
            that cannot be read.
    """
    found = find_tracklets(paths, layout, say=say)
    tracklets = list(found.values())
    trained = checkpoint if isinstance(checkpoint, TrainedReid) else load_trained(checkpoint)
    data = trained.experiment.data
    if num_workers is not None:
        data = replace(data, num_workers=num_workers)
    if max_pixels is not None:
        data = replace(data, max_pixels=max_pixels)
    check_data(data)
    encoded = encode(
        trained.model,
        tracklets,
        data,
        test_frames=test_frames,
        device=device_of(accelerator) if isinstance(accelerator, str) else accelerator,
        channels_last=trained.experiment.trainer.channels_last,
    )
    table = table_of(encoded, tracklets, trained)
    return replace(table, names=list(found), test_frames=test_frames)
