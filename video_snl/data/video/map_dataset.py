"""Videos as a map-style dataset of PyTorch, for anybody's DataLoader and training loop.

Our own training reads through :mod:`video_snl.data.loading.loader`, whose processes have deadlines
and replace what cannot be read. Here a sample is whatever ``dataset[index]`` returns, in whichever
process asks for it.
"""

from __future__ import annotations

import operator
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from video_snl.config.statistics import STATISTICS
from video_snl.config.validation import SEEDS, check_fields, check_limits
from video_snl.config.video import DataConfig, Experiment
from video_snl.data.loading.collate import Sample
from video_snl.data.loading.samplers import sample_generator
from video_snl.data.transforms.augment import augmented_crops
from video_snl.data.transforms.geometry import crop_clips, normalise
from video_snl.data.video.catalog import load_videos
from video_snl.data.video.dataset import ClipDataset, EvaluationDataset
from video_snl.data.video.file_lists import layout_of, list_dataset
from video_snl.data.video.labelled import sorted_labels
from video_snl.data.video.records import Video
from video_snl.errors import OptionsError, UserError
from video_snl.utils.counts import counts
from video_snl.utils.media import check_named
from video_snl.utils.text import examples, meant, say_once

__all__ = ["ListOptions", "Part", "VideoDataset"]

Part = Literal["train", "test", "all"]
"""Videos of a dataset: those to train on, those to test on, or all of them."""

# Options of the data that say which videos there are, or belong to our own loader.
_NOT_OF_A_CLIP = ("dataset", "root", "num_workers", "deadline", "max_failures")
_AUTO = "kinetics"
# Of the streams that a sample's generator spawns, the first three are those of the augmentations.
_TRANSFORM = 3


class ListOptions(TypedDict, total=False):
    """Options of a dataset whose videos are listed by a folder or a file.

    Attributes:
        split: ``train`` (the default), ``test``, or ``all`` videos.
        clip: As for :class:`VideoDataset`.
        transform: As for :class:`VideoDataset`.
        random_clips: As for :class:`VideoDataset`; None: for ``train`` alone.
        classes: Names in the order of the labels, such as those of a trained network; None: those
            that are found, sorted.
        seed: As for :class:`VideoDataset`.
    """

    split: Part
    clip: DataConfig | Mapping[str, Any] | None
    transform: Callable[[Tensor], Any] | None
    random_clips: bool | None
    classes: Sequence[str] | None
    seed: int


