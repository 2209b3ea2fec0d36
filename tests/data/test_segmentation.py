"""Cityscapes: train ids, layout, training samples, and windows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.image_trees import noise_image, write_cityscapes
from video_snl.config.image import ImageDataConfig
from video_snl.data.image.catalog import image_class_count, load_images
from video_snl.data.image.cityscapes import CLASSES, load_cityscapes, read_labels, train_ids
from video_snl.data.image.segmentation import SegmentationDataset, draw_crop
from video_snl.data.transforms.image import Distortion, distort, draw_distortion
from video_snl.errors import UserError
from video_snl.tasks.sliding_window import slide, window_places, window_stride

# Of cityscapesScripts' labels.py, ids 0 to 33.
TRAIN_IDS = [255] * 7 + [0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, 6, 7, 8, 9, 10, 11, 12, 13]
TRAIN_IDS += [14, 15, 255, 255, 16, 17, 18]


def config(root: Path, **values: object) -> ImageDataConfig:
    options = {"height": 16, "width": 32, "flip": False, "photometric": False, **values}
    return ImageDataConfig(dataset="cityscapes", root=str(root), **options)  # type: ignore[arg-type]


def test_train_ids_are_the_published_ones() -> None:
    ids = np.arange(34, dtype=np.uint8).reshape(2, 17)
    assert train_ids(ids, "a.png").ravel().tolist() == TRAIN_IDS
    assert len(CLASSES) == 19 == image_class_count(ImageDataConfig(dataset="cityscapes"))
    with pytest.raises(UserError, match="a.png has the label id 34, Cityscapes has 0 to 33"):
        train_ids(ids + 1, "a.png")


def test_scenes_and_their_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cityscapes(tmp_path)
    data = load_images(config(tmp_path))
    assert [len(part) for part in (data.train, data.test)] == [3, 1]
    assert "3 images in train, and not the published 2,975" in capsys.readouterr().err
    sample = data.test[0, 0]
    assert sample["image"].shape == (32, 64, 3) and sample["label"].dtype == torch.uint8
    ids = np.asarray(Image.open(load_cityscapes(tmp_path)[1].labels[0]))
    assert sample["label"].flatten().tolist() == [TRAIN_IDS[i] for i in ids.ravel()]
    assert data.ignored == 255 and data.class_names[18] == "bicycle"


def test_faults_of_the_layout_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must hold leftImg8bit/train/<city>/"):
        load_images(config(tmp_path))
    write_cityscapes(tmp_path)
    label = next((tmp_path / "gtFine" / "train").rglob("bochum*"))
    label.rename(label.with_name("other.png"))
    with pytest.raises(UserError, match="1 of 3 label maps are missing.*bochum.*gtFine_trainval"):
        load_images(config(tmp_path))


def test_a_training_crop_at_scale_one_is_a_piece_of_the_scene(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    plain = config(tmp_path, scales=[1.0, 1.0], flip=True)
    data = load_images(plain)
    files = load_cityscapes(tmp_path)[0]
    plain_samples = SegmentationDataset(files, plain, read_labels, training=False, seed=0)
    flips = set()
    for epoch in range(8):
        sample, whole = data.train[epoch, 1], plain_samples[0, 1]
        found = [
            flipped
            for top in range(17)
            for left in range(33)
            for flipped in (False, True)
            if _same(sample, whole, top, left, flipped)
        ]
        assert len(found) == 1
        flips.update(found)
    assert flips == {False, True}


def _same(sample: dict, whole: dict, top: int, left: int, flipped: bool) -> bool:
    crops = [whole[x][top : top + 16, left : left + 32] for x in ("image", "label")]
    crops = [crop.flip(1) if flipped else crop for crop in crops]
    return all(torch.equal(a, sample[b]) for a, b in zip(crops, ("image", "label"), strict=True))


def test_a_scene_smaller_than_the_crop_is_padded_with_what_is_not_scored(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    data = load_images(config(tmp_path, height=40, width=64, scales=[1.0, 1.0]))
    sample = data.train[0, 0]
    assert (sample["label"][32:] == 255).all()
    assert (sample["image"][32:] == torch.tensor([124, 116, 104], dtype=torch.uint8)).all()
    half = load_images(config(tmp_path, scales=[0.5, 0.5])).train
    image = np.array(Image.open(half.paths[0]))
    smaller = cv2.resize(image, (32, 16), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(half[0, 0]["image"].numpy(), smaller)


def test_crops_of_nearly_one_class_are_drawn_again() -> None:
    labels = np.zeros((8, 64), np.uint8)
    labels[:, 48:56] = 1
    labels[:, 56:] = 255
    places = [draw_crop(np.random.default_rng(i), labels, (8, 16), 0.75)[1] for i in range(200)]
    mixed = [left for left in places if left > 32]
    accepted = [left for left in mixed if (labels[0, left : left + 16] == 0).sum() < 12]
    # By chance alone some 27 % of the crops would be; eleven draws leave few others.
    assert len(accepted) > 150
    free = [draw_crop(np.random.default_rng(i), labels, (8, 16), 1.0)[1] for i in range(200)]
    assert sum(left <= 32 for left in free) > 100


def test_unreadable_labels_are_named(tmp_path: Path) -> None:
    for name, values in (("ids.png", np.full((4, 4), 77, np.uint8)), ("deep.png", None)):
        image = noise_image(0, 8, 8) if values is None else Image.fromarray(values)
        image.save(tmp_path / name)
    for name, reason in (("ids.png", "label id 77"), ("deep.png", "mode RGB"), ("no.png", "read")):
        with pytest.raises(UserError, match=f"{name}.*{reason}"):
            read_labels(str(tmp_path / name))


def test_a_distortion_is_what_it_says() -> None:
    image = np.asarray(noise_image(0, 16, 16))
    assert np.array_equal(distort(image, Distortion()), image)
    brighter = np.minimum(image.astype(float) + 20.5, 255).astype(np.uint8)
    assert np.array_equal(distort(image, Distortion(brightness=20.5)), brighter)
    steeper = np.minimum(image * 1.5, 255).astype(np.uint8)
    for first in (True, False):
        assert np.array_equal(
            distort(image, Distortion(contrast=1.5, contrast_first=first)), steeper
        )
    red = np.full((2, 2, 3), (200, 100, 100), np.uint8)
    # 120 degrees on, red is green; with half the saturation the low channels rise.
    assert distort(red, Distortion(hue=60))[0, 0].tolist() == [100, 200, 100]
    paler = distort(red, Distortion(saturation=0.5))[0, 0].astype(int)
    assert np.abs(paler - [200, 150, 150]).max() <= 1
    order = [distort(image, Distortion(0, 1.5, first, 0.6, 9)) for first in (True, False)]
    assert not np.array_equal(*order)


def test_distortions_are_drawn_in_their_ranges() -> None:
    drawn = [draw_distortion(np.random.default_rng(i)) for i in range(2000)]
    assert {d.hue for d in drawn} == set(range(-18, 18))
    assert all(abs(d.brightness) <= 32 and 0.5 <= d.contrast <= 1.5 for d in drawn)
    for unchanged in (
        [d.brightness == 0 for d in drawn],
        [d.contrast == 1 for d in drawn],
        [d.saturation == 1 for d in drawn],
        [d.contrast_first for d in drawn],
    ):
        assert abs(np.mean(unchanged) - 0.5) < 0.05


@given(length=st.integers(1, 60), window=st.integers(1, 40), stride=st.integers(1, 40))
def test_windows_cover_a_side(length: int, window: int, stride: int) -> None:
    window = min(window, length)
    stride = min(stride, window)
    starts = [left for _, left in window_places((1, length), (1, window), (1, stride))]
    covered = {i for start in starts for i in range(start, start + window)}
    assert covered == set(range(length)) and starts == sorted(set(starts))
    assert all(b - a <= stride for a, b in zip(starts, starts[1:], strict=False))
    assert len(starts) == -(-(length - window) // stride) + 1


def test_windows_of_a_pointwise_network_change_nothing() -> None:
    images = torch.randn(2, 3, 20, 31, dtype=torch.float64)
    weights = torch.randn(5, 3, dtype=torch.float64)
    seen = []

    def predict(crops: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(crops.shape[2:]))
        return torch.einsum("kc,bchw->bkhw", weights, crops)

    result = slide(predict, images, (8, 12), (5, 8))
    torch.testing.assert_close(result, predict(images))
    assert set(seen[:-1]) == {(8, 12)} and len(seen) - 1 == 4 * 4
    torch.testing.assert_close(slide(predict, images, (64, 64), (40, 40)), predict(images))


def test_window_strides() -> None:
    config = ImageDataConfig(dataset="cityscapes", height=512, width=1024)
    assert window_stride(config) == (341, 683)
    config.window_stride = [512, 1025]
    with pytest.raises(UserError, match="data.window_stride=.512, 1025.: give two numbers"):
        window_stride(config)


def test_real_scenes(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "images" / "cityscapes"
    for part, name in (("train", "aachen_000000_000019"), ("val", "aachen_000006_000019")):
        for kind, suffix in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
            folder = tmp_path / kind / part / "aachen"
            folder.mkdir(parents=True)
            (folder / f"{name}_{suffix}.png").symlink_to(source / f"{name}_{suffix}.png")
    data = load_images(config(tmp_path, height=512, width=1024, photometric=True, flip=True))
    sample = data.train[0, 0]
    assert sample["image"].shape == (512, 1024, 3) and sample["label"].shape == (512, 1024)
    whole = data.test[0, 0]
    assert whole["image"].shape == (1024, 2048, 3)
    counts = torch.bincount(whole["label"].flatten().long(), minlength=256)
    assert counts[19:255].sum() == 0 and counts[0] > 100_000  # road
