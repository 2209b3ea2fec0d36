"""Which decoder ``reader: auto`` takes: the one measured to be faster on files of this kind.

A kind is a codec in a container, with key frames close together or far apart, of a size. On the
first file of a kind that a process meets, every decoder that gives the right frames reads one clip;
the choice, with its reason, holds for the kind from then on. On a CPU only decoders that give the
same pixels to the bit compete: every process measures for itself, and what a run sees must not hang
on what was faster that day. (On a GPU all differ a little; name a reader where that matters.)
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import torch

from video_snl.config import DecodeDevice, ReaderName
from video_snl.data.facts import Facts, find_facts
from video_snl.data.readers import Reader, open_by, refusal
from video_snl.data.timing import collect_stages
from video_snl.errors import UserError

__all__ = ["Choice", "choose_reader"]

CLIP = 16  # frames read to compare
ROUNDS = 2  # of which the faster one counts: the first imports and fills caches
MARGIN = 0.8  # of PyAV's time: what another one must stay below, so that chance decides nothing

logger = logging.getLogger("video_snl.readers")


@dataclass(frozen=True)
class Choice:
    """A decoder, for a kind of files, and why."""

    reader: ReaderName
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"reader auto: {self.reader} for {self.kind} ({self.reason})"


_choices: dict[tuple[str, DecodeDevice], Choice] = {}


def choose_reader(path: str, device: DecodeDevice = "cpu") -> Choice:
    """The decoder for this file, measured where its kind is new to this process; said in the log.

    Raises:
        UserError: The file cannot be read, or breaks where it is looked at.
    """
    facts = find_facts(path)
    names = {name: refusal(name, facts) or _differs(facts, device) for name in _candidates(device)}
    allowed = [name for name, reason in names.items() if reason is None]
    refused = [reason for reason in names.values() if reason is not None]
    if not allowed:
        return Choice("pyav", facts.kind, refused[0])
    key = (facts.kind, device)
    if key not in _choices:
        _choices[key] = _measured(path, facts.kind, allowed, device)
        logger.info("%s", _choices[key])
    return _choices[key]


def _candidates(device: DecodeDevice) -> list[ReaderName]:
    """Those beside PyAV: torchcodec counts where it is installed and asked for by the device."""
    return ["torchcodec", "decord"] if device == "cuda" else ["decord"]


def _differs(facts: Facts, device: DecodeDevice) -> str | None:
    """Why a decoder's pixels are not PyAV's, though its frames are."""
    if device == "cpu" and facts.codec == "mpeg4":
        return "decord's pixels of MPEG-4 are up to 2 levels off"
    return None


def _measured(path: str, kind: str, allowed: list[ReaderName], device: DecodeDevice) -> Choice:
    times = {"pyav": _seconds(path, "pyav", "cpu")}
    failures = {}
    for name in allowed:
        try:
            times[name] = _seconds(path, name, device)
        except UserError as error:
            failures[name] = str(error)
    fastest = min(times, key=lambda name: times[name] * (MARGIN if name == "pyav" else 1))
    parts = [f"{name} {1000 * seconds:.1f} ms" for name, seconds in times.items()]
    parts += [f"{name} failed" for name in failures]
    return Choice(fastest, kind, f"for {CLIP} frames: " + ", ".join(parts))  # type: ignore[arg-type]


def _seconds(path: str, name: ReaderName, device: DecodeDevice) -> float:
    """Of opening the file and reading a clip from its middle."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        opened: Reader = open_by(name, path, device)
        start = max(len(opened) - CLIP, 0) // 2
        frames = opened.frames(range(start, min(start + CLIP, len(opened))))
        if frames.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    collect_stages()  # what was measured is no part of any sample
    return min(times)
