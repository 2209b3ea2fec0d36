"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their published form, through torchvision."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100

from video_snl.errors import UserError

__all__ = ["CIFAR", "cifar"]

CIFAR: dict[str, type[CIFAR10]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def cifar(
    name: str, root: Path, training: bool, download: bool = False
) -> tuple[Tensor, Tensor, list[str], list[str]]:
    """One part of a set, checked by its MD5 sums before it is unpickled.

    ``root`` holds ``cifar-10-batches-py/`` or ``cifar-100-python/`` (or is that folder itself).

    Returns:
        uint8 (n, 32, 32, 3), labels int64 (n,) (of CIFAR-100 the fine ones), names such as
        ``cifar10/train[17]``, names of the classes.

    Raises:
        UserError: A file is missing or is not the published one; the download failed.
    """
    kind = CIFAR[name]
    if root.name == kind.base_folder and not (root / kind.base_folder).exists():
        root = root.parent
    try:
        data = kind(root, train=training, download=download)
    except (RuntimeError, OSError) as error:
        raise UserError(_fault(kind, root, download, error)) from error
    part = "train" if training else "test"
    names = [f"{name}/{part}[{i}]" for i in range(len(data.data))]
    images = torch.from_numpy(data.data).contiguous()
    return images, torch.tensor(data.targets), names, list(data.classes)


def _fault(kind: type[CIFAR10], root: Path, download: bool, error: Exception) -> str:
    if download:
        return (
            f"{kind.url} could not be fetched into {root} ({error}): fetch and unpack it there, "
            "and leave --data.download out"
        )
    folder = root / kind.base_folder
    files = [name for name, _ in kind.train_list + kind.test_list] + [kind.meta["filename"]]
    missing = [name for name in files if not os.path.isfile(folder / name)]
    what = (
        f"{len(missing)} of {len(files)} files are missing from {folder}, the first is {missing[0]}"
        if missing
        else f"a file of {folder} is not the published one (its MD5 sum differs)"
    )
    return f"{what}: give --data.download true, or unpack {kind.url} into {root}"
