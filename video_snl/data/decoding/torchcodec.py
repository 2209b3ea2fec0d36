"""Videos read by torchcodec, where FFmpeg's shared libraries are: on the CPU, or by a GPU."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from video_snl.data.decoding.indexed import LibraryReader, library_refuses
from video_snl.data.decoding.opening import decoder_path
from video_snl.data.decoding.stream_info import StreamInfo
from video_snl.errors import OptionsError, UserError
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.timing import stage

__all__ = ["INSTALL", "TorchCodecReader", "import_decoder", "torchcodec_refuses"]

INSTALL = "apt-get install ffmpeg"
"""Command that brings FFmpeg's shared libraries to Debian and Ubuntu."""


def torchcodec_refuses(info: StreamInfo) -> str | None:
    """Return why torchcodec would not give the frames of this file; None if it does."""
    refused = library_refuses("torchcodec", info)
    if refused is None and (info.width % 2 or info.height % 2):
        return f"torchcodec's colours differ at odd sizes ({info.width} x {info.height})"
    if refused is None and info.interlaced:
        return "torchcodec's FFmpeg may convert interlaced frames field by field"
    return refused


class TorchCodecReader(LibraryReader):
    """Video read by torchcodec, in one thread; see https://meta-pytorch.org/torchcodec.

    The time stamps of all frames that it returns are compared with those of the frames asked for.

    Args:
        path: Video file.
        device: ``cpu`` or ``cuda``; frames are returned on it.

    Raises:
        UserError: torchcodec cannot be used, the file cannot be opened, or it breaks while it is
            decoded.
    """

    _broken = (RuntimeError, IndexError)

    name = "torchcodec"

    def __init__(self, path: str, device: str = "cpu", max_pixels: int = MAX_PIXELS) -> None:
        decoder = import_decoder()
        super().__init__(path, device, max_pixels)
        try:
            with stage("open"):
                self._video = decoder(
                    decoder_path(path),
                    dimension_order="NHWC",
                    num_ffmpeg_threads=1,
                    device=device,
                    seek_mode="approximate" if _is_regular(self.info) else "exact",
                )
                found = len(self._video)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{path} cannot be opened by torchcodec on {device} ({_first_line(error)}): choose "
                "--data.reader auto"
            ) from error
        self._check_index(found)

    def _batch(self, indices: list[int]) -> tuple[Tensor, list[float]]:
        found = self._video.get_frames_at(indices)
        return found.data, found.pts_seconds.tolist()


def _is_regular(info: StreamInfo) -> bool:
    """Tell whether the header alone says where all frames are, so that no packet is read for it.

    The times of the frames that are returned are compared all the same.
    """
    return (
        isinstance(info.stamps, range)
        and info.unit is not None
        and info.declared == info.length
        and not info.misrated
        and info.stamps.step * info.unit * info.rate == 1
    )


def import_decoder() -> Any:
    """Import torchcodec's VideoDecoder.

    Raises:
        OptionsError: torchcodec is not installed, or finds no FFmpeg.
    """
    try:
        import torchcodec
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise OptionsError(
            f"data.reader=torchcodec cannot be used ({_first_line(error)}): install the extra "
            f"(pip install 'video-snl[torchcodec]') and FFmpeg ({INSTALL}), or choose auto"
        ) from error
    # Before 0.17 its import fails without FFmpeg.
    if getattr(torchcodec, "ffmpeg_major_version", 0) is None:
        raise OptionsError(
            "data.reader=torchcodec cannot be used: FFmpeg's shared libraries were not found: "
            f"install FFmpeg ({INSTALL}), or choose auto"
        )
    return VideoDecoder


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
