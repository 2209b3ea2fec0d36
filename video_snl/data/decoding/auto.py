"""The auto reader: PyAV on a CPU, and torchcodec where a GPU is to decode.

On a CPU the choice depends on nothing, neither on a timing nor on what is installed, so that all
machines read the same pixels, of damaged files, too. (docs/benchmarks.md compares the readers: PyAV
with the packet index is as fast as torchcodec or faster.) A GPU's pixels differ a little.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice

from video_snl.config.video import DataConfig
from video_snl.data.decoding.readers import check_reader, open_by
from video_snl.data.workers.pool import map_with_timeout
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.text import printable
from video_snl.utils.timing import collect_stages

__all__ = ["resolve_reader", "why_not_gpu"]

TRIED = 3  # most files tried, until one of them can be decoded


def resolve_reader(config: DataConfig, paths: Sequence[str]) -> tuple[DataConfig, str]:
    """Replace ``auto`` with the decoder to use on these files.

    For a GPU, torchcodec is tried in a process of its own, each file within ``data.deadline``;
    whatever happens there, PyAV can read. Folders of frames leave ``auto`` as it is.

    Returns:
        Configuration, and a line that says what was chosen and why; empty where there was nothing
        to choose.
    """
    if config.reader != "auto" or any(map(os.path.isdir, paths)):
        return config, ""
    by_pyav = replace(config, reader="pyav", decode_device="cpu")
    if config.decode_device == "cpu":
        return by_pyav, ""
    reason = _tried(config, paths)
    if reason is not None:
        return by_pyav, f"reader auto: pyav, on the CPU ({reason})"
    return replace(config, reader="torchcodec"), "reader auto: torchcodec, on the GPU"


def _tried(config: DataConfig, paths: Sequence[str]) -> str | None:
    """Return why torchcodec decodes none of the first files on the GPU; None if it does."""
    reason = "there is no file to try torchcodec on"
    why = partial(why_not_gpu, max_pixels=config.max_pixels)
    tried = list(islice(paths, TRIED))
    results = map_with_timeout(why, tried, num_workers=1, deadline=config.deadline)
    with closing(results):
        for result in results:
            if result.kind != "ok":
                return f"torchcodec did not come to an end with {printable(result.item)}"
            if result.value is None:
                return None
            reason = result.value
    return reason


def why_not_gpu(path: str, max_pixels: int = MAX_PIXELS) -> str | None:
    """Return why torchcodec does not decode the first frame of a file on the GPU; None if it does.

    The reason names what would help, such as FFmpeg's shared libraries.
    """
    try:
        check_reader("torchcodec", "cuda")
        with closing(open_by("torchcodec", path, "cuda", max_pixels)) as opened:
            opened.frames([0])
    except UserError as error:
        return str(error)
    finally:
        collect_stages()  # this time is not part of any sample's
    return None
