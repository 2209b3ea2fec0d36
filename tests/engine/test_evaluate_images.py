"""Evaluation on images: unreadable ones, scores that are not finite, and batches."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.image_trees import write_cityscapes, write_folders
from tests.tiny_images import experiment
from video_snl.commands import evaluate as evaluation
from video_snl.commands import predict as prediction
from video_snl.commands.evaluate import evaluate
from video_snl.commands.reports import segmentation_report
from video_snl.config.image import ImageExperiment
from video_snl.config.task_spec import IMAGE, exact_spec
from video_snl.data.image.catalog import load_images
from video_snl.engine.train import make_task
from video_snl.errors import OptionsError, UserError
from video_snl.runs.trained import Trained
from video_snl.tasks.metrics import PixelConfusion

pytestmark = pytest.mark.filterwarnings("ignore")
MEAN, STD = (0.5,) * 3, (0.25,) * 3


class _Light(nn.Module):
    """Class 0 for dark inputs, class 1 for light ones; NaN for those lighter than ``limit``.

    Shapes: (B, 3, H, W) -> (B, classes), or for every pixel (B, classes, H, W).
    """

    def __init__(self, classes: int, *, pixels: bool, limit: float) -> None:
        super().__init__()
        self.classes, self.pixels, self.limit = classes, pixels, limit
        self.unused = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        light = x.mean(1) if self.pixels else x.mean((1, 2, 3))
        logits = torch.full((len(x), self.classes, *light.shape[1:]), -99.0)
        logits[:, 0], logits[:, 1] = -light, light
        logits[:, 0][light > self.limit] = math.nan
        return logits


def trained_network(
    model: nn.Module, options: ImageExperiment, names: list[str], path: Path
) -> Trained:
    return Trained(
        model=model,
        experiment=options,
        epoch=0,
        path=path,
        spec=exact_spec(IMAGE, options),
        class_names=names,
        mean=MEAN,
        std=STD,
    )


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Evaluates a network in the place of a checkpoint's one; returns what the reports hold."""

    def measure(options: ImageExperiment, *, limit: float = math.inf, how: Any = "wrong") -> Any:
        names, path = load_images(options.data).class_names, tmp_path / "a.ckpt"
        model = _Light(len(names), pixels=options.data.dataset == "cityscapes", limit=limit)
        spec = exact_spec(IMAGE, options)
        trained = trained_network(model, options, names, path)
        monkeypatch.setattr(evaluation, "checkpoint_path", lambda *_: path)
        data = load_images(options.data)
        monkeypatch.setattr(evaluation, "_trained_and_data", lambda *_: (trained, data))
        options.trainer.accelerator, options.trainer.progress = "cpu", False
        report = tmp_path / "report"
        evaluate(options, spec, checkpoint=None, output=str(report), unreadable=how)
        [confusion] = report.glob("confusion*.csv")
        with confusion.open(encoding="utf-8") as lines:
            cells = list(csv.DictReader(lines))
        return json.loads((report / "metrics.json").read_text()), cells

    return measure


@pytest.fixture
def folder(tmp_path: Path) -> ImageExperiment:
    """Experiment with 8 images to test on."""
    root = write_folders(tmp_path / "images", tests=4)
    data = {"dataset": "folder", "root": str(root), "short_side": 32, "num_workers": 0}
    return experiment(data=data)


@pytest.fixture
def cityscapes(tmp_path: Path) -> ImageExperiment:
    """Experiment with two images to segment, the first of which is also one of training."""
    root = write_cityscapes(tmp_path / "cityscapes")
    for kind in ("leftImg8bit", "gtFine"):
        for path in (root / kind / "train" / "bochum").iterdir():
            (root / kind / "val" / "lindau" / path.name).write_bytes(path.read_bytes())
    data = {"dataset": "cityscapes", "root": str(root), "num_workers": 0}
    return experiment(data=data, model={"backbone": "fcn_r50_d8"})


