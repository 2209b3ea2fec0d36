"""Sources of weights: files, URLs and the well-known names, read without running code."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from video_snl.config.backbones import IMAGE_BACKBONES, PRETRAINED, VIDEO_BACKBONES, Backbone
from video_snl.errors import UserError
from video_snl.models.weights.fetching import discard, fetch, is_kept
from video_snl.utils.archives import DamagedArchive, check_archive

__all__ = ["locate", "read_checkpoint"]

_PUBLISHED = {"kinetics": "pytorchvideo's", "imagenet": "a ResNet-50's"}


def locate(source: str, backbone: str, *, progress: bool = True) -> Path:
    """Return the file that ``source`` stands for, downloaded if need be.

    ``kinetics`` and ``imagenet`` are looked up in the entry of the backbone
    (:mod:`video_snl.config.backbones`), whose own name stands for ``kinetics``; ``http://`` and
    ``https://`` URLs are fetched into torch hub's cache, anything else is a local file.

    Raises:
        UserError: for a source that does not fit the backbone, a file that is not there, or a URL
            that cannot be reached.
    """
    if source in PRETRAINED and not Path(source).is_file():
        if source != backbone:
            raise UserError(
                f"weights {source!r} are those of the backbone {source}, which do not fit "
                f"{backbone!r}: choose --model.backbone {source}."
            )
        source = "kinetics"
    if source in _PUBLISHED:
        return fetch(_url(source, backbone), progress=progress)
    if source.startswith(("http://", "https://")):
        return fetch(source, _name_of(source), progress=progress)
    path = Path(source).expanduser()
    if path.is_dir():
        raise UserError(f"weights {source!r} is a folder; name the file of weights in it.")
    if not path.is_file():
        advice = "".join(f"; for {name!r}, {how}" for name, how in _entry(backbone).by_hand.items())
        near = difflib.get_close_matches(source, [*_PUBLISHED, *PRETRAINED], 1, 0.75)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(
            f"weights {source!r}: no such file.{meant} Give 'kinetics', 'imagenet', a file or an "
            f"http(s) URL{advice}."
        )
    return path


def _url(source: str, backbone: str) -> str:
    entry = _entry(backbone)
    if source in entry.weights:
        return entry.weights[source]
    tables: list[Mapping[str, Backbone]] = [VIDEO_BACKBONES, IMAGE_BACKBONES]
    # Others of its kind, or of any kind where it has none.
    tables.sort(key=lambda table: backbone not in table)
    having = [[name for name, e in table.items() if source in e.weights] for table in tables]
    known = ", ".join(having[0] or having[1])
    fault = f"weights {source!r} are {_PUBLISHED[source]}, which do not fit backbone {backbone!r}"
    if source in entry.by_hand:
        raise UserError(f"{fault}: {entry.by_hand[source]}, or choose a backbone of {known}.")
    raise UserError(f"{fault}; they fit {known}.")


def _entry(backbone: str) -> Backbone:
    """Return the entry of a backbone; one without weights for those of other programs."""
    tables: Mapping[str, Backbone] = {**VIDEO_BACKBONES, **IMAGE_BACKBONES}
    return tables.get(backbone, Backbone(builder=""))


def _name_of(url: str) -> str:
    """Return a file name for a URL: two servers may use one base name for different files."""
    base = re.sub(r"[^\w.-]", "_", Path(url.partition("?")[0]).name) or "weights"
    return f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{base}"


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Read the values in a file of ``torch.save``, on the CPU; no code in the file is ever run.

    Archives are compared with their checksums first, which torch does not look at.

    Raises:
        UserError: for a file that is damaged, is not such a file, needs code, or holds no mapping.
    """
    try:
        check_archive(path)
        with torch.serialization.safe_globals(_numpy_numbers()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    # Damaged bytes make the unpickler raise nearly anything (IndexError, UnicodeDecodeError,
    # struct.error, AssertionError, ...); the original stays attached as the cause.
    except DamagedArchive as error:
        if note := _discarded(path, error):
            raise UserError(f"{error}{note}") from error
        raise
    except UserError:
        raise
    except Exception as error:
        raise UserError(_unreadable(path, error) + _discarded(path, error)) from error
    if not isinstance(checkpoint, Mapping):
        raise UserError(
            f"weights {str(path)!r} hold a {type(checkpoint).__name__}; a dictionary of tensors, "
            "or a checkpoint with 'state_dict', 'model_state' or 'model', was expected."
        )
    return checkpoint


def _discarded(path: Path, error: Exception) -> str:
    """Set a damaged file of the cache aside, so that it is fetched anew; say so."""
    if not is_kept(path) or "GLOBAL" in str(error) or isinstance(error, PermissionError):
        return ""
    with suppress(OSError):
        return (
            f" It was kept as {discard(path)} and is not used; give the command again to fetch it "
            "anew."
        )
    return ""


def _numpy_numbers() -> list[Any]:
    """Return what a pickled NumPy number names: many a checkpoint holds its accuracy as one."""
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(kind)) for kind in ("b1", "i4", "i8", "f4", "f8")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *dtypes]


def _unreadable(path: Path, error: Exception) -> str:
    # Reading is one step, finding out why it failed the next; torch names the class it refused.
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused:
        return (
            f"weights {str(path)!r} would have to run code to be read ({refused[1]}), which is "
            "never done. If you trust the file, load it where it was made and save its tensors "
            "alone: torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW) of a whole "
            "network, or torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)."
        )
    if isinstance(error, PermissionError):
        return f"weights {str(path)!r} may not be read; give yourself the permission."
    return (
        f"weights {str(path)!r} cannot be read: damaged, cut short, or no PyTorch file "
        f"({path.stat().st_size} bytes, {type(error).__name__}); fetch the file again."
    )
