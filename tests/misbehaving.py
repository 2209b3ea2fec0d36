"""Videos that hang or kill what reads them, and loaders of such."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.videos import write_video
from video_snl.config.video import DataConfig
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.video.dataset import (
    ClipDataset,
    ClipLoader,
    EpochSampler,
    EvaluationDataset,
    make_loader,
)
from video_snl.data.video.records import Video

CONFIG = DataConfig(clip_frames=4, short_side=24, crop=20, deadline=2.0)


def misbehave(path: str) -> None:
    """Do to the process what a broken reader may do, by the name of the file."""
    name = Path(path).name
    if name.startswith("stuck"):
        ctypes.PyDLL(None).sleep(1000)  # in native code that keeps the GIL
    if name.startswith("killer"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("bug"):
        raise ZeroDivisionError("no exception\nof ours")
    if name.startswith("slow"):
        time.sleep(0.3)
    if name.startswith("once") and not Path(f"{path}.tried").exists():
        Path(f"{path}.tried").touch()
        if "stuck" in name:
            time.sleep(1000)
        raise OSError(errno.ESTALE, "stale file handle")


class Training(ClipDataset):
    def sample(self, key, index_read):
        misbehave(self.items[index_read].path)
        return super().sample(key, index_read)


class Evaluation(EvaluationDataset):
    def sample(self, key, index_read):
        misbehave(self.items[index_read].path)
        return super().sample(key, index_read)


def bad(folder: Path, name: str, label: int) -> Video:
    path = folder / name
    if name.startswith("corrupt"):
        path.write_bytes(b"no video")
    else:
        write_video(path, 3 if name.startswith("short") else 12)
    return Video(str(path), label)


def loader_of(
    videos: list[Video],
    num_workers: int = 2,
    quarantine: Quarantine | None = None,
    *,
    training: bool = True,
    config: DataConfig = CONFIG,
    batch_size: int = 4,
) -> ClipLoader:
    dataset = Training(videos, config, 1) if training else Evaluation(videos, config, 0)
    sampler = EpochSampler(len(videos), 1, shuffle=training)
    return make_loader(dataset, sampler, batch_size, num_workers, False, quarantine)


def two_epochs(loader: ClipLoader) -> Iterator[dict[str, torch.Tensor]]:
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        yield from loader
