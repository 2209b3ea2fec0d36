"""A video read by decord, where decord gives the frames asked for."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from video_snl.data.facts import Facts, find_facts
from video_snl.data.library_reader import LibraryReader, library_refuses
from video_snl.data.timing import stage
from video_snl.errors import OptionsError, UserError

__all__ = ["DecordReader", "decord_refuses"]

NARROW = (16, 24, 48, 72)  # widths at which decord cannot hand out its frames
# By default decord hands out copies of the nearest good frame for those that it cannot decode.
NO_COPIES = 1e-9


def decord_refuses(facts: Facts) -> str | None:
    """Why decord would not give the right frames of this file, in words; ``None`` if it does."""
    if facts.width in NARROW or facts.width % 2 or facts.height % 2:
        return f"decord takes no frames of {facts.width} x {facts.height}"
    refused = library_refuses("decord", facts)
    if refused is not None:
        return refused
    if facts.reordered and facts.codec != "h264":
        return "decord seeks to key frames that are no clean starts"
    if facts.container == "avi" and facts.codec != "mpeg4":
        return "decord's seek goes astray where packets have no time stamps"
    return None


class DecordReader(LibraryReader):
    """A video read by decord, in one thread: workers are what runs side by side.

    Args:
        device: ``cpu``, or ``cuda`` where decord was built for it.

    Raises:
        UserError: The file cannot be opened, or breaks while it is decoded.
    """

    def __init__(self, path: str, device: str = "cpu") -> None:
        decord = import_decord()
        self.path, self.facts = path, find_facts(path)
        self._broken = (RuntimeError, decord.DECORDError, decord.DECORDLimitReachedError)
        context = decord.gpu(0) if device == "cuda" else decord.cpu(0)
        try:
            with stage("open"):
                self._video = decord.VideoReader(path, context, num_threads=1, fault_tol=NO_COPIES)
        except self._broken as error:
            if device == "cuda" and "CUDA" in str(error):
                raise OptionsError(
                    "data.decode_device=cuda: this decord was built without CUDA: build it with "
                    "-DUSE_CUDA=ON, choose --data.reader torchcodec, or --data.decode_device cpu"
                ) from error
            raise UserError(
                f"{path} cannot be opened by decord ({self.facts.codec} in "
                f"{self.facts.container}): choose --data.reader auto"
            ) from error

    def _batch(self, indices: list[int]) -> Tensor:
        found = self._video.get_batch(indices)
        # Another library may have told decord to hand out tensors (decord.bridge).
        return found if isinstance(found, Tensor) else torch.from_numpy(found.asnumpy())


def import_decord() -> ModuleType:
    """The module decord, silent: one line for the person at the keyboard, not its remarks too."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord
