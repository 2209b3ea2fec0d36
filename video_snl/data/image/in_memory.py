"""Small datasets: one uint8 array in memory, batches by indexing it, all changes on the device."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from video_snl.config.image import ImageDataConfig
from video_snl.data.image.base import BatchResult, Paths, completed, single
from video_snl.data.image.classification import colour_options, evaluation_image
from video_snl.data.image.reading import UnreadableImage, read_image
from video_snl.data.loading.batches import Batch, Sample
from video_snl.data.loading.samplers import (
    Key,
    epoch_generator,
    fallback_generator,
    sample_generator,
)
from video_snl.data.synthetic.generated import cache_folder
from video_snl.data.transforms.augment import draw_augmentation
from video_snl.errors import OptionsError
from video_snl.utils.files import replace_file
from video_snl.utils.json_text import to_json

__all__ = ["MemoryDataset", "decode_images"]

FORMAT = 2
"""Raise it when the same files and options give other pixels."""
_DRAWS = 3  # numbers of an image: its place down and right, and its flip
_TABLES = 2  # an epoch's and that of the one before, whose last batches may still be made


class MemoryDataset:
    """Images of one size that are all in memory.

    ``dataset[epoch, index]`` holds ``image`` uint8 (h, w, 3), ``label`` and ``index``; in training
    also ``offset`` float32 (2,) in [0, 1) and ``flip`` bool, and what
    :mod:`~video_snl.data.transforms.augment` says, all applied by
    :func:`~video_snl.data.transforms.image.training_images`.

    The numbers of an image are a row of a table drawn for a whole epoch: one draw for all of them
    takes a millisecond where one for each would take a second.

    Args:
        images: uint8 (N, h, w, 3).
        labels: int64 (N,).
        paths: Names of the images.
        failures: Index and reason of those that could not be read.

    Raises:
        OptionsError: An option that images in memory do not have.
    """

    in_memory = True

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        paths: Sequence[str],
        config: ImageDataConfig,
        *,
        training: bool,
        seed: int,
        failures: dict[int, str] | None = None,
    ) -> None:
        if training and config.training_crop != "random":
            raise OptionsError(
                f"data.training_crop={config.training_crop} is for images in files: give random, "
                "or data.in_memory=false where the dataset is a folder"
            )
        self.images, self.labels, self.config = images, labels, config
        self.paths, self.training, self.seed = Paths(paths), training, seed
        self.what = "training" if training else "test"
        self.failures = failures or {}
        self._bad = set(self.failures)
        self._colours = colour_options(config)
        self._tables: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Sample:
        return single(self.gather([key]))

    def avoid(self, paths: Iterable[str]) -> None:
        """Do nothing: what could be read is in memory."""

    def gather(self, keys: Sequence[Key]) -> BatchResult:
        failures = [(self.paths[i], self.failures[i]) for i in self._bad]
        if self.training:
            indices = [self._readable(key) for key in keys]
            kept, lost = list(keys), []
            if None in indices:
                name = self.paths[keys[indices.index(None)][1]]
                error = f"no training image of the class of {name} can be read: mend them"
                return BatchResult({}, failures, error)
        else:
            kept = [key for key in keys if key[1] not in self._bad]
            lost = [key[1] for key in keys if key[1] in self._bad]
            indices = [key[1] for key in kept]
        index = torch.tensor(indices, dtype=torch.int64)
        batch = {"image": self.images[index], "label": self.labels[index], "index": index}
        if self.training:
            batch |= self._drawn(kept)
        return BatchResult(completed(batch, lost) if len(index) else completed({}, lost), failures)

    def _readable(self, key: Key) -> int | None:
        """Return the index of a key's image, or of one of its class that could be read."""
        index = key[1]
        if index not in self._bad:
            return index
        members = torch.nonzero(self.labels == self.labels[index])[:, 0].numpy()
        order = fallback_generator(self.seed, *key).permutation(members).tolist()
        return next((i for i in order if i not in self._bad), None)

    def _drawn(self, keys: Sequence[Key]) -> Batch:
        rows = torch.stack([self._table(key[0])[key[1]] for key in keys])
        drawn = {
            "offset": rows[:, :2].contiguous(),
            "flip": (rows[:, 2] < 0.5) & self.config.flip,
        }
        colours = self._colours
        if colours.color_jitter or colours.hue_jitter or colours.rand_augment:
            changes = [draw_augmentation(colours, sample_generator(self.seed, *k)) for k in keys]
            drawn |= {name: torch.stack([x[name] for x in changes]) for name in changes[0]}
        return drawn

    def _table(self, epoch: int) -> Tensor:
        """Draw the numbers of all images in an epoch, (N, 3): row i is the same for every N > i."""
        if epoch not in self._tables:
            numbers = epoch_generator(self.seed, epoch).random((len(self), _DRAWS), np.float32)
            self._tables[epoch] = torch.from_numpy(numbers)
            while len(self._tables) > _TABLES:
                del self._tables[next(iter(self._tables))]
        return self._tables[epoch]


def decode_images(
    root: Path, paths: Sequence[str], config: ImageDataConfig
) -> tuple[Tensor, dict[int, str]]:
    """Return the evaluation crops of all images, uint8 (N, height, width, 3), and the failures.

    3 * height * width bytes each: 184 MB for CIFAR's 60,000. Where all could be read they are kept
    in the cache (below VIDEO_SNL_CACHE, else XDG_CACHE_HOME, else ~/.cache), under the sizes and
    times of the files, and mapped from there by the next run: runs side by side share them.

    Raises:
        OptionsError: An image is smaller than the crop.
    """
    file = cache_folder("images") / f"{_digest(root, paths, config)}.npy"
    kept = _from_cache(file, (len(paths), config.height, config.width, 3))
    if kept is not None:
        return kept, {}
    images = np.zeros((len(paths), config.height, config.width, 3), np.uint8)
    failures = {}
    for i, path in enumerate(paths):
        try:
            image = read_image(path, max_pixels=config.max_pixels)
            images[i] = np.asarray(evaluation_image(image, path, config))
        except UnreadableImage as error:
            failures[i] = str(error)
    if not failures:
        _to_cache(file, images)
    return torch.from_numpy(images), failures


def _digest(root: Path, paths: Sequence[str], config: ImageDataConfig) -> str:
    """Return a digest of everything that the pixels depend on."""
    options = [FORMAT, config.height, config.width, config.short_side]
    found = hashlib.sha256(to_json([str(root.resolve()), *options]).encode())
    for path in paths:
        try:
            state = os.stat(path)
            found.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        except OSError:
            found.update(f"{path}\0absent\n".encode())
    return found.hexdigest()[:32]


def _from_cache(file: Path, shape: tuple[int, ...]) -> Tensor | None:
    try:
        # Copy on write: torch wants memory that may be written, and nobody writes it.
        images = np.load(file, mmap_mode="c")
    except (OSError, ValueError, EOFError):
        return None
    return torch.from_numpy(images) if images.shape == shape else None


def _to_cache(file: Path, images: np.ndarray) -> None:
    def save(path: Path) -> None:
        with path.open("wb") as opened:
            np.save(opened, images)

    try:
        replace_file(file, save)
    except OSError as error:
        print(f"decoded images are not kept: {file.parent} ({error.strerror})", file=sys.stderr)
