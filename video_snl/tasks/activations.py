"""Activations of a network's frozen first part, computed once for every clip and kept on disk.

Of each training clip there are several augmented versions, and epochs take turns over them; of each
test video there is the centre clip. The files lie in the cache (below VIDEO_SNL_CACHE, else
XDG_CACHE_HOME, else ~/.cache) under a hash of all that they depend on: the videos by path, size and
time, the options of the clips, the frozen weights. So runs that differ in what follows, such as in
their seed, share them. Values are kept in half precision.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from video_snl.config.statistics import Statistics
from video_snl.config.video import DataConfig
from video_snl.data.loading.collate import Batch, Sample
from video_snl.data.loading.loader import ClipLoader
from video_snl.data.loading.quarantine import Quarantine, tolerated
from video_snl.data.loading.samplers import Key
from video_snl.data.synthetic.generated import cache_folder
from video_snl.data.video.records import Video, VideoSet
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.files import (
    make_folder,
    remove_left_overs,
    replacing,
    state_of,
    write_json,
)
from video_snl.utils.json_text import to_json
from video_snl.utils.locks import waiting_lock
from video_snl.utils.progress import counted
from video_snl.utils.text import say_once

__all__ = ["Activations", "Apply", "CachedClips", "read_activations"]

_FORMAT = 1
_LIMITS = ("deadline", "max_pixels")
# Options that do not change what is read of the videos in the lists, or whose effect is in the key.
_BESIDE = (
    *("num_workers", "deadline", "max_failures", "reader", "decode_device", "max_pixels"),
    *("dataset", "root", "split", "split_by", "statistics"),
)
Apply = Callable[[Batch], Tensor]
"""From a batch of clips to the activations (B, C, T, H, W)."""


class Activations:
    """The folder of the activations of one frozen part for the lists of one dataset.

    Args:
        frozen: The frozen part, with its weights.
        statistics: Mean and standard deviation of the input.
        data: Options of the clips.
        videos: The lists.
    """

    def __init__(
        self, frozen: nn.Module, statistics: Statistics, data: DataConfig, videos: VideoSet
    ) -> None:
        self.folder = cache_folder("activations") / _key(frozen, statistics, data, videos)
        # They decide what can be read, and are no part of the key.
        self.limits = {name: getattr(data, name) for name in _LIMITS}

    def fill(
        self,
        name: str,
        make_loader: Callable[[], ClipLoader],
        apply: Apply,
        what: str,
        max_failures: float | None = None,
    ) -> Path:
        """Return the file of this name, computed if it is not there yet.

        The rows are the items of the loader's dataset. A row that another item stood for holds that
        item's activations. ``NAME.json`` lists these rows and those that cannot be read. They are
        tried again where the limits of reading (``deadline``, ``max_pixels``) have become wider,
        and not otherwise: a video that is mended has another size or time, and so its list has
        another folder.

        Args:
            name: Name of the file.
            make_loader: Makes a loader of all items in order.
            apply: Computes the activations of a batch.
            what: Name of the work, for its progress.
            max_failures: Share of the rows that may be unreadable or stood for; None for any.

        Raises:
            UserError: They do not fit half precision, or more are missing than may be; or from the
                loader.
        """
        path, facts = self.folder / f"{name}.npy", self.folder / f"{name}.json"
        make_folder(
            self.folder,
            "kept activations",
            "set VIDEO_SNL_CACHE to a folder that can be written",
        )
        with waiting_lock(self.folder / f".{name}.lock", f"computes {what}"):
            if path.is_file() and facts.is_file():
                if not _is_whole(path, facts):
                    say_once(f"{path} is damaged and is computed anew")
                elif self._wider_than(facts):
                    say_once(f"{path.name} is computed anew, with the present limits of reading")
                else:
                    _check_missing(path, facts, max_failures)
                    return path
            remove_left_overs(self.folder, {path.name, facts.name})
            loader = make_loader()
            try:
                count = len(loader.dataset.items)
                with replacing(path) as temporary:
                    rows = _Rows(temporary, count)
                    for batch in counted(loader, len(loader), what):
                        missed = batch.get("unreadable", torch.empty(0, dtype=torch.int64))
                        rows.add(apply(batch) if len(batch["index"]) else None, batch, missed)
                    rows.close()
                found = {"unreadable": rows.missed, "stood_for": rows.stood_for}
                write_json(facts, {**found, **self.limits, "crc32": _crc32(path)})
            finally:
                loader.close()
        return path

    def _wider_than(self, facts: Path) -> bool:
        """Tell whether what could not be read may be read with the present limits."""
        known = _facts_of(facts)
        missing = known["unreadable"] or known["stood_for"]
        return bool(missing) and any(self.limits[n] > known.get(n, 0) for n in _LIMITS)


class _Rows:
    """A file of activations that is filled in order."""

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count, self.at = path, count, 0
        self.values: np.memmap | None = None
        self.missed: list[int] = []
        self.stood_for: list[int] = []

    def add(self, values: Tensor | None, batch: Batch, missed: Tensor) -> None:
        absent = set(missed.tolist())
        size = len(absent) + len(batch["index"])
        places = [at for at in range(self.at, self.at + size) if at not in absent]
        self.at += size
        self.missed += sorted(absent)
        read = zip(places, batch["index"].tolist(), strict=True)
        self.stood_for += [at for at, index in read if index != at]
        if values is None:
            return
        half = values.detach().half().cpu()
        if not half.isfinite().all():
            raise UserError(
                "the activations of the frozen part do not fit half precision, in which they are "
                "kept: leave out --optimizer.cached_versions"
            )
        if self.values is None:
            shape = (self.count, *half.shape[1:])
            self.values = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
                self.path, mode="w+", dtype=np.float16, shape=shape
            )
            # On a full disk a page without a block behind it would end the process by a signal.
            with self.path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END))
        self.values[places] = half.numpy()

    def close(self) -> None:
        if self.values is None:
            raise UserError("no video of the list can be read")
        self.values.flush()


class CachedClips:
    """Dataset of kept activations: ``activation`` (C, T, H, W), ``label`` and ``index``.

    Args:
        items: The videos.
        files: Files of the versions; those of epoch e are in the file e modulo their number.
        what: Name of the list.
    """

    def __init__(self, items: Sequence[Video], files: Sequence[Path], what: str) -> None:
        self.items, self.what = items, what
        self._files, self._missing = zip(*map(read_activations, files), strict=True)

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, key: Key, index_read: int) -> Sample:
        """Return the sample of a key.

        Raises:
            UserError: Its video could not be read.
        """
        version = key[0] % len(self._files)
        if index_read in self._missing[version]:
            raise UserError("it could not be read when its activations were computed")
        return {
            "activation": torch.from_numpy(self._files[version][index_read].astype(np.float32)),
            "label": torch.tensor(self.items[index_read].label),
            "index": torch.tensor(index_read),
        }

    def fallback_index(self, key: Key, avoided: Quarantine) -> int | None:
        """Return the index itself: in training a stand-in is kept in its place already."""
        return key[1] if self.what == "training" else None


def _is_whole(path: Path, facts: Path) -> bool:
    """Tell whether a file and its facts are as they were written."""
    try:
        known = json.loads(facts.read_text(encoding="utf-8"))
        return bool(known["crc32"] == _crc32(path))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _crc32(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            found = zlib.crc32(chunk, found)
    return found


def _check_missing(path: Path, facts: Path, max_failures: float | None) -> None:
    """Say how many videos could not be read, and refuse more than may be."""
    known, total = _facts_of(facts), len(np.load(path, mmap_mode="r"))
    count = len(known["unreadable"]) + len(known["stood_for"])
    if not count:
        return
    said = f"{counts(count, 'video')} of {total} could not be read when activations were computed"
    if max_failures is not None and count > tolerated(total, max_failures):
        raise UserError(
            f"{said}, more than --data.max_failures {max_failures} allows; a longer "
            f"--data.deadline, or another folder VIDEO_SNL_CACHE, tries them again ({path.name})"
        )
    say_once(f"{path.name}: {said}; a longer --data.deadline tries them again")


def read_activations(file: Path) -> tuple[np.ndarray, set[int]]:
    """Return the activations in a file, mapped into memory, and the rows that are not there."""
    return np.load(file, mmap_mode="r"), set(_facts_of(file.with_suffix(".json"))["unreadable"])


def _facts_of(facts: Path) -> dict[str, Any]:
    """Return the rows that are not of their own item (``unreadable``, ``stood_for``), and limits.

    The first files have no limits.
    """
    found: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
    return found


def _key(frozen: nn.Module, statistics: Statistics, data: DataConfig, videos: VideoSet) -> str:
    digest = hashlib.sha256()
    options = {name: value for name, value in asdict(data).items() if name not in _BESIDE}
    digest.update(to_json([_FORMAT, options, statistics, str(frozen)]).encode())
    for name, tensor in frozen.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for video in (*videos.train, None, *videos.test):
        line = "" if video is None else f"{os.path.abspath(video.path)} {state_of(video.path)}"
        digest.update(f"\n{line}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:24]
