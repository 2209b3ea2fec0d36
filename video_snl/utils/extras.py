"""Extras of the installation: their packages, and one line where some of these are missing.

The blocks need torch and numpy alone; whatever else is imported is of an extra. A command that
comes upon a package that is not there ends with the line of :func:`explain_missing`; what is needed
late is asked for early by :func:`require`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from video_snl.errors import UserError

__all__ = ["INCLUDED", "PACKAGES", "explain_missing", "import_public", "is_installed", "require"]

PACKAGES: dict[str, dict[str, str]] = {
    "video": {
        "av": "av",
        "decord": "decord",
        "PIL": "pillow",
        "pytorchvideo": "pytorchvideo",
        "torchcodec": "torchcodec",
        "torchvision": "torchvision",
        "tqdm": "tqdm",
    },
    "train": {
        "cv2": "opencv-python-headless",
        "docstring_parser": "docstring-parser",
        "fvcore": "fvcore",
        "huggingface_hub": "huggingface-hub",
        "jinja2": "jinja2",
        "jsonargparse": "jsonargparse",
        "lightning": "lightning",
        "matplotlib": "matplotlib",
        "pyarrow": "pyarrow",
        "rich": "rich",
        "safetensors": "safetensors",
        "scipy": "scipy",
        "sklearn": "scikit-learn",
        "tensorboard": "tensorboard",
        "torchmetrics": "torchmetrics",
        "yaml": "pyyaml",
    },
    "cluster": {"submitit": "submitit"},
    "explain": {"captum": "captum"},
    "export": {"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript"},
    "reid": {
        "faiss": "faiss-cpu",
        "gdown": "gdown",
        "h5py": "h5py",
        "threadpoolctl": "threadpoolctl",
        "torchreid": "torchreid",
    },
    "postgres": {"pgvector": "pgvector", "psycopg": "psycopg"},
    "ray": {"ray": "ray"},
    "tracks": {"norfair": "norfair-enough"},
    "serve": {
        "python_multipart": "python-multipart",
        "starlette": "starlette",
        "uvicorn": "uvicorn",
    },
    "torchcodec": {"torchcodec": "torchcodec"},
    "wandb": {"wandb": "wandb"},
}
"""Module and distribution of every package of an extra in setup.cfg, those first that others
include."""

INCLUDED = {
    "train": "video",
    "cluster": "train",
    "explain": "train",
    "export": "train",
    "reid": "train",
    "postgres": "reid",
    "ray": "train",
    "tracks": "reid",
    "serve": "explain",
}
"""The extra that an extra brings along, so that it alone is enough for its commands."""

_NAMED = 4
_OPTIONAL = {
    "decord",
    "torchcodec",
}  # without wheels for some platforms, where PyAV takes its place


def is_installed(module: str) -> bool:
    """Tell whether a module could be imported. It is not."""
    try:
        return find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # ValueError: of modules that were made by hand
        return False


def require(*extras: str) -> None:
    """Refuse to go on where packages of extras are missing.

    Raises:
        UserError: It names the packages, and the extras to install.
    """
    line = _missing(extras)
    if line is not None:
        raise UserError(line)


def explain_missing(error: ModuleNotFoundError, extras: Iterable[str] = ()) -> str | None:
    """Return a line for a module that is missing; None for one of this distribution.

    Args:
        error: The error of its import.
        extras: Extras of what was to be done. Their other missing packages are named, too.
    """
    module = (error.name or "").partition(".")[0]
    if module in ("video_snl", "reid"):
        return None
    of = [extra for extra, packages in PACKAGES.items() if module in packages]
    line = _missing([*extras, *of], first=module)
    if not of or line is None:
        return f"needs the module {error.name}, which cannot be imported ({error})"
    return line


def import_public(package: str, name: str, home: str, extra: str) -> Any:
    """Return a public name of a package from the module that it lives in.

    Raises:
        ImportError: It needs packages that are not installed; the message has the extra.
    """
    try:
        return getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        line = explain_missing(error, (extra,))
        if line is None:
            raise
        raise ImportError(f"{package}.{name} {line}") from error


def _missing(extras: Iterable[str], first: str = "") -> str | None:
    """Return which packages of extras are missing; None where all are there.

    Args:
        extras: Names of the extras.
        first: Module whose package is named first.
    """
    lacking = {}
    for extra in dict.fromkeys(extras):
        modules = {
            module: name for part in _closure(extra) for module, name in PACKAGES[part].items()
        }
        missing = {name for module, name in modules.items() if not is_installed(module)}
        if missing - _OPTIONAL:
            lacking[extra] = missing - _OPTIONAL
    if not lacking:
        return None
    brought = {part for extra in lacking for part in _closure(extra)[1:]}
    names = ",".join(extra for extra in lacking if extra not in brought)
    own = {packages.get(first) for packages in PACKAGES.values()}
    packages = sorted(set().union(*lacking.values()), key=lambda name: (name not in own, name))
    more = len(packages) - _NAMED
    shown = ", ".join(packages[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"needs packages that are not installed ({shown}): pip install 'video-snl[{names}]'"


def _closure(extra: str) -> list[str]:
    """Return an extra and those that it brings along."""
    return [extra, *_closure(INCLUDED[extra])] if extra in INCLUDED else [extra]