def lights_of(options: ImageExperiment, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The light of every test image, or of its pixels, and the labels."""
    test = load_images(options.data).test
    samples = [test[0, index] for index in range(len(test))]
    images = torch.stack([sample["image"] for sample in samples])
    labels = torch.stack([sample["label"] for sample in samples])
    return ((images.double() / 255 - MEAN[0]) / STD[0]).mean(axes).numpy(), labels.numpy()


def column(cells: list[dict[str, str]], name: str) -> int:
    return sum(int(row.get(name, 0)) for row in cells)


@pytest.mark.parametrize(("how", "counted"), [("wrong", 8), ("skip", 7)])
def test_pictures_that_cannot_be_read_are_wrong_or_left_out(
    folder: ImageExperiment,
    measured: Any,
    how: str,
    counted: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    light, labels = lights_of(folder, (1, 2, 3))
    paths = list(load_images(folder.data).test.paths)
    first = int(light.argmin())
    Path(paths[first]).write_bytes(b"no image")
    found, cells = measured(folder, how=how)
    right = (light > 0) == (labels == 1)
    right[first] = False
    assert found["top1"] == pytest.approx(right.sum() / counted) and found["pictures"] == counted
    assert found["unreadable"] == [paths[first]] and found["unreadable_count"] == 1
    assert found["not_finite"] == [] and found["not_finite_count"] == 0
    assert column(cells, "(unreadable)") == (how == "wrong")
    assert "could not be read: 1" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["wrong", "skip"])
def test_pixels_of_an_unreadable_scene_are_wrong_or_left_out(
    cityscapes: ImageExperiment, measured: Any, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    light, labels = lights_of(cityscapes, (3,))
    paths = list(load_images(cityscapes.data).test.paths)
    Path(paths[0]).write_bytes(b"no image")
    found, cells = measured(cityscapes, how=how)
    kept = labels != 255
    right = (np.where(light > 0, 1, 0) == labels) & kept
    lost = int(kept[0].sum())
    counted = int(kept[1].sum()) + (lost if how == "wrong" else 0)
    assert right[1].any() and lost > 0
    assert found["aAcc"] == pytest.approx(right[1].sum() / counted)
    assert column(cells, "(unreadable)") == (lost if how == "wrong" else 0)
    assert (found["unreadable"], found["not_finite"]) == (paths[:1], [])
    assert found["pictures"] == (2 if how == "wrong" else 1)
    told = "they count as wrong" if how == "wrong" else "they are left out of all figures"
    assert f"could not be read: 1; {told}" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["wrong", "skip"])
def test_scores_of_a_picture_that_are_not_finite_are_an_error(
    folder: ImageExperiment, measured: Any, how: str
) -> None:
    light, _ = lights_of(folder, (1, 2, 3))
    paths = load_images(folder.data).test.paths
    limit = float(np.sort(light)[4]) - 1e-3  # four images are lighter
    broken = paths[int((light > limit).argmax())]
    with pytest.raises(UserError, match=r"and 3 more.*not finite") as caught:
        measured(folder, limit=limit, how=how)
    assert str(caught.value).startswith(broken) and "\n" not in str(caught.value)


def test_scores_of_pixels_that_are_not_finite_are_an_error(
    cityscapes: ImageExperiment, measured: Any
) -> None:
    light, _ = lights_of(cityscapes, (3,))
    with pytest.raises(UserError, match="not finite"):
        measured(cityscapes, limit=float(np.unique(light[1].round(4))[-3]) + 1e-3)


def test_figures_that_do_not_exist_are_null(tmp_path: Path) -> None:
    """No pixel is labelled: all of them are 0 / 0."""
    segmentation_report(tmp_path, PixelConfusion(3), ["a", "b", "c"], {"pictures": 0})
    text = (tmp_path / "metrics.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["mIoU"] is None and found["per_class"][0]["IoU"] is None


def test_there_must_be_a_scene_to_evaluate(cityscapes: ImageExperiment, measured: Any) -> None:
    for path in load_images(cityscapes.data).test.paths:
        Path(path).write_bytes(b"no image")
    with pytest.raises(UserError, match="none of the 2 test images can be read"):
        measured(cityscapes, how="skip")
    assert measured(cityscapes)[0]["aAcc"] == 0


@pytest.mark.parametrize(
    ("optimizer", "devices", "size"),
    [
        ({"batch_size": 8, "accumulate": 4}, 1, 2),
        ({"batch_size": 8, "accumulate": 2}, 2, 2),
        ({"batch_size": 8, "accumulate": 3}, "auto", 2),
        ({"batch_size": 2, "accumulate": 4}, 1, 1),
        ({"batch_size": 8, "accumulate": 4, "test_batch_size": 5}, 1, 5),
    ],
)
def test_as_many_pictures_at_once_as_a_device_had_in_training(
    folder: ImageExperiment,
    measured: Any,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: dict[str, int],
    devices: Any,
    size: int,
) -> None:
    made, sizes = evaluation.make_image_loader, []

    def spy(dataset: Any, batch_size: int, **options: Any) -> Any:
        sizes.append(batch_size)
        return made(dataset, batch_size, **options)

    monkeypatch.setattr(evaluation, "make_image_loader", spy)
    folder.optimizer = experiment(optimizer=optimizer).optimizer
    folder.trainer.devices = devices
    measured(folder)
    assert sizes == [size]


@pytest.mark.parametrize("name", ["batch_size", "test_batch_size", "accumulate"])
def test_options_out_of_their_range_are_refused(
    folder: ImageExperiment, measured: Any, name: str
) -> None:
    setattr(folder.optimizer, name, 0)
    with pytest.raises(OptionsError, match=f"optimizer.{name}=0 must be at least 1"):
        measured(folder)


def test_batches_of_scenes_of_two_sizes_say_which_option_helps(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path / "cityscapes")
    other = write_cityscapes(tmp_path / "larger", height=40)
    for kind in ("leftImg8bit", "gtFine"):
        for path in (other / kind / "train" / "bochum").iterdir():
            (root / kind / "val" / "lindau" / path.name).write_bytes(path.read_bytes())
    data = {"dataset": "cityscapes", "root": str(root)}
    gathered = load_images(experiment(data=data).data).test.gather([(0, 0), (0, 1)])
    assert "test with --optimizer.test_batch_size 1, or" in str(gathered.error)


@pytest.mark.parametrize("kind", ["folder", "cityscapes"])
def test_a_smaller_part_of_a_step_counts_for_less(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """The loss that ``training_step`` returns is weighted by the samples of its part."""
    options: ImageExperiment = request.getfixturevalue(kind)
    options.optimizer.frozen_batchnorm = True
    images = load_images(options.data)
    task = make_task(options, images, exact_spec(IMAGE, options))
    task.log_epoch = lambda *words: None  # type: ignore[method-assign]
    samples = [images.train[0, index] for index in range(2)]
    batch = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}

    def loss(*sizes: int) -> float:
        torch.manual_seed(0)
        task._sizes = list(sizes)
        return float(task.training_step(batch, 0))

    assert loss(4, 2) == pytest.approx(0.5 * loss(2), rel=1e-5)
    assert loss(2, 2) == pytest.approx(loss(2), rel=1e-5) and loss(2) > 0


def test_predict_names_a_picture_that_is_smaller_than_the_cut(
    folder: ImageExperiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load_images(folder.data)
    folder.data.short_side = None
    first, small, last = [str(Path(images.test.paths[i])) for i in range(3)]
    Image.new("RGB", (9, 8)).save(small)
    model = _Light(len(images.class_names), pixels=False, limit=math.inf)
    trained = trained_network(model, folder, images.class_names, Path("best.ckpt"))
    device = torch.device("cpu")
    monkeypatch.setattr(prediction, "network_of", lambda *_: (trained, device))
    code = prediction.predict(
        [first, small, last], IMAGE, checkpoint=None, top=1, accelerator="cpu", as_json=True
    )
    shown = capsys.readouterr()
    assert code == 2
    assert [found["picture"] for found in json.loads(shown.out)] == [first, last]
    [line] = [line for line in shown.err.splitlines() if "error" in line]
    assert small in line and ("9 x 8" in line or "8 x 9" in line)


def test_predict_names_a_picture_whose_scores_are_not_finite(
    folder: ImageExperiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load_images(folder.data)
    paths = [str(Path(str(folder.data.root), path)) for path in images.test.paths[:3]]
    model = make_task(folder, images, IMAGE).model
    trained = trained_network(model, folder, images.class_names, Path("best.ckpt"))
    device = torch.device("cpu")
    monkeypatch.setattr(prediction, "network_of", lambda *_: (trained, device))
    calls: list[int] = []

    def second(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        calls.append(1)
        return output * math.nan if len(calls) == 2 else output

    model.register_forward_hook(second)
    code = prediction.predict(paths, IMAGE, checkpoint=None, top=1, accelerator="cpu", as_json=True)
    shown = capsys.readouterr()
    assert code == 2
    assert [found["picture"] for found in json.loads(shown.out)] == [paths[0], paths[2]]
    assert f"{paths[1]}: the network's scores are not finite" in shown.err
