"""Small datasets of images in their true formats."""

from __future__ import annotations

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from video_snl.data.image.small import CIFAR


def noise_image(seed: int, height: int = 40, width: int = 48) -> Image.Image:
    """Coarse noise, which survives JPEG."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)


def write_folders(root: Path, test: str = "test", train: int = 4, tests: int = 2) -> Path:
    """Two classes of JPEG files."""
    for part, count in (("train", train), (test, tests)):
        for label, name in enumerate(("cat", "dog")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise_image(100 * label + i + (50 if part == test else 0)).save(
                    folder / f"{i:03}.jpg"
                )
    return root


def write_cifar(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The published layout with a few images, whose MD5 sums torchvision is told.

    Returns:
        All training images, (n, 32, 32, 3), whose labels are 0, 1, 2, ... modulo the classes.
    """
    kind = CIFAR[name]
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    classes = 10 if name == "cifar10" else 100
    random, sums, images = np.random.default_rng(0), {}, []
    key = "labels" if name == "cifar10" else "fine_labels"
    for number, (file, _) in enumerate(kind.train_list + kind.test_list):
        data = random.integers(0, 256, (4, 3072), dtype=np.uint8)
        images.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels = [(4 * number + i) % classes for i in range(4)]
        content = {"data": data, key: labels, "filenames": ["a.png"] * 4}
        sums[file] = _pickle(folder / file, content)
    meta = kind.meta
    names = [f"class{i}" for i in range(classes)]
    meta_sum = _pickle(folder / meta["filename"], {meta["key"]: names})
    monkeypatch.setattr(kind, "train_list", [[f, sums[f]] for f, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[f, sums[f]] for f, _ in kind.test_list])
    monkeypatch.setattr(kind, "meta", {**meta, "md5": meta_sum})
    return np.concatenate(images[: len(kind.train_list)])


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes strings as Python 2 did, which made the published files: as bytes."""

    dispatch = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def _pickle(path: Path, content: dict[str, object]) -> str:
    with path.open("wb") as file:
        _Python2Pickler(file, protocol=2).dump(content)
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_cub(root: Path) -> Path:
    """Two classes, of three images each; the last of each class tests, one is greyscale."""
    folder = root / "CUB_200_2011"
    names = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    lines: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    for label, name in enumerate(names):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(3):
            number = 3 * label + i + 1
            image = noise_image(number) if number != 1 else noise_image(number).convert("L")
            image.save(folder / "images" / name / f"bird_{number:04}.jpg")
            lines["images"].append(f"{number} {name}/bird_{number:04}.jpg")
            lines["image_class_labels"].append(f"{number} {label + 1}")
            lines["train_test_split"].append(f"{number} {int(i < 2)}")
    lines["classes"] = [f"{i} {name}" for i, name in enumerate(names, 1)]
    for list_name, content in lines.items():
        (folder / f"{list_name}.txt").write_text("\n".join(content) + "\n")
    return root


def write_cityscapes(root: Path, height: int = 32, width: int = 64) -> Path:
    """Three training images of two cities and one to validate on."""
    places = [("train", "aachen", 0), ("train", "aachen", 1), ("train", "bochum", 2)]
    for part, city, number in [*places, ("val", "lindau", 3)]:
        name = f"{city}_{number:06}_000019"
        for kind in ("leftImg8bit", "gtFine"):
            (root / kind / part / city).mkdir(parents=True, exist_ok=True)
        image = noise_image(number, height, width)
        image.save(root / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png")
        labels = np.random.default_rng(number).integers(0, 34, (height, width), dtype=np.uint8)
        path = root / "gtFine" / part / city / f"{name}_gtFine_labelIds.png"
        Image.fromarray(labels).save(path)
    return root
