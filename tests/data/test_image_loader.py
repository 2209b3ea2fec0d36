"""Loading images: the same for any number of processes, and with files that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.image_trees import noise_image, write_cityscapes, write_folders
from video_snl.config.image import ImageDataConfig
from video_snl.data.image import classification
from video_snl.data.image.base import Paths
from video_snl.data.image.catalog import ImageSet, load_images
from video_snl.data.image.loader import make_image_loader
from video_snl.data.image.reading import UnreadableImage
from video_snl.data.loading.quarantine import Quarantine
from video_snl.errors import UserError

Batches = list[dict[str, Tensor]]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIDEO_SNL_CACHE", str(tmp_path / "cache"))
    return write_folders(tmp_path / "set")


def images(root: Path, seed: int = 3, **values: object) -> ImageSet:
    options = {"height": 24, "width": 24, "flip": True, "max_failures": 0.5, **values}
    return load_images(
        ImageDataConfig(dataset="folder", root=str(root), **options),  # type: ignore[arg-type]
        seed=seed,
    )


def epochs(data: ImageSet, workers: int, count: int = 2, seed: int = 3) -> Batches:
    loader = make_image_loader(data.train, 3, num_workers=workers, seed=seed)
    batches = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        batches += list(loader)
    loader.close()
    return batches


def assert_equal(first: Batches, second: Batches) -> None:
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "values", [{"training_crop": "resized", "rand_augment": 1, "color_jitter": 0.4}, {"pad": 2}]
)
def test_batches_are_the_same_for_any_number_of_processes(
    root: Path, values: dict[str, object]
) -> None:
    here = epochs(images(root, **values), 0)
    assert [len(batch["index"]) for batch in here] == [3, 3, 2] * 2
    assert_equal(here, epochs(images(root, **values), 2))
    assert here[0]["image"].dtype == torch.uint8 and here[0]["image"].shape == (3, 24, 24, 3)


def test_a_sample_is_a_function_of_seed_epoch_and_index(root: Path) -> None:
    data = images(root, pad=4)
    sample = data.train[5, 2]["image"]
    assert torch.equal(sample, images(root, pad=4).train[5, 2]["image"])
    others = [data.train[4, 2], images(root, seed=4, pad=4).train[5, 2]]
    assert all(not torch.equal(sample, other["image"]) for other in others)


def test_numbers_of_pictures_in_memory_are_a_function_of_seed_epoch_and_index(root: Path) -> None:
    options = {"in_memory": True, "rand_augment": 2}
    data = images(root, **options)
    whole = data.train.gather([(2, i) for i in range(8)]).batch
    assert whole["operations"].shape == (8, 2, 2)
    for index in (6, 1):
        alone = images(root, **options).train[2, index]
        for name in alone:
            assert torch.equal(alone[name], whole[name][index])
    assert not torch.equal(
        whole["offset"], data.train.gather([(3, i) for i in range(8)])[0]["offset"]
    )


def damage(data: ImageSet, indices: Sequence[int], part: str = "train") -> list[str]:
    paths = [getattr(data, part).paths[i] for i in indices]
    for path in paths:
        Path(path).write_bytes(b"damaged")
    return paths


@pytest.mark.parametrize("in_memory", [False, True])
def test_another_picture_of_the_class_trains_for_an_unreadable_one(
    root: Path, in_memory: bool, tmp_path: Path
) -> None:
    bad = damage(images(root), [1, 6])
    data = images(root, in_memory=in_memory)
    notes = Quarantine(tmp_path / "quarantine.jsonl", 0.5, "images")
    loader = make_image_loader(data.train, 4, num_workers=2, seed=3, quarantine=notes)
    batches = list(loader)
    shown = torch.cat([batch["index"] for batch in batches]).tolist()
    wanted = [index for _, index in loader.sampler]
    for want, show in zip(wanted, shown, strict=True):
        assert show == want if want not in (1, 6) else show // 4 == want // 4 and show not in (1, 6)
    assert torch.cat([batch["label"] for batch in batches]).tolist() == [i // 4 for i in shown]
    assert sorted(notes.bad) == sorted(bad) and bad[0] in notes.bad[bad[0]].reason
    loader.close()
    # A resumed run has the quarantine, tries neither again, and shows the same.
    resumed = Quarantine(notes.file, 0.5, "images")
    again = make_image_loader(images(root).train, 4, num_workers=0, seed=3, quarantine=resumed)
    assert torch.cat([batch["index"] for batch in again]).tolist() == shown


@pytest.mark.parametrize("in_memory", [False, True])
def test_an_unreadable_test_picture_is_left_out_and_said(root: Path, in_memory: bool) -> None:
    damage(images(root), [2, 3], "test")
    data = images(root, in_memory=in_memory)
    notes = Quarantine(None, 0.5, "images")
    first, second = make_image_loader(data.test, 2, num_workers=0, quarantine=notes)
    assert first["index"].tolist() == [0, 1] and first["unreadable"].tolist() == []
    assert second["index"].tolist() == second["label"].tolist() == []
    assert second["unreadable"].tolist() == [2, 3] and "image" not in second
    assert len(notes.bad) == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_unreadable_pictures_stop_with_their_names(root: Path, workers: int) -> None:
    damage(images(root), [0, 1, 2, 4, 5])
    data = images(root)
    loader = make_image_loader(
        data.train, 8, num_workers=workers, quarantine=Quarantine(None, 0.05, "images")
    )
    with pytest.raises(UserError, match="5 of 8 training images cannot be read.*jpg"):
        list(loader)
    damage(data, [3])
    loader = make_image_loader(data.train, 8, num_workers=workers, quarantine=Quarantine(None, 1))
    with pytest.raises(UserError, match="^none of the 4 training images that may stand for"):
        list(loader)


def test_a_fault_that_passes_costs_no_picture(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, tried = classification.read_image, []

    def once_bad(path: str, *arguments: Any, **options: Any) -> Any:
        tried.append(path)
        if len(tried) == 1:
            raise UnreadableImage(f"{path} cannot be read: a stale handle")
        return read(path, *arguments, **options)

    monkeypatch.setattr(classification, "read_image", once_bad)
    notes = Quarantine(None, 0, "images")
    [batch] = make_image_loader(images(root).test, 4, num_workers=0, quarantine=notes)
    assert batch["index"].tolist() == [0, 1, 2, 3] and not notes.bad
    assert tried[0] == tried[1] and len(tried) == 5


def test_a_label_map_of_a_test_scene_that_cannot_be_read_stops(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    config = ImageDataConfig(dataset="cityscapes", root=str(tmp_path), height=16, width=32)
    [label] = (tmp_path / "gtFine" / "val").rglob("*.png")
    label.write_bytes(b"damaged")
    data = load_images(config)
    with pytest.raises(UserError, match=label.name):
        list(make_image_loader(data.test, 1, num_workers=0, quarantine=Quarantine(None, 1)))


def test_without_a_quarantine_an_unreadable_picture_is_an_error(root: Path) -> None:
    [bad] = damage(images(root), [0], "test")
    loader = make_image_loader(images(root).test, 2, num_workers=1)
    with pytest.raises(UserError, match=f"^{bad} cannot be read"):
        list(loader)


def test_options_that_fit_no_picture_are_one_line_from_a_process(root: Path) -> None:
    loader = make_image_loader(images(root, height=64, width=64).test, 2, num_workers=1)
    with pytest.raises(UserError, match=r"^a crop of 64 x 64 does not fit [^\n]*$"):
        list(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_iteration_that_is_left_spoils_none_to_come(root: Path, workers: int) -> None:
    loader = make_image_loader(images(root).train, 2, num_workers=workers, seed=3)
    next(iter(loader))
    loader.sampler.set_epoch(1)
    expected = make_image_loader(images(root).train, 2, num_workers=0, seed=3)
    expected.sampler.set_epoch(1)
    assert_equal(list(loader), list(expected))


def test_ranks_share_an_epoch(root: Path) -> None:
    data = images(root)
    parts = [
        make_image_loader(data.train, 2, num_workers=0, seed=3, rank=rank, world_size=2)
        for rank in range(2)
    ]
    whole = make_image_loader(data.train, 4, num_workers=0, seed=3)
    for batch, *halves in zip(whole, *parts, strict=True):
        joined = torch.stack([half["index"] for half in halves], 1).flatten()
        assert torch.equal(batch["index"], joined)
    assert whole.profile.clips == 8 and whole.profile.seconds >= whole.profile.waited > 0


def test_paths_come_back_as_they_were() -> None:
    paths = Paths(["/a/ü.jpg", "b", os_path := "c/\udcff.png"])
    assert list(paths) == ["/a/ü.jpg", "b", os_path] and paths[1:] == ["b", os_path]


def test_scenes_are_loaded_by_processes_as_without(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    config = ImageDataConfig(
        dataset="cityscapes", root=str(tmp_path), height=16, width=32, flip=True, max_failures=0.5
    )
    results = []
    for workers in (0, 1):
        data = load_images(config, seed=1)
        results.append(list(make_image_loader(data.train, 2, num_workers=workers, seed=1)))
    assert_equal(*results)
    assert results[0][0]["label"].shape == (2, 16, 32)


def test_pixels_of_an_unreadable_test_scene_are_known_to_be_missed(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    config = ImageDataConfig(dataset="cityscapes", root=str(tmp_path), height=16, width=32)
    data = load_images(config)
    expected = data.test[0, 0]["label"]
    damage(data, [0], "test")
    data = load_images(config)
    notes = Quarantine(None, 0.5, "images")
    [batch] = make_image_loader(data.test, 1, num_workers=1, quarantine=notes)
    assert batch["unreadable"].tolist() == [0] and torch.equal(batch["missed"][0], expected)
    noise_image(9, 16, 16).save(data.test.paths[0])
    data = load_images(config)
    [(_, reason)] = data.test.gather([(0, 0)]).failures
    assert "is 16 x 16 " in reason and "is 32 x 64" in reason
