"""Videos read by decord, where decord gives the frames asked for."""

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


def decord_refuses(info: StreamInfo) -> str | None:
    """Return why decord would not give the right frames of this file; None if it does."""
    if info.width in NARROW or info.width % 2 or info.height % 2:
        return f"decord takes no frames of {info.width} x {info.height}"
    refused = library_refuses("decord", info)
    if refused is not None:
        return refused
    if info.container not in INDEXED:
        return f"decord cannot show which frames it returns from {info.container}"
    if info.reordered and info.codec != "h264":
        return "decord seeks to key frames that are not clean starts"
    if info.container == "avi" and info.codec != "mpeg4":
        return "decord's seek goes astray where packets have no time stamps"
    return None


class DecordReader(LibraryReader):
    """Video read by decord, in one thread: workers are what runs in parallel.

    Args:
        path: Video file.
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
    """Import decord, silenced: the user gets one line of ours, not its remarks too."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord
