"""Sources of weights: files, URLs and the well-known names, read without running code."""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from video_snl.config.backbones import IMAGE_BACKBONES, VIDEO_BACKBONES, Backbone
from video_snl.errors import UserError
from video_snl.utils.archives import check_archive

__all__ = ["fetch", "locate", "read_checkpoint"]

_PUBLISHED = {"kinetics": "pytorchvideo's", "imagenet": "a ResNet-50's"}
_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 20


def locate(source: str, backbone: str, *, progress: bool = True) -> Path:
    """Return the file that ``source`` stands for, downloaded if need be.

    ``kinetics`` and ``imagenet`` are looked up in the entry of the backbone
    (:mod:`video_snl.config.backbones`), ``http://`` and ``https://`` URLs are fetched into torch
    hub's cache, anything else is a local file.

    Raises:
        UserError: for a source that does not fit the backbone, a file that is not there, or a URL
            that cannot be reached.
    """
    if source in _PUBLISHED:
        return fetch(_url(source, backbone), progress=progress)
    if source.startswith(("http://", "https://")):
        return fetch(source, _name_of(source), progress=progress)
    path = Path(source).expanduser()
    if path.is_dir():
        raise UserError(f"weights {source!r} is a folder; name the file of weights in it.")
    if not path.is_file():
        advice = "".join(f"; for {name!r}, {how}" for name, how in _entry(backbone).by_hand.items())
        raise UserError(
            f"weights {source!r}: no such file. Give 'kinetics', 'imagenet', a file or an "
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


def fetch(url: str, name: str | None = None, *, progress: bool = True) -> Path:
    """Return the file at ``url``, from torch hub's cache or downloaded into it.

    The download goes to a name of its own and is renamed when it is complete, so that the cache
    never holds a part of a file, however many processes fetch it and whenever they are killed.

    Raises:
        UserError: when it cannot be fetched; names the URL and the place to put the file.
    """
    target = Path(torch.hub.get_dir()) / "checkpoints" / (name or Path(url).name)
    if target.is_file():
        return target
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(url, partial, progress)
        partial.replace(target)
    # HTTPException and ValueError: an answer or a URL that is malformed.
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(
            f"cannot fetch {url} ({error}). Fetch it by hand, on a machine that can, and put it at "
            f"{target}, or pass the file: --model.weights FILE."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def _download(url: str, path: Path, progress: bool) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "video-snl"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
        size = int(answer.headers.get("Content-Length") or 0)
        bar = tqdm(
            total=size or None,
            desc=Path(url).name,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            disable=not progress,
        )
        with path.open("xb") as file, bar:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            received = file.tell()
    # read() returns what there was when a connection breaks off.
    if size and received != size:
        raise OSError(f"the connection broke off after {received} of {size} bytes")


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
    except UserError:
        raise
    except Exception as error:
        raise UserError(_unreadable(path, error)) from error
    if not isinstance(checkpoint, Mapping):
        raise UserError(
            f"weights {str(path)!r} hold a {type(checkpoint).__name__}; a dictionary of tensors, "
            "or a checkpoint with 'state_dict', 'model_state' or 'model', was expected."
        )
    return checkpoint


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
