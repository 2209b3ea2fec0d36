"""The videos of a data set: which files, which class each shows, which are for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from video_snl.config.video import DataConfig
from video_snl.data.video.records import VideoSet, folder_contents
from video_snl.errors import UserError
from video_snl.utils.text import say_once

__all__ = [
    "LOADERS",
    "class_count",
    "load_videos",
    "resolve_dataset",
]

UCF101_CLASSES = 101
_SAMPLE_MARKER = (
    "sample.json"  # of video_snl.data.synthetic.generated, whose modules load no sooner
)
_UCF101 = (
    "the folder that holds UCF-101/ and ucfTrainTestlist/ (scripts/train_ucf101.sh takes it from "
    "UCF101_ROOT)"
)


def load_videos(config: DataConfig, *, known: Sequence[str] | None = None) -> VideoSet:
    """The videos of ``config.dataset``, of ``config.split``.

    Args:
        known: The classes of a trained network, for its evaluation: ``folder`` and ``csv`` may then
            have test videos alone, of some of these classes.

    Raises:
        UserError: No root given where one is needed, or one that does not hold such a data set;
            lists that are missing, malformed, or name files that do not exist; a file that is both
            in train and in test.
    """
    config = resolve_dataset(config)
    if config.dataset in _OWN:
        return _OWN[config.dataset](config, known)
    return LOADERS[config.dataset](config)


def resolve_dataset(config: DataConfig) -> DataConfig:
    """Return the configuration with the dataset that its root holds, where none was named.

    ``sample`` is the default: with a root that holds something else, a folder of class folders, a
    CSV file or UCF-101's layout is recognised, and said in a line on stderr. Any other dataset was
    named, and stays.

    Raises:
        UserError: The root holds files and is none of them: nothing is generated into it.
    """
    if config.dataset != "sample" or config.root is None:
        return config
    from video_snl.data.video.folders import has_class_folders

    root = Path(config.root).expanduser()
    if root.is_file():
        found, what = "csv", "a file that lists videos"
    elif not root.is_dir() or _is_for_sample(root):
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
        raise UserError(
            f"data.root={config.root} holds {folder_contents(root)}: no dataset was named and none "
            "is recognised; give --data.dataset folder, csv or ucf101 (docs/own-videos.md), or for "
            "the sample dataset a new folder or none"
        )
    say_once(f"data.root={config.root} is taken for {what}: --data.dataset {found}")
    return replace(config, dataset=found)  # type: ignore[arg-type]


def _is_for_sample(root: Path) -> bool:
    """Tell whether a folder is empty or holds the sample dataset, also one of other settings."""
    try:
        return (root / _SAMPLE_MARKER).is_file() or not any(root.iterdir())
    except OSError:
        return False


def class_count(config: DataConfig) -> int:
    """Number of classes, looking at no video where that is possible.

    ``ucf101`` without a root has 101; with one, as many as its classInd.txt lists.

    Raises:
        UserError: As for :func:`load_videos`.
    """
    config = resolve_dataset(config)
    if config.dataset == "sample":
        from video_snl.data.synthetic.sample import CLASSES

        return len(CLASSES)
    if config.dataset == "ucf101":
        if config.root is None:
            return UCF101_CLASSES
        from video_snl.data.video.ucf101 import class_names, lists_folder

        return len(class_names(lists_folder(_root(config, _UCF101))))
    return len(load_videos(config).class_names)


def _sample(config: DataConfig) -> VideoSet:
    from video_snl.data.synthetic.sample import ensure_sample
    from video_snl.data.video.ucf101 import load_ucf101

    given = None if config.root is None else Path(config.root).expanduser()
    return load_ucf101(ensure_sample(given), config.split)


def _ucf101(config: DataConfig) -> VideoSet:
    from video_snl.data.video.folders import has_class_folders
    from video_snl.data.video.ucf101 import load_ucf101

    root = _root(config, _UCF101)
    if root.is_file():
        raise UserError(
            f"data.root={config.root} is a file, and data.dataset=ucf101 needs {_UCF101}: a CSV "
            "file needs --data.dataset csv"
        )
    near = any((place / "ucfTrainTestlist").is_dir() for place in (root, root.parent))
    if not near and has_class_folders(root):
        raise UserError(
            f"data.root={config.root} has class folders, and no ucfTrainTestlist/ as "
            "data.dataset=ucf101 needs: give --data.dataset folder"
        )
    return load_ucf101(root, config.split, frame_folders=config.reader == "frames")


def _folder(config: DataConfig, known: Sequence[str] | None = None) -> VideoSet:
    from video_snl.data.video.folders import load_folder

    _only_split_1(config)
    root = _root(config, "the folder that holds one folder of videos per class")
    return load_folder(root, frame_folders=config.reader == "frames", known=known)


def _csv(config: DataConfig, known: Sequence[str] | None = None) -> VideoSet:
    from video_snl.data.video.folders import load_csv

    _only_split_1(config)
    root = _root(config, "the file with the columns path,label[,split]")
    if root.is_dir():
        raise UserError(
            f"data.root={config.root} is a folder, and no CSV file as data.dataset=csv needs: give "
            "the file, or --data.dataset folder for a folder of class folders"
        )
    return load_csv(root, known)


_OWN = {"folder": _folder, "csv": _csv}
LOADERS = {"sample": _sample, "ucf101": _ucf101, **_OWN}


def _root(config: DataConfig, what: str) -> Path:
    if config.root is None:
        raise UserError(f"data.dataset={config.dataset} needs --data.root: {what}")
    root = Path(config.root).expanduser()
    if not root.exists():
        raise UserError(f"data.root={config.root} does not exist: give {what}")
    return root


def _only_split_1(config: DataConfig) -> None:
    if config.split != 1:
        raise UserError(
            f"data.split={config.split} is UCF-101's: data.dataset={config.dataset} has split 1 "
            "only; choose the test videos by folders train/ and test/, or by the column split"
        )
