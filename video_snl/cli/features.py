"""The command ``features``. Without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jsonargparse import Namespace

from video_snl.cli.data import number_of_workers
from video_snl.config.datasets import VideoDatasetName
from video_snl.config.options import (
    Accelerator,
    Checkpoint,
    Pretrained,
    Unreadable,
    Workers,
    check_one_network,
    option,
    option_group,
    options_of,
    positional,
)
from video_snl.errors import UserError
from video_snl.runs.pretrained import find_pretrained

__all__ = ["FEATURES", "Features", "features"]

FEATURES = """Write the features of videos to a file: a vector for each clip, or for each video.
For linear probes (--probe), search and clustering. The vector is what the network's classifier
gets: video-snl features --pretrained x3d_xs my_videos -o features.parquet
Given again after an interruption, or after videos were added, the command computes what is missing.
Exit code 0: all is there; 2: bad input, or videos that could not be read, which are named."""


@option_group
class Features(Accelerator, Unreadable, Workers, Pretrained, Checkpoint):
    """Options of ``features``.

    Args:
        paths: Videos, or folders of them: the folders in a folder are the labels (below train/ and
            test/, where it has these). Left out beside --data.root.
        output: File to write: .parquet, or .npz of NumPy.
        per: A vector for each clip, or for each video: the mean over its clips.
        clips: Clips of a video, evenly spaced over its length; default 10 (of a --pretrained
            network, its own number).
        crops: Crops of a clip over which its vector is averaged: 1 (centre) or 3 along its longer
            side; default 3 (of a --pretrained network, its own number).
        short_videos: What to do with a video shorter than a clip; default as in training.
        data_dataset: ucf101, folder, csv, or another that train knows; default by what --data.root
            is.
        data_root: Folder of a dataset, or a CSV file with the columns path,label[,split], in the
            place of paths; default none.
        data_split: Split of a dataset that has several.
        force: Replace the file, or the parts of one, where they are of other settings or videos.
        probe: Fit scikit-learn's logistic regression on the features of the training videos, and
            report its accuracy on the test videos as evaluate does.
        probe_c: Inverse strength of the regression's L2 penalty.
        probe_output: Folder for the reports; default the name of the file with -probe, beside it.
        unreadable: Of --probe: test videos that cannot be read count as wrong, or are left out of
            all figures (skip).
    """

    paths: list[str] = positional("FILE|DIR", nargs="*")
    output: str = option(short="-o", required=True, metavar="FILE")
    per: Literal["clip", "video"] = "clip"
    clips: int | None = None
    crops: Literal[1, 3] | None = None
    short_videos: Literal["error", "repeat_last", "wrap"] | None = None
    data_dataset: VideoDatasetName | None = option(name="--data.dataset")
    data_root: str | None = option(name="--data.root", metavar="FILE|DIR")
    data_split: Literal[1, 2, 3, "paper"] = option(1, name="--data.split")
    force: bool = False
    probe: bool = False
    probe_c: float = 0.01
    probe_output: str | None = option(metavar="DIR")


def features(arguments: Namespace) -> int:
    """Run ``features``."""
    options = options_of(Features, arguments)
    options.check()
    check_one_network(None, options.checkpoint, options.pretrained, options.weights)
    if options.pretrained is not None:
        find_pretrained(options.pretrained)
    by_list = options.data_root is not None or options.data_dataset is not None
    if by_list == bool(options.paths):
        both = f"{options.paths[0]} and a dataset: give one of them" if by_list else None
        raise UserError(
            both or "name videos or folders of them, or a dataset by --data.root (see --help)"
        )
    from video_snl.commands.features import Dataset, features
    from video_snl.commands.predict import Views
    from video_snl.commands.probe import Probe
    from video_snl.tasks.operations import Reading

    dataset = None
    if by_list:
        dataset = Dataset(options.data_dataset, options.data_root, options.data_split)
    output = Path(options.output)
    reports = options.probe_output or str(output.with_name(f"{output.stem}-probe"))
    probe = Probe(Path(reports), options.probe_c, options.unreadable) if options.probe else None
    return features(
        options.paths,
        output=options.output,
        pretrained=options.pretrained,
        weights=options.weights,
        checkpoint=options.checkpoint,
        dataset=dataset,
        per=options.per,
        views=Views(options.clips, options.crops),
        reading=Reading(options.short_videos, options.deadline, options.max_pixels),
        num_workers=number_of_workers(options),
        accelerator=options.accelerator,
        force=options.force,
        probe=probe,
    )
