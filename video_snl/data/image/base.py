"""Datasets of images as a loader sees them: whole batches of a list of keys.

An image's key is (epoch, index); all that is random about it is a function of (seed, epoch, index),
whatever process reads it.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from video_snl.config.datasets import IMAGE_DATASETS, IMAGE_STATISTICS
from video_snl.config.image import ImageDataConfig
from video_snl.config.statistics import Statistics
from video_snl.data.image.reading import UnreadableImage
from video_snl.data.loading.batches import Batch, Sample
from video_snl.data.loading.samplers import Key, fallback_generator, sample_generator
from video_snl.errors import OptionsError, UserError

__all__ = [
    "BatchResult",
    "FileDataset",
    "ImageDataset",
    "ImageSet",
    "Paths",
    "completed",
    "dataset_root",
    "image_set",
    "image_statistics",
    "single",
]

_ATTEMPTS = 2  # a disk of the network may fail for a moment


class BatchResult(NamedTuple):
    """A batch, the files (path, reason) found unreadable on the way, and why no batch can be made.

    Both are values, since an error that crosses processes loses its form.
    """

    batch: Batch
    failures: list[tuple[str, str]]
    error: str | None = None


class ImageDataset(Protocol):
    """A list of images with their labels."""

    what: str
    """``training`` or ``test``, for messages."""
    in_memory: bool
    """Batches need no processes."""

    @property
    def paths(self) -> Sequence[str]:
        """Names of the images in messages and in the quarantine."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: Key) -> Sample: ...

    def gather(self, keys: Sequence[Key]) -> BatchResult:
        """Return the batch of some keys."""
        ...

    def avoid(self, paths: Iterable[str]) -> None:
        """Try no more to read files that are known to be unreadable."""
        ...


