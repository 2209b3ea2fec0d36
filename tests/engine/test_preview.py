"""``train --preview``: the clips that a training begins with, and what was drawn for them."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import run_here, tiny_options
from video_snl.config.video import DataConfig
from video_snl.data.loading.samplers import EpochSampler
from video_snl.data.transforms.geometry import crop_clips
from video_snl.data.video.catalog import load_videos
from video_snl.data.video.dataset import ClipDataset


@pytest.fixture(scope="module")
def page(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the tiny training, with augmentation."""
    folder = tmp_path_factory.mktemp("preview")
    words = tiny_options(root, folder / "runs", data__short_side=40, data__color_jitter=0.2)
    done = run_here("train", *words, "--preview", str(folder / "page.html"))
    assert done.returncode == 0, done.stderr
    assert not (folder / "runs").exists()  # nothing was trained
    assert str(folder / "page.html") in done.stdout
    return (folder / "page.html").read_text(encoding="utf-8")


def test_the_clips_are_those_of_the_first_epoch(page: str, root: Path) -> None:
    config = DataConfig(dataset="ucf101", root=str(root), short_side=40, crop=32)
    videos = load_videos(config)
    dataset = ClipDataset(videos.train, config, 0)
    keys = list(EpochSampler(len(dataset), 0))
    labels = re.findall(r'class="label">(\w+)<', page)
    strips = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert labels == [videos.class_names[videos.train[key[1]].label] for key in keys]
    assert len(strips) == len(keys) == 12
    for key, strip in zip(keys, strips, strict=True):
        sample = dataset.sample(key, key[1])
        size, offset, flip = (sample[name][None] for name in ("size", "offset", "flip"))
        [clip] = crop_clips(sample["video"][None], size, offset, flip, 32)
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(strip))).convert("L"), float)
        assert shown.shape[0] == 128
        cells = np.array_split(shown, len(clip), axis=1)
        # Grey videos whose brightness jitter changes by a fifth at most.
        for cell, frame in zip(cells, clip.float().mean((1, 2, 3)), strict=True):
            assert np.median(cell) == pytest.approx(float(frame), rel=0.25, abs=8)
        frames, rate = dataset.frames_of(key, key[1])
        assert rate == 25 and len(frames) == 4
        assert f"{frames[0] / 25:.2f} s to {frames[-1] / 25:.2f} s" in page
        assert ("flipped left to right" in page) == any(
            bool(dataset.sample(k, k[1])["flip"]) for k in keys
        )


def test_what_was_drawn_and_the_options_are_said(page: str) -> None:
    assert "12 training videos, 21 test videos, 3 classes" in page
    assert "4 frames, 1 frame apart, of 32 x 32 pixels" in page
    assert len(re.findall(r"brightness x \d", page)) == 12
    assert "data.color_jitter" in page and "http" not in page.replace("http-equiv", "")


def test_reading_frames_does_not_change_what_is_drawn(root: Path) -> None:
    config = DataConfig(dataset="ucf101", root=str(root), short_side=40, crop=32)
    dataset = ClipDataset(load_videos(config).train, config, 3)
    before = dataset.sample((1, 2), 2)
    dataset.frames_of((1, 2), 2)
    after = dataset.sample((1, 2), 2)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_refused(root: Path, tmp_path: Path) -> None:
    words = tiny_options(root, tmp_path / "runs")
    done = run_here("train", *words, "--preview", str(tmp_path))
    assert done.returncode == 2 and "is a folder: name the page" in done.stderr
    done = run_here("train", "--resume", str(tmp_path), "--preview", str(tmp_path / "a.html"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert not (tmp_path / "a.html").exists()
