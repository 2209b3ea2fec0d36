"""What the data of all kinds of runs have in common: loaders, their place, the quarantine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Protocol, TypeVar

import lightning.pytorch as pl
import torch
from torch import Tensor

from video_snl.data.loading.prefetch import DevicePrefetcher, prefetched, to_device
from video_snl.data.loading.quarantine import Quarantine
from video_snl.errors import UserError

__all__ = ["RunData", "share_of_batch"]


class _Loader(Sized, Protocol):
    def close(self) -> None: ...


_L = TypeVar("_L", bound=_Loader)


class RunData(pl.LightningDataModule, ABC):
    """The data of a run, as the engine sees it.

    Args:
        folder: Of the run, for its ``quarantine.jsonl``; the first process's one counts. None
            keeps the quarantine in memory.
        max_failures: Share of a list that may be unreadable.
    """

    noun = "videos"
    consequence = ""
    """What has become of those that cannot be read."""

    def __init__(self, folder: Path | None, max_failures: float) -> None:
        super().__init__()
        self.folder = folder
        self.quarantine = Quarantine(None, max_failures, self.noun)
        self._loaders: list[_Loader] = []

    @abstractmethod
    def part_size(self, world_size: int) -> int:
        """Samples of a training batch that one of so many devices takes.

        Raises:
            UserError: The batch cannot be divided so.
        """

    @abstractmethod
    def lists(self) -> Iterable[tuple[str, set[str]]]:
        """The paths of every list, with what it is called: ``training``, ``test``."""

    def setup(self, stage: str) -> None:
        folder = self.folder
        if self.trainer is not None:
            # Other processes do not know the folder that the first one has made.
            folder = self.trainer.strategy.broadcast(folder)
        file = None if folder is None else folder / "quarantine.jsonl"
        self.quarantine = Quarantine(file, self.quarantine.max_failures, self.noun)

    def close(self) -> None:
        """End the processes that decode."""
        for loader in self._loaders:
            loader.close()

    def unreadable(self) -> str:
        """How many cannot be read, such as ``1 training, 2 test``; empty where all can."""
        counts = [
            (what, sum(path in self.quarantine for path in paths)) for what, paths in self.lists()
        ]
        return ", ".join(f"{count} {what}" for what, count in counts if count)

    def transfer_batch_to_device(
        self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> dict[str, Tensor]:
        return to_device(batch, device)

    def _used(self, loader: _L) -> _L | DevicePrefetcher:
        """The loader as Lightning gets it; it is ended with the others."""
        self._loaders.append(loader)
        return prefetched(loader, self._device())

    def _place(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _pin(self) -> bool:
        return self._device().type == "cuda"


def share_of_batch(batch_size: int, accumulate: int, world_size: int) -> int:
    """Samples that one of so many devices takes at once.

    Raises:
        UserError: when the batch cannot be divided equally.
    """
    part, rest = divmod(batch_size, world_size * accumulate)
    if rest or part == 0:
        raise UserError(
            f"optimizer.batch_size={batch_size} cannot be divided over {world_size} device(s) "
            f"times optimizer.accumulate={accumulate}; choose a multiple of "
            f"{world_size * accumulate}."
        )
    return part