class VideoDataset(Dataset[dict[str, Any]]):
    """Clips of labelled videos: ``dataset[index]`` reads one clip of video ``index``.

    A sample is a dictionary with

    ========= ================================================================================
    ``video`` without ``transform``: float32 (3, T, crop, crop), as the networks here and those of
              torchvision take it, normalised (``statistics: auto`` is ``kinetics`` here); else
              what ``transform`` returns
    ``label`` int, index into :attr:`classes`
    ``index`` int, the index that was asked for
    ========= ================================================================================

    All samples have one shape without a transform, so that the default ``collate_fn`` of a
    DataLoader makes batches of them. The dataset can be pickled, and works in workers that are
    forked or spawned; call :meth:`set_epoch` before each epoch, also with persistent workers.

    All that is random about a sample is a function of (seed, epoch, index): the frames of its clip,
    crop, flip and augmentation as in our own training, and what a transform draws from ``torch``,
    ``random`` or ``numpy.random``.

    Make one by :meth:`from_folder` or :meth:`from_csv`, or of a list of videos.

    Args:
        videos: Paths with labels.
        classes: Names of the classes, by label.
        clip: How clips are cut and changed: options of the section ``data`` of a configuration
            (docs/configuration.md), as ``{"clip_frames": 16, "crop": 112, "short_side": 128}`` or
            as a :class:`~video_snl.config.video.DataConfig`, such as
            :attr:`video_snl.Predictor.clip`.
        transform: Function of a clip, uint8 (T, 3, H, W), whose shorter side has ``short_side``
            pixels; in the place of crop, flip, augmentation and normalisation.
        random_clips: A random clip with random crop, flip and augmentation, and not the middle of
            the video and of its frames.
        seed: Seed of all that is random.

    Raises:
        UserError: An option is unknown, of another type or out of its range, or a video has a
            label that no class has. From ``dataset[index]``: the video cannot be read, or is too
            short.
        IndexError: From ``dataset[index]``: there is no such video.
        TypeError: From ``dataset[index]``: the index is no whole number.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        classes: Sequence[str],
        *,
        clip: DataConfig | Mapping[str, Any] | None = None,
        transform: Callable[[Tensor], Any] | None = None,
        random_clips: bool = True,
        seed: int = 0,
    ) -> None:
        self.videos, self.classes = list(videos), _class_names(classes)
        for video in self.videos:
            if not 0 <= video.label < len(self.classes):
                raise UserError(
                    f"{video.path} has the label {video.label}, which is none of "
                    f"{counts(len(self.classes), 'class')} from 0 on"
                )
        if transform is not None and not callable(transform):
            raise UserError(
                f"transform={transform!r:.60}: give a function of a clip, uint8 (T, 3, H, W)"
            )
        self.config, self.transform = _config(clip), transform
        self.random_clips, self.seed = random_clips, _number("seed", seed)
        self._training = ClipDataset(self.videos, self.config, seed)
        self._test = EvaluationDataset(self.videos, self.config, 0)
        # In memory that workers share: those that persist would else stay in the epoch they began.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @classmethod
    def from_folder(
        cls,
        root: str | Path,
        **options: Unpack[ListOptions],
    ) -> VideoDataset:
        """Make the dataset of a folder with a folder for each class, or of UCF-101's layout.

        Train and test videos are told apart as by ``video-snl train``: by the folders ``train/``
        and ``test/``, by UCF-101's lists, or else whole recordings test (docs/own-videos.md).

        Args:
            root: The folder.
            options: Those of :class:`ListOptions`: ``split``, ``clip``, ``transform``,
                ``random_clips``, ``classes``, ``seed``.

        Raises:
            UserError: There is no such dataset, it has a class that is not among ``classes``, or as
                for the class.
        """
        check_named(root)
        layout = layout_of(Path(root).expanduser())
        if layout == "csv":
            raise UserError(f"{root} is a file: give a folder, or VideoDataset.from_csv a CSV file")
        return cls._listed(root, layout, **options)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        **options: Unpack[ListOptions],
    ) -> VideoDataset:
        """Make the dataset of a CSV file with the columns path,label[,split][,group].

        Args:
            path: The file; relative paths in it start at its folder.
            options: As for :meth:`from_folder`.

        Raises:
            UserError: As for :meth:`from_folder`, or a line of the file is malformed.
        """
        check_named(path)
        return cls._listed(path, "csv", **options)

    @classmethod
    def _listed(
        cls,
        root: str | Path,
        layout: str,
        *,
        split: Part = "train",
        clip: DataConfig | Mapping[str, Any] | None = None,
        transform: Callable[[Tensor], Any] | None = None,
        random_clips: bool | None = None,
        classes: Sequence[str] | None = None,
        seed: int = 0,
    ) -> VideoDataset:
        if split not in ("train", "test", "all"):
            raise UserError(f"split={split!r}: choose train, test or all")
        config = replace(_config(clip), dataset=layout, root=str(root))
        if config.split_by is None:
            config = replace(config, split_by="group")
        videos, names = _listed_videos(config, split)
        if classes is not None:
            classes = _class_names(classes)
            videos, names = _relabelled(videos, names, classes, str(root)), list(classes)
        return cls(
            videos,
            names,
            clip=config,
            transform=transform,
            random_clips=split == "train" if random_clips is None else random_clips,
            seed=seed,
        )

    @property
    def labels(self) -> list[int]:
        """Labels of the videos, such as for a sampler that balances the classes."""
        return [video.label for video in self.videos]

    @property
    def epoch(self) -> int:
        """Epoch that samples are drawn for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw other clips, crops and augmentations from here on, in all workers.

        Args:
            epoch: Number of the epoch, from 0.
        """
        self._epoch.fill_(_number("epoch", epoch))

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Keep the epoch of a copy in memory that its workers share."""
        self.__dict__.update(state)
        self._epoch.share_memory_()

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        count = len(self.videos)
        index = operator.index(index)
        if not -count <= index < count:
            raise IndexError(f"index {index} of {counts(count, 'video')}")
        index %= count
        epoch = self.epoch
        sample = self._training[epoch, index] if self.random_clips else self._test[epoch, index]
        clip = self._prepared(sample) if self.transform is None else self._changed(sample, index)
        return {"video": clip, "label": self.videos[index].label, "index": index}

    def __repr__(self) -> str:
        clips = "random clips" if self.random_clips else "the clips in the middle"
        return (
            f"VideoDataset of {counts(len(self), 'video')} of "
            f"{counts(len(self.classes), 'class')}, {clips} of "
            f"{counts(self.config.clip_frames, 'frame')}"
        )

    def _prepared(self, sample: Sample) -> Tensor:
        """Crop, change and normalise a clip, as a training or an evaluation does on its device."""
        named = self.config.statistics
        mean, std = STATISTICS[_AUTO if named == "auto" else named]
        batch = {name: value[None] for name, value in sample.items()}
        if self.random_clips:
            cropped = augmented_crops(batch, self.config)
        else:
            middle, upright = torch.full((1, 2), 0.5), torch.zeros(1, dtype=torch.bool)
            cropped = crop_clips(batch["centre"], batch["size"], middle, upright, self.config.crop)
        return normalise(cropped, mean, std)[0].contiguous()

    def _changed(self, sample: Sample, index: int) -> Any:
        """Apply the transform of the user, which draws the numbers of this sample."""
        assert self.transform is not None
        video = sample["video" if self.random_clips else "centre"]
        generator = sample_generator(self.seed, self.epoch, index).spawn(_TRANSFORM + 1)[_TRANSFORM]
        with _seeded(int(generator.integers(2**32))):
            return self.transform(video.permute(0, 3, 1, 2))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's, Python's and NumPy's own generators for the body; then all go on as before."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _config(clip: DataConfig | Mapping[str, Any] | None) -> DataConfig:
    """Return the options of clips, checked as those of a training are.

    Raises:
        UserError: One is unknown, of another type, out of its range, or not about clips.
    """
    config = clip if isinstance(clip, DataConfig) else _of_options(clip)
    try:
        check_fields(DataConfig, vars(config), "clip")
    except TypeError as error:
        raise OptionsError(f"{error}") from error
    check_limits(Experiment(data=config))
    return config


