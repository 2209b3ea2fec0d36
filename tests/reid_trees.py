"""Small datasets in the true layouts of the re-identification datasets, to be read by tests."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

__all__ = [
    "Shots",
    "mars_table",
    "write_image",
    "read_frames",
    "real_file",
    "write_folder",
    "write_ilids",
    "write_mars",
    "write_images",
    "write_prid",
]

Shots = Sequence[tuple[int, int, int]]
"""Person, camera (from 1) and number of frames of each tracklet, in the order of the tables."""

TRAIN: Shots = ((1, 1, 3), (1, 2, 2), (3, 1, 2))
TEST: Shots = ((-1, 1, 2), (0, 2, 1), (2, 1, 3), (2, 1, 1), (2, 2, 2), (4, 1, 2), (4, 3, 1))
QUERIES = (3, 6)  # rows of TEST, from 1


def write_image(path: Path, seed: int = 0) -> Path:
    """A sound image of 4 x 8 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_images(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        write_image(folder / name)


def write_mars(
    root: Path,
    train: Shots = TRAIN,
    test: Shots = TEST,
    queries: Sequence[int] = QUERIES,
    *,
    images: bool = False,
) -> Path:
    """MARS's layout; the .mat files as MATLAB writes them."""
    (root / "info").mkdir(parents=True)
    for part, shots in (("train", train), ("test", test)):
        names, rows = mars_table(shots)
        (root / f"bbox_{part}").mkdir()
        (root / "info" / f"{part}_name.txt").write_text("".join(f"{name}\n" for name in names))
        savemat(root / "info" / f"tracks_{part}_info.mat", {f"track_{part}_info": rows})
        for name in names if images else ():
            write_image(root / f"bbox_{part}" / name[:4] / name)
    savemat(root / "info" / "query_IDX.mat", {"query_IDX": np.array([queries], np.uint16)})
    return root


def mars_table(shots: Shots) -> tuple[list[str], np.ndarray]:
    names: list[str] = []
    rows, numbers = [], {}
    for person, camera, frames in shots:
        number = numbers[person, camera] = numbers.get((person, camera), 0) + 1
        who = "00-1" if person == -1 else f"{person:04d}"
        rows.append((len(names) + 1, len(names) + frames, person, camera))
        names += [f"{who}C{camera}T{number:04d}F{f:03d}.jpg" for f in range(1, frames + 1)]
    return names, np.array(rows, np.int32)


def write_ilids(
    root: Path, frames: Mapping[str, Sequence[str]], rows: np.ndarray | None = None
) -> Path:
    """iLIDS-VID's layout; ``frames`` maps ``cam1/person001`` to names, ``rows`` is ls_set."""
    _write_empty(root / "i-LIDS-VID" / "sequences", frames)
    if rows is not None:
        folder = root / "train-test people splits"
        folder.mkdir()
        savemat(folder / "train_test_splits_ilidsvid.mat", {"ls_set": rows})
    return root


def write_prid(root: Path, frames: Mapping[str, Sequence[str]], splits: object = None) -> Path:
    """PRID-2011's layout; ``frames`` maps ``cam_a/person_0001`` to names."""
    _write_empty(root / "prid_2011" / "multi_shot", frames)
    if splits is not None:
        (root / "splits_prid2011.json").write_text(json.dumps(splits))
    return root


def _write_empty(folder: Path, frames: Mapping[str, Sequence[str]]) -> None:
    for name, files in frames.items():
        (folder / name).mkdir(parents=True)
        # In no order: a listing must not depend on it.
        for file in sorted(files, key=lambda file: hash(file[::-1])):
            (folder / name / file).touch()


def write_folder(root: Path, tracklets: Mapping[str, int]) -> Path:
    """The layout of own data: ``train/ann/door/1`` -> number of frames, 1.jpg, 2.jpg, ..."""
    for name, count in tracklets.items():
        (root / name).mkdir(parents=True)
        write_images(root / name, [f"{number}.jpg" for number in range(1, count + 1)])
    return root


def real_file(real_data: Path, *names: str) -> Path:
    """A file of the real data; skips the test where it is absent."""
    path = real_data.joinpath("reid", *names)
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


def read_frames(path: Path) -> dict[str, list[str]]:
    """Folder -> names of its frames, of a frames.json.gz."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)
