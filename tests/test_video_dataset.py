"""``VideoDataset``: the clips of a training, as a dataset for anybody's loader."""

from __future__ import annotations

import copy
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from tests.export.checkpoints import CLASSES, video_checkpoint
from tests.videos import frames_of, write_video
from video_snl.config.video import DataConfig
from video_snl.data.video.catalog import load_videos
from video_snl.data.video.dataset import ClipDataset
from video_snl.data.video.map_dataset import VideoDataset
from video_snl.errors import UserError
from video_snl.runs.trained import load_trained
from video_snl.tasks.action import ActionRecognition

CLIP = {"clip_frames": 4, "short_side": 40, "crop": 32, "color_jitter": 0.3, "rand_augment": 1}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    for name in ("jump", "run"):
        for number in range(3):
            write_video(folder / name / f"{number}.avi", frames=12 + number)
    return folder


def test_samples_are_those_of_a_training(root: Path, tmp_path: Path) -> None:
    data = DataConfig(dataset="ucf101", root=str(root), **CLIP)  # type: ignore[arg-type]
    dataset = VideoDataset.from_folder(root, clip=CLIP, seed=5)
    videos = load_videos(data)
    assert (dataset.videos, dataset.classes) == (videos.train, videos.class_names)
    trained = load_trained(video_checkpoint(tmp_path / "a.ckpt"))
    task = ActionRecognition(
        replace(trained.experiment, data=data), trained.model, CLASSES, mean=(0.45,) * 3,
        std=(0.225,) * 3,
    )  # fmt: skip
    ours = ClipDataset(videos.train, data, 5)
    for epoch, index in ((0, 0), (3, 1), (3, 5)):
        dataset.set_epoch(epoch)
        sample = dataset[index]
        batch = {name: value[None] for name, value in ours[epoch, index].items()}
        assert torch.equal(sample["video"][None], task.training_clips(batch))
        assert (sample["label"], sample["index"]) == (videos.train[index].label, index)
        assert sample["video"].shape == (3, 4, 32, 32) and sample["video"].dtype == torch.float32


def test_test_clips_are_the_middle(tree: Path) -> None:
    dataset = VideoDataset.from_folder(tree, split="test", clip=CLIP)
    assert not dataset.random_clips and len(dataset) == 2
    before = dataset[0]["video"]
    dataset.set_epoch(7)
    assert torch.equal(dataset[0]["video"], before)
    path = Path(dataset.videos[0].path)
    frames = frames_of(path)
    start = (len(frames) - 4) // 2
    # The same without our code for clips and crops.
    clip = torch.from_numpy(frames[start : start + 4]).permute(0, 3, 1, 2)
    small = torch.nn.functional.interpolate(clip, (40, 53), mode="bilinear", antialias=True)
    top, left = (40 - 32 + 1) // 2, (53 - 32 + 1) // 2
    cut = small[:, :, top : top + 32, left : left + 32].double().transpose(0, 1)
    torch.testing.assert_close(before.double(), (cut / 255 - 0.45) / 0.225, atol=1e-5, rtol=0)


class Noise:
    """A transform that draws from all three of the common generators."""

    def __call__(self, clip: Tensor) -> Tensor:
        assert clip.dtype == torch.uint8 and clip.shape[1] == 3
        drawn = [torch.rand(()).item(), random.random(), np.random.rand()]
        return torch.tensor([*drawn, float(clip.float().mean())])


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_draw_what_this_process_does(tree: Path, context: str) -> None:
    dataset = VideoDataset.from_folder(tree, split="all", clip=CLIP, transform=Noise())
    dataset.random_clips = True
    loader = DataLoader(
        dataset,
        batch_size=4,
        num_workers=2,
        multiprocessing_context=context,
        persistent_workers=True,
    )
    seen = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        batches = list(loader)
        videos = torch.cat([batch["video"] for batch in batches])
        assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(6))
        assert torch.equal(videos, torch.stack([dataset[i]["video"] for i in range(6)]))
        seen.append(videos)
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])
    assert len({tuple(row.tolist()) for row in torch.cat(seen[:2])}) == 12


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_tell_the_epoch_to_persistent_workers(tree: Path, copied: Any) -> None:
    dataset = copied(VideoDataset.from_folder(tree, clip=CLIP))
    loader = DataLoader(dataset, num_workers=1, persistent_workers=True)
    clips = []
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        clips.append(next(iter(loader))["video"][0])
        assert torch.equal(clips[-1], dataset[0]["video"])
    assert not torch.equal(*clips)


def test_batches_of_the_default_collate_function(tree: Path) -> None:
    dataset = VideoDataset.from_folder(tree, split="all", clip={"short_side": 32, "crop": 32})
    batch = next(iter(DataLoader(dataset, batch_size=6, num_workers=0)))
    assert batch["video"].shape == (6, 3, 4, 32, 32)
    assert batch["label"].tolist() == [0, 0, 0, 1, 1, 1] == dataset.labels


@settings(max_examples=20)
@given(epochs=st.lists(st.integers(0, 1000), min_size=1, max_size=4), index=st.integers(-6, 5))
def test_a_sample_depends_on_seed_epoch_and_index_alone(
    tree: Path, epochs: list[int], index: int
) -> None:
    def drawn(dataset: VideoDataset, epoch: int) -> list[float]:
        dataset.set_epoch(epoch)
        torch.rand(3), random.random(), np.random.rand()
        return dataset[index]["video"].tolist()

    options: Any = {"clip": CLIP, "transform": Noise(), "split": "all", "random_clips": True}
    first = VideoDataset.from_folder(tree, **options)
    second = pickle.loads(pickle.dumps(first))  # noqa: S301
    torch.manual_seed(1)
    state = torch.get_rng_state()
    expected = [drawn(first, epoch) for epoch in epochs]
    torch.set_rng_state(state)
    torch.rand(3 * len(epochs))
    after = torch.rand(())
    torch.set_rng_state(state)
    assert [drawn(second, epoch) for epoch in reversed(epochs)] == expected[::-1]
    assert torch.equal(torch.rand(()), after)  # the caller's own generator goes on
    other = VideoDataset.from_folder(tree, **options, seed=1)
    assert drawn(other, epochs[0])[:3] != expected[0][:3]