def _of_options(clip: Mapping[str, Any] | None) -> DataConfig:
    """Return a configuration with some options of clips.

    Raises:
        UserError: One is unknown, or not about clips.
    """
    if clip is None:
        return DataConfig()
    if not isinstance(clip, Mapping):
        raise UserError(
            f"clip={clip!r:.60}: give options such as {{'clip_frames': 16}}, or a DataConfig"
        )
    known = {field.name for field in fields(DataConfig)}
    for name in clip:
        if name in _NOT_OF_A_CLIP:
            raise UserError(f"clip: {name} is not an option of clips; leave it out")
        if name not in known:
            near = meant(str(name), sorted(known.difference(_NOT_OF_A_CLIP)))
            raise UserError(f"clip: there is no option {name}; {near}")
    values = {name: list(x) if isinstance(x, tuple) else x for name, x in clip.items()}
    return replace(DataConfig(), **values)  # type: ignore[arg-type]  # checked by the caller


def _number(what: str, value: Any) -> int:
    """Return a seed or an epoch.

    Raises:
        UserError: It is no whole number, or out of the range that generators take.
    """
    try:
        number = operator.index(value)
    except TypeError as error:
        raise UserError(f"{what} {value!r:.60}: give a whole number") from error
    if not SEEDS.holds(number):
        raise UserError(f"{what} {value!r:.60}: give a whole number from 0 to 2**63 - 1")
    return number


def _class_names(classes: Any) -> list[str]:
    """Return the names of the classes.

    Raises:
        UserError: They are no list of text, or one is there twice.
    """
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise UserError(f"classes={classes!r:.60}: give a list of names, such as ['jump', 'run']")
    names = list(classes)
    for name, count in Counter(map(repr, names)).items():
        if count > 1:
            raise UserError(f"classes: {name:.60} is there {count} times; name every class once")
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"classes: expected names as text, found {name!r:.60}")
    return names


def _listed_videos(config: DataConfig, split: Part) -> tuple[list[Video], list[str]]:
    """Return the videos of a part, and the names of the classes."""
    if split != "all" or config.dataset == "ucf101":
        found = load_videos(config)
        parts = {"train": found.train, "test": found.test, "all": [*found.train, *found.test]}
        return parts[split], found.class_names
    # Not divided: a class may have a single video.
    listed = list_dataset(config, "VideoDataset")
    labelled = [(video.path, video.label) for video in listed if video.label is not None]
    if not labelled:
        raise UserError(f"{config.root} holds no video in a class folder: give the folder above")
    if len(labelled) < len(listed):
        bare = [video.path for video in listed if video.label is None]
        say_once(f"{config.root}: left out {counts(len(bare), 'video')} without a class folder "
                 f"({examples(bare)})")  # fmt: skip
    names = sorted_labels({label for _, label in labelled})
    numbers = {name: number for number, name in enumerate(names)}
    return [Video(path, numbers[label]) for path, label in labelled], names


def _relabelled(
    videos: Sequence[Video], names: Sequence[str], classes: Sequence[str], root: str
) -> list[Video]:
    """Return the videos with the labels of other classes.

    Raises:
        UserError: One is of a class that is not among them.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = sorted({names[video.label] for video in videos} - numbers.keys())
    if unknown:
        raise UserError(
            f"{root}: class {unknown[0]!r} is none of the {len(numbers)} given "
            f"({examples(classes)})"
        )
    return [Video(video.path, numbers[names[video.label]]) for video in videos]
