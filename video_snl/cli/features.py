"""The command ``features``. Without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from video_snl.cli.data import cluster_of, number_of_workers
from video_snl.config.datasets import VideoDatasetName
from video_snl.config.options import (
    Accelerator,
    Checkpoint,
    NetworkEngine,
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
from video_snl.utils.quick_imports import quick_imports

if TYPE_CHECKING:
    from jsonargparse import Namespace

__all__ = ["FEATURES", "Features", "features"]

FEATURES = """Write the features of videos to a file: a vector for each clip, or for each video.
For linear probes (--probe), search and clustering. The vector is what the network's classifier
gets: video-snl features --pretrained x3d_xs my_videos -o features.parquet
Given again after an interruption, or after videos were added, the command computes what is missing.
A probe on a file that is there needs no network: video-snl features features.parquet --probe
Exit code 0: all is there; 2: bad input, or videos that could not be read, which are named."""


@option_group
class Features(Accelerator, Unreadable, NetworkEngine, Workers, Pretrained, Checkpoint):
    """Options of ``features``.

    Args:
        paths: Videos, or folders of them: the folders in a folder are the labels (below train/ and
            test/, where it has these). Left out beside --data.root. With --probe, also the file of
            features alone that this command wrote.
        output: File to write: .parquet, or .npz of NumPy. Needed except for a probe on a file that
            is there.
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
        data_split: Split of a dataset that has several; default 1.
        force: Replace the file, or the parts of one, where they are of other settings or videos.
        probe: Fit scikit-learn's logistic regression on the features of the training videos, and
            report its accuracy on the test videos as evaluate does.
        probe_c: Inverse strength of the regression's L2 penalty.
        probe_output: Folder for the reports; default the name of the file with -probe, beside it.
        unreadable: Of --probe: test videos that cannot be read count as wrong, or are left out of
            all figures (skip).
    """

    paths: list[str] = positional("FILE|DIR", nargs="*")
    output: str | None = option(short="-o", metavar="FILE")
    per: Literal["clip", "video"] = "clip"
    clips: int | None = None
    crops: Literal[1, 3] | None = None
    short_videos: Literal["error", "repeat_last", "wrap"] | None = None
    data_dataset: VideoDatasetName | None = option(name="--data.dataset")
    data_root: str | None = option(name="--data.root", metavar="FILE|DIR")
    data_split: Literal[1, 2, 3, "paper"] | None = option(name="--data.split")
    force: bool = False
    probe: bool = False
    probe_c: float = 0.01
    probe_output: str | None = option(metavar="DIR")


def features(arguments: Namespace) -> int:
    """Run ``features``."""
    options = options_of(Features, arguments)
    options.check()
    if _is_features(options.paths):
        return _probe_of_file(options)
    if options.output is None:
        raise UserError("-o FILE is missing: name the file to write, such as -o features.parquet")
    check_one_network(None, options.checkpoint, options.pretrained, options.weights)
    if options.pretrained is not None:
        find_pretrained(options.pretrained)
    by_list = options.data_root is not None or options.data_dataset is not None
    if by_list == bool(options.paths):
        both = f"{options.paths[0]} and a dataset: give one of them" if by_list else None
        raise UserError(
            both or "name videos or folders of them, or a dataset by --data.root (see --help)"
        )
    cluster = cluster_of(options, options.num_workers, options.accelerator)
    with quick_imports():
        from video_snl.commands.features import Dataset, features
        from video_snl.commands.predict import Views
        from video_snl.commands.probe import Probe
        from video_snl.tasks.operations import Reading

    dataset = None
    if by_list:
        dataset = Dataset(options.data_dataset, options.data_root, options.data_split or 1)
    output = Path(options.output)
    reports = options.probe_output or str(_reports_beside(output))
    probe = Probe(Path(reports), options.probe_c, options.unreadable) if options.probe else None
    return features(
        options.paths,
        output=options.output,
        pretrained=options.pretrained,
        weights=options.weights,
        checkpoint=options.checkpoint,
        dataset=dataset,
        split=options.data_split or 1,
        per=options.per,
        views=Views(options.clips, options.crops),
        reading=Reading(options.short_videos, options.deadline, options.max_pixels),
        num_workers=number_of_workers(options),
        accelerator=options.accelerator,
        force=options.force,
        probe=probe,
        cluster=cluster,
    )


def _is_features(paths: list[str]) -> bool:
    """Tell whether the one path is a file of features, not a video or a folder."""
    if len(paths) != 1 or Path(paths[0]).is_dir():
        return False
    from video_snl.runs.features import SUFFIXES

    return Path(paths[0]).suffix.lower() in SUFFIXES


def _probe_of_file(options: Features) -> int:
    """Fit a probe on a file of features, without a network.

    Raises:
        UserError: The probe is not asked for, or an option is, of which the file's features are
            already.
    """
    [path] = options.paths
    if not options.probe:
        raise UserError(
            f"{path} holds features: add --probe to fit a probe on them, or name videos"
        )
    # Options of making features, with whether they were given.
    given = {
        "--pretrained": options.pretrained,
        "--weights": options.weights,
        "--checkpoint": options.checkpoint,
        "-o": options.output,
        "--per": options.per if options.per != "clip" else None,
        "--clips": options.clips,
        "--crops": options.crops,
        "--short_videos": options.short_videos,
        "--data.dataset": options.data_dataset,
        "--data.root": options.data_root,
        "--data.split": options.data_split,
        "--force": options.force or None,
    }
    for name, value in given.items():
        if value is not None:
            raise UserError(
                f"{path} holds features, and {name} is for making them: leave it out, or name "
                "videos in the place of the file"
            )
    from video_snl.commands.probe import Probe, probe_file

    reports = options.probe_output or str(_reports_beside(Path(path)))
    return probe_file(Path(path), Probe(Path(reports), options.probe_c, options.unreadable))


def _reports_beside(file: Path) -> Path:
    return file.with_name(f"{file.stem}-probe")
