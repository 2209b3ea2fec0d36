"""Where weights come from: files, URLs and the well-known names, read without running code."""

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
from pytorchvideo.models.hub.resnet import checkpoint_paths
from tqdm import tqdm

from video_snl.errors import UserError
from video_snl.utils.archives import check_archive

__all__ = ["fetch", "locate", "read_checkpoint"]

HARA_PAGE = "https://github.com/kenshohara/3D-ResNets-PyTorch"
HARA_FILE = "r3d50_K_200ep.pth"

_HUB_NAMES = {"pytorchvideo_i3d_r50": "i3d_r50", "slow_r50": "slow_r50"}
_IMAGENET_BACKBONES = ("i3d_r50", "pytorchvideo_i3d_r50", "slow_r50")
_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 20


def locate(source: str, backbone: str, *, progress: bool = True) -> Path:
    """The file that ``source`` stands for, downloaded if need be.

    ``kinetics`` and ``imagenet`` are looked up for the backbone, ``http://`` and ``https://`` URLs
    are fetched into torch hub's cache, anything else is a local file.

    Raises:
        UserError: for a source that does not fit the backbone, a file that is not there, or a URL
            that cannot be reached.
    """
    if source == "kinetics":
        return fetch(_kinetics_url(backbone), progress=progress)
    if source == "imagenet":
        return fetch(_imagenet_url(backbone), progress=progress)
    if source.startswith(("http://", "https://")):
        return fetch(source, _name_of(source), progress=progress)
    path = Path(source).expanduser()
    if path.is_dir():
        raise UserError(f"weights {source!r} is a folder; name the file of weights in it.")
    if not path.is_file():
        raise UserError(
            f"weights {source!r}: no such file. Give 'kinetics', 'imagenet', a file or an "
            f"http(s) URL; for i3d_r50 the file {HARA_FILE} from the folder of models linked on "
            f"{HARA_PAGE}."
        )
    return path


def _kinetics_url(backbone: str) -> str:
    if backbone in _HUB_NAMES:
        return checkpoint_paths[_HUB_NAMES[backbone]]
    if backbone == "i3d_r50":
        raise UserError(
            "weights 'kinetics' are pytorchvideo's, which do not fit backbone i3d_r50. Fetch "
            f"{HARA_FILE} from the folder of models linked on {HARA_PAGE} and pass "
            f"--model.weights {HARA_FILE}, or choose backbone pytorchvideo_i3d_r50."
        )
    raise UserError(
        f"weights 'kinetics': none are published for backbone {backbone!r}; they exist for "
        f"{', '.join(_HUB_NAMES)}, and as a file for i3d_r50."
    )


def _imagenet_url(backbone: str) -> str:
    if backbone not in _IMAGENET_BACKBONES:
        raise UserError(
            f"weights 'imagenet' are a ResNet-50's, which do not fit backbone {backbone!r}; they "
            f"fit {', '.join(_IMAGENET_BACKBONES)}."
        )
    # torchvision's models take a second to import and are needed for this address only.
    from torchvision.models import ResNet50_Weights

    return ResNet50_Weights.IMAGENET1K_V1.url


def _name_of(url: str) -> str:
    """A file name for any URL: two servers may well use one base name for different files."""
    base = re.sub(r"[^\w.-]", "_", Path(url.partition("?")[0]).name) or "weights"
    return f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{base}"


def fetch(url: str, name: str | None = None, *, progress: bool = True) -> Path:
    """The file behind ``url``, from torch hub's cache or downloaded into it.

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
    """The values in a file of ``torch.save``, on the CPU; no code in the file is ever run.

    Archives are compared with their checksums first, which torch does not look at.

    Raises:
        UserError: for a file that is damaged, is no such file, needs code, or holds no mapping.
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
    """What a pickled NumPy number names: many a checkpoint holds its accuracy as one."""
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
