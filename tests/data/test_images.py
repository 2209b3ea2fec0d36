"""The image datasets: layouts, counts, pixels, and what is said of those that are not so."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tests.image_trees import noise_image, write_cifar, write_cub, write_folders
from video_snl.config.datasets import IMAGE_STATISTICS
from video_snl.config.image import ImageDataConfig
from video_snl.data.image.base import image_statistics
from video_snl.data.image.catalog import (
    image_class_count,
    load_images,
)
from video_snl.data.image.reading import UnreadableImage, read_image
from video_snl.data.image.small import CIFAR, digits_that_test
from video_snl.errors import OptionsError, UserError


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_SNL_CACHE", str(tmp_path / "cache"))


def folder_config(root: Path, **values: object) -> ImageDataConfig:
    options = {"height": 32, "width": 40, "pad": 0, **values}
    return ImageDataConfig(dataset="folder", root=str(root), **options)  # type: ignore[arg-type]


def test_digits_are_the_library_s_enlarged() -> None:
    data = load_images(ImageDataConfig())
    assert (len(data.train), len(data.test)) == (1442, 355)
    raw = load_digits()
    kept = np.flatnonzero(~digits_that_test(raw.target))
    for index in (0, 700):
        sample = data.train[0, index]
        assert sample["image"].shape == (32, 32, 3) and sample["image"].dtype == torch.uint8
        assert sample["label"] == raw.target[kept[index]]
        small = raw.images[kept[index]]
        # A pixel of the image, three quarters of the way from one value to the next.
        weights = np.array([0.875, 0.125])
        expected = 255 / 16 * weights @ small[3:5, 3:5] @ weights
        assert abs(float(sample["image"][14, 14, 1]) - expected) <= 0.51
        assert (sample["image"] == sample["image"][..., :1]).all()
    labels = torch.stack([data.test[0, i]["label"] for i in range(355)])
    per_class = torch.bincount(labels).tolist()
    assert per_class == [count // 5 for count in np.bincount(raw.target)]


def test_statistics_of_the_digits_are_those_of_their_training_part() -> None:
    images = load_images(ImageDataConfig()).train.images / 255  # type: ignore[attr-defined]
    mean, std = IMAGE_STATISTICS["digits"]
    assert abs(images.mean() - mean[0]) < 1e-3 and abs(images.std() - std[0]) < 1e-3


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_in_its_published_form(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write_cifar(tmp_path, name, monkeypatch)
    config = ImageDataConfig(dataset=name, root=str(tmp_path))  # type: ignore[arg-type]
    data = load_images(config)
    assert len(data.train) == len(expected) and len(data.test) == 4
    assert len(data.class_names) == image_class_count(config) == int(name[5:])
    for index in range(len(expected)):
        sample = data.train[0, index]
        assert np.array_equal(sample["image"].numpy(), expected[index])
        assert sample["label"] == index % len(data.class_names)
    inside = tmp_path / CIFAR[name].base_folder
    assert len(load_images(ImageDataConfig(dataset=name, root=str(inside))).train)  # type: ignore[arg-type]


def test_each_cifar_has_its_own_statistics() -> None:
    ten = image_statistics(ImageDataConfig(dataset="cifar10"))
    hundred = image_statistics(ImageDataConfig(dataset="cifar100"))
    assert ten != hundred and hundred == IMAGE_STATISTICS["cifar100"]
    released = ImageDataConfig(dataset="cifar100", statistics="cifar_released")
    assert image_statistics(released)[1] == (0.2023, 0.1994, 0.2010)
    assert image_statistics(ImageDataConfig(dataset="folder")) == IMAGE_STATISTICS["imagenet"]


def test_faults_of_cifar_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ImageDataConfig(dataset="cifar10", root=str(tmp_path))
    with pytest.raises(UserError, match="7 of 7 files are missing.*data_batch_1.*data.download"):
        load_images(config)
    write_cifar(tmp_path, "cifar10", monkeypatch)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(UserError, match="MD5 sum differs"):
        load_images(config)
    batch.unlink()
    with pytest.raises(UserError, match="1 of 7 files are missing.*data_batch_2"):
        load_images(config)


def test_a_download_that_fails_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR["cifar10"], "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    config = ImageDataConfig(dataset="cifar10", root=str(tmp_path / "new"), download=True)
    with pytest.raises(UserError, match="could not be fetched into .*: fetch and unpack it there"):
        load_images(config)


def test_cub_is_divided_by_its_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cub(tmp_path)
    config = ImageDataConfig(dataset="cub200", root=str(tmp_path), height=16, width=16, pad=0)
    data = load_images(config)
    assert data.class_names == ["Black_footed_Albatross", "Laysan_Albatross"]
    assert [Path(path).name for path in data.train.paths] == [
        f"bird_{number:04}.jpg" for number in (1, 2, 4, 5)
    ]
    assert [int(data.test[0, i]["label"]) for i in range(2)] == [0, 1]
    grey = data.train[0, 0]["image"]
    assert grey.shape == (16, 16, 3) and (grey == grey[..., :1]).all()
    assert "2 classes, and not the published 200" in capsys.readouterr().err
    again = load_images(
        ImageDataConfig(dataset="cub200", root=str(tmp_path / "CUB_200_2011"), height=16, width=16)
    )
    assert list(again.train.paths) == list(data.train.paths)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("image_class_labels.txt", "6 2", "6 3", "image 6 has the class 3, classes.txt has 1 to"),
        ("image_class_labels.txt", "6 2\n", "", "do not number the same images .see 6."),
        ("train_test_split.txt", "4 1", "4 2", "image 4 has '2', expected 0 or 1"),
        ("images.txt", "bird_0002", "bird_0009", "1 of 6 images are missing.*bird_0009"),
        ("images.txt", "2 001", "x 001", "line 2: expected '<new number> <value>'"),
        ("classes.txt", "2 002", "3 002", "must number its classes 1, 2, 3"),
    ],
)
def test_faults_of_cub_are_named(
    file: str, old: str, new: str, message: str, tmp_path: Path
) -> None:
    write_cub(tmp_path)
    path = tmp_path / "CUB_200_2011" / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        load_images(ImageDataConfig(dataset="cub200", root=str(tmp_path)))


def test_lists_of_cub_in_other_encodings(tmp_path: Path) -> None:
    write_cub(tmp_path)
    config = ImageDataConfig(dataset="cub200", root=str(tmp_path), height=16, width=16)
    path = tmp_path / "CUB_200_2011" / "classes.txt"
    text = path.read_text().replace("Laysan", "Läysan")
    path.write_bytes(text.encode("utf-16"))
    assert load_images(config).class_names[1] == "Läysan_Albatross"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"classes\.txt.*line 2: .*UTF-8"):
        load_images(config)


@pytest.mark.parametrize(("dataset", "test"), [("imagenet", "val"), ("folder", "val")])
def test_class_folders(dataset: str, test: str, tmp_path: Path) -> None:
    write_folders(tmp_path, test)
    config = folder_config(tmp_path)
    config.dataset = dataset  # type: ignore[assignment]
    data = load_images(config)
    assert data.class_names == ["cat", "dog"] and image_class_count(config) == 2
    assert (len(data.train), len(data.test)) == (8, 4)
    assert [int(data.test[0, i]["label"]) for i in range(4)] == [0, 0, 1, 1]
    crop = np.asarray(Image.open(data.test.paths[2]).convert("RGB"))[4:36, 4:44]
    assert np.array_equal(data.test[0, 2]["image"].numpy(), crop)


def test_faults_of_class_folders_are_named(tmp_path: Path) -> None:
    root = tmp_path / "above" / "set"
    write_folders(root)
    with pytest.raises(UserError, match=f"try --data.root {root}"):
        load_images(folder_config(root.parent))
    extra = root / "test" / "horse"
    extra.mkdir()
    noise_image(1).save(extra / "a.png")
    with pytest.raises(UserError, match="has the class 'horse', which .* has not"):
        load_images(folder_config(root))
    (root / "train" / "horse").mkdir()
    with pytest.raises(UserError, match="class folder .*horse has no images"):
        load_images(folder_config(root))
    with pytest.raises(UserError, match="does not exist: give the folder that holds train/"):
        load_images(folder_config(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "cifar10"}, "needs --data.root.*data.download"),
        ({"dataset": "imagenet", "download": True}, "offered for cifar10 and cifar100, not image"),
        ({"dataset": "digits", "download": True}, "needs no download"),
        ({"in_memory": True}, "data.in_memory is for data.dataset=folder"),
        ({"height": 28}, "the images of digits have 32 x 32 pixels"),
        ({"training_crop": "resized"}, "data.training_crop=resized is for images in files"),
        ({"crop_area": [1.0, 0.1]}, "data.crop_area="),
        ({"color_jitter": 2.0}, "data.color_jitter=2.0: give 0 to 1"),
        ({"pad": -1}, "data.pad=-1: give 0 or more"),
        ({"dataset": "folder", "short_side": 16}, "does not fit data.short_side=16"),
        ({"dataset": "cityscapes", "rand_augment": 2}, "changes colours by data.photometric"),
    ],
)
def test_options_that_do_not_fit_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_images(ImageDataConfig(**values))  # type: ignore[arg-type]


def test_a_picture_smaller_than_the_crop_stops_at_once(tmp_path: Path) -> None:
    write_folders(tmp_path)
    data = load_images(folder_config(tmp_path, height=64))
    with pytest.raises(UserError, match="a crop of 64 x 40 does not fit .*jpg of 40 x 48: set"):
        data.test[0, 0]
    with pytest.raises(OptionsError, match="a crop of 64 x 40 does not fit"):
        load_images(folder_config(tmp_path, height=64, in_memory=True))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "LA", "1"])
def test_all_kinds_of_pictures_become_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    noise_image(0).convert(mode).save(path)
    assert read_image(str(path)).mode == "RGB"


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    noise_image(0).save(tmp_path / "cut.jpg")
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "deep.tif")
    for name in ("cut.jpg", "text.png", "absent.jpg", "deep.tif"):
        with pytest.raises(UnreadableImage, match=name):
            read_image(str(tmp_path / name))


def test_pictures_in_memory_are_those_of_the_files(tmp_path: Path) -> None:
    write_folders(tmp_path)
    options = {"short_side": 33, "height": 32, "width": 32}
    files = load_images(folder_config(tmp_path, **options)).test
    memory = load_images(folder_config(tmp_path, in_memory=True, **options)).test
    kept = sorted((tmp_path / "cache").rglob("*.npy"))
    assert len(kept) == 2
    again = load_images(folder_config(tmp_path, in_memory=True, **options)).test
    for index in range(len(files)):
        expected = files[0, index]
        for other in (memory[0, index], again[0, index]):
            assert all(torch.equal(other[name], expected[name]) for name in expected)
    # A file that changes is decoded again.
    noise_image(77).save(files.paths[1])
    changed = load_images(folder_config(tmp_path, in_memory=True, **options)).test
    assert not torch.equal(changed[0, 1]["image"], memory[0, 1]["image"])
    kept[0].write_bytes(b"damaged")
    load_images(folder_config(tmp_path, in_memory=True, **options))
    shutil.rmtree(tmp_path / "cache")
    again = load_images(folder_config(tmp_path, in_memory=True, **options)).test
    assert torch.equal(again[0, 1]["image"], changed[0, 1]["image"])


def test_real_pictures_of_cifar_and_imagenet(real_data: Path, tmp_path: Path) -> None:
    archive = zipfile.ZipFile(real_data / "images" / "cifar10_jpg.zip")
    names = [name for name in archive.namelist() if name.endswith(("0001.jpg", "0007.jpg"))]
    archive.extractall(tmp_path, names)
    data = load_images(folder_config(tmp_path, width=32, in_memory=True, statistics="cifar10"))
    assert (len(data.train), len(data.test), len(data.class_names)) == (20, 20, 10)
    assert data.class_names[0] == "airplane" and data.mean == IMAGE_STATISTICS["cifar10"][0]
    folder = real_data / "images" / "imagenet_samples"
    modes = {path.name: read_image(str(path)).mode for path in folder.iterdir()}
    assert len(modes) == 12 and set(modes.values()) == {"RGB"}
