"""Crops of images, by the process that reads and on the device, against plain ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from tests.image_trees import noise_image, write_folders
from video_snl.config.image import ImageDataConfig
from video_snl.data.image.catalog import load_images
from video_snl.data.image.classification import draw_resized_crop, evaluation_image
from video_snl.data.loading.samplers import sample_generator
from video_snl.data.transforms.image import evaluation_images, training_images

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def normalised(image: torch.Tensor) -> torch.Tensor:
    """(h, w, 3) in [0, 255] -> (3, h, w)."""
    return ((image.double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)


def test_pictures_in_memory_are_padded_cropped_flipped_and_normalised() -> None:
    random = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 8, 6, 3), generator=random, dtype=torch.uint8)
    offset, flip = torch.rand(3, 2, generator=random), torch.tensor([True, False, True])
    config = ImageDataConfig(pad=2)
    batch = {"image": image, "offset": offset, "flip": flip}
    result = training_images(batch, config, MEAN, STD)
    assert result.shape == (3, 3, 8, 6)
    assert result.is_contiguous(memory_format=torch.channels_last)
    for b in range(3):
        padded = np.pad(image[b].numpy(), ((2, 2), (2, 2), (0, 0)))
        top, left = (int(x * 5) for x in offset[b].tolist())
        crop = torch.from_numpy(padded[top : top + 8, left : left + 6].copy())
        expected = normalised(crop.flip(1) if flip[b] else crop)
        torch.testing.assert_close(result[b].double(), expected, rtol=1e-5, atol=1e-5)


def test_pictures_of_files_are_only_normalised() -> None:
    image = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8)
    for result in (
        training_images({"image": image}, ImageDataConfig(), MEAN, STD, torch.float64),
        evaluation_images(image, MEAN, STD, torch.float64),
    ):
        expected = torch.stack([normalised(x) for x in image])
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_all_places_and_both_flips_of_pictures_in_memory_come() -> None:
    data = load_images(ImageDataConfig(flip=True))
    numbers = [data.train.gather([(e, i) for i in range(1442)]).batch for e in range(2)]
    places = torch.cat([(x["offset"] * 9).long() for x in numbers])
    counts = torch.bincount(places[:, 0] * 9 + places[:, 1], minlength=81)
    assert len(counts) == 81 and counts.min() > 10  # 35.6 expected
    assert abs(torch.cat([x["flip"] for x in numbers]).float().mean() - 0.5) < 0.04
    plain = load_images(ImageDataConfig())
    assert not plain.train.gather([(0, i) for i in range(99)]).batch["flip"].any()


def test_resized_crops_have_the_areas_and_aspects_asked_for() -> None:
    random = np.random.default_rng(0)
    crops = np.array([draw_resized_crop(random, 300, 500, (0.08, 1.0)) for _ in range(2000)])
    top, left, height, width = crops.T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 300).all() and (left + width <= 500).all()
    share, aspect = height * width / 150_000, width / height
    assert 0.078 < share.min() < 0.1 and share.max() > 0.75
    assert 0.73 < aspect.min() < 0.78 and 1.28 < aspect.max() < 1.36
    inner = np.abs(np.log(aspect[share < 0.4]))  # where few draws are refused
    assert abs(inner.mean() - np.log(4 / 3) / 2) < 0.02


@pytest.mark.parametrize("size", [(10, 100), (100, 10), (50, 50)])
def test_a_crop_that_never_fits_is_the_largest_from_the_centre(size: tuple[int, int]) -> None:
    height, width = size
    top, left, h, w = draw_resized_crop(np.random.default_rng(0), height, width, (4.0, 4.0))
    assert 3 / 4 <= w / h <= 4 / 3 + 0.1 and (h == height or w == width)
    assert (top, left) == ((height - h) // 2, (width - w) // 2)


def test_a_resized_crop_is_torchvision_s(tmp_path: Path) -> None:
    write_folders(tmp_path)
    options = {"height": 16, "width": 16, "training_crop": "resized"}
    config = ImageDataConfig(dataset="folder", root=str(tmp_path), **options)  # type: ignore[arg-type]
    data = load_images(config, seed=7)
    with Image.open(data.train.paths[3]) as image:
        place = sample_generator(7, 2, 3).spawn(2)[0]
        crop = draw_resized_crop(place, image.height, image.width, config.crop_area)
        expected = np.asarray(functional.resized_crop(image, *crop, [16, 16]))
    assert np.array_equal(data.train[2, 3]["image"].numpy(), expected)


def test_the_crop_of_evaluation_is_the_centre_of_the_resized_picture() -> None:
    image = noise_image(0, 96, 160)
    config = ImageDataConfig(dataset="folder", height=32, width=48, short_side=48)
    result = evaluation_image(image, "a.png", config)
    resized = image.resize((80, 48), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(result), np.asarray(resized)[8:40, 16:64])


def test_changes_of_colour_are_made_where_the_picture_is(tmp_path: Path) -> None:
    write_folders(tmp_path)
    options = {"height": 40, "width": 48, "pad": 0, "rand_augment": 2, "color_jitter": 0.5}
    results = []
    for in_memory in (False, True):
        config = ImageDataConfig(
            dataset="folder", root=str(tmp_path), in_memory=in_memory, **options
        )  # type: ignore[arg-type]
        data = load_images(config)
        plain = evaluation_images(data.test.gather([(0, 0)]).batch["image"], MEAN, STD)
        batch = data.train.gather([(0, i) for i in range(8)]).batch
        assert ("jitter" in batch) == in_memory
        results.append(training_images(batch, config, MEAN, STD))
        assert results[-1].shape == (8, 3, 40, 48) and plain.shape == (1, 3, 40, 48)
    unchanged = load_images(
        ImageDataConfig(dataset="folder", root=str(tmp_path), height=40, width=48, pad=0)
    )
    untouched = evaluation_images(
        unchanged.train.gather([(0, i) for i in range(8)]).batch["image"], MEAN, STD
    )
    assert all(not torch.equal(result, untouched) for result in results)
