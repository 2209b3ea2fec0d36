"""Batches on their way to a device."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from video_snl.data.loading.prefetch import (
    AHEAD,
    HOST_FIELDS,
    CudaCopies,
    DevicePrefetcher,
    prefetch,
    prefetched,
    to_device,
)

NO_GPU = "needs a CUDA GPU, and this machine has none"


class Loader:
    """Batches of one number each, and a log of what was asked for when."""

    def __init__(self, log: list[str], length: int = 4) -> None:
        self.log, self.length, self.closed = log, length, False
        self.sampler, self.profile = SimpleNamespace(set_epoch=log.append), object()

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        try:
            for i in range(self.length):
                self.log.append(f"load {i}")
                yield {"index": torch.tensor(i)}
        finally:
            self.closed = True


class Copies:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def start(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.log.append(f"start {int(batch['index'])}")
        return batch

    def finish(self, handle: dict[str, Tensor]) -> dict[str, Tensor]:
        self.log.append(f"finish {int(handle['index'])}")
        return handle


def test_next_copy_begins_before_a_batch_is_used() -> None:
    log: list[str] = []
    for batch in prefetch(Loader(log, 3), Copies(log)):
        log.append(f"use {int(batch['index'])}")
    assert AHEAD == 1
    assert log == [
        *["load 0", "start 0", "load 1", "start 1", "finish 0", "use 0"],
        *["load 2", "start 2", "finish 1", "use 1", "finish 2", "use 2"],
    ]


@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_every_batch_in_order(length: int) -> None:
    log: list[str] = []
    prefetcher = DevicePrefetcher(Loader(log, length), Copies(log))
    for _ in "twice":
        assert [int(batch["index"]) for batch in prefetcher] == list(range(length))
    assert len(prefetcher) == length


def test_it_stands_for_its_loader() -> None:
    log: list[str] = []
    loader = Loader(log)
    prefetcher = DevicePrefetcher(loader, Copies(log))
    prefetcher.sampler.set_epoch("epoch 7")
    assert log == ["epoch 7"] and prefetcher.profile is loader.profile


def test_loader_is_closed_when_the_loop_ends_early() -> None:
    log: list[str] = []
    loader = Loader(log)
    batches = iter(DevicePrefetcher(loader, Copies(log)))
    next(batches)
    assert not loader.closed
    batches.close()  # type: ignore[attr-defined]
    assert loader.closed


def test_error_of_the_loader_comes_through() -> None:
    def broken() -> Iterator[dict[str, Tensor]]:
        yield {"index": torch.tensor(0)}
        raise ValueError("no more")

    log: list[str] = []
    with pytest.raises(ValueError, match="no more"):
        list(prefetch(broken(), Copies(log)))


def test_on_a_cpu_the_loader_is_handed_on() -> None:
    loader = Loader([])
    assert prefetched(loader, torch.device("cpu")) is loader


def test_fields_that_the_host_reads_stay_there() -> None:
    batch = {name: torch.zeros(2) for name in ("video", "scale", *HOST_FIELDS)}
    moved = to_device(batch, torch.device("meta"))
    assert {name for name, value in moved.items() if value.device.type == "cpu"} == {*HOST_FIELDS}
    assert moved.keys() == batch.keys()


def test_streams_of_a_fake_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of events on the two streams, as CudaCopies asks for it."""
    log: list[Any] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            log.append(f"enter {self.name}")

        def __exit__(self, *_: object) -> None:
            log.append(f"leave {self.name}")

        def record_event(self) -> str:
            log.append(f"record on {self.name}")
            return "event"

        def wait_event(self, event: str) -> None:
            log.append(f"{self.name} waits for {event}")

    side, current = Stream("side"), Stream("current")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: log.append(stream.name))
    copies = CudaCopies(torch.device("meta"))
    batch = {"video": torch.zeros(2), "jitter": torch.zeros(8)}
    handle = copies.start(batch)
    assert log == ["enter side", "record on side", "leave side"]
    log.clear()
    assert copies.finish(handle)["video"].device.type == "meta"
    assert log == ["current waits for event", "current"]  # one field of two is on the device


@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_batches_on_a_gpu_are_those_of_the_loader() -> None:
    device = torch.device("cuda")
    sources = [
        {"video": torch.full((8, 16, 64, 64, 3), i, dtype=torch.uint8).pin_memory()}
        for i in range(12)
    ]
    sums = []
    for batch in prefetch(sources, CudaCopies(device)):
        assert batch["video"].device.type == "cuda"
        torch.cuda._sleep(1_000_000)  # the stream that computes lags behind
        sums.append(batch["video"].float().mean())
        del batch  # its memory may serve the next copy
    assert [round(float(value)) for value in sums] == list(range(12))