@dataclass(frozen=True)
class ImageSet:
    """A dataset, ready to be loaded; ``class_names[label]`` is the name of a class.

    Args:
        mean, std: Input statistics, for values in [0, 1].
        ignored: Label of pixels that are not scored, where the labels are maps; else None.
    """

    train: ImageDataset
    test: ImageDataset
    class_names: list[str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    ignored: int | None = None


def image_set(
    config: ImageDataConfig,
    train: ImageDataset,
    test: ImageDataset,
    class_names: list[str],
    ignored: int | None = None,
) -> ImageSet:
    """Return both parts of a dataset with the statistics that ``config`` asks for."""
    return ImageSet(train, test, class_names, *image_statistics(config), ignored)


def image_statistics(config: ImageDataConfig) -> Statistics:
    """Return the mean and standard deviation that ``config.statistics`` stands for."""
    if config.statistics != "auto":
        return IMAGE_STATISTICS[config.statistics]
    return IMAGE_STATISTICS.get(config.dataset, IMAGE_STATISTICS["imagenet"])


def dataset_root(config: ImageDataConfig) -> Path:
    """Return ``data.root``, a folder; with ``data.download`` it need not exist.

    Raises:
        UserError: It is not given, does not exist, or is a file; says what it has to be.
    """
    needed = IMAGE_DATASETS[config.dataset].root
    if config.root is None:
        raise UserError(f"data.dataset={config.dataset} needs --data.root: {needed}")
    root = Path(config.root).expanduser()
    if not root.is_dir() and (root.exists() or not config.download):
        found = "is a file" if root.exists() else "does not exist"
        raise UserError(f"data.root={config.root} {found}: give {needed}")
    return root


class Paths(Sequence[str]):
    """Many paths in one array: a list of strings would be copied by every process that reads it.

    (Reading a Python string writes its reference count, and so copies its page of memory.)
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._bytes = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [os.fsdecode(path) for path in self._bytes[index].tolist()]
        return os.fsdecode(bytes(self._bytes[index]))


class FileDataset(ABC):
    """Images that are read from files when they are asked for.

    ``dataset[epoch, index]`` holds ``image`` uint8 (h, w, 3), cut and changed, ``label`` and
    ``index``. In training another image stands for one that cannot be read: the first readable one
    in an order, of the members of its group, that is drawn from (seed, epoch, index). In evaluation
    its row is left out and its index listed under ``unreadable`` of the batch.

    Args:
        training: Crop and change images at random, and let others stand for unreadable ones.
        seed: Seed of the run.
    """

    in_memory = False

    def __init__(self, paths: Sequence[str], *, training: bool, seed: int) -> None:
        self.paths, self.training, self.seed = Paths(paths), training, seed
        self.what = "training" if training else "test"
        self._bad: set[int] = set()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> Sample:
        return single(self.gather([key]))

    @abstractmethod
    def sample(self, index_read: int, random: np.random.Generator) -> Sample:
        """Read an image and its label.

        Raises:
            UnreadableImage: The file is at fault.
            UserError: Something is wrong that no other file would mend.
        """

    @abstractmethod
    def members(self, index: int) -> np.ndarray:
        """Return the indices of what may stand for an image; it may be among them."""

    def missed(self, index: int) -> Sample:
        """Return what a batch says, under these names, of an unreadable image of an evaluation."""
        return {}

    def avoid(self, paths: Iterable[str]) -> None:
        avoided = set(paths)
        if avoided:
            self._bad.update(i for i, path in enumerate(self.paths) if path in avoided)

    def gather(self, keys: Sequence[Key]) -> BatchResult:
        samples: list[Sample] = []
        lost: list[int] = []
        failures: list[tuple[str, str]] = []
        try:
            for key in keys:
                sample = self._readable(key, failures)
                if sample is None:
                    lost.append(key[1])
                else:
                    samples.append(sample)
            batch = completed(_stacked(samples), lost)
            batch.update(_stacked([self.missed(index) for index in lost]))
        except UserError as error:
            return BatchResult({}, failures, str(error))
        return BatchResult(batch, failures)

    def _readable(self, key: Key, failures: list[tuple[str, str]]) -> Sample | None:
        """Return the sample of a key, or of another image; None where evaluation has none."""
        for index_read in self._candidates(key):
            if index_read in self._bad:
                continue
            try:
                return self._tried(index_read, key)
            except UnreadableImage as error:
                self._bad.add(index_read)
                failures.append((self.paths[index_read], str(error)))
        if not self.training:
            return None
        raise UserError(
            f"none of the {len(self.members(key[1]))} training images that may stand for "
            f"{self.paths[key[1]]} can be read: fetch or copy them again"
        )

    def _candidates(self, key: Key) -> Iterable[int]:
        yield key[1]
        if self.training:
            order = fallback_generator(self.seed, *key).permutation(self.members(key[1]))
            yield from order.tolist()

    def _tried(self, index_read: int, key: Key) -> Sample:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                sample = self.sample(index_read, sample_generator(self.seed, *key))
                return {**sample, "index": torch.tensor(index_read)}
            except UnreadableImage:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError  # the last attempt returns or raises


def completed(batch: Batch, lost: Sequence[int]) -> Batch:
    """Add ``unreadable``, and ``index`` and ``label`` even where the batch has no rows."""
    for name in ("index", "label"):
        batch.setdefault(name, torch.empty(0, dtype=torch.int64))
    batch["unreadable"] = torch.tensor(list(lost), dtype=torch.int64)
    return batch


def single(result: BatchResult) -> Sample:
    """Return the sample of a batch of one.

    Raises:
        UserError: It cannot be read.
    """
    if result.error is not None:
        raise UserError(result.error)
    batch = result.batch
    if len(batch["index"]) == 0:
        reasons = [reason for _, reason in result.failures]
        raise UserError("; ".join(reasons) or "the image is known to be unreadable")
    return {name: value[0] for name, value in batch.items() if name != "unreadable"}


def _stacked(samples: Sequence[Sample]) -> dict[str, Tensor]:
    names = samples[0] if samples else ()
    return {name: _stack(name, [sample[name] for sample in samples]) for name in names}


def _stack(name: str, values: list[Tensor]) -> Tensor:
    shapes = {tuple(value.shape) for value in values}
    if len(shapes) > 1:
        first, second = (" x ".join(map(str, shape[:2])) for shape in sorted(shapes)[:2])
        raise OptionsError(
            f"images of {first} and of {second} pixels cannot share a batch ({name}): test with "
            "--optimizer.test_batch_size 1, or give all of them one size"
        )
    return torch.stack(values)
