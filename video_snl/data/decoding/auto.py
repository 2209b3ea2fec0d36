"""Which decoder ``reader: auto`` takes: the one measured to be faster on the files of a run.

A command measures once, before anything is decoded, on the first of its files that can be read; the
choice holds for the whole run and is said. It is PyAV unless another decoder is clearly faster and,
on a CPU, gives the very same pixels: what a run sees must not hang on what was faster that day. (On
a GPU all differ a little; name a reader where that matters.)
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import torch

from video_snl.config.video import DataConfig, DecodeDevice, ReaderName
from video_snl.data.decoding.readers import open_by, refusal
from video_snl.data.decoding.stream_info import StreamInfo, find_stream_info
from video_snl.data.workers.bounded import map_with_timeout
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.timing import collect_stages

__all__ = ["Choice", "choose_reader", "resolve_reader"]

TRIED = 3  # files, until one of them can be read
CLIP = 16  # frames read to compare
ROUNDS = 2  # of which the faster one counts: the first imports and fills caches
MARGIN = 0.8  # of PyAV's time: what another one must stay below, so that chance decides nothing


@dataclass(frozen=True)
class Choice:
    """A decoder, and why."""

    reader: ReaderName
    reason: str

    def __str__(self) -> str:
        return f"reader auto: {self.reader} ({self.reason})"


def resolve_reader(config: DataConfig, paths: Sequence[str]) -> tuple[DataConfig, str]:
    """Put the decoder to use on these files in the place of ``auto``.

    Whatever happens as it is measured, in a process of its own and each file within
    ``data.deadline``, the answer is at worst PyAV. Folders of frames leave ``auto`` as it is.

    Returns:
        The configuration, and a line that says what was chosen and why; empty where there was
        nothing to choose.
    """
    if config.reader != "auto" or any(map(os.path.isdir, paths)):
        return config, ""
    choice = _choose(paths, config)
    # PyAV decodes on the CPU, whatever was hoped for.
    device: DecodeDevice = "cpu" if choice.reader == "pyav" else config.decode_device
    return replace(config, reader=choice.reader, decode_device=device), str(choice)


def _choose(paths: Sequence[str], config: DataConfig) -> Choice:
    choose = partial(choose_reader, device=config.decode_device, max_pixels=config.max_pixels)
    tried = list(islice(paths, TRIED))
    results = map_with_timeout(choose, tried, num_workers=1, deadline=config.deadline)
    with closing(results):
        for result in results:
            if result.value is not None:
                return result.value
            if result.kind != "error":  # rather than wait for the next one as long
                break
    return Choice("pyav", "none of the first files could be measured")


def choose_reader(path: str, device: DecodeDevice = "cpu", max_pixels: int = MAX_PIXELS) -> Choice:
    """Measure the decoders on a file.

    Raises:
        UserError: The file cannot be read, or breaks at its start.
    """
    facts = find_stream_info(path, max_pixels)
    names = {name: refusal(name, facts) or _differs(facts, device) for name in _candidates(device)}
    allowed = [name for name, reason in names.items() if reason is None]
    if not allowed:
        return Choice("pyav", next(iter(names.values())) or "")
    return _measured(path, allowed, device, max_pixels)


def _candidates(device: DecodeDevice) -> list[ReaderName]:
    """Those beside PyAV: torchcodec counts where it is installed and asked for by the device."""
    return ["torchcodec", "decord"] if device == "cuda" else ["decord"]


def _differs(facts: StreamInfo, device: DecodeDevice) -> str | None:
    """Why a decoder's pixels are not PyAV's, though its frames are."""
    if device == "cpu" and facts.codec == "mpeg4":
        return "decord's pixels of MPEG-4 are up to 2 levels off"
    return None


def _measured(
    path: str, allowed: list[ReaderName], device: DecodeDevice, max_pixels: int
) -> Choice:
    times = {"pyav": _seconds(path, "pyav", "cpu", max_pixels)}
    failures = {}
    for name in allowed:
        try:
            times[name] = _seconds(path, name, device, max_pixels)
        except UserError as error:
            failures[name] = str(error)
    fastest = min(times, key=lambda name: times[name] * (MARGIN if name == "pyav" else 1))
    parts = [f"{name} {1000 * seconds:.1f} ms" for name, seconds in times.items()]
    parts += [f"{name} failed" for name in failures]
    reason = f"{CLIP} frames of {os.path.basename(path)}: " + ", ".join(parts)
    return Choice(fastest, reason)  # type: ignore[arg-type]


def _seconds(path: str, name: ReaderName, device: DecodeDevice, max_pixels: int) -> float:
    """Of opening the file and reading a clip from its start, where no decoder has to seek."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with closing(open_by(name, path, device, max_pixels)) as opened:
            frames = opened.frames(range(min(CLIP, len(opened))))
        if frames.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    collect_stages()  # what was measured is no part of any sample
    return min(times)
