"""The video datasets by name: which files, which class each shows, which are for training.

Their loaders are named in :data:`video_snl.config.datasets.VIDEO_DATASETS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from video_snl.config.datasets import VIDEO_DATASETS
from video_snl.config.video import DataConfig
from video_snl.data.video.division import StoredSplit
from video_snl.data.video.records import VideoSet, folder_contents
from video_snl.errors import UserError
from video_snl.utils.media import is_video_name, list_folder
from video_snl.utils.text import say_once

__all__ = ["class_count", "load_videos", "resolve_dataset"]

# Written by video_snl.data.synthetic.generated, whose modules are loaded only where they are used.
_SAMPLE_MARKER = "sample.json"
_CLASS_FOLDERS = (
    "give the folder above the class folders (--data.dataset folder), or a CSV file that lists "
    "videos (--data.dataset csv); see docs/own-videos.md"
)


def load_videos(
    config: DataConfig,
    *,
    known: Sequence[str] | None = None,
    stored: StoredSplit | None = None,
) -> VideoSet:
    """Load the lists of ``config.dataset``, of ``config.split``.

    Args:
        config: The ``data`` section of a configuration.
        known: The classes of a trained network, for its evaluation: ``folder`` and ``csv`` may then
            have test videos alone, of some of these classes.
        stored: The division that a run has of its ``folder`` or ``csv``.

    Raises:
        UserError: No root given where one is needed, or one that does not hold such a dataset;
            lists that are missing, malformed, or name files that do not exist; a file that is both
            in train and in test.
    """
    config = resolve_dataset(config)
    load = VIDEO_DATASETS[config.dataset].load()
    return load(config, known) if stored is None else load(config, known, stored=stored)


def class_count(config: DataConfig) -> int:
    """Count the classes, looking at no video where that is possible.

    ``ucf101`` without a root has 101; with one, as many as its classInd.txt lists.

    Raises:
        UserError: As for :func:`load_videos`.
    """
    config = resolve_dataset(config)
    count = VIDEO_DATASETS[config.dataset].count(config)
    return len(load_videos(config).class_names) if count is None else count


def resolve_dataset(config: DataConfig) -> DataConfig:
    """Return the configuration with the dataset that its root holds, where none was named.

    ``sample`` is the default: with a root that holds something else, a folder of class folders, a
    CSV file or UCF-101's layout is recognised, and said in a line on stderr. So is a root that is
    new or empty, where the sample dataset is made. Any other dataset was named, and stays.

    Raises:
        UserError: The root is a video, or holds files and is none of them: nothing is generated
            into it.
    """
    if config.dataset != "sample" or config.root is None:
        return config
    from video_snl.data.video.folders import has_class_folders, holds_files

    root = Path(config.root).expanduser()
    if root.is_file() and is_video_name(root):
        raise UserError(f"data.root={config.root} is a video: {_CLASS_FOLDERS}")
    if root.is_file():
        found, what = "csv", "a file that lists videos"
    elif not root.is_dir() or _is_for_sample(root):
        if not (root / _SAMPLE_MARKER).is_file():
            state = "is empty" if root.is_dir() else "does not exist"
            say_once(
                f"data.root={config.root} {state}: it is used for the sample dataset of generated "
                "videos; for your own, name a folder that holds them, or give --data.dataset folder"
            )
        return config
    elif (root / "ucfTrainTestlist").is_dir():
        found, what = "ucf101", "the layout of UCF-101"
    elif has_class_folders(root):
        found, what = "folder", "a folder of class folders"
    elif config.reader == "frames" and any(entry.is_dir() for entry in root.iterdir()):
        found, what = "folder", "a folder of class folders of frames"
    else:
        if has_class_folders(root, "images"):
            raise UserError(
                f"data.root={config.root} holds class folders of images: train on them with a "
                "configuration of an image network, such as --config "
                "configs/digits/preresnet20_snl.yaml --data.dataset folder (docs/images.md), or "
                "with --data.reader frames if each folder in a class is a video"
            )
        if any(has_class_folders(folder) for folder in list_folder(root)[0]):
            raise UserError(
                f"data.root={config.root} holds folders of folders of videos: if they are class "
                "folders with a folder for each recording, give --data.dataset folder; else give "
                "the folder above the class folders (docs/own-videos.md)"
            )
        if holds_files(root, "videos"):
            raise UserError(
                f"data.root={config.root} holds videos, but no class folders: {_CLASS_FOLDERS}"
            )
        raise UserError(
            f"data.root={config.root} holds {folder_contents(root)}: no dataset was named and none "
            "is recognised; give --data.dataset folder, csv or ucf101 (docs/own-videos.md), or for "
            "the sample dataset a new folder or none"
        )
    say_once(f"data.root={config.root} is taken for {what}: --data.dataset {found}")
    return replace(config, dataset=found)


def _is_for_sample(root: Path) -> bool:
    """Tell whether a folder is empty or holds the sample dataset, also one of other settings."""
    try:
        return (root / _SAMPLE_MARKER).is_file() or not any(root.iterdir())
    except OSError:
        return False