def test_csv_and_classes_of_a_network(tree: Path, tmp_path: Path) -> None:
    rows = [f"{path},{path.parent.name},{part}" for part, path in zip(
        ("train", "test", "train", "train", "test", "train"), sorted(tree.rglob("*.avi")),
        strict=True,
    )]  # fmt: skip
    table = tmp_path / "videos.csv"
    table.write_text("\n".join(["path,label,split", *rows]) + "\n")
    parts = {part: VideoDataset.from_csv(table, split=part) for part in ("train", "test", "all")}
    assert {part: len(found) for part, found in parts.items()} == {"train": 4, "test": 2, "all": 6}
    assert parts["train"].random_clips and not parts["all"].random_clips
    assert parts["all"].classes == ["jump", "run"]
    known = VideoDataset.from_csv(table, split="test", classes=["run", "walk", "jump"])
    assert known.labels == [2, 0] and known.classes == ["run", "walk", "jump"]
    with pytest.raises(UserError, match="class 'jump' is none of the 2 given"):
        VideoDataset.from_csv(table, classes=["run", "walk"])


def test_a_single_video_of_a_class_is_enough_for_all(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_video(tmp_path / name / "0.avi")
    assert len(VideoDataset.from_folder(tmp_path, split="all")) == 2
    with pytest.raises(UserError, match="no class has more than 1 video"):
        VideoDataset.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("clip", "said"),
    [
        ({"frames": 8}, "no option frames; did you mean"),
        ({"root": "x"}, "root is not an option of clips"),
        ({"clip_frames": "8"}, "clip.clip_frames: expected .*found '8'"),
        ({"crop": 200}, "data.crop=200 does not fit"),
        ({"crop": 0}, r"data\.crop=0 must be at least 1"),
        ({"clip_frames": 0}, r"data\.clip_frames=0 must be at least 1"),
        ({"short_side": 0}, r"data\.short_side=0 must be at least 1"),
        ({"frame_stride": 0}, r"data\.frame_stride=0 must be at least 1"),
        ({"clip_frames": 5000}, r"data\.clip_frames=5000 must be at most 1,024"),
        (DataConfig(crop=0), r"data\.crop=0 must be at least 1"),
        (DataConfig(crop="8"), r"clip\.crop: expected a whole number, found '8'"),  # type: ignore[arg-type]
        ({"color_jitter": 2.0}, "data.color_jitter=2.0: give 0 to 1"),
        (8, "clip=8: give options"),
    ],
)
def test_clips_that_cannot_be_cut(tree: Path, clip: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        VideoDataset.from_folder(tree, clip=clip)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"transform": 3}, "transform=3: give a function"),
        ({"classes": ["jump", "jump", "run"]}, "classes: 'jump' is there 2 times"),
        ({"classes": "ab"}, "classes='ab': give a list of names"),
        ({"classes": 3}, "classes=3: give a list of names"),
        ({"classes": ["jump", None]}, "classes: expected names as text, found None"),
        ({"seed": 2**70}, "seed 1180591620717411303424: give a whole number from 0 to"),
        ({"seed": -1}, "seed -1: give a whole number from 0 to"),
        ({"seed": 1.5}, "seed 1.5: give a whole number"),
        ({"seed": None}, "seed None: give a whole number"),
    ],
)
def test_options_are_checked_where_a_dataset_is_made(
    tree: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        VideoDataset.from_folder(tree, split="all", **options)
    videos = VideoDataset.from_folder(tree, split="all").videos
    with pytest.raises(UserError, match=said):
        VideoDataset(videos, **{"classes": ["jump", "run"], **options})
    with pytest.raises(UserError, match="has the label 1, which is none of 1 class"):
        VideoDataset(videos, ["jump"])


def test_an_empty_path_is_not_the_working_directory(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    assert len(VideoDataset.from_folder(".", split="all")) == 6
    for make in VideoDataset.from_folder, VideoDataset.from_csv:
        with pytest.raises(UserError, match="a path is empty"):
            make("", split="all")


def test_other_bad_input_of_datasets(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="split='val': choose train, test or all"):
        VideoDataset.from_folder(tree, split="val")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'splitt'"):
        VideoDataset.from_folder(tree, splitt="test")  # type: ignore[call-arg]
    with pytest.raises(UserError, match="VideoDataset.from_csv"):
        VideoDataset.from_folder(next(tree.rglob("*.avi")))
    with pytest.raises(UserError, match="does not exist"):
        VideoDataset.from_folder(tmp_path / "none")
    dataset = VideoDataset.from_folder(tree, split="all")
    assert repr(dataset) == (
        "VideoDataset of 6 videos of 2 classes, the clips in the middle of 4 frames"
    )
    for index in (1.5, slice(2), "0"):
        with pytest.raises(TypeError, match="integer"):
            dataset[index]  # type: ignore[index]
    for index in (6, -7):
        with pytest.raises(IndexError, match="of 6 videos"):
            dataset[index]
    with pytest.raises(UserError, match="epoch -1"):
        dataset.set_epoch(-1)
