"""Small datasets in the true layouts of Market-1501, DukeMTMC, MSMT17 and LS-VID."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from tests.reid_trees import write_image

__all__ = [
    "write_duke_video",
    "write_dukemtmc",
    "write_lsvid",
    "write_market1501",
    "write_msmt17",
]

MARKET = {
    "bounding_box_train": [
        "0002_c1s1_000451_03.jpg",
        "0002_c2s1_000801_01.jpg",
        "0007_c1s1_001051_02.jpg",
        "0007_c3s3_077419_03.jpg",
    ],
    "query": ["0003_c1s6_015971_00.jpg", "0004_c6s3_009617_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000401_03.jpg",
        "0000_c2s1_000151_01.jpg",
        "0003_c1s6_015996_02.jpg",
        "0003_c3s3_064744_04.jpg",
        "0004_c1s6_016001_01.jpg.jpg",  # two of the published names end like this
    ],
}
DUKE = {
    "bounding_box_train": [
        "0001_c2_f0046182.jpg",
        "0001_c5_f0051341.jpg",
        "0018_c1_f0049782.jpg",
        "0018_c8_f0022400.jpg",
    ],
    "query": ["0005_c2_f0046985.jpg", "0033_c1_f0057706.jpg"],
    "bounding_box_test": [
        "0005_c2_f0047105.jpg",
        "0005_c5_f0052868.jpg",
        "0033_c6_f0044158.jpg",
        "2000_c4_f0003458.jpg",  # a distractor: under one camera alone
    ],
}
# Image, identity; identities of training and test are numbered apart, both from 0.
MSMT17: Mapping[str, Sequence[tuple[str, int]]] = {
    "train": [
        ("0000/0000_000_01_0303morning_0008_0.jpg", 0),
        ("0000/0000_003_04_0303noon_1000_1.jpg", 0),
        ("0001/0001_000_01_0303morning_0017_2.jpg", 1),
        ("0001/0001_001_15_0114afternoon_0350_1.jpg", 1),
    ],
    "val": [("0000/0000_001_01_0303morning_0019_0.jpg", 0)],
    "query": [
        ("0000/0000_000_01_0303morning_0015_0.jpg", 0),
        ("0001/0001_002_07_0302noon_0200_1.jpg", 1),
    ],
    "gallery": [
        ("0000/0000_001_01_0303morning_0040_2.jpg", 0),
        ("0000/0000_005_14_0113noon_0900_0.jpg", 0),
        ("0001/0001_000_02_0302noon_0100_1.jpg", 1),
    ],
}
DUKE_VIDEO = {
    "train/0001/0019": [f"0001_C6_F{f:04d}_X{30723 + f}.jpg" for f in (1, 2, 10)],
    "train/0001/0020": ["0001_C2_F0001_X47000.jpg"],
    "train/0018/0101": ["0018_C1_F0001_X49782.jpg", "0018_C1_F0002_X49790.jpg"],
    "query/0005/0059": ["0005_C2_F0001_X46985.jpg", "0005_C2_F0002_X46993.jpg"],
    "gallery/0005/0059": ["0005_C2_F0001_X46985.jpg", "0005_C2_F0002_X46993.jpg"],
    "gallery/0005/0060": ["0005C5F0001X52868.jpg", "0005C5F0002X52876.jpg"],
    "gallery/2000/3000": ["2000_C4_F0001_X3458.jpg"],
}
# Prefix of the frames, identity, number of frames.
LSVID: Mapping[str, Sequence[tuple[str, int, int]]] = {
    "train": [
        ("0000/0000_0001_01", 0, 3),
        ("0000/0000_0002_11", 0, 2),
        ("0001/0001_0001_02", 1, 12),
        ("0001/0001_0010_02", 1, 1),
    ],
    "test": [
        ("0002/0002_0001_03", 0, 2),
        ("0002/0002_0002_03", 0, 1),
        ("0002/0002_0003_15", 0, 2),
        ("0003/0003_0001_04", 1, 1),
        ("0003/0003_0002_05", 1, 3),
    ],
}
LSVID_QUERIES = (1, 5)  # lines of the test list


def write_market1501(root: Path, names: Mapping[str, Sequence[str]] = MARKET) -> Path:
    """Market-1501's layout, with the file of Windows that the published archive has."""
    for number, (part, images) in enumerate(names.items()):
        for place, image in enumerate(images):
            write_image(root / part / image, seed=1000 * number + place)
        (root / part / "Thumbs.db").write_bytes(b"\0")
    return root


def write_dukemtmc(root: Path) -> Path:
    return write_market1501(root, DUKE)


def write_msmt17(root: Path, *, version: int = 1) -> Path:
    folders = {1: ("train", "test"), 2: ("mask_train_v2", "mask_test_v2")}[version]
    root.mkdir(parents=True)
    for part, lines in MSMT17.items():
        folder = folders[part in ("query", "gallery")]
        text = "".join(f"{path} {person}\n" for path, person in lines)
        (root / f"list_{part}.txt").write_text(text)
        for path, _ in lines:
            write_image(root / folder / path)
    return root


def write_duke_video(root: Path) -> Path:
    for number, (folder, names) in enumerate(DUKE_VIDEO.items()):
        for place, name in enumerate(names):
            write_image(root / folder / name, seed=1000 * number + place)
    return root


def write_lsvid(root: Path, *, info: str = "") -> Path:
    """LS-VID's layout; ``info_test.mat`` as MATLAB 7.3 writes it: HDF5, transposed."""
    lists = root / info / "list_sequence"
    lists.mkdir(parents=True)
    for part, lines in LSVID.items():
        text = "".join(f"tracklet_{part}/{path} {person}\n" for path, person, _ in lines)
        (lists / f"list_seq_{part}.txt").write_text(text)
        for path, _, count in lines:
            for frame in range(1, count + 1):
                write_image(root / f"tracklet_{part}" / f"{path}_{frame}.jpg")
    saved = root / info / "data" if info else root / "test" / "data"
    saved.mkdir(parents=True)
    write_mat73(saved / "info_test.mat", query=np.array(LSVID_QUERIES, float)[:, None])
    return root


def write_mat73(path: Path, **values: np.ndarray) -> None:
    """Matrices as MATLAB 7.3 writes them: a block of 512 bytes with its name, then HDF5."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in values.items():
            file[name] = value.T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
