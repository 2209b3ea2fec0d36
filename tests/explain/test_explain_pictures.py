"""``video-snl explain`` of networks of images, and the figures that it draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tests.tiny import only_run, run_here
from tests.tiny_images import image_options
from video_snl.analysis.explain import figure3
from video_snl.analysis.explain.figure3 import draw_looks, frames_shown
from video_snl.analysis.explain.structure import SENSITIVITY, BlockMaps, Box, Explanation
from video_snl.analysis.model_input import analysis_input
from video_snl.config.task_spec import IMAGE
from video_snl.data.image.inference import read_input
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import load_trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    options = {"model__block": "snl", "model__positions": "[after:layer3.1]"}
    words = image_options(output, optimizer__epochs=1, optimizer__epoch_steps=1, **options)
    done = run_here("train", *words)
    assert done.returncode == 0, done.stderr
    return only_run(output)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "three.png"
    values = (load_digits().images[3] * 15.9).astype(np.uint8)
    Image.fromarray(values).convert("RGB").resize((64, 48)).save(path)
    return path


def test_a_picture(run: Path, image: Path, tmp_path: Path) -> None:
    done = run_here(
        *("explain", "--checkpoint", str(run), str(image), "-o", str(tmp_path / "out")),
        *("--accelerator", "cpu", "--at", "0,1,2"),
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"index.html", "maps.npz", "explanation.json", "looks.png", "features.png"}
    values = json.loads((tmp_path / "out" / "explanation.json").read_text())
    [network] = values["networks"]
    [block] = network["blocks"]
    assert values["at"] == [0, 1, 2] and block["full_grid"] == block["grid"] == [1, 8, 8]
    trained = load_trained(checkpoint_path(str(run)), IMAGE)
    arrays = np.load(tmp_path / "out" / "maps.npz")
    np.testing.assert_array_equal(
        arrays["0 frames"][0], read_input(image, trained.experiment.data).numpy()
    )
    given = analysis_input(trained, str(image), image, torch.device("cpu"))
    with torch.no_grad():
        scores = trained.model(given.clip)[0].softmax(-1)
    assert [row["class"] for row in network["classes"]] == [
        trained.class_names[label] for label in scores.topk(5).indices.tolist()
    ]
    assert arrays["0 gradcam"].shape == (1, 8, 8)


def test_what_is_no_picture(run: Path, tmp_path: Path) -> None:
    words = ("explain", "--checkpoint", str(run), "--accelerator", "cpu", "-o", str(tmp_path / "o"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    done = run_here(*words, str(broken))
    assert done.returncode == 2 and "broken.png" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "name one image" in run_here(*words, str(tmp_path)).stderr


def test_frames_of_a_picture_include_the_marked_ones() -> None:
    assert frames_shown(16, None) == [1, 3, 5, 7, 9, 11, 13, 15]
    assert frames_shown(4, None) == [0, 1, 2, 3]
    marked = Box(10, 11, 0, 1, 0, 1)
    assert 10 in frames_shown(16, marked) and len(set(frames_shown(16, marked))) == 8


def test_the_brightest_place_is_where_the_position_looks(tmp_path: Path) -> None:
    """Two frames of 2 x 2 positions; the first looks at the last of the second frame alone."""
    weights = np.zeros((8, 8), dtype=np.float32)
    weights[0, 7] = 1
    norms = np.ones((2, 2, 2), dtype=np.float32)
    grid = (2, 2, 2)
    block = BlockMaps("before:res4.1", 0, "nl", grid, grid, {SENSITIVITY: weights}, norms, norms)
    frames = np.full((2, 64, 64, 3), 128, dtype=np.uint8)
    explanation = Explanation("clip", "run", frames, [], None, [block])
    draw_looks(explanation, (0, 0, 0), grid, tmp_path / "looks.png")
    drawn = np.asarray(Image.open(tmp_path / "looks.png").convert("RGB")).astype(int)
    cell, left = (round(150 * inches) for inches in (figure3._CELL, figure3._LABEL))
    rows = drawn[-cell:, : left + 2 * cell]  # without the colour bar
    yellow = rows[..., 0] + rows[..., 1] - rows[..., 2]
    # Labels and white have no colour; the mark (cyan) has less red than any of the map.
    place = np.unravel_index(int(yellow.argmax()), yellow.shape)
    assert place[1] > left + 1.4 * cell and place[0] > len(rows) * 0.4
