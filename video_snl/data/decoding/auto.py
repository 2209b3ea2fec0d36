"""The auto reader: the decoder that is measured to be faster on the files of a run.

A command measures once, before anything is decoded, on the first of its files that can be read; the
result holds for the whole run and is printed. It is PyAV unless another decoder is clearly faster
and, on a CPU, gives the very same pixels: the data must not depend on a timing measurement. (On a
GPU all differ a little; name a reader where that matters.)
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
from video_snl.data.decoding.readers import decode_in_chunks, open_by, refusal
from video_snl.data.decoding.stream_info import StreamInfo, find_stream_info
from video_snl.data.decoding.torchcodec import INSTALL
from video_snl.data.workers.pool import map_with_timeout
from video_snl.errors import UserError
from video_snl.utils.extras import is_installed
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.timing import collect_stages

__all__ = ["AutoReader", "choose_reader", "resolve_reader"]

TRIED = 3  # most files tried, until one of them can be read
CLIP = 16  # frames read to compare
ROUNDS = 2  # the faster one counts: the first imports and fills caches
MARGIN = 0.8  # share of PyAV's time that another one must stay below, lest chance decides


@dataclass(frozen=True)
class AutoReader:
    """Decoder that ``reader: auto`` takes, and the reason."""

    reader: ReaderName
    reason: str

    def __str__(self) -> str:
        return f"reader auto: {self.reader} ({self.reason})"


def resolve_reader(config: DataConfig, paths: Sequence[str]) -> tuple[DataConfig, str]:
    """Replace ``auto`` with the decoder to use on these files.

    It is measured in a process of its own, each file within ``data.deadline``; whatever happens
    there, the answer is at worst PyAV. Folders of frames leave ``auto`` as it is.

    Returns:
        Configuration, and a line that says what was chosen and why; empty where there was nothing
        to choose.
    """
    if config.reader != "auto" or any(map(os.path.isdir, paths)):
        return config, ""
    choice = _choose(paths, config)
    # PyAV decodes on the CPU, whatever was asked for.
    device: DecodeDevice = "cpu" if choice.reader == "pyav" else config.decode_device
    return replace(config, reader=choice.reader, decode_device=device), str(choice)


def _choose(paths: Sequence[str], config: DataConfig) -> AutoReader:
    choose = partial(choose_reader, device=config.decode_device, max_pixels=config.max_pixels)
    tried = list(islice(paths, TRIED))
    results = map_with_timeout(choose, tried, num_workers=1, deadline=config.deadline)
    with closing(results):
        for result in results:
            if result.value is not None:
                return result.value
            if result.kind != "error":  # rather than wait for the next one as long
                break
    return AutoReader("pyav", "none of the first files could be measured")


def choose_reader(
    path: str, device: DecodeDevice = "cpu", max_pixels: int = MAX_PIXELS
) -> AutoReader:
    """Measure the decoders on a file.

    Raises:
        UserError: The file cannot be read, or breaks at its start.
    """
    info = find_stream_info(path, max_pixels)
    names = {
        name: _unusable(name) or refusal(name, info) or _differs(name, info, device)
        for name in _candidates(device)
    }
    allowed = [name for name, reason in names.items() if reason is None]
    if not allowed:
        return AutoReader("pyav", "; ".join(filter(None, names.values())))
    return _measured(path, allowed, device, max_pixels)


def _candidates(device: DecodeDevice) -> list[ReaderName]:
    """Return the decoders to compare with PyAV. On a CPU, decord is slower than torchcodec."""
    names: list[ReaderName] = ["torchcodec"]
    return [*names, "decord"] if device == "cuda" and is_installed("decord") else names


def _unusable(name: ReaderName) -> str | None:
    """Return why a decoder does not run here, in a line with what would help; None if it does."""
    if not is_installed(name):
        return f"{name} is not installed"
    if name == "torchcodec":
        import torchcodec

        if torchcodec.ffmpeg_major_version is None:
            return f"torchcodec needs FFmpeg's shared libraries: {INSTALL}"
    return None


def _differs(name: ReaderName, info: StreamInfo, device: DecodeDevice) -> str | None:
    """Return why a decoder's pixels are not PyAV's, though its frames are; None if they are."""
    if device == "cpu" and info.codec == "mpeg4":
        return f"{name}'s pixels of MPEG-4 are up to 2 levels off"
    return None


def _measured(
    path: str, allowed: list[ReaderName], device: DecodeDevice, max_pixels: int
) -> AutoReader:
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
    return AutoReader(fastest, reason)  # type: ignore[arg-type]


def _seconds(path: str, name: ReaderName, device: DecodeDevice, max_pixels: int) -> float:
    """Time opening the file and reading a clip from its start, where no decoder has to seek."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with closing(open_by(name, path, device, max_pixels)) as opened:
            for _ in decode_in_chunks(opened, range(min(CLIP, len(opened)))):
                pass  # as clips are read: large frames one by one
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    collect_stages()  # these times are not part of any sample's
    return min(times)
