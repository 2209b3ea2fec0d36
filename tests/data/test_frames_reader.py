"""A folder of numbered images as a video, and datasets of such folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.videos import grey, write_ucf101
from video_snl.config.video import DataConfig
from video_snl.data.decoding.readers import open_video, read_clips
from video_snl.data.video.catalog import load_videos
from video_snl.errors import UserError


def write_frames(
    folder: Path, count: int = 6, name: str = "img_{:05d}.png", first: int = 1
) -> Path:
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(grey(index, (48, 64))).save(folder / name.format(first + index))
    return folder


@pytest.mark.parametrize(
    ("name", "first"),
    [("img_{:05d}.png", 1), ("{}.jpg", 0), ("frame{:06d}.jpeg", 1), ("v_Bow_g01_{:03d}.JPG", 7)],
)
@pytest.mark.parametrize("reader", ["frames", "auto"])
def test_frames_are_in_the_order_of_their_numbers(
    tmp_path: Path, name: str, first: int, reader: str
) -> None:
    folder = write_frames(tmp_path / "video", 12, name, first)
    (folder / "flow_x.npy").touch()
    opened = open_video(str(folder), reader)  # type: ignore[arg-type]
    assert len(opened) == 12
    frames = opened.frames([10, 2, 2])
    assert (frames.dtype, frames.shape) == (torch.uint8, (3, 48, 64, 3))
    assert frames[:, 30, 30, 0].tolist() == pytest.approx([100, 20, 20], abs=1)
    assert frames[0, 2, 2, 0] > 200 and frames[0, 2, 2, 1] < 60  # red, not blue
    clips = read_clips(str(folder), lambda n: [[0, 1], [1, 11]], 24, reader)  # type: ignore[arg-type]
    assert clips.shape == (2, 2, 24, 32, 3)


def test_grey_pictures_become_rgb(tmp_path: Path) -> None:
    folder = tmp_path / "video"
    folder.mkdir()
    Image.fromarray(grey(3, (8, 8))).convert("L").save(folder / "1.jpg")
    assert open_video(str(folder)).frames([0]).shape == (1, 8, 8, 3)


def test_bad_folders(tmp_path: Path) -> None:
    def said(folder: Path) -> str:
        with pytest.raises(UserError) as caught:
            open_video(str(folder), "frames").frames([0, 1, 2])
        return str(caught.value)

    (tmp_path / "empty").mkdir()
    assert "holds no numbered images" in said(tmp_path / "empty")
    assert "does not exist" in said(tmp_path / "nothing")
    gap = write_frames(tmp_path / "gap")
    (gap / "img_00004.png").unlink()
    assert "lacks 1 frame, the first is number 4" in said(gap)
    twice = write_frames(tmp_path / "twice")
    shutil.copy(twice / "img_00002.png", twice / "2.png")
    assert "holds frame 2 twice (2.png, img_00002.png)" in said(twice)
    broken = write_frames(tmp_path / "broken")
    (broken / "img_00002.png").write_text("no image")
    assert "img_00002.png cannot be read" in said(broken)
    sizes = write_frames(tmp_path / "sizes")
    Image.fromarray(grey(3, (24, 64))).save(sizes / "img_00003.png")
    assert "img_00003.png is 64 x 24, other frames of its folder are 64 x 48" in said(sizes)


def test_ucf101_as_folders_of_frames(tmp_path: Path) -> None:
    root = write_ucf101(tmp_path / "ucf101", groups=range(1, 9), frames=2)
    source = write_frames(tmp_path / "frames")
    for video in list((root / "UCF-101").glob("*/*.avi")):
        video.unlink()
        shutil.copytree(source, video.with_suffix(""))
    config = DataConfig(dataset="ucf101", root=str(root), reader="frames")
    videos = load_videos(config)
    assert len(videos.train) == 3 and len(videos.test) == 21
    assert len(open_video(videos.train[0].path, "frames")) == 6
    with pytest.raises(UserError, match="24 of the 24 videos of split 1 are missing"):
        load_videos(DataConfig(dataset="ucf101", root=str(root)))


def test_folders_of_folders_of_frames(tmp_path: Path) -> None:
    for label in ("bow", "clap"):
        for name in ("a", "b"):
            write_frames(tmp_path / "set" / label / name)
    config = DataConfig(dataset="folder", root=str(tmp_path / "set"), reader="frames")
    videos = load_videos(config)
    assert [Path(video.path).name for video in videos.train] == ["a", "a"]
    with pytest.raises(UserError, match="class folder .*bow has no videos"):
        load_videos(DataConfig(dataset="folder", root=str(tmp_path / "set")))
