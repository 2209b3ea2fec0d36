"""A video read by decord, where decord gives the frames asked for."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from video_snl.data.decoding.indexed import LibraryReader, library_refuses
from video_snl.data.decoding.opening import decoder_path
from video_snl.data.decoding.stream_info import StreamInfo
from video_snl.errors import OptionsError, UserError
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.timing import stage

__all__ = ["DecordReader", "decord_refuses"]

NARROW = (16, 24, 48, 72)  # widths at which decord cannot hand out its frames
# By default decord hands out copies of the nearest good frame for those that it cannot decode.
NO_COPIES = 1e-9
# Containers with an index by which a seek leads to the very key frame. decord tells no time of
# a frame that it returns, so nothing else shows that it is the one asked for.
INDEXED = frozenset({"mov", "matroska", "webm", "avi"})


def decord_refuses(facts: StreamInfo) -> str | None:
    """Why decord would not give the right frames of this file, in words; ``None`` if it does."""
    if facts.width in NARROW or facts.width % 2 or facts.height % 2:
        return f"decord takes no frames of {facts.width} x {facts.height}"
    refused = library_refuses("decord", facts)
    if refused is not None:
        return refused
    if facts.container not in INDEXED:
        return f"decord cannot show which frames it returns from {facts.container}"
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

    name = "decord"

    def __init__(self, path: str, device: str = "cpu", max_pixels: int = MAX_PIXELS) -> None:
        decord = import_decord()
        super().__init__(path, device, max_pixels)
        self._broken = (RuntimeError, decord.DECORDError, decord.DECORDLimitReachedError)
        context = decord.gpu(0) if device == "cuda" else decord.cpu(0)
        try:
            with stage("open"):
                self._video = decord.VideoReader(
                    decoder_path(path), context, num_threads=1, fault_tol=NO_COPIES
                )
        except self._broken as error:
            if device == "cuda" and "CUDA" in str(error):
                raise OptionsError(
                    "data.decode_device=cuda: this decord was built without CUDA: build it with "
                    "-DUSE_CUDA=ON, choose --data.reader torchcodec, or --data.decode_device cpu"
                ) from error
            raise UserError(
                f"{path} cannot be opened by decord ({self.info.codec} in "
                f"{self.info.container}): choose --data.reader auto"
            ) from error
        length = len(self._video)
        self._check_index(length)
        times = self._video.get_frame_timestamp(range(length))[:, 0]
        self._check_index(length, (times - times[0]).tolist())

    def _batch(self, indices: list[int]) -> tuple[Tensor, None]:
        found = self._video.get_batch(indices)
        # Another library may have told decord to hand out tensors (decord.bridge).
        return found if isinstance(found, Tensor) else torch.from_numpy(found.asnumpy()), None


def import_decord() -> ModuleType:
    """The module decord, silent: one line for the person at the keyboard, not its remarks too."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord
