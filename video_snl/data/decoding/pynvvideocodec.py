"""A video read by PyNvVideoCodec, an optional extra: by the decoder of an NVIDIA GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from video_snl.data.decoding.indexed import LibraryReader, library_refuses
from video_snl.data.decoding.opening import decoder_path
from video_snl.data.decoding.stream_info import UPRIGHT, Facts
from video_snl.errors import OptionsError, UserError
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.timing import stage

__all__ = ["PyNvVideoCodecReader", "import_library", "pynvvideocodec_refuses"]


def pynvvideocodec_refuses(facts: Facts) -> str | None:
    """Why PyNvVideoCodec would not give the frames of this file, in words; ``None`` if it may."""
    refused = library_refuses("PyNvVideoCodec", facts)
    if refused is None and facts.matrix != UPRIGHT:
        return "PyNvVideoCodec does not rotate frames"
    if refused is None and (facts.width % 2 or facts.height % 2):
        return f"PyNvVideoCodec takes no odd sizes ({facts.width} x {facts.height})"
    return refused


class PyNvVideoCodecReader(LibraryReader):
    """A video read by PyNvVideoCodec's SimpleDecoder on the first GPU, where frames stay.

    The GPU makes the frames RGB, by rounding of its own: they are near PyAV's, not equal to the
    bit.

    Raises:
        UserError: The file cannot be opened, another number of frames is found in it than it
            holds, or it breaks while it is decoded.
        OptionsError: PyNvVideoCodec cannot be used.
    """

    name = "PyNvVideoCodec"

    def __init__(self, path: str, max_pixels: int = MAX_PIXELS) -> None:
        library = import_library()
        super().__init__(path, "cuda", max_pixels)
        # Its errors are classes of its own below Exception, and no document lists them all.
        self._broken = (Exception,)
        try:
            with stage("open"):
                self._video = library.SimpleDecoder(
                    decoder_path(path),
                    gpu_id=0,
                    use_device_memory=True,
                    output_color_type=library.OutputColorType.RGB,
                )
                found = len(self._video)
        except Exception as error:
            raise UserError(
                f"{path} cannot be opened by PyNvVideoCodec ({_first_line(error)}): choose "
                "--data.reader auto, or --data.decode_device cpu"
            ) from error
        if found != (held := len(self)):
            raise UserError(
                f"{path} holds {held} frames, PyNvVideoCodec finds {found}: choose another "
                "--data.reader"
            )

    def _batch(self, indices: list[int]) -> tuple[Tensor, None]:
        frames = self._video.get_batch_frames_by_index(indices)
        # The decoder uses the memory of a frame again: stacking copies it.
        return torch.stack([torch.from_dlpack(frame) for frame in frames]), None


def import_library() -> Any:
    """The module PyNvVideoCodec.

    Raises:
        OptionsError: It is not installed, or finds no NVIDIA driver.
    """
    try:
        import PyNvVideoCodec
    except (ImportError, OSError, RuntimeError) as error:
        raise OptionsError(
            f"data.reader=pynvvideocodec cannot be used ({_first_line(error)}): install the extra "
            "(pip install 'video-snl[pynvvideocodec]') on a machine with an NVIDIA driver, or "
            "choose auto"
        ) from error
    return PyNvVideoCodec


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
