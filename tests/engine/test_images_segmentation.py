"""Segmentation on the shared engine, on small images in the layout of Cityscapes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.image_trees import write_cityscapes
from tests.tiny import metrics, only_run, run_here
from tests.tiny_images import segmentation_options
from video_snl.cli.main import main
from video_snl.config.task_spec import IMAGE
from video_snl.data.image.cityscapes import read_labels
from video_snl.runs.trained import Trained, load_trained

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cityscapes(tmp_path_factory.mktemp("cityscapes"))


@pytest.fixture(scope="module")
def run(cityscapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    assert main(["train", *segmentation_options(cityscapes, output)]) == 0
    return only_run(output)


@pytest.fixture(scope="module")
def evaluated(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report of whole images, as is the default."""
    folder = tmp_path_factory.mktemp("evaluated")
    done = run_here("evaluate", "--checkpoint", str(run), "--output", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def predicted(trained: Trained, path: Path) -> np.ndarray:
    image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(x)[:, None, None] for x in (trained.mean, trained.std))
    with torch.no_grad():
        return trained.model(((image - mean) / std)[None])[0].argmax(0).numpy()


def naive_scores(found: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """mIoU, mAcc and aAcc of one image, pixel by pixel."""
    kept = labels != 255
    overlap, recall = [], []
    for name in range(19):
        mine, true = (found == name) & kept, labels == name
        if (mine | true).any():
            overlap.append((mine & true).sum() / (mine | true).sum())
        if true.any():
            recall.append((mine & true).sum() / true.sum())
    return float(np.mean(overlap)), float(np.mean(recall)), float((found == labels)[kept].mean())


def test_evaluation_is_validation_is_the_naive_count(
    run: Path, evaluated: Path, cityscapes: Path
) -> None:
    [image] = (cityscapes / "leftImg8bit" / "val").rglob("*.png")
    [label] = (cityscapes / "gtFine" / "val").rglob("*.png")
    trained = load_trained(run / "checkpoints" / "best.ckpt", IMAGE)
    expected = naive_scores(predicted(trained, image), read_labels(str(label)))
    found = json.loads((evaluated / "metrics.json").read_text())
    assert [found[name] for name in ("mIoU", "mAcc", "aAcc")] == pytest.approx(expected)
    [row] = metrics(run)
    assert [row[f"val/{name}"] for name in ("mIoU", "mAcc", "aAcc")] == pytest.approx(expected)
    assert len(found["per_class"]) == 19
    with (evaluated / "confusion.csv").open(encoding="utf-8") as lines:
        counts = sum(int(v) for row in csv.DictReader(lines) for v in list(row.values())[1:])
    assert counts == (read_labels(str(label)) != 255).sum()


def test_windows_are_an_option_of_evaluation(run: Path, evaluated: Path, tmp_path: Path) -> None:
    words = ["--checkpoint", str(run), "--output", str(tmp_path)]
    assert main(["evaluate", *words, "--data.sliding_windows", "true"]) == 0
    whole, windows = (
        json.loads((folder / "metrics.json").read_text()) for folder in (evaluated, tmp_path)
    )
    assert whole["aAcc"] != windows["aAcc"]  # the borders of windows are padded


def test_auxiliary_head_trains_and_is_not_described(run: Path) -> None:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert any(name.startswith("model.auxiliary_head.") for name in content["state_dict"])
    done = run_here(
        "describe", "--model.backbone", "fcn_r50_d8", "--data.dataset", "cityscapes", "--json",
        "--data.height", "64", "--data.width", "64", "--model.block", "none",
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert (found["parameters"], found["auxiliary_parameters"]) == (47_133_043, 2_364_691)


def test_scene_that_cannot_be_read_counts_as_wrong(run: Path, tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path / "cityscapes")
    [image] = (root / "leftImg8bit" / "val").rglob("*.png")
    image.write_bytes(b"no image")
    words = ["--checkpoint", str(run), "--output", str(tmp_path / "report")]
    done = run_here("evaluate", *words, "--data.root", str(root))
    assert done.returncode == 0 and "could not be read: 1; they count as wrong" in done.stdout
    found = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert found["aAcc"] == found["mIoU"] == 0


def test_predict_says_what_covers_a_scene(run: Path, cityscapes: Path) -> None:
    [image] = (cityscapes / "leftImg8bit" / "val").rglob("*.png")
    done = run_here("predict", str(image), "--checkpoint", str(run), "--json", "--top", "1")
    [row] = json.loads(done.stdout)
    found = predicted(load_trained(run / "checkpoints" / "best.ckpt", IMAGE), image)
    most = np.bincount(found.ravel()).max() / found.size
    assert row["predictions"][0]["score"] == pytest.approx(most, abs=1e-6)
